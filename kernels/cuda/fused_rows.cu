/* fused_rows.cu - the experts' sum, the residual and the norm that reads it, quantised: a block a row, whose
 * threads have 8 neighbours each, so that a warp has a super-block. A partial of the sum of squares is a
 * chain that no more threads would shorten. */
#include "kernels/cuda/fused.cuh"

enum { FEW_THREADS = 256, MOST_THREADS = 1024, MOST_ELEMENTS = MOST_THREADS * LANE_ELEMENTS };

struct fused_rows {
    struct moe_combine_args combine;
    struct add_args add;
    struct rms_norm_args norm;
    struct act_block *act; /* or NULL */
    struct cuda_fault norm_fault, quantize_fault;
    bool adds;
};

/* WHOLE: every row begins at 16 bytes and is whole super-blocks. A read that may have to be cut would wait
 * for the sum before it, each as long as memory takes. */
template <bool WHOLE>
static __device__ void load_elements(const float *x, size_t at, size_t n, float out[LANE_ELEMENTS])
{
    if (!WHOLE) {
        load_lane(x, at, n, out);
        return;
    }
    const float4 *vectors = (const float4 *)(const void *)(x + at);
    float4 low = vectors[0], high = vectors[1];
    out[0] = low.x, out[1] = low.y, out[2] = low.z, out[3] = low.w;
    out[4] = high.x, out[5] = high.y, out[6] = high.z, out[7] = high.w;
}

