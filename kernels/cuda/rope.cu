/* rope.cu - rotary position embedding in place, a thread a pair. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 128 };

static __global__ void rope_kernel(struct rope_args args)
{
    size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    size_t n = args.n_pairs, pair = t % n, head = t / n % args.n_heads, row = t / n / args.n_heads;
    if (row >= (size_t)args.n_rows)
        return;
    float *x = args.x + row * args.stride + head * args.head_stride;
    const float *cosines = args.cos_sin + (args.rows != NULL ? (size_t)args.rows[row].position : row) * 2 * n;
    float c = cosines[pair], s = cosines[n + pair];
    float x0 = x[pair], x1 = x[pair + n];
    x[pair] = __fmaf_rn(x0, c, -__fmul_rn(x1, s));
    x[pair + n] = __fmaf_rn(x0, s, __fmul_rn(x1, c));
}

cudaError_t cuda_launch_rope(const struct rope_args *args, cudaStream_t stream)
{
    size_t pairs = (size_t)args->n_rows * args->n_heads * args->n_pairs;
    return LAUNCH(rope_kernel, blocks_for(pairs, THREADS), THREADS, stream, *args);
}
