/* attention_few.cu - attention of few rows over a cache of halves, heads of 256 (docs/arithmetic.md,
 * "Attention").
 *
 * What a step waits for is not the cache's bytes but reads that wait for one another. So a block asks for
 * the keys of a chunk, to registers, and its values, to shared memory, at once; it takes HEADS heads of
 * queries that share them; and the last block of a group of heads to end folds the chunks, so that there is
 * no second launch. Which block is last changes no sum: partials are folded in the order of their chunks.
 */
#include "kernels/cuda/attention_few.cuh"

enum {
    THREADS = 256, N_WARPS = THREADS / WARP,
    DIM = THREADS,                /* a thread an element of a head */
    A_WARP = ATTENTION_CHUNK / N_WARPS, /* positions of a warp: warp w has A_WARP w.. */
    STEPS = DIM / 64,             /* elements a partial of sum64 is made of */
    RESIDENT_BLOCKS = 264,        /* more would run after others have ended */
    MAX_TOGETHER = 4,
    PARTIAL = 2 + DIM,            /* of a chunk: the largest score, the sum of weights, weighted values */
};

template <int HEADS>
struct few_shared {
    float q[HEADS][DIM], weights[HEADS][ATTENTION_CHUNK]; /* q: at last the results */
    uint16_t values[ATTENTION_CHUNK][DIM];
};

/* What a block works on: heads `pair`.. of a row, and their part of the cache. */
struct group {
    size_t pair, row;
    size_t at;                     /* of q and gate */
    const uint16_t *keys, *values; /* of position 0, this lane's first */
    uint32_t stride, n, n_chunks;  /* elements from a position to the next, positions, chunks */
    float *partials;               /* of its first head: [HEADS][chunks of the context][PARTIAL] */
    uint32_t a_head;               /* elements from a head's partials to the next head's */
};

/* Positions of a chunk that begins at `begin`. */
static __device__ unsigned positions_from(const struct group *group, uint32_t begin)
{
    return group->n - begin < ATTENTION_CHUNK ? group->n - begin : ATTENTION_CHUNK;
}

/* A warp's keys: lane l has the elements 64 j + 2 l and the next, which go to the partials 2 l and 2 l + 1.
 * Behind the last position comes that one again: scores that nobody reads. */
static __device__ void load_keys(const struct group *group, uint32_t begin, uint32_t keys[A_WARP][STEPS])
{
    begin += threadIdx.x / WARP * A_WARP;
#pragma unroll
    for (unsigned t = 0; t < A_WARP; t++) {
        const uint32_t p = begin + t < group->n ? begin + t : group->n - 1;
        const uint32_t *row = (const uint32_t *)(const void *)(group->keys + p * group->stride);
#pragma unroll
        for (int j = 0; j < STEPS; j++)
            keys[t][j] = row[32 * j];
    }
}

/* A warp a position, 16 bytes a lane. */
static __device__ void copy_values(const struct group *group, uint32_t begin,
                                   uint16_t values[ATTENTION_CHUNK][DIM])
{
    uint16_t *to = &values[threadIdx.x / WARP][threadIdx.x % WARP * 8];
    begin += threadIdx.x / WARP;
#pragma unroll
    for (unsigned i = 0; i < A_WARP; i++)
        if (begin + i * N_WARPS < group->n)
            copy_async(to + i * N_WARPS * DIM, group->values + (begin + i * N_WARPS) * group->stride);
    copy_commit();
}

/* The sum of x and what lane ^ distance has; of two, the lane keeps the one that its place says. */
static __device__ float2 fold_by(float2 x, int distance)
{
    return make_float2(__fadd_rn(x.x, __shfl_xor_sync(ALL_LANES, x.x, distance)),
                       __fadd_rn(x.y, __shfl_xor_sync(ALL_LANES, x.y, distance)));
}
static __device__ float2 fold_one_of(float2 a, float2 b, int distance)
{
    const bool second = threadIdx.x & distance;
    const float2 mine = second ? b : a, theirs = second ? a : b;
    return make_float2(__fadd_rn(mine.x, __shfl_xor_sync(ALL_LANES, theirs.x, distance)),
                       __fadd_rn(mine.y, __shfl_xor_sync(ALL_LANES, theirs.y, distance)));
}

/* The fold of sum64 for A_WARP positions: by 32, 16, 8, 4, 2 across lanes, 1 inside. Lanes 4 t.. get the sum
 * of position t. */
static __device__ float fold_positions(const float2 x[A_WARP])
{
    static_assert(A_WARP == 8, "three steps choose a position");
    float2 four[4], two[2];
#pragma unroll
    for (int t = 0; t < 4; t++)
        four[t] = fold_one_of(x[t], x[t + 4], 16);
#pragma unroll
    for (int t = 0; t < 2; t++)
        two[t] = fold_one_of(four[t], four[t + 2], 8);
    const float2 sum = fold_by(fold_by(fold_one_of(two[0], two[1], 4), 2), 1);
    return __fadd_rn(sum.x, sum.y);
}

