/* attention_rows.cu - softmax attention of many rows (docs/arithmetic.md, "Attention"). The heads that share
 * a kv head, of several neighbouring rows of one sequence, are PAIRS pairs; a block takes them through all
 * positions, so that a key or a value is read once for all of them. First the weights of every chunk go to
 * the scratch, then each chunk's factor is known, then the values are added up. */
#include "kernels/cuda/attention_rows.h"

#include "kernels/cuda/attention_parts.cuh"

enum {
    THREADS = 256, N_WARPS = THREADS / WARP,
    PAIRS = 32,
    TOGETHER = 4, /* positions of which a warp computes the scores at a time */
    WAVE = 264,   /* blocks that run at once on the largest devices */
};

struct rows_work {
    struct attention_args args;
    float *weights;      /* [block][n_chunks][PAIRS][ATTENTION_CHUNK] */
    float *largest;      /* [block][PAIRS][n_chunks]; then the factors */
    float *sums;         /* as largest */
    uint32_t n_chunks;   /* of the context */
    uint32_t group;      /* heads that share a kv head */
    int32_t rows;        /* rows of a block */
    uint32_t first_block;
};

/* Rows first .. first + n - 1 of the batch, all of one sequence, with a kv head. */
struct row_group {
    int32_t first, n;
    uint32_t kv_head, n_pairs;
    size_t longest; /* positions */
    size_t cache_at, stride;
};

/* What a block keeps in shared memory. */
template <int DIM>
struct rows_shared {
    float q[PAIRS][DIM];
    float scores[PAIRS][ATTENTION_CHUNK + 4];
    float by_position[ATTENTION_CHUNK][PAIRS];
    float factors[PAIRS], totals[PAIRS];
    uint32_t positions[PAIRS]; /* of the pair's row: how many there are */
};

/* Pair i as [row][head]; pairs that are not there repeat the last one. */
static __device__ size_t query_of(const struct rows_work *work, const struct row_group *g, uint32_t i)
{
    uint32_t pair = i < g->n_pairs ? i : g->n_pairs - 1;
    return (size_t)(g->first + (int32_t)(pair / work->group)) * work->args.n_heads +
           g->kv_head * work->group + pair % work->group;
}

static __device__ size_t query_at(const struct rows_work *work, size_t query)
{
    return query / work->args.n_heads * work->args.q_stride +
           query % work->args.n_heads * work->args.q_head_stride;
}

/* The next rows of one sequence from row `from` on, before row `end`. */
static __device__ struct row_group next_group(const struct rows_work *work, int32_t from, int32_t end,
                                              uint32_t kv_head)
{
    const struct attention_args *args = &work->args;
    struct row_group g = {};
    const int32_t sequence = args->rows[from].sequence;
    g.first = from;
    g.kv_head = kv_head;
    for (int32_t r = from; r < end && args->rows[r].sequence == sequence; r++) {
        size_t n = (size_t)args->rows[r].position + 1;
        g.longest = n > g.longest ? n : g.longest;
        g.n++;
    }
    g.n_pairs = (uint32_t)g.n * work->group;
    g.stride = (size_t)args->cache.n_kv_heads * args->cache.head_dim;
    g.cache_at = (size_t)sequence * args->cache.n_ctx * g.stride + (size_t)kv_head * args->cache.head_dim;
    return g;
}

template <bool HALF>
static __device__ float cached_value(const void *values, size_t at)
{
    return HALF ? float_of_cached(((const uint16_t *)values)[at]) : ((const float *)values)[at];
}

/* The sums over the lanes of four values each, in the order of sum64: lane l gets that of value
 * (l / 16) + 2 (l / 8 % 2). Two values at a time change places, so that a lane adds what the fold adds. */
static __device__ float fold_four(const float value[TOGETHER])
{
    const bool upper = threadIdx.x % WARP >= 16, odd = (threadIdx.x & 8) != 0;
    float two[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float keep = upper ? value[2 * i + 1] : value[2 * i], give = upper ? value[2 * i] : value[2 * i + 1];
        two[i] = __fadd_rn(keep, __shfl_xor_sync(ALL_LANES, give, 16));
    }
    float keep = odd ? two[1] : two[0], give = odd ? two[0] : two[1];
    float sum = __fadd_rn(keep, __shfl_xor_sync(ALL_LANES, give, 8));
    for (int distance = 4; distance >= 1; distance /= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, distance));
    return sum;
}

