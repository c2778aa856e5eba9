/* attention.cu - softmax attention over the cache (docs/arithmetic.md, "Attention").
 *
 * The rule cuts positions into chunks of 64 whatever the batch, so chunks go to blocks as they come:
 * one kernel computes the largest score, the sum of weights and the weighted values of each chunk into
 * the scratch, another folds the chunks of a (row, head) pair in their order. As many pairs are taken
 * at a time as the scratch has room for. Positions lie in the device's memory; the launcher knows the
 * size of the context only, and blocks without a chunk of their own return at once. Heads of real size over
 * halves go another way (attention_few.cu).
 */
#include "kernels/cuda/attention_few.cuh"
#include "kernels/cuda/attention_rows.h"
#include "kernels/cuda/fused.cuh"

enum {
    THREADS = 256, N_WARPS = THREADS / WARP,
    WANTED_BLOCKS = 2048,     /* enough to fill the largest devices */
    WANTED_PAIRS = 64,        /* (row, head) pairs the scratch takes at least */
    USUAL_SCRATCH = 64 << 20, /* bytes, where that is more */
};

template <bool HALF>
static __device__ float cached(const void *values, size_t at)
{
    return HALF ? float_of_cached(((const uint16_t *)values)[at]) : ((const float *)values)[at];
}

/* The scores of the chunk's n positions, a warp each in turn; lane l holds partials l and l + 32. */
template <bool HALF>
static __device__ void chunk_scores(const struct attention_args *args, const float *q, size_t first,
                                    size_t stride, unsigned n, float *scores)
{
    unsigned lane = threadIdx.x % WARP, dim = args->cache.head_dim;
    for (unsigned p = threadIdx.x / WARP; p < n; p += N_WARPS) {
        size_t at = first + p * stride;
        float low = 0.0f, high = 0.0f;
#pragma unroll 4
        for (unsigned i = lane; i < dim; i += 64) {
            low = __fmaf_rn(q[i], cached<HALF>(args->cache.k, at + i), low);
            if (i + WARP < dim)
                high = __fmaf_rn(q[i + WARP], cached<HALF>(args->cache.k, at + i + WARP), high);
        }
        float sum = fold64_warp(low, high);
        if (lane == 0)
            scores[p] = __fmul_rn(sum, args->scale);
    }
}

/* The first warp makes weights of the scores, and writes the largest score and the sum of the weights. */
static __device__ void chunk_weights(float *scores, unsigned n, float *partial)
{
    float most;
    float2 weights = weigh_scores(scores, n, &most);
    float sum = fold64_warp(weights.x, weights.y);
    if (threadIdx.x == 0) {
        partial[0] = most;
        partial[1] = sum;
    }
}

template <bool HALF>
static __device__ void chunk_values(const struct attention_args *args, const float *weights,
                                    size_t first, size_t stride, unsigned n, float *acc)
{
    for (unsigned d = threadIdx.x; d < args->cache.head_dim; d += THREADS) {
        float sum = 0.0f;
#pragma unroll 8
        for (unsigned p = 0; p < n; p++)
            sum = __fmaf_rn(weights[p], cached<HALF>(args->cache.v, first + p * stride + d), sum);
        acc[d] = sum;
    }
}

template <bool HALF>
static __global__ void __launch_bounds__(THREADS, 4) chunk_kernel(struct attention_work work)
{
    begin_kernel();
    __shared__ float q[MAX_HEAD_DIM], scores[ATTENTION_CHUNK];
    size_t pair = work.first_pair + blockIdx.y;
    struct pair_view view = view_of(&work, pair);
    for (unsigned d = threadIdx.x; d < work.args.cache.head_dim; d += THREADS)
        q[d] = work.args.q[view.at + d];
    for (size_t chunk = blockIdx.x; chunk * ATTENTION_CHUNK < view.n; chunk += gridDim.x) {
        size_t begin = chunk * ATTENTION_CHUNK, left = view.n - begin;
        unsigned n = (unsigned)(left < ATTENTION_CHUNK ? left : ATTENTION_CHUNK);
        size_t first = view.first + begin * view.stride;
        float *partial = partial_of(&work, pair, chunk);
        __syncthreads(); /* q is there; the weights of the chunk before are done with */
        chunk_scores<HALF>(&work.args, q, first, view.stride, n, scores);
        __syncthreads();
        if (threadIdx.x < WARP)
            chunk_weights(scores, n, partial);
        __syncthreads();
        chunk_values<HALF>(&work.args, scores, first, view.stride, n, partial + 2);
    }
}

