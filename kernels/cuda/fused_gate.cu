/* fused_gate.cu - a * silu(b), quantised, of up to two inputs: a warp a super-block. */
#include "kernels/cuda/fused.cuh"

enum { THREADS = 64, MOST_PARTS = 2 };

struct gated {
    struct mul_silu_args gate;
    struct act_block *act;
    struct cuda_fault fault;
};
struct fused_gate {
    struct gated parts[MOST_PARTS];
    size_t tasks; /* of the first part: its super-blocks */
};

static __global__ void __launch_bounds__(THREADS)
fused_gate_kernel(const __grid_constant__ struct fused_gate fused)
{
    begin_kernel();
    size_t task = ((size_t)blockIdx.x * THREADS + threadIdx.x) / WARP;
    const bool second = task >= fused.tasks;
    const struct gated *part = &fused.parts[second];
    const struct mul_silu_args *gate = &part->gate;
    task -= second ? fused.tasks : 0;
    size_t blocks = (gate->n + SUPER_BLOCK - 1) / SUPER_BLOCK, row = task / blocks;
    size_t at = task % blocks * SUPER_BLOCK + threadIdx.x % WARP * LANE_ELEMENTS;
    float a[LANE_ELEMENTS], b[LANE_ELEMENTS];
    if (row >= (size_t)gate->n_rows)
        return;
    load_lane(gate->a + row * gate->a_stride, at, gate->n, a);
    load_lane(gate->b + row * gate->b_stride, at, gate->n, b);
    for (int i = 0; i < LANE_ELEMENTS; i++)
        a[i] = at + (size_t)i < gate->n ? __fmul_rn(a[i], mtp_siluf(b[i])) : 0.0f;
    store_lane(a, at, gate->n, gate->dst + row * gate->dst_stride);
    quantize_lanes(a, &part->act[task], part->fault, row);
}

/* Whether quantize reads the rows that gate has written, one behind the other. */
static bool fits(const struct fused_args *args)
{
    const struct mul_silu_args *gate = args->gate;
    const struct quantize_args *quantize = args->quantize;
    return quantize->x == gate->dst && quantize->n == gate->n && gate->dst_stride == gate->n &&
           quantize->n_rows == gate->n_rows && gate->n_rows > 0 && gate->n > 0;
}

cudaError_t cuda_launch_fused_gate(const struct fused_args *args, const struct cuda_fused_faults *faults,
                                   cudaStream_t stream)
{
    const struct fused_args *beside = args->beside;
    if (!fits(args) || (beside != NULL && !fits(beside)))
        return cudaErrorNotSupported;
    struct fused_gate fused = {};
    fused.parts[0] = {*args->gate, args->quantize->act, faults->quantize};
    fused.tasks = (size_t)args->gate->n_rows * act_blocks(args->gate->n);
    size_t tasks = fused.tasks;
    if (beside != NULL) {
        fused.parts[1] = {*beside->gate, beside->quantize->act, faults->beside};
        tasks += (size_t)beside->gate->n_rows * act_blocks(beside->gate->n);
    } else {
        fused.parts[1] = fused.parts[0];
        fused.parts[1].gate.n_rows = 0; /* what is left of the last block */
    }
    return LAUNCH(fused_gate_kernel, blocks_for(tasks, THREADS / WARP), THREADS, stream, fused);
}
