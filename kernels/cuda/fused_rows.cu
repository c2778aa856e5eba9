/* fused_rows.cu - the experts' sum, the residual and the norm that reads it, quantised: a block a row, whose
 * threads have 8 neighbours each, so that a warp has a super-block. One warp sums the squares: a partial of
 * sum64 is a chain that no more threads would shorten. */
#include "kernels/cuda/fused.cuh"

enum { MOST_ELEMENTS = 1024 * LANE_ELEMENTS };

struct fused_rows {
    struct moe_combine_args combine;
    struct add_args add;
    struct rms_norm_args norm;
    struct act_block *act; /* or NULL */
    struct cuda_fault norm_fault, quantize_fault;
    bool adds;
};

/* The experts' sum of a lane's elements. */
static __device__ void combine_lane(const struct moe_combine_args *args, size_t row, size_t at,
                                    float sum[LANE_ELEMENTS])
{
    const float *y = args->y + row * args->n_used * args->n, *weights = args->weights + row * args->n_used;
    float shared[LANE_ELEMENTS];
    for (int i = 0; i < LANE_ELEMENTS; i++)
        sum[i] = 0.0f;
    if (args->shared != NULL)
        load_lane(args->shared + row * args->n, at, args->n, shared);
#pragma unroll 4
    for (uint32_t k = 0; k < args->n_used; k++) {
        float of_expert[LANE_ELEMENTS], weight = weights[k];
        load_lane(y + k * args->n, at, args->n, of_expert);
        for (int i = 0; i < LANE_ELEMENTS; i++)
            sum[i] = __fmaf_rn(weight, of_expert[i], sum[i]);
    }
    if (args->shared != NULL) {
        float gate = mtp_sigmoidf(args->shared_gate[row]);
        for (int i = 0; i < LANE_ELEMENTS; i++)
            sum[i] = __fmaf_rn(gate, shared[i], sum[i]);
    }
    store_lane(sum, at, args->n, args->dst + row * args->n);
}

template <bool COMBINES>
static __device__ void add_lane(const struct fused_rows *fused, size_t row, size_t at, float x[LANE_ELEMENTS])
{
    const struct add_args *args = &fused->add;
    size_t n = args->n;
    float b[LANE_ELEMENTS];
    load_lane(args->a + row * n, at, n, x);
    if (COMBINES)
        combine_lane(&fused->combine, row, at, b);
    else
        load_lane(args->b + row * n, at, n, b);
    for (int i = 0; i < LANE_ELEMENTS; i++)
        x[i] = __fadd_rn(x[i], b[i]);
    store_lane(x, at, n, args->dst + row * n);
}

/* sum64 of the squares of the block's row, in shared memory by now; for all threads. */
static __device__ float squares_of_row(const float *shared, size_t n)
{
    __shared__ float squares;
    __syncthreads();
    if (threadIdx.x < WARP) {
        float sum = squares_warp(shared, n);
        if (threadIdx.x == 0)
            squares = sum;
    }
    __syncthreads();
    return squares;
}

template <bool COMBINES>
static __global__ void __launch_bounds__(1024) fused_rows_kernel(struct fused_rows fused)
{
    extern __shared__ __align__(16) float shared[];
    const struct rms_norm_args *norm = &fused.norm;
    size_t row = blockIdx.x, n = norm->n, at = (size_t)threadIdx.x * LANE_ELEMENTS;
    float x[LANE_ELEMENTS], w[LANE_ELEMENTS];
    let_next_begin();
    load_lane(norm->w, at, n, w);
    wait_for_earlier();
    if (fused.adds)
        add_lane<COMBINES>(&fused, row, at, x);
    else
        load_lane(norm->src + row * norm->src_stride, at, n, x);
    store_lane(x, at, n, shared);
    float squares = squares_of_row(shared, n);
    if (f32_not_finite(squares)) {
        if (threadIdx.x == 0)
            report_fault(fused.norm_fault, CUDA_RMS_NORM, row);
        return;
    }
    float scale = norm_scale(squares, n, norm->eps);
    for (int i = 0; i < LANE_ELEMENTS; i++)
        x[i] = at + (size_t)i < n ? __fmul_rn(__fmul_rn(x[i], scale), w[i]) : 0.0f;
    store_lane(x, at, n, norm->dst + row * norm->dst_stride);
    if (fused.act != NULL)
        quantize_lanes(x, fused.act + row * ((n + SUPER_BLOCK - 1) / SUPER_BLOCK) + threadIdx.x / WARP,
                       fused.quantize_fault, row);
}

/* Rows of the same sizes, each result the next one's input. */
static bool fits(const struct fused_args *args)
{
    const struct rms_norm_args *norm = args->norm;
    const struct moe_combine_args *combine = args->combine;
    const struct add_args *add = args->add;
    size_t n = norm->n;
    int32_t rows = norm->n_rows;
    if (norm->n_groups != 1 || n > MOST_ELEMENTS || rows <= 0)
        return false;
    if (combine != NULL && (add == NULL || combine->n != n || combine->n_rows != rows ||
                            combine->dst != add->b || combine->dst == add->a))
        return false;
    if (add != NULL && (add->n != n || add->n_rows != rows || add->dst != norm->src || norm->src_stride != n))
        return false;
    const struct quantize_args *quantize = args->quantize;
    return quantize == NULL || (quantize->x == norm->dst && quantize->n == n && norm->dst_stride == n &&
                                quantize->n_rows == rows);
}

cudaError_t cuda_launch_fused_rows(const struct fused_args *args, const struct cuda_fused_faults *faults,
                                  cudaStream_t stream)
{
    if (!fits(args))
        return cudaErrorNotSupported;
    struct fused_rows fused = {};
    fused.norm = *args->norm;
    fused.norm_fault = faults->norm;
    fused.quantize_fault = faults->quantize;
    fused.adds = args->add != NULL;
    if (args->add != NULL)
        fused.add = *args->add;
    if (args->combine != NULL)
        fused.combine = *args->combine;
    if (args->quantize != NULL)
        fused.act = args->quantize->act;
    unsigned threads = WARP * blocks_for(fused.norm.n, SUPER_BLOCK);
    size_t shared_bytes = fused.norm.n * sizeof(float);
    dim3 grid((unsigned)fused.norm.n_rows);
    return args->combine != NULL
        ? launch_kernel(fused_rows_kernel<true>, grid, threads, shared_bytes, stream, fused)
        : launch_kernel(fused_rows_kernel<false>, grid, threads, shared_bytes, stream, fused);
}