/* The largest score of a pair's n_chunks chunks; all threads get it. */
static __device__ float largest_of_chunks(const struct attention_work *work, size_t pair,
                                          size_t n_chunks)
{
    __shared__ float warps[N_WARPS];
    float most = partial_of(work, pair, 0)[0];
    for (size_t chunk = threadIdx.x; chunk < n_chunks; chunk += THREADS) {
        float other = partial_of(work, pair, chunk)[0];
        most = other > most ? other : most;
    }
    for (int distance = WARP / 2; distance >= 1; distance /= 2) {
        float other = __shfl_xor_sync(ALL_LANES, most, distance);
        most = other > most ? other : most;
    }
    if (threadIdx.x % WARP == 0)
        warps[threadIdx.x / WARP] = most;
    __syncthreads();
    for (int w = 0; w < N_WARPS; w++)
        most = warps[w] > most ? warps[w] : most;
    return most;
}

/* A block a pair: the chunks' factors THREADS at a time, then a thread an element of the head. */
static __global__ void __launch_bounds__(THREADS) merge_kernel(struct attention_work work)
{
    begin_kernel();
    enum { A_THREAD = MAX_HEAD_DIM / THREADS };
    __shared__ float factors[THREADS], sums[THREADS];
    const struct attention_args *args = &work.args;
    size_t pair = work.first_pair + blockIdx.x, dim = args->cache.head_dim;
    struct pair_view view = view_of(&work, pair);
    size_t n_chunks = (view.n + ATTENTION_CHUNK - 1) / ATTENTION_CHUNK;
    float most = largest_of_chunks(&work, pair, n_chunks);
    float total = 0.0f, acc[A_THREAD] = {0.0f};
    for (size_t first = 0; first < n_chunks; first += THREADS) {
        size_t left = n_chunks - first, n = left < THREADS ? left : THREADS;
        __syncthreads();
        if (threadIdx.x < n) {
            const float *partial = partial_of(&work, pair, first + threadIdx.x);
            factors[threadIdx.x] = mtp_expf(__fsub_rn(partial[0], most));
            sums[threadIdx.x] = partial[1];
        }
        __syncthreads();
        for (size_t c = 0; c < n; c++) {
            const float *values = partial_of(&work, pair, first + c) + 2;
            total = __fmaf_rn(factors[c], sums[c], total);
#pragma unroll
            for (int e = 0; e < A_THREAD; e++)
                if (threadIdx.x + e * THREADS < dim)
                    acc[e] = __fmaf_rn(factors[c], values[threadIdx.x + e * THREADS], acc[e]);
        }
    }
#pragma unroll
    for (int e = 0; e < A_THREAD; e++) {
        size_t d = threadIdx.x + e * THREADS;
        if (d >= dim)
            continue;
        float out = __fdiv_rn(acc[e], total);
        if (args->gate != NULL)
            out = __fmul_rn(out, mtp_sigmoidf(args->gate[view.at + d]));
        args->out[pair * dim + d] = out;
        acc[e] = out;
    }
    if (work.act == NULL)
        return;
    __syncthreads();
    factors[threadIdx.x] = acc[0];
    __syncthreads();
    if (threadIdx.x < WARP)
        quantize_lanes(factors + threadIdx.x * LANE_ELEMENTS, &work.act[pair], work.fault, view.row);
}

