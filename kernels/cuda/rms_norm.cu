/* rms_norm.cu - root-mean-square norm of rows or of groups inside rows, a block each. 64 threads hold
 * the partials of sum64; wide rows have more threads, which bring the row into shared memory first: 64
 * threads alone would wait for memory time and again. */
#include "kernels/cuda/common.cuh"

enum { NARROW = 64, WIDE = 512, MOST_SHARED = 11 << 10 /* elements, of 48 KB */ };

struct rms_norm_work {
    struct rms_norm_args args;
    struct cuda_fault fault;
};

/* sum64(x^2) by the first 64 threads; every thread of the block gets it. */
static __device__ float squares_block(const float *x, size_t n)
{
    __shared__ float partials[64];
    unsigned lane = threadIdx.x;
    if (lane < 64)
        partials[lane] = partial_of_squares(x, n, lane);
    __syncthreads();
    if (lane < WARP) {
        float sum = fold64_warp(partials[lane], partials[lane + WARP]);
        if (lane == 0)
            partials[0] = sum;
    }
    __syncthreads();
    return partials[0];
}

/* dst = (x * scale) * w, the scale from x, which may lie in shared memory. */
static __device__ void norm_row(const struct rms_norm_work *work, const float *x, size_t row, float *dst)
{
    const struct rms_norm_args *args = &work->args;
    float squares = squares_block(x, args->n);
    if (f32_not_finite(squares)) {
        if (threadIdx.x == 0)
            report_fault(work->fault, CUDA_RMS_NORM, row);
        return;
    }
    float scale = norm_scale(squares, args->n, args->eps);
    for (size_t i = threadIdx.x; i < args->n; i += blockDim.x)
        dst[i] = __fmul_rn(__fmul_rn(x[i], scale), args->w[i]);
}

/* With room in shared memory for a row where it has more than NARROW threads. */
static __global__ void rms_norm_kernel(struct rms_norm_work work)
{
    begin_kernel();
    extern __shared__ float shared[];
    const struct rms_norm_args *args = &work.args;
    size_t row = blockIdx.x / args->n_groups, group = blockIdx.x % args->n_groups;
    const float *src = args->src + row * args->src_stride + group * args->src_group_stride;
    float *dst = args->dst + row * args->dst_stride + group * args->dst_group_stride;
    if (blockDim.x == NARROW || args->n > MOST_SHARED) {
        norm_row(&work, src, row, dst);
        return;
    }
#pragma unroll 4
    for (size_t i = threadIdx.x; i < args->n; i += blockDim.x)
        shared[i] = src[i];
    __syncthreads();
    norm_row(&work, shared, row, dst);
}

cudaError_t cuda_launch_rms_norm(const struct rms_norm_args *args, struct cuda_fault fault,
                                 cudaStream_t stream)
{
    struct rms_norm_work work = {*args, fault};
    unsigned blocks = (unsigned)((size_t)args->n_rows * args->n_groups);
    unsigned threads = args->n <= 512 ? NARROW : WIDE;
    size_t shared = threads == WIDE && args->n <= MOST_SHARED ? args->n * sizeof(float) : 0;
    return launch_kernel(rms_norm_kernel, dim3(blocks), threads, shared, stream, work);
}