/* The experts' sum of a lane's elements. */
template <bool WHOLE>
static __device__ void combine_lane(const struct moe_combine_args *args, size_t row, size_t at,
                                    float sum[LANE_ELEMENTS])
{
    const float *y = args->y + row * args->n_used * args->n, *weights = args->weights + row * args->n_used;
    float shared[LANE_ELEMENTS];
    for (int i = 0; i < LANE_ELEMENTS; i++)
        sum[i] = 0.0f;
    if (args->shared != NULL)
        load_elements<WHOLE>(args->shared + row * args->n, at, args->n, shared);
#pragma unroll 8
    for (uint32_t k = 0; k < args->n_used; k++) {
        float of_expert[LANE_ELEMENTS], weight = weights[k];
        load_elements<WHOLE>(y + k * args->n, at, args->n, of_expert);
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

template <bool COMBINES, bool WHOLE>
static __device__ void add_lane(const struct fused_rows *fused, size_t row, size_t at, float x[LANE_ELEMENTS])
{
    const struct add_args *args = &fused->add;
    size_t n = args->n;
    float b[LANE_ELEMENTS];
    load_elements<WHOLE>(args->a + row * n, at, n, x);
    if (COMBINES)
        combine_lane<WHOLE>(&fused->combine, row, at, b);
    else
        load_elements<WHOLE>(args->b + row * n, at, n, b);
    for (int i = 0; i < LANE_ELEMENTS; i++)
        x[i] = __fadd_rn(x[i], b[i]);
    store_lane(x, at, n, args->dst + row * n);
}

/* sum64 of the squares of the block's row, in shared memory by now; for all threads. */
static __device__ float squares_of_row(const float *shared, uint32_t n)
{
    enum { PARTIALS = 64 };
    __shared__ float partials[PARTIALS];
    __syncthreads();
    for (uint32_t p = threadIdx.x; p < PARTIALS; p += blockDim.x)
        partials[p] = partial_of_squares(shared, n, p);
    __syncthreads();
    const uint32_t lane = threadIdx.x % WARP;
    return fold64_warp(partials[lane], partials[lane + WARP]);
}

/* x, of which the sum of squares is known, by its scale and w; then quantised. */
static __device__ void finish_row(const struct fused_rows *fused, size_t row, size_t at, float squares,
                                  const float w[LANE_ELEMENTS], float x[LANE_ELEMENTS])
{
    const struct rms_norm_args *norm = &fused->norm;
    const size_t n = norm->n;
    float scale = norm_scale(squares, n, norm->eps);
    for (int i = 0; i < LANE_ELEMENTS; i++)
        x[i] = at + (size_t)i < n ? __fmul_rn(__fmul_rn(x[i], scale), w[i]) : 0.0f;
    store_lane(x, at, n, norm->dst + row * norm->dst_stride);
    if (fused->act != NULL)
        quantize_lanes(x, fused->act + row * ((n + SUPER_BLOCK - 1) / SUPER_BLOCK) + at / SUPER_BLOCK,
                       fused->quantize_fault, row);
}

/* False, and reported, where the squares are not. */
static __device__ bool is_finite(const struct fused_rows *fused, size_t row, float squares)
{
    const bool finite = !f32_not_finite(squares);
    if (!finite && threadIdx.x == 0)
        report_fault(fused->norm_fault, CUDA_RMS_NORM, row);
    return finite;
}

/* THREADS: a block's at most, for the fewer there are the more registers each has. */
template <bool COMBINES, bool WHOLE, int THREADS>
static __global__ void __launch_bounds__(THREADS)
fused_rows_kernel(const __grid_constant__ struct fused_rows fused)
{
    extern __shared__ __align__(16) float shared[];
    const struct rms_norm_args *norm = &fused.norm;
    size_t row = blockIdx.x, n = norm->n, at = (size_t)threadIdx.x * LANE_ELEMENTS;
    float x[LANE_ELEMENTS], w[LANE_ELEMENTS];
    let_next_begin();
    load_elements<WHOLE>(norm->w, at, n, w);
    wait_for_earlier();
    if (fused.adds)
        add_lane<COMBINES, WHOLE>(&fused, row, at, x);
    else
        load_elements<WHOLE>(norm->src + row * norm->src_stride, at, n, x);
    store_lane(x, at, n, shared);
    float squares = squares_of_row(shared, (uint32_t)n);
    if (is_finite(&fused, row, squares))
        finish_row(&fused, row, at, squares, w, x);
}

/* ---- experts' sums of rows that have a thread for every two elements ------------------------- */

enum { PAIR = 2, MOST_PAIRS = MOST_THREADS, TOGETHER = 8 };

static __device__ float2 *pair_in(const float *x, size_t i)
{
    return (float2 *)(uintptr_t)(x + i);
}

/* The sum of the next N experts, whose rows are all asked for before the first is added: pairs are few enough
 * registers for that. */
template <int N>
static __device__ void add_experts(const struct moe_combine_args *args, size_t row, uint32_t first, size_t at,
                                   float2 *sum)
{
    const size_t from = row * args->n_used + first;
    float2 y[N];
    float weights[N];
#pragma unroll
    for (int k = 0; k < N; k++) {
        weights[k] = args->weights[from + (size_t)k];
        y[k] = *pair_in(args->y, (from + (size_t)k) * args->n + at);
    }
#pragma unroll
    for (int k = 0; k < N; k++) {
        sum->x = __fmaf_rn(weights[k], y[k].x, sum->x);
        sum->y = __fmaf_rn(weights[k], y[k].y, sum->y);
    }
}

static __device__ float2 combined_pair(const struct moe_combine_args *args, size_t row, size_t at)
{
    const bool shared = args->shared != NULL;
    float2 sum = make_float2(0.0f, 0.0f), own = sum;
    float gate = 0.0f;
    uint32_t k = 0;
    if (shared) {
        own = *pair_in(args->shared, row * args->n + at);
        gate = args->shared_gate[row];
    }
    for (; k + TOGETHER <= args->n_used; k += TOGETHER)
        add_experts<TOGETHER>(args, row, k, at, &sum);
    for (; k < args->n_used; k++)
        add_experts<1>(args, row, k, at, &sum);
    if (shared) {
        gate = mtp_sigmoidf(gate);
        sum.x = __fmaf_rn(gate, own.x, sum.x);
        sum.y = __fmaf_rn(gate, own.y, sum.y);
    }
    return sum;
}

static __global__ void __launch_bounds__(MOST_PAIRS)
fused_experts_kernel(const __grid_constant__ struct fused_rows fused)
{
    extern __shared__ __align__(16) float shared[];
    const struct rms_norm_args *norm = &fused.norm;
    const size_t row = blockIdx.x, n = norm->n, pair = threadIdx.x * PAIR, at = threadIdx.x * LANE_ELEMENTS;
    float lane[LANE_ELEMENTS], w[LANE_ELEMENTS];
    let_next_begin();
    if (at < n)
        load_elements<true>(norm->w, at, n, w);
    wait_for_earlier();
    float2 x = *pair_in(fused.add.a, row * n + pair);
    const float2 sum = combined_pair(&fused.combine, row, pair);
    x.x = __fadd_rn(x.x, sum.x);
    x.y = __fadd_rn(x.y, sum.y);
    *pair_in(shared, pair) = x;
    *pair_in(fused.combine.dst, row * n + pair) = sum;
    *pair_in(fused.add.dst, row * n + pair) = x;
    const float squares = squares_of_row(shared, (uint32_t)n);
    if (!is_finite(&fused, row, squares) || at >= n)
        return;
    load_elements<true>(shared, at, n, lane);
    finish_row(&fused, row, at, squares, w, lane);
}

/* ---- launches -------------------------------------------------------------------------------- */

template <bool COMBINES, bool WHOLE, int THREADS>
static cudaError_t launch_rows(const struct fused_rows &fused, unsigned threads, cudaStream_t stream)
{
    return launch_kernel(fused_rows_kernel<COMBINES, WHOLE, THREADS>, dim3((unsigned)fused.norm.n_rows),
                         threads, fused.norm.n * sizeof(float), stream, fused);
}

static cudaError_t launch_experts(const struct fused_rows &fused, unsigned threads, bool whole,
                                  cudaStream_t stream)
{
    if (whole && fused.norm.n <= PAIR * MOST_PAIRS)
        return launch_kernel(fused_experts_kernel, dim3((unsigned)fused.norm.n_rows),
                             (unsigned)fused.norm.n / PAIR, fused.norm.n * sizeof(float), stream, fused);
    return whole ? launch_rows<true, true, MOST_THREADS>(fused, threads, stream)
                 : launch_rows<true, false, MOST_THREADS>(fused, threads, stream);
}

static bool is_whole(const struct fused_rows *fused, bool combines)
{
    const struct rms_norm_args *norm = &fused->norm;
    uintptr_t places = (uintptr_t)norm->w;
    places |= fused->adds ? (uintptr_t)fused->add.a : (uintptr_t)norm->src | norm->src_stride * sizeof(float);
    places |= combines ? (uintptr_t)fused->combine.y | (uintptr_t)fused->combine.shared
                       : (uintptr_t)(fused->adds ? fused->add.b : NULL);
    return norm->n % SUPER_BLOCK == 0 && places % 16 == 0;
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
    const bool combines = args->combine != NULL, whole = is_whole(&fused, combines);
    if (combines)
        return launch_experts(fused, threads, whole, stream);
    if (whole && threads <= FEW_THREADS)
        return launch_rows<false, true, FEW_THREADS>(fused, threads, stream);
    return whole ? launch_rows<false, true, MOST_THREADS>(fused, threads, stream)
                 : launch_rows<false, false, MOST_THREADS>(fused, threads, stream);
}
