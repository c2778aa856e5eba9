/* mul_silu.cu - a * silu(b), the middle of SwiGLU and the gate of a DeltaNet head. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256 };

static __global__ void mul_silu_kernel(struct mul_silu_args args)
{
    begin_kernel();
    size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    size_t row = t / args.n, i = t % args.n;
    if (row >= (size_t)args.n_rows)
        return;
    float gate = mtp_siluf(args.b[row * args.b_stride + i]);
    args.dst[row * args.dst_stride + i] = __fmul_rn(args.a[row * args.a_stride + i], gate);
}

cudaError_t cuda_launch_mul_silu(const struct mul_silu_args *args, cudaStream_t stream)
{
    unsigned blocks = blocks_for((size_t)args->n_rows * args->n, THREADS);
    return LAUNCH(mul_silu_kernel, blocks, THREADS, stream, *args);
}