/* Scores of the chunk from `begin` on: a warp four positions at a time, all pairs. */
template <bool HALF, int DIM>
static __device__ void chunk_scores(const struct rows_work *work, const struct row_group *g, size_t begin,
                                    struct rows_shared<DIM> *shared)
{
    const unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (unsigned p = warp * TOGETHER; p < ATTENTION_CHUNK; p += N_WARPS * TOGETHER) {
        float k[TOGETHER][DIM / WARP];
#pragma unroll
        for (int t = 0; t < TOGETHER; t++) {
            size_t position = begin + p + t < g->longest ? begin + p + t : g->longest - 1;
#pragma unroll
            for (int m = 0; m < DIM / WARP; m++)
                k[t][m] = cached_value<HALF>(work->args.cache.k, g->cache_at + position * g->stride +
                                                                     lane + WARP * (unsigned)m);
        }
        for (uint32_t i = 0; i < g->n_pairs; i++) {
            float sum[TOGETHER];
#pragma unroll
            for (int t = 0; t < TOGETHER; t++) {
                float low = 0.0f, high = 0.0f;
#pragma unroll
                for (int m = 0; m < DIM / WARP; m += 2) {
                    low = __fmaf_rn(shared->q[i][lane + WARP * (unsigned)m], k[t][m], low);
                    high = __fmaf_rn(shared->q[i][lane + WARP * (unsigned)m + WARP], k[t][m + 1], high);
                }
                sum[t] = __fadd_rn(low, high);
            }
            float score = __fmul_rn(fold_four(sum), work->args.scale);
            if (lane % 8 == 0)
                shared->scores[i][p + lane / 16 + 2 * (lane / 8 % 2)] = score;
        }
    }
}

/* Weights of the chunk's scores, a warp a pair; zeros, which are not used, behind a row's last position. */
template <int DIM>
static __device__ void chunk_weights(const struct rows_work *work, const struct row_group *g, uint32_t chunk,
                                     const struct rows_shared<DIM> *shared)
{
    const unsigned lane = threadIdx.x % WARP, other = lane + WARP;
    for (uint32_t i = threadIdx.x / WARP; i < g->n_pairs; i += N_WARPS) {
        const size_t begin = (size_t)chunk * ATTENTION_CHUNK, end = shared->positions[i];
        if (begin >= end)
            continue;
        const unsigned n = end - begin < ATTENTION_CHUNK ? (unsigned)(end - begin) : ATTENTION_CHUNK;
        const float *scores = shared->scores[i];
        float most;
        const float2 weights = weights_of_scores(scores, n, &most);
        const size_t at = (size_t)(blockIdx.x * work->n_chunks + chunk) * PAIRS + i;
        work->weights[at * ATTENTION_CHUNK + lane] = weights.x;
        work->weights[at * ATTENTION_CHUNK + other] = weights.y;
        float sum = fold64_warp(weights.x, weights.y);
        const size_t place = (size_t)(blockIdx.x * PAIRS + i) * work->n_chunks + chunk;
        if (lane == 0) {
            work->largest[place] = most;
            work->sums[place] = sum;
        }
    }
}

/* Factors of the chunks in place of their largest scores, and the pair's total; a warp a pair. */
template <int DIM>
static __device__ void find_factors(const struct rows_work *work, const struct row_group *g,
                                    struct rows_shared<DIM> *shared)
{
    const unsigned lane = threadIdx.x % WARP;
    for (uint32_t i = threadIdx.x / WARP; i < g->n_pairs; i += N_WARPS) {
        float *largest = work->largest + (size_t)(blockIdx.x * PAIRS + i) * work->n_chunks;
        const float *sums = work->sums + (size_t)(blockIdx.x * PAIRS + i) * work->n_chunks;
        const uint32_t n = (shared->positions[i] + ATTENTION_CHUNK - 1) / ATTENTION_CHUNK;
        float most = largest[0], total = 0.0f;
        for (uint32_t c = lane; c < n; c += WARP)
            most = largest[c] > most ? largest[c] : most;
        for (int distance = WARP / 2; distance >= 1; distance /= 2) {
            float other = __shfl_xor_sync(ALL_LANES, most, distance);
            most = other > most ? other : most;
        }
        for (uint32_t first = 0; first < n; first += WARP) {
            const uint32_t c = first + lane;
            float factor = 0.0f, sum = 0.0f;
            __syncwarp(); /* largest[0] has been read by all */
            if (c < n) {
                factor = mtp_expf(__fsub_rn(largest[c], most));
                sum = sums[c];
                largest[c] = factor;
            }
            for (uint32_t l = 0; l < WARP && first + l < n; l++)
                total = __fmaf_rn(__shfl_sync(ALL_LANES, factor, l), __shfl_sync(ALL_LANES, sum, l), total);
        }
        if (lane == 0)
            shared->totals[i] = total;
    }
}

