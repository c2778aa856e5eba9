/* kv_store.cu - keys and values of a batch into the cache, a thread an element. */
#include "kernels/cuda/kv_store.cuh"

enum { THREADS = 128 };

struct kv_store_work {
    struct kv_store_args args;
    struct cuda_fault fault;
};

static __global__ void kv_store_kernel(struct kv_store_work work)
{
    begin_kernel();
    const struct kv_cache *cache = &work.args.cache;
    size_t n = (size_t)cache->n_kv_heads * cache->head_dim;
    size_t t = (size_t)blockIdx.x * THREADS + threadIdx.x, row = t / n;
    if (row >= (size_t)work.args.n_rows)
        return;
    size_t at = cache_row(&work.args, row) + t % n;
    bool k_finite = store_cached(cache->k, cache->type, at, work.args.k[t]);
    bool v_finite = store_cached(cache->v, cache->type, at, work.args.v[t]);
    if (!k_finite || !v_finite)
        report_fault(work.fault, CUDA_KV_STORE, row);
}

cudaError_t cuda_launch_kv_store(const struct kv_store_args *args, struct cuda_fault fault,
                                 cudaStream_t stream)
{
    struct kv_store_work work = {*args, fault};
    size_t n = (size_t)args->n_rows * args->cache.n_kv_heads * args->cache.head_dim;
    return LAUNCH(kv_store_kernel, blocks_for(n, THREADS), THREADS, stream, work);
}
