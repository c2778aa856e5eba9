/* digest.cu - digests of rows: integers only, whose sum has no order. A row is split over blocks, each of
 * which adds its share. */
#include "kernels/cuda/common.cuh"
#include "kernels/digest_mix.h"

enum { THREADS = 256, MAX_SPLITS = 64, A_SPLIT = 2048 /* elements worth a block */, MAX_ROWS = 32768 };

/* Not a memset: what waits for a kernel must be one to begin early. */
static __global__ void clear_kernel(struct digest_args args)
{
    begin_kernel();
    for (int32_t r = (int32_t)threadIdx.x; r < args.n_rows; r += THREADS)
        args.dst[r] = 0;
}

static __global__ void digest_kernel(struct digest_args args)
{
    begin_kernel();
    __shared__ unsigned long long warps[THREADS / WARP];
    const float *x = args.x + blockIdx.y * args.n;
    unsigned long long sum = 0;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < args.n; i += (size_t)gridDim.x * THREADS)
        sum += digest_mix(i, x[i]);
    for (int distance = WARP / 2; distance >= 1; distance /= 2)
        sum += __shfl_xor_sync(ALL_LANES, sum, distance);
    if (threadIdx.x % WARP == 0)
        warps[threadIdx.x / WARP] = sum;
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    for (int w = 1; w < THREADS / WARP; w++)
        sum += warps[w];
    atomicAdd((unsigned long long *)args.dst + blockIdx.y, sum);
}

cudaError_t cuda_launch_digest(const struct digest_args *args, cudaStream_t stream)
{
    unsigned splits = blocks_for(args->n, A_SPLIT);
    splits = splits > MAX_SPLITS ? (unsigned)MAX_SPLITS : splits;
    size_t n_rows = (size_t)args->n_rows;
    cudaError_t status = LAUNCH(clear_kernel, 1, THREADS, stream, *args);
    for (size_t first = 0; first < n_rows && status == cudaSuccess; first += MAX_ROWS) {
        struct digest_args part = *args;
        part.x += first * args->n;
        part.dst += first;
        unsigned rows = (unsigned)(n_rows - first < MAX_ROWS ? n_rows - first : (size_t)MAX_ROWS);
        status = LAUNCH(digest_kernel, dim3(splits, rows), THREADS, stream, part);
    }
    return status;
}
