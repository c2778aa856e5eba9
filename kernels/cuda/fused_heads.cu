/* fused_heads.cu - the norm of each head, its gate, and the quantised rows: a warp a super-block, which is
 * two heads of 128. Lane l of a half warp has elements 8 l .. 8 l + 7 of its head. */
#include "kernels/cuda/fused.cuh"

enum { HEAD = 128, THREADS = 64 };

struct fused_heads {
    struct rms_norm_args norm;
    struct mul_silu_args gate;
    struct act_block *act;
    struct cuda_fault norm_fault, quantize_fault;
    size_t n; /* of a row */
};

/* sum64(x^2) of the head. Partial i has elements i and i + 64, which lanes l and l + 8 hold; then the fold by
 * 32, 16 and 8 goes over lanes, by 4, 2 and 1 over a lane's own. */
static __device__ float squares_of_head(const float x[LANE_ELEMENTS])
{
    float partial[LANE_ELEMENTS];
    bool first = threadIdx.x % 16 < 8;
    for (int i = 0; i < LANE_ELEMENTS; i++) {
        float other = __shfl_xor_sync(ALL_LANES, x[i], 8), low = first ? x[i] : other;
        float high = first ? other : x[i];
        partial[i] = __fmaf_rn(high, high, __fmaf_rn(low, low, 0.0f));
    }
    for (int distance = 4; distance >= 1; distance /= 2)
        for (int i = 0; i < LANE_ELEMENTS; i++)
            partial[i] = __fadd_rn(partial[i], __shfl_xor_sync(ALL_LANES, partial[i], distance));
    for (int distance = 4; distance >= 1; distance /= 2)
        for (int i = 0; i < distance; i++)
            partial[i] = __fadd_rn(partial[i], partial[i + distance]);
    return partial[0];
}

static __global__ void __launch_bounds__(THREADS) fused_heads_kernel(struct fused_heads fused)
{
    let_next_begin();
    size_t blocks = fused.n / SUPER_BLOCK, task = ((size_t)blockIdx.x * THREADS + threadIdx.x) / WARP;
    size_t row = task / blocks, at = task % blocks * SUPER_BLOCK + threadIdx.x % WARP * LANE_ELEMENTS;
    float x[LANE_ELEMENTS], w[LANE_ELEMENTS], gate[LANE_ELEMENTS];
    load_lane(fused.norm.w, at % HEAD, HEAD, w);
    wait_for_earlier();
    if (row >= (size_t)fused.norm.n_rows)
        return;
    load_lane(fused.norm.src + row * fused.n, at, fused.n, x);
    load_lane(fused.gate.b + row * fused.gate.b_stride, at, fused.n, gate);
    float squares = squares_of_head(x);
    if (f32_not_finite(squares)) {
        if (threadIdx.x % 16 == 0)
            report_fault(fused.norm_fault, CUDA_RMS_NORM, row);
    } else {
        float scale = norm_scale(squares, HEAD, fused.norm.eps);
        for (int i = 0; i < LANE_ELEMENTS; i++)
            x[i] = __fmul_rn(__fmul_rn(x[i], scale), w[i]);
    }
    for (int i = 0; i < LANE_ELEMENTS; i++)
        x[i] = __fmul_rn(x[i], mtp_siluf(gate[i]));
    store_lane(x, at, fused.n, fused.gate.dst + row * fused.n);
    quantize_lanes(x, &fused.act[task], fused.quantize_fault, row);
}

cudaError_t cuda_launch_fused_heads(const struct fused_args *args, const struct cuda_fused_faults *faults,
                                   cudaStream_t stream)
{
    const struct rms_norm_args *norm = args->norm;
    const struct mul_silu_args *gate = args->gate;
    const struct quantize_args *quantize = args->quantize;
    size_t n = norm->n * norm->n_groups;
    bool in_place = norm->src == norm->dst && gate->a == norm->dst && gate->dst == norm->dst &&
                    quantize->x == norm->dst && gate->b != norm->dst;
    bool dense = norm->src_group_stride == HEAD && norm->dst_group_stride == HEAD && norm->src_stride == n &&
                 norm->dst_stride == n && gate->a_stride == n && gate->dst_stride == n;
    bool same = gate->n == n && quantize->n == n && gate->n_rows == norm->n_rows &&
                quantize->n_rows == norm->n_rows;
    if (norm->n != HEAD || n % SUPER_BLOCK != 0 || !in_place || !dense || !same || norm->n_rows <= 0)
        return cudaErrorNotSupported;
    struct fused_heads fused = {*norm, *gate, quantize->act, faults->norm, faults->quantize, n};
    size_t tasks = (size_t)norm->n_rows * (n / SUPER_BLOCK);
    return LAUNCH(fused_heads_kernel, blocks_for(tasks, THREADS / WARP), THREADS, stream, fused);
}
