/* argmax.cu - index of the largest element of each row, or of the largest score of a draw. A row is split
 * over blocks; the largest of each split passes through the scratch. */
#include "kernels/cuda/common.cuh"
#include "kernels/noise.h"

enum { THREADS = 256, MAX_SPLITS = 64, A_SPLIT = 2048 /* elements worth a block */ };

struct argmax_work {
    struct argmax_args args;
    struct cuda_fault fault;
    unsigned long long *best;  /* [n_rows][n_splits] the largest element of each split... */
    unsigned long long *drawn; /* ...and its largest score; without noise the same as best */
    unsigned n_splits;
    size_t first_row;
};

/* A number that is larger for a larger element, and of equal elements for the one of lower index. As
 * in the definition a NaN is never larger than what stands before it, and nothing than a NaN. */
static __device__ unsigned long long key_of(float x, size_t i)
{
    uint32_t bits = f32_bits(x), order;
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        order = i == 0 ? 0xffffffffu : 0;
    else if ((bits & 0x7fffffffu) == 0)
        order = 0x80000000u; /* -0 counts as 0 */
    else
        order = bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
    return (unsigned long long)order << 32 | ~(uint32_t)i;
}

static __device__ unsigned long long larger(unsigned long long a, unsigned long long b)
{
    return a > b ? a : b;
}

/* The largest of all threads' keys; thread 0 gets it. */
static __device__ unsigned long long largest_of_block(unsigned long long key)
{
    __shared__ unsigned long long warps[THREADS / WARP];
    unsigned thread = threadIdx.x;
    for (int distance = WARP / 2; distance >= 1; distance /= 2)
        key = larger(key, __shfl_xor_sync(ALL_LANES, key, distance));
    if (thread % WARP == 0)
        warps[thread / WARP] = key;
    __syncthreads();
    if (thread == 0)
        for (int w = 1; w < THREADS / WARP; w++)
            key = larger(key, warps[w]);
    return key;
}

static __global__ void split_kernel(struct argmax_work work)
{
    begin_kernel();
    size_t row = work.first_row + blockIdx.y, n = work.args.n;
    const float *x = work.args.x + row * n;
    unsigned long long key = 0;
    bool finite = true;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < n;
         i += (size_t)gridDim.x * THREADS) {
        finite = finite && !f32_not_finite(x[i]);
        key = larger(key, key_of(x[i], i));
    }
    if (!finite)
        report_fault(work.fault, CUDA_ARGMAX, row);
    key = largest_of_block(key);
    if (threadIdx.x == 0)
        work.best[(size_t)blockIdx.y * gridDim.x + blockIdx.x] = key;
}

/* The largest element of the row by the splits' keys; for all threads. */
static __device__ float largest_of_row(const unsigned long long *best, unsigned n_splits, const float *x)
{
    __shared__ float largest;
    unsigned long long key = 0;
    for (unsigned s = threadIdx.x; s < n_splits; s += THREADS)
        key = larger(key, best[s]);
    key = largest_of_block(key);
    if (threadIdx.x == 0)
        largest = x[~(uint32_t)key];
    __syncthreads(); /* and largest_of_block may be called again */
    return largest;
}

/* The largest score of four ids from 4 * block on, which share the words of their noise. */
static __device__ unsigned long long draw_of_block(const float *x, size_t n, float least, uint32_t block,
                                                   struct draw_noise noise, uint64_t position)
{
    size_t first = (size_t)block * 4;
    unsigned taking_part = 0;
    for (unsigned k = 0; k < 4 && first + k < n; k++) {
        float value = x[first + k]; /* a NaN in front stays, as it does among elements */
        taking_part |= (value >= least || (first + k == 0 && value != value) ? 1u : 0u) << k;
    }
    if (taking_part == 0)
        return 0;
    uint32_t words[4];
    noise_words(words, noise.seed, position, block);
    unsigned long long key = 0;
    for (unsigned k = 0; k < 4; k++)
        if (taking_part >> k & 1)
            key = larger(key, key_of(noise_score(x[first + k], noise.temperature, words[k]), first + k));
    return key;
}

/* The same as split_kernel, of scores; runs behind it. */
static __global__ void draw_kernel(struct argmax_work work)
{
    begin_kernel();
    size_t row = work.first_row + blockIdx.y, n = work.args.n, at = (size_t)blockIdx.y * gridDim.x;
    const float *x = work.args.x + row * n;
    struct draw_noise noise = *work.args.noise;
    uint64_t position = (uint64_t)(work.args.first[0] + work.args.offset + (int64_t)row);
    float least = noise_least(largest_of_row(work.best + at, work.n_splits, x), noise.min_p);
    unsigned long long key = 0;
    for (size_t block = (size_t)blockIdx.x * THREADS + threadIdx.x; 4 * block < n;
         block += (size_t)gridDim.x * THREADS)
        key = larger(key, draw_of_block(x, n, least, (uint32_t)block, noise, position));
    key = largest_of_block(key);
    if (threadIdx.x == 0)
        work.drawn[at + blockIdx.x] = key;
}

static __global__ void merge_kernel(struct argmax_work work)
{
    begin_kernel();
    unsigned long long key = 0;
    for (unsigned s = threadIdx.x; s < work.n_splits; s += THREADS)
        key = larger(key, work.drawn[(size_t)blockIdx.x * work.n_splits + s]);
    key = largest_of_block(key);
    if (threadIdx.x == 0)
        work.args.dst[work.first_row + blockIdx.x] = (int32_t)~(uint32_t)key;
}

cudaError_t cuda_launch_argmax(const struct argmax_args *args, struct cuda_fault fault,
                               struct cuda_scratch scratch, cudaStream_t stream)
{
    unsigned splits = blocks_for(args->n, A_SPLIT);
    splits = splits > MAX_SPLITS ? (unsigned)MAX_SPLITS : splits;
    unsigned long long *best = (unsigned long long *)scratch.data;
    size_t room = scratch.bytes / sizeof *best / (args->noise != NULL ? 2 : 1), together = room / splits;
    struct argmax_work work = {*args, fault, best, args->noise != NULL ? best + room : best, splits, 0};
    size_t n_rows = (size_t)args->n_rows;
    if (together == 0)
        return cudaErrorInvalidValue;
    for (; work.first_row < n_rows; work.first_row += together) {
        size_t left = n_rows - work.first_row;
        unsigned rows = (unsigned)(left < together ? left : together);
        cudaError_t status = LAUNCH(split_kernel, dim3(splits, rows), THREADS, stream, work);
        if (status == cudaSuccess && args->noise != NULL)
            status = LAUNCH(draw_kernel, dim3(splits, rows), THREADS, stream, work);
        if (status == cudaSuccess)
            status = LAUNCH(merge_kernel, rows, THREADS, stream, work);
        if (status != cudaSuccess)
            return status;
    }
    return cudaSuccess;
}
