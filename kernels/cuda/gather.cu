/* gather.cu - rows picked by index: copies only. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256 };

static __global__ void gather_kernel(struct gather_args args)
{
    begin_kernel();
    size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    size_t row = t / args.n, i = t % args.n;
    if (row < (size_t)args.n_rows)
        args.dst[t] = args.src[(size_t)args.index[row] * args.n + i];
}

cudaError_t cuda_launch_gather(const struct gather_args *args, cudaStream_t stream)
{
    unsigned blocks = blocks_for((size_t)args->n_rows * args->n, THREADS);
    return LAUNCH(gather_kernel, blocks, THREADS, stream, *args);
}
