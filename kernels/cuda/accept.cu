/* accept.cu - greedy acceptance: how many drafts are what the rows before them give. */
#include "kernels/cuda/common.cuh"

static __global__ void accept_kernel(struct accept_args args)
{
    begin_kernel();
    for (int32_t r = (int32_t)threadIdx.x; r < args.n_rows; r += WARP)
        args.seen[r] = args.tokens[r];
    if (threadIdx.x > 0)
        return;
    int32_t kept = 1;
    while (kept < args.n_rows && args.tokens[kept] == args.top[kept - 1])
        kept++;
    args.n_kept[0] = kept;
}

cudaError_t cuda_launch_accept(const struct accept_args *args, cudaStream_t stream)
{
    return LAUNCH(accept_kernel, 1, WARP, stream, *args);
}
