/* rope.cu - rotary position embedding in place, a thread a pair. */
#include "kernels/cuda/rope.cuh"

enum { THREADS = 128 };

static __global__ void rope_kernel(struct rope_args args)
{
    begin_kernel();
    size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    size_t n = args.n_pairs, pair = t % n, head = t / n % args.n_heads, row = t / n / args.n_heads;
    if (row >= (size_t)args.n_rows)
        return;
    float *x = args.x + row * args.stride + head * args.head_stride;
    const float *table = rope_table_row(&args, row);
    float2 result = rotated(x[pair], x[pair + n], table[pair], table[n + pair]);
    x[pair] = result.x;
    x[pair + n] = result.y;
}

cudaError_t cuda_launch_rope(const struct rope_args *args, cudaStream_t stream)
{
    size_t pairs = (size_t)args->n_rows * args->n_heads * args->n_pairs;
    return LAUNCH(rope_kernel, blocks_for(pairs, THREADS), THREADS, stream, *args);
}
