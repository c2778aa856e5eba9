/* chain_rows.cu - rows whose tokens only the device knows. */
#include "kernels/cuda/common.cuh"

static __global__ void chain_rows_kernel(struct chain_rows_args args)
{
    begin_kernel();
    int32_t r = (int32_t)threadIdx.x;
    if (r >= args.n_rows)
        return;
    struct batch_row row = {args.tokens[r], args.first[0] + args.offset + r, 0};
    args.rows[r] = row;
}

cudaError_t cuda_launch_chain_rows(const struct chain_rows_args *args, cudaStream_t stream)
{
    enum { MOST = 1024 };
    if (args->n_rows > MOST)
        return cudaErrorInvalidValue;
    return LAUNCH(chain_rows_kernel, 1, blocks_for((size_t)args->n_rows, WARP) * WARP, stream, *args);
}