/* Weights and factors of a chunk to shared memory. */
template <int DIM>
static __device__ void fetch_weights(const struct rows_work *work, const struct row_group *g, uint32_t chunk,
                                     struct rows_shared<DIM> *shared)
{
    const float *weights =
        work->weights + (size_t)(blockIdx.x * work->n_chunks + chunk) * PAIRS * ATTENTION_CHUNK;
    for (unsigned t = threadIdx.x; t < PAIRS * ATTENTION_CHUNK; t += THREADS) {
        const unsigned i = t % PAIRS, p = t / PAIRS;
        const bool there = i < g->n_pairs && (size_t)chunk * ATTENTION_CHUNK + p < shared->positions[i];
        shared->by_position[p][i] = there ? weights[i * ATTENTION_CHUNK + p] : 0.0f;
    }
    if (threadIdx.x < g->n_pairs)
        shared->factors[threadIdx.x] =
            work->largest[(size_t)(blockIdx.x * PAIRS + threadIdx.x) * work->n_chunks + chunk];
}

/* All chunks' values: a thread has one element of the head of N pairs, from pair `from` on. */
template <bool HALF, int DIM, int N>
static __device__ void add_values(const struct rows_work *work, const struct row_group *g,
                                  struct rows_shared<DIM> *shared, float acc[N])
{
    const unsigned d = threadIdx.x % DIM, from = threadIdx.x / DIM * N;
    for (int i = 0; i < N; i++)
        acc[i] = 0.0f;
    for (uint32_t chunk = 0; (size_t)chunk * ATTENTION_CHUNK < g->longest; chunk++) {
        const size_t begin = (size_t)chunk * ATTENTION_CHUNK, left = g->longest - begin;
        const unsigned n = left < ATTENTION_CHUNK ? (unsigned)left : ATTENTION_CHUNK;
        __syncthreads(); /* the chunk before is done with */
        fetch_weights(work, g, chunk, shared);
        __syncthreads();
        bool whole = true;
        for (uint32_t i = 0; i < g->n_pairs; i++)
            whole = whole && shared->positions[i] >= begin + ATTENTION_CHUNK;
        float sum[N];
#pragma unroll
        for (int i = 0; i < N; i++)
            sum[i] = 0.0f;
#pragma unroll 4
        for (unsigned p = 0; p < n; p++) {
            const float v = cached_value<HALF>(work->args.cache.v,
                                               g->cache_at + (begin + p) * g->stride + d);
#pragma unroll
            for (int i = 0; i < N; i++) {
                const float next = __fmaf_rn(shared->by_position[p][from + i], v, sum[i]);
                sum[i] = whole || begin + p < shared->positions[from + i] ? next : sum[i];
            }
        }
#pragma unroll
        for (int i = 0; i < N; i++)
            if (whole || begin < shared->positions[from + i])
                acc[i] = __fmaf_rn(shared->factors[from + i], sum[i], acc[i]);
    }
}

template <bool HALF, int DIM>
static __device__ void take_group(const struct rows_work *work, const struct row_group *g,
                                  struct rows_shared<DIM> *shared)
{
    constexpr int N = PAIRS * DIM / THREADS;
    const struct attention_args *args = &work->args;
    __syncthreads(); /* the group before is done with */
    for (unsigned t = threadIdx.x; t < PAIRS * DIM; t += THREADS)
        shared->q[t / DIM][t % DIM] = args->q[query_at(work, query_of(work, g, t / DIM)) + t % DIM];
    if (threadIdx.x < PAIRS)
        shared->positions[threadIdx.x] =
            (uint32_t)args->rows[query_of(work, g, threadIdx.x) / args->n_heads].position + 1;
    __syncthreads();
    for (uint32_t chunk = 0; (size_t)chunk * ATTENTION_CHUNK < g->longest; chunk++) {
        chunk_scores<HALF, DIM>(work, g, (size_t)chunk * ATTENTION_CHUNK, shared);
        __syncthreads();
        chunk_weights(work, g, chunk, shared);
        __syncthreads();
    }
    find_factors(work, g, shared);
    float acc[N];
    add_values<HALF, DIM, N>(work, g, shared, acc);
#pragma unroll
    for (int i = 0; i < N; i++) {
        const uint32_t pair = threadIdx.x / DIM * N + (uint32_t)i, d = threadIdx.x % DIM;
        if (pair >= g->n_pairs)
            continue;
        const size_t query = query_of(work, g, pair);
        float out = __fdiv_rn(acc[i], shared->totals[pair]);
        if (args->gate != NULL)
            out = __fmul_rn(out, mtp_sigmoidf(args->gate[query_at(work, query) + d]));
        args->out[query * DIM + d] = out;
    }
}

