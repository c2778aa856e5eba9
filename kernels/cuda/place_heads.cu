/* place_heads.cu - norms and rotations of the heads of keys and queries, and keys and values into the cache:
 * a warp a head. */
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

static __global__ void __launch_bounds__(THREADS)
place_heads_kernel(const __grid_constant__ struct place_heads work)
{
    __shared__ float heads[THREADS / WARP][MAX_HEAD_DIM];
    begin_kernel();
    size_t task = ((size_t)blockIdx.x * THREADS + threadIdx.x) / WARP;
    size_t row = task / work.n_heads, number = task % work.n_heads;
    if (row >= (size_t)work.k_norm.n_rows)
        return;
    bool of_keys = number < work.n_k;
    size_t of_kind = of_keys ? number : number - work.n_k;
    const struct rms_norm_args *norm = of_keys ? &work.k_norm : &work.q_norm;
    float *x = norm->dst + row * norm->dst_stride + of_kind * norm->dst_group_stride;
    float *head = heads[threadIdx.x / WARP];
    norm_head(norm, of_keys ? work.faults.k_norm : work.faults.q_norm, row, x, head);
    rotate_head(of_keys ? &work.k_rope : &work.q_rope, row, head);
    for (size_t i = threadIdx.x % WARP; i < norm->n; i += WARP)
        x[i] = head[i];
    if (of_keys)
        store_head(&work, row, of_kind, head);
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
    size_t tasks = (size_t)k->n_rows * work.n_heads;
    return LAUNCH(place_heads_kernel, blocks_for(tasks, THREADS / WARP), THREADS, stream, work);
}