/* The scores of N heads, whose queries and scores lie behind one another. */
template <int N>
static __device__ void score_keys(const float *q, const uint32_t keys[A_WARP][STEPS], float scale,
                                  float *scores)
{
    const unsigned lane = threadIdx.x % WARP;
    float2 x[N][A_WARP] = {};
#pragma unroll
    for (int j = 0; j < STEPS; j++) {
        float2 mine[N];
#pragma unroll
        for (int h = 0; h < N; h++)
            mine[h] = *(const float2 *)(const void *)(q + h * DIM + 64 * j + 2 * lane);
#pragma unroll
        for (int t = 0; t < A_WARP; t++) {
            const float low = half_to_float((uint16_t)keys[t][j]);
            const float high = half_to_float((uint16_t)(keys[t][j] >> 16));
#pragma unroll
            for (int h = 0; h < N; h++) {
                x[h][t].x = __fmaf_rn(mine[h].x, low, x[h][t].x);
                x[h][t].y = __fmaf_rn(mine[h].y, high, x[h][t].y);
            }
        }
    }
#pragma unroll
    for (int h = 0; h < N; h++) {
        const float sum = fold_positions(x[h]);
        if (lane % 4 == 0)
            scores[h * ATTENTION_CHUNK + threadIdx.x / 4] = __fmul_rn(sum, scale);
    }
}

/* acc = the sum of this thread's element of n values by their weights. */
template <int HEADS>
static __device__ void weigh_values(const struct few_shared<HEADS> *shared, unsigned n, float acc[HEADS])
{
    enum { AT_ONCE = HEADS > 2 ? 8 : 16 };
#pragma unroll
    for (int h = 0; h < HEADS; h++)
        acc[h] = 0.0f;
#pragma unroll 1
    for (unsigned p = 0; p < n; p += AT_ONCE) {
        float v[AT_ONCE];
#pragma unroll
        for (unsigned i = 0; i < AT_ONCE; i++)
            v[i] = half_to_float(shared->values[p + i][threadIdx.x]);
#pragma unroll
        for (unsigned i = 0; i < AT_ONCE; i += 4)
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                const float4 w = *(const float4 *)(const void *)&shared->weights[h][p + i];
                acc[h] = p + i < n ? __fmaf_rn(w.x, v[i], acc[h]) : acc[h];
                acc[h] = p + i + 1 < n ? __fmaf_rn(w.y, v[i + 1], acc[h]) : acc[h];
                acc[h] = p + i + 2 < n ? __fmaf_rn(w.z, v[i + 2], acc[h]) : acc[h];
                acc[h] = p + i + 3 < n ? __fmaf_rn(w.w, v[i + 3], acc[h]) : acc[h];
            }
    }
}

/* Weighs the n values of a chunk by their scores, and writes its partials. The values have been copied when
 * the block has met. */
template <int HEADS>
static __device__ void finish_chunk(const struct group *group, uint32_t chunk, unsigned n,
                                    struct few_shared<HEADS> *shared)
{
    const unsigned warp = threadIdx.x / WARP;
    float2 weights;
    float most, acc[HEADS];
    if (warp < HEADS)
        weights = weigh_scores(shared->weights[warp], n, &most);
    __syncthreads();
    weigh_values<HEADS>(shared, n, acc);
    float *partial = group->partials + chunk * PARTIAL;
#pragma unroll
    for (int h = 0; h < HEADS; h++)
        partial[(size_t)h * group->a_head + 2 + threadIdx.x] = acc[h];
    if (warp < HEADS) {
        const float sum = fold64_warp(weights.x, weights.y);
        partial += (size_t)warp * group->a_head;
        if (threadIdx.x % WARP == 0) {
            partial[0] = most;
            partial[1] = sum;
        }
    }
}

/* Every gridDim.x-th chunk from blockIdx.x on, which is one of the group's. The next one's keys are asked for
 * as soon as the registers are free, its values as soon as shared memory is. */
