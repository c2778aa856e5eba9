/* quantize.cu - activations to int8 super-blocks, a warp each. */
#include "kernels/cuda/quantize.cuh"

enum { THREADS = 128 };

struct quantize_work {
    struct quantize_args args;
    struct cuda_fault fault;
};

static __global__ void quantize_kernel(struct quantize_work work)
{
    begin_kernel();
    const struct quantize_args *args = &work.args;
    size_t blocks = (args->n + SUPER_BLOCK - 1) / SUPER_BLOCK;
    size_t task = ((size_t)blockIdx.x * THREADS + threadIdx.x) / WARP;
    size_t row = task / blocks, block = task % blocks;
    if (row >= (size_t)args->n_rows)
        return;
    float x[LANE_ELEMENTS];
    load_lane(args->x + row * args->n, block * SUPER_BLOCK + threadIdx.x % WARP * LANE_ELEMENTS, args->n, x);
    quantize_lanes(x, &args->act[task], work.fault, row);
}

cudaError_t cuda_launch_quantize(const struct quantize_args *args, struct cuda_fault fault,
                                 cudaStream_t stream)
{
    struct quantize_work work = {*args, fault};
    size_t tasks = (size_t)args->n_rows * act_blocks(args->n);
    return LAUNCH(quantize_kernel, blocks_for(tasks, THREADS / WARP), THREADS, stream, work);
}
