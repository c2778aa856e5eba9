/* add.cu - elementwise sum (residual connections). */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256 };

struct add_work {
    const float *a, *b;
    float *dst;
    size_t n;
};

static __global__ void add_kernel(struct add_work work)
{
    begin_kernel();
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < work.n)
        work.dst[i] = __fadd_rn(work.a[i], work.b[i]);
}

cudaError_t cuda_launch_add(const struct add_args *args, cudaStream_t stream)
{
    size_t n = (size_t)args->n_rows * args->n;
    struct add_work work = {args->a, args->b, args->dst, n};
    return LAUNCH(add_kernel, blocks_for(n, THREADS), THREADS, stream, work);
}