static uint32_t chunks_of(uint32_t n_ctx)
{
    return (n_ctx + ATTENTION_CHUNK - 1) / ATTENTION_CHUNK;
}

size_t cuda_attention_scratch(uint32_t n_ctx)
{
    size_t usual = USUAL_SCRATCH;
    size_t wanted = (size_t)chunks_of(n_ctx) * (2 + MAX_HEAD_DIM) * sizeof(float) * WANTED_PAIRS;
    size_t rows = cuda_attention_rows_scratch(n_ctx);
    wanted = wanted > rows ? wanted : rows;
    return wanted > usual ? wanted : usual;
}

static cudaError_t launch_pairs(const struct attention_work *work, unsigned n_pairs,
                                cudaStream_t stream)
{
    if (work->together > 0)
        return cuda_launch_attention_few(work, n_pairs, stream);
    unsigned splits = blocks_for(WANTED_BLOCKS, n_pairs);
    dim3 grid(splits < work->n_chunks ? splits : work->n_chunks, n_pairs);
    cudaError_t status = work->args.cache.type == KV_F16
        ? LAUNCH(chunk_kernel<true>, grid, THREADS, stream, *work)
        : LAUNCH(chunk_kernel<false>, grid, THREADS, stream, *work);
    return status != cudaSuccess ? status : LAUNCH(merge_kernel, n_pairs, THREADS, stream, *work);
}

/* All pairs; args, act and fault of the work are set. */
static cudaError_t launch_all(struct attention_work work, struct cuda_scratch scratch, cudaStream_t stream)
{
    const size_t max_grid_y = 65535;
    const struct attention_args *args = &work.args;
    work.n_chunks = chunks_of(args->cache.n_ctx);
    work.partials = (float *)scratch.data;
    size_t a_pair = (size_t)work.n_chunks * (2 + args->cache.head_dim) * sizeof(float);
    size_t together = scratch.bytes / a_pair, n_pairs = (size_t)args->n_rows * args->n_heads;
    together = together < max_grid_y ? together : max_grid_y;
    if (together == 0)
        return cudaErrorInvalidValue;
    work.together = cuda_attention_few_heads(args);
    work.arrivals = scratch.arrivals;
    if (work.together > together)
        work.together = 0;
    if (work.together > 0) { /* whole groups, and as many as can be counted */
        together = together < CUDA_ARRIVALS ? together : (size_t)CUDA_ARRIVALS;
        together -= together % work.together;
    }
    for (; work.first_pair < n_pairs; work.first_pair += together) {
        size_t left = n_pairs - work.first_pair;
        cudaError_t status =
            launch_pairs(&work, (unsigned)(left < together ? left : together), stream);
        if (status != cudaSuccess)
            return status;
    }
    return cudaSuccess;
}

cudaError_t cuda_launch_attention(const struct attention_args *args, struct cuda_scratch scratch,
                                  cudaStream_t stream)
{
    if (cuda_attention_takes_rows(args, scratch))
        return cuda_launch_attention_rows(args, scratch, stream);
    struct attention_work work = {};
    work.args = *args;
    return launch_all(work, scratch, stream);
}

cudaError_t cuda_launch_fused_attention(const struct fused_args *args, const struct cuda_fused_faults *faults,
                                        struct cuda_scratch scratch, cudaStream_t stream)
{
    const struct attention_args *attention = args->attention;
    const struct quantize_args *quantize = args->quantize;
    size_t n = (size_t)attention->n_heads * attention->cache.head_dim;
    if (cuda_attention_takes_rows(attention, scratch))
        return cudaErrorNotSupported;
    if (attention->cache.head_dim != SUPER_BLOCK || quantize->x != attention->out || quantize->n != n ||
        quantize->n_rows != attention->n_rows || attention->n_rows <= 0)
        return cudaErrorNotSupported;
    struct attention_work work = {};
    work.args = *attention;
    work.act = quantize->act;
    work.fault = faults->quantize;
    return launch_all(work, scratch, stream);
}
