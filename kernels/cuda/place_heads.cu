/* place_heads.cu - norms and rotations of the heads of keys and queries, and keys and values into the cache:
 * a warp a head. Heads of 256, of which 64 elements rotate, stay in registers. */
#include "kernels/cuda/kv_store.cuh"
#include "kernels/cuda/rope.cuh"

enum { THREADS = 64 };

struct place_heads {
    struct rms_norm_args k_norm, q_norm;
    struct rope_args k_rope, q_rope;
    struct kv_store_args store;
    struct cuda_place_faults faults;
    size_t n_k, n_heads; /* heads of keys of a row, and of both */
};

/* head[0..n) after its norm, of which x is the source; a faulty one stays as it is. */
static __device__ void norm_head(const struct rms_norm_args *args, struct cuda_fault fault, size_t row,
                                 const float *x, float *head)
{
    unsigned lane = threadIdx.x % WARP;
#pragma unroll 8
    for (size_t i = lane; i < args->n; i += WARP)
        head[i] = x[i];
    __syncwarp();
    float squares = squares_warp(head, args->n);
    if (f32_not_finite(squares)) {
        if (lane == 0)
            report_fault(fault, CUDA_RMS_NORM, row);
        return;
    }
    float scale = norm_scale(squares, args->n, args->eps);
    __syncwarp();
    for (size_t i = lane; i < args->n; i += WARP)
        head[i] = __fmul_rn(__fmul_rn(head[i], scale), args->w[i]);
    __syncwarp();
}

static __device__ void rotate_head(const struct rope_args *args, size_t row, float *head)
{
    const float *table = rope_table_row(args, row);
    size_t n = args->n_pairs;
    for (size_t pair = threadIdx.x % WARP; pair < n; pair += WARP) {
        float2 result = rotated(head[pair], head[pair + n], table[pair], table[n + pair]);
        head[pair] = result.x;
        head[pair + n] = result.y;
    }
    __syncwarp();
}

/* Keys from head, values from where they lie. */
static __device__ void store_head(const struct place_heads *work, size_t row, size_t head_number,
                                  const float *head)
{
    const struct kv_store_args *args = &work->store;
    const struct kv_cache *cache = &args->cache;
    size_t n = cache->head_dim, place = head_number * n;
    size_t at = cache_row(args, row) + place;
    const float *v = args->v + row * cache->n_kv_heads * n + place;
    bool finite = true;
    for (size_t i = threadIdx.x % WARP; i < n; i += WARP) {
        finite = store_cached(cache->k, cache->type, at + i, head[i]) && finite;
        finite = store_cached(cache->v, cache->type, at + i, v[i]) && finite;
    }
    if (!finite)
        report_fault(work->faults.store, CUDA_KV_STORE, row);
}

/* What one warp does. */
struct head_task {
    size_t row, of_kind; /* the head's number among the keys or the queries */
    bool of_keys;
    const struct rms_norm_args *norm;
    const struct rope_args *rope;
    float *x;
};

static __device__ struct head_task task_of(const struct place_heads *work, size_t number)
{
    struct head_task task;
    size_t head = number % work->n_heads;
    task.row = number / work->n_heads;
    task.of_keys = head < work->n_k;
    task.of_kind = task.of_keys ? head : head - work->n_k;
    task.norm = task.of_keys ? &work->k_norm : &work->q_norm;
    task.rope = task.of_keys ? &work->k_rope : &work->q_rope;
    task.x = task.norm->dst + task.row * task.norm->dst_stride + task.of_kind * task.norm->dst_group_stride;
    return task;
}

static __global__ void __launch_bounds__(THREADS)
place_heads_kernel(const __grid_constant__ struct place_heads work)
{
    __shared__ float heads[THREADS / WARP][MAX_HEAD_DIM];
    begin_kernel();
    const struct head_task task = task_of(&work, ((size_t)blockIdx.x * THREADS + threadIdx.x) / WARP);
    if (task.row >= (size_t)work.k_norm.n_rows)
        return;
    float *head = heads[threadIdx.x / WARP];
    norm_head(task.norm, task.of_keys ? work.faults.k_norm : work.faults.q_norm, task.row, task.x, head);
    rotate_head(task.rope, task.row, head);
    for (size_t i = threadIdx.x % WARP; i < task.norm->n; i += WARP)
        task.x[i] = head[i];
    if (task.of_keys)
        store_head(&work, task.row, task.of_kind, head);
}

/* Lane l holds the elements l + 32 j: those of even j are summed to sum64's partial l, the others to l + 32;
 * the first two are a pair of the rotation. */
enum { REAL_HEAD = 256, REAL_PAIRS = WARP, HELD = REAL_HEAD / WARP };

static __device__ void norm_held(const struct head_task *task, struct cuda_fault fault, const float w[HELD],
                                 float head[HELD])
{
    float low = 0.0f, high = 0.0f;
#pragma unroll
    for (int j = 0; j < HELD; j += 2) {
        low = __fmaf_rn(head[j], head[j], low);
        high = __fmaf_rn(head[j + 1], head[j + 1], high);
    }
    float squares = fold64_warp(low, high);
    if (f32_not_finite(squares)) {
        if (threadIdx.x % WARP == 0)
            report_fault(fault, CUDA_RMS_NORM, task->row);
        return;
    }
    float scale = norm_scale(squares, REAL_HEAD, task->norm->eps);
#pragma unroll
    for (int j = 0; j < HELD; j++)
        head[j] = __fmul_rn(__fmul_rn(head[j], scale), w[j]);
}