template <bool HALF, int DIM>
static __global__ void __launch_bounds__(THREADS, 2) rows_kernel(struct rows_work work)
{
    extern __shared__ __align__(16) unsigned char rows_memory[];
    struct rows_shared<DIM> *shared = (struct rows_shared<DIM> *)(void *)rows_memory;
    const uint32_t block = work.first_block + blockIdx.x, n_kv = work.args.cache.n_kv_heads;
    const int32_t first = (int32_t)(block / n_kv) * work.rows;
    const int32_t end = first + work.rows < work.args.n_rows ? first + work.rows : work.args.n_rows;
    begin_kernel();
    for (int32_t row = first; row < end;) {
        struct row_group g = next_group(&work, row, end, block % n_kv);
        take_group<HALF, DIM>(&work, &g, shared);
        row += g.n;
    }
}

template <bool HALF, int DIM>
static cudaError_t launch_rows(struct rows_work work, uint32_t n_blocks, size_t together,
                               cudaStream_t stream)
{
    const size_t shared = sizeof(struct rows_shared<DIM>);
    cudaError_t status = cudaFuncSetAttribute(rows_kernel<HALF, DIM>,
                                              cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    for (; status == cudaSuccess && work.first_block < n_blocks; work.first_block += (uint32_t)together) {
        const uint32_t left = n_blocks - work.first_block;
        const uint32_t blocks = left < together ? left : (uint32_t)together;
        status = launch_kernel(rows_kernel<HALF, DIM>, dim3(blocks), THREADS, shared, stream, work);
    }
    return status;
}

static size_t scratch_of_block(uint32_t n_chunks)
{
    return (size_t)n_chunks * PAIRS * (ATTENTION_CHUNK + 2) * sizeof(float);
}

bool cuda_attention_takes_rows(const struct attention_args *args, struct cuda_scratch scratch)
{
    enum { ROWS_FROM = 16, BLOCKS_FROM = 96 }; /* fewer leave too many multiprocessors without work */
    const struct kv_cache *cache = &args->cache;
    const uint32_t n_chunks = (cache->n_ctx + ATTENTION_CHUNK - 1) / ATTENTION_CHUNK;
    return args->n_rows >= ROWS_FROM && (cache->head_dim == 128 || cache->head_dim == 256) &&
           args->n_heads / cache->n_kv_heads <= PAIRS &&
           scratch.bytes / scratch_of_block(n_chunks) >= BLOCKS_FROM;
}

size_t cuda_attention_rows_scratch(uint32_t n_ctx)
{
    const size_t usual = (size_t)512 << 20;
    size_t all = WAVE * scratch_of_block((n_ctx + ATTENTION_CHUNK - 1) / ATTENTION_CHUNK);
    return all < usual ? all : usual;
}

cudaError_t cuda_launch_attention_rows(const struct attention_args *args, struct cuda_scratch scratch,
                                       cudaStream_t stream)
{
    const struct kv_cache *cache = &args->cache;
    struct rows_work work = {};
    work.args = *args;
    work.n_chunks = (cache->n_ctx + ATTENTION_CHUNK - 1) / ATTENTION_CHUNK;
    work.group = args->n_heads / cache->n_kv_heads;
    work.rows = (int32_t)(PAIRS / work.group);
    const uint32_t tiles = ((uint32_t)args->n_rows + (uint32_t)work.rows - 1) / (uint32_t)work.rows;
    const uint32_t n_blocks = tiles * cache->n_kv_heads;
    size_t together = scratch.bytes / scratch_of_block(work.n_chunks);
    if (together == 0)
        return cudaErrorInvalidValue;
    together = together < n_blocks ? together : n_blocks;
    work.weights = (float *)scratch.data;
    work.largest = work.weights + together * work.n_chunks * PAIRS * ATTENTION_CHUNK;
    work.sums = work.largest + together * work.n_chunks * PAIRS;
    const bool half = cache->type == KV_F16;
    if (cache->head_dim == 128)
        return half ? launch_rows<true, 128>(work, n_blocks, together, stream)
                    : launch_rows<false, 128>(work, n_blocks, together, stream);
    return half ? launch_rows<true, 256>(work, n_blocks, together, stream)
                : launch_rows<false, 256>(work, n_blocks, together, stream);
}