template <int HEADS>
static __device__ void take_chunks(const struct attention_args *args, const struct group *group,
                                   struct few_shared<HEADS> *shared)
{
    const unsigned thread = threadIdx.x;
    uint32_t keys[A_WARP][STEPS], chunk = blockIdx.x;
    load_keys(group, chunk * ATTENTION_CHUNK, keys);
    if (thread < HEADS * (DIM / 4))
        copy_async(&shared->q[0][4 * thread],
                   args->q + group->at + thread / (DIM / 4) * args->q_head_stride + thread % (DIM / 4) * 4);
    copy_commit();
    copy_values(group, chunk * ATTENTION_CHUNK, shared->values);
    copy_wait<1>();
    __syncthreads(); /* q is there */
    for (;;) {
#pragma unroll
        for (int h = 0; h + 1 < HEADS; h += 2)
            score_keys<2>(shared->q[h], keys, args->scale, shared->weights[h]);
        if (HEADS % 2 != 0)
            score_keys<1>(shared->q[HEADS - 1], keys, args->scale, shared->weights[HEADS - 1]);
        const uint32_t next = chunk + gridDim.x;
        if (next < group->n_chunks)
            load_keys(group, next * ATTENTION_CHUNK, keys);
        copy_wait<0>();
        __syncthreads(); /* scores and values are there */
        finish_chunk<HEADS>(group, chunk, positions_from(group, chunk * ATTENTION_CHUNK), shared);
        if (next >= group->n_chunks)
            return;
        chunk = next;
        __syncthreads(); /* weights and values are done with */
        copy_values(group, chunk * ATTENTION_CHUNK, shared->values);
    }
}

/* A head's fold, in a thread that makes one element of it. */
template <int AHEAD>
struct head_fold {
    const float *partials;
    float most, sum;       /* of chunk l of 32, for lane l */
    float ahead[AHEAD];    /* the element, of the next chunks */
    float largest, factor; /* of all scores; of chunk l */
    float total, acc;
};

/* Other blocks have written the partials: reads go past the first cache. */
template <int AHEAD>
static __device__ void load_partials(uint32_t first, uint32_t n_chunks, struct head_fold<AHEAD> *fold)
{
    if (first % WARP == 0) {
        const uint32_t mine = first + threadIdx.x % WARP;
        const float *partial = fold->partials + (mine < n_chunks ? mine : first) * PARTIAL;
        fold->most = __ldcg(partial);
        fold->sum = __ldcg(partial + 1);
    }
    const float *element = fold->partials + first * PARTIAL + 2 + threadIdx.x;
#pragma unroll
    for (unsigned i = 0; i < AHEAD; i++)
        if (first + i < n_chunks)
            fold->ahead[i] = __ldcg(element + i * PARTIAL);
}

/* The largest score; the partials of the first chunks are at hand. */
template <int AHEAD>
static __device__ void begin_fold(uint32_t n_chunks, struct head_fold<AHEAD> *fold)
{
    float most = fold->most;
#pragma unroll 4
    for (uint32_t chunk = WARP + threadIdx.x % WARP; chunk < n_chunks; chunk += WARP) {
        float other = __ldcg(fold->partials + chunk * PARTIAL);
        most = other > most ? other : most;
    }
    for (int distance = WARP / 2; distance >= 1; distance /= 2) {
        float other = __shfl_xor_sync(ALL_LANES, most, distance);
        most = other > most ? other : most;
    }
    fold->largest = most;
    fold->total = fold->acc = 0.0f;
}

/* Adds the chunks at hand. */
template <int AHEAD>
static __device__ void add_chunks(uint32_t first, uint32_t n_chunks, struct head_fold<AHEAD> *fold)
{
    static_assert(WARP % AHEAD == 0, "whole turns of 32 chunks");
    if (first % WARP == 0)
        fold->factor = mtp_expf(__fsub_rn(fold->most, fold->largest));
#pragma unroll
    for (unsigned i = 0; i < AHEAD; i++) {
        const float f = __shfl_sync(ALL_LANES, fold->factor, first % WARP + i);
        const float sum = __shfl_sync(ALL_LANES, fold->sum, first % WARP + i);
        if (first + i < n_chunks) {
            fold->total = __fmaf_rn(f, sum, fold->total);
            fold->acc = __fmaf_rn(f, fold->ahead[i], fold->acc);
        }
    }
}

/* The results of the block's heads, whose partials are read together. */
template <int HEADS>
static __device__ void fold_heads(const struct attention_work *work, const struct group *group,
                                  struct few_shared<HEADS> *shared)
{
    enum { AHEAD = HEADS > 2 ? 8 : 16 };
    const struct attention_args *args = &work->args;
    const uint32_t n_chunks = group->n_chunks;
    struct head_fold<AHEAD> folds[HEADS];
    float gates[HEADS];
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        folds[h].partials = group->partials + (size_t)h * group->a_head;
        load_partials<AHEAD>(0, n_chunks, &folds[h]);
        const size_t at = group->at + h * args->q_head_stride + threadIdx.x;
        gates[h] = args->gate != NULL ? args->gate[at] : 0.0f;
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++)
        begin_fold<AHEAD>(n_chunks, &folds[h]);
