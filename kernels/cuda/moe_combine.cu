/* moe_combine.cu - weighted sum of a row's experts in rank order, the shared expert last. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256 };

static __global__ void moe_combine_kernel(struct moe_combine_args args)
{
    begin_kernel();
    size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    size_t row = t / args.n, i = t % args.n;
    if (row >= (size_t)args.n_rows)
        return;
    const float *y = args.y + row * args.n_used * args.n;
    const float *weights = args.weights + row * args.n_used;
    float sum = 0.0f;
    for (uint32_t k = 0; k < args.n_used; k++)
        sum = __fmaf_rn(weights[k], y[k * args.n + i], sum);
    if (args.shared != NULL)
        sum = __fmaf_rn(mtp_sigmoidf(args.shared_gate[row]), args.shared[t], sum);
    args.dst[t] = sum;
}

cudaError_t cuda_launch_moe_combine(const struct moe_combine_args *args, cudaStream_t stream)
{
    unsigned blocks = blocks_for((size_t)args->n_rows * args->n, THREADS);
    return LAUNCH(moe_combine_kernel, blocks, THREADS, stream, *args);
}