template <enum kv_type TYPE>
static __device__ void store_held(const struct place_heads *work, const struct head_task *task, size_t at,
                                  const float head[HELD], const float v[HELD])
{
    const struct kv_cache *cache = &work->store.cache;
    bool finite = true;
    at += task->of_kind * REAL_HEAD + threadIdx.x % WARP;
#pragma unroll
    for (int j = 0; j < HELD; j++) {
        finite = store_cached(cache->k, TYPE, at + (size_t)j * WARP, head[j]) && finite;
        finite = store_cached(cache->v, TYPE, at + (size_t)j * WARP, v[j]) && finite;
    }
    if (!finite)
        report_fault(work->faults.store, CUDA_KV_STORE, task->row);
}

/* All that is read is asked for at once: one read that waits for another would be as long as all of them. */
static __global__ void __launch_bounds__(THREADS)
place_real_heads_kernel(const __grid_constant__ struct place_heads work)
{
    const struct head_task task = task_of(&work, ((size_t)blockIdx.x * THREADS + threadIdx.x) / WARP);
    const unsigned lane = threadIdx.x % WARP;
    const bool there = task.row < (size_t)work.k_norm.n_rows;
    float w[HELD], head[HELD], v[HELD] = {0.0f};
    let_next_begin();
#pragma unroll
    for (int j = 0; j < HELD; j++)
        w[j] = task.norm->w[lane + j * WARP];
    wait_for_earlier();
    if (!there)
        return;
    const float *table = rope_table_row(task.rope, task.row);
    const size_t at = task.of_keys ? cache_row(&work.store, task.row) : 0;
#pragma unroll
    for (int j = 0; j < HELD; j++)
        head[j] = task.x[lane + j * WARP];
    if (task.of_keys) {
        const float *values = work.store.v + (task.row * work.n_k + task.of_kind) * REAL_HEAD;
#pragma unroll
        for (int j = 0; j < HELD; j++)
            v[j] = values[lane + j * WARP];
    }
    const float c = table[lane], s = table[REAL_PAIRS + lane];
    norm_held(&task, task.of_keys ? work.faults.k_norm : work.faults.q_norm, w, head);
    const float2 pair = rotated(head[0], head[1], c, s);
    head[0] = pair.x;
    head[1] = pair.y;
#pragma unroll
    for (int j = 0; j < HELD; j++)
        task.x[lane + j * WARP] = head[j];
    if (task.of_keys && work.store.cache.type == KV_F16)
        store_held<KV_F16>(&work, &task, at, head, v);
    else if (task.of_keys)
        store_held<KV_F32>(&work, &task, at, head, v);
}

static bool is_real(const struct rms_norm_args *norm, const struct rope_args *rope)
{
    return norm->n == REAL_HEAD && rope->n_pairs == REAL_PAIRS;
}

/* Heads in place, the same ones in both. */
static bool agree(const struct rms_norm_args *norm, const struct rope_args *rope)
{
    return norm->src == norm->dst && norm->src_stride == norm->dst_stride &&
           norm->src_group_stride == norm->dst_group_stride && rope->x == norm->dst &&
           rope->stride == norm->dst_stride && rope->head_stride == norm->dst_group_stride &&
           rope->n_heads == norm->n_groups && rope->n_rows == norm->n_rows && norm->n <= MAX_HEAD_DIM &&
           2 * rope->n_pairs <= norm->n;
}

cudaError_t cuda_launch_place_heads(const struct place_heads_args *args,
                                    const struct cuda_place_faults *faults, cudaStream_t stream)
{
    const struct rms_norm_args *k = args->k_norm, *q = args->q_norm;
    const struct kv_store_args *store = args->store;
    bool keys = agree(k, args->k_rope) && store->k == k->dst && store->n_rows == k->n_rows &&
                store->cache.head_dim == k->n && store->cache.n_kv_heads == k->n_groups &&
                k->dst_group_stride == k->n && k->dst_stride == k->n * k->n_groups;
    bool queries = (q == NULL) == (args->q_rope == NULL) &&
                   (q == NULL || (agree(q, args->q_rope) && q->n_rows == k->n_rows));
    if (!keys || !queries || k->n_rows <= 0)
        return cudaErrorNotSupported;
    struct place_heads work = {};
    work.k_norm = *k;
    work.k_rope = *args->k_rope;
    if (q != NULL) {
        work.q_norm = *q;
        work.q_rope = *args->q_rope;
    }
    work.store = *store;
    work.faults = *faults;
    work.n_k = k->n_groups;
    work.n_heads = k->n_groups + (q != NULL ? q->n_groups : 0);
    const unsigned blocks = blocks_for((size_t)k->n_rows * work.n_heads, THREADS / WARP);
    if (is_real(k, args->k_rope) && (q == NULL || is_real(q, args->q_rope)))
        return LAUNCH(place_real_heads_kernel, blocks, THREADS, stream, work);
    return LAUNCH(place_heads_kernel, blocks, THREADS, stream, work);
}