#pragma unroll 1
    for (uint32_t first = 0; first < n_chunks; first += AHEAD) {
        if (first > 0)
#pragma unroll
            for (int h = 0; h < HEADS; h++)
                load_partials<AHEAD>(first, n_chunks, &folds[h]);
#pragma unroll
        for (int h = 0; h < HEADS; h++)
            add_chunks<AHEAD>(first, n_chunks, &folds[h]);
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        float out = __fdiv_rn(folds[h].acc, folds[h].total);
        if (args->gate != NULL)
            out = __fmul_rn(out, mtp_sigmoidf(gates[h]));
        args->out[(group->pair + h) * DIM + threadIdx.x] = out;
        shared->q[h][threadIdx.x] = out;
    }
}

/* The int8 rows of the results. */
template <int HEADS>
static __device__ void quantize_heads(const struct attention_work *work, const struct group *group,
                                      const struct few_shared<HEADS> *shared)
{
    const unsigned warp = threadIdx.x / WARP;
    __syncthreads(); /* the results are there */
    if (warp < HEADS)
        quantize_lanes(shared->q[warp] + threadIdx.x % WARP * LANE_ELEMENTS, &work->act[group->pair + warp],
                       work->fault, group->row);
}

/* What place_of and find_positions say, as the kernel uses it. */
static __device__ struct group group_of(const struct attention_work *work, size_t pair,
                                        const struct pair_view *view)
{
    const struct kv_cache *cache = &work->args.cache;
    const unsigned lane = threadIdx.x % WARP;
    struct group group;
    group.pair = pair;
    group.row = view->row;
    group.at = view->at;
    group.keys = (const uint16_t *)cache->k + view->first + 2 * lane;
    group.values = (const uint16_t *)cache->v + view->first + 8 * lane;
    group.stride = (uint32_t)view->stride;
    group.n = (uint32_t)view->n;
    group.n_chunks = (group.n + ATTENTION_CHUNK - 1) / ATTENTION_CHUNK;
    group.a_head = work->n_chunks * PARTIAL;
    group.partials = work->partials + (pair - work->first_pair) * group.a_head;
    return group;
}

/* A block a group of heads and every gridDim.x-th chunk. */
template <int HEADS>
static __global__ void __launch_bounds__(THREADS, 2)
few_kernel(const __grid_constant__ struct attention_work work)
{
    __shared__ __align__(16) struct few_shared<HEADS> shared;
    let_next_begin();
    const size_t pair = work.first_pair + blockIdx.y * HEADS;
    struct pair_view view = place_of(&work, pair);
    wait_for_earlier();
    find_positions(&work, &view);
    const struct group group = group_of(&work, pair, &view);
    if (blockIdx.x >= group.n_chunks)
        return;
    take_chunks<HEADS>(&work.args, &group, &shared);
    const unsigned n_blocks = group.n_chunks < gridDim.x ? group.n_chunks : gridDim.x;
    if (!last_to_arrive(work.arrivals + blockIdx.y, n_blocks))
        return;
    fold_heads<HEADS>(&work, &group, &shared);
    if (work.act != NULL)
        quantize_heads<HEADS>(&work, &group, &shared);
}

/* The more rows, the more heads a block takes, as there are blocks enough and each reads the cache. */
uint32_t cuda_attention_few_heads(const struct attention_args *args)
{
    const struct kv_cache *cache = &args->cache;
    const uintptr_t places = (uintptr_t)cache->k | (uintptr_t)cache->v | (uintptr_t)args->q |
                             (args->q_stride | args->q_head_stride) * sizeof(float);
    const uint64_t a_sequence = (uint64_t)cache->n_ctx * cache->n_kv_heads * DIM; /* counted in 32 bits */
    if (cache->type != KV_F16 || cache->head_dim != DIM || places % 16 != 0 || a_sequence > UINT32_MAX ||
        args->n_heads == 0 || args->n_heads % cache->n_kv_heads != 0)
        return 0;
    uint32_t together = args->n_rows > 1 ? MAX_TOGETHER : 2;
    while (args->n_heads / cache->n_kv_heads % together != 0)
        together--;
    return together;
}

cudaError_t cuda_launch_attention_few(const struct attention_work *work, unsigned n_pairs,
                                      cudaStream_t stream)
{
    const unsigned groups = n_pairs / work->together;
    const unsigned most = groups < RESIDENT_BLOCKS ? RESIDENT_BLOCKS / groups : 1;
    const dim3 grid(most < work->n_chunks ? most : work->n_chunks, groups);
    switch (work->together) {
    case 1: return LAUNCH(few_kernel<1>, grid, THREADS, stream, *work);
    case 2: return LAUNCH(few_kernel<2>, grid, THREADS, stream, *work);
    case 3: return LAUNCH(few_kernel<3>, grid, THREADS, stream, *work);
    case MAX_TOGETHER: return LAUNCH(few_kernel<MAX_TOGETHER>, grid, THREADS, stream, *work);
    default: return cudaErrorInvalidValue;
    }
}
