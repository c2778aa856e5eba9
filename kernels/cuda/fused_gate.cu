/* fused_gate.cu - a * silu(b), quantised: a warp a super-block. */
#include "kernels/cuda/fused.cuh"

enum { THREADS = 64 };

struct fused_gate {
    struct mul_silu_args gate;
    struct act_block *act;
    struct cuda_fault fault;
};

static __global__ void __launch_bounds__(THREADS) fused_gate_kernel(struct fused_gate fused)
{
    begin_kernel();
    const struct mul_silu_args *gate = &fused.gate;
    size_t blocks = (gate->n + SUPER_BLOCK - 1) / SUPER_BLOCK;
    size_t task = ((size_t)blockIdx.x * THREADS + threadIdx.x) / WARP, row = task / blocks;
    size_t at = task % blocks * SUPER_BLOCK + threadIdx.x % WARP * LANE_ELEMENTS;
    float a[LANE_ELEMENTS], b[LANE_ELEMENTS];
    if (row >= (size_t)gate->n_rows)
        return;
    load_lane(gate->a + row * gate->a_stride, at, gate->n, a);
    load_lane(gate->b + row * gate->b_stride, at, gate->n, b);
    for (int i = 0; i < LANE_ELEMENTS; i++)
        a[i] = at + (size_t)i < gate->n ? __fmul_rn(a[i], mtp_siluf(b[i])) : 0.0f;
    store_lane(a, at, gate->n, gate->dst + row * gate->dst_stride);
    quantize_lanes(a, &fused.act[task], fused.fault, row);
}

cudaError_t cuda_launch_fused_gate(const struct fused_args *args, const struct cuda_fused_faults *faults,
                                   cudaStream_t stream)
{
    const struct mul_silu_args *gate = args->gate;
    const struct quantize_args *quantize = args->quantize;
    if (quantize->x != gate->dst || quantize->n != gate->n || gate->dst_stride != gate->n ||
        quantize->n_rows != gate->n_rows || gate->n_rows <= 0)
        return cudaErrorNotSupported;
    struct fused_gate fused = {*gate, quantize->act, faults->quantize};
    size_t tasks = (size_t)gate->n_rows * act_blocks(gate->n);
    return LAUNCH(fused_gate_kernel, blocks_for(tasks, THREADS / WARP), THREADS, stream, fused);
}
