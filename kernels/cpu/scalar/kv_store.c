/* kv_store.c - keys and values of a batch into the cache: the definition. */
#include <string.h>

#include "kernels/cpu/kernels.h"
#include "kernels/fmath.h"

/* False when a value became or was not finite: a finite float may be too large for a half. */
static bool store(void *cache, enum kv_type type, size_t at, const float *src, size_t n)
{
    bool finite = true;
    if (type == KV_F32) {
        memcpy((float *)cache + at, src, n * sizeof *src);
        for (size_t i = 0; i < n; i++)
            finite = finite && !f32_not_finite(src[i]);
        return finite;
    }
    uint16_t *dst = (uint16_t *)cache + at;
    for (size_t i = 0; i < n; i++) {
        dst[i] = f32_to_f16(src[i]);
        finite = finite && (dst[i] & 0x7c00) != 0x7c00;
    }
    return finite;
}

void kv_store_scalar(const struct kv_store_args *args, int64_t begin, int64_t end,
                     struct cpu_task *task)
{
    const struct kv_cache *cache = &args->cache;
    size_t n = (size_t)cache->n_kv_heads * cache->head_dim;
    for (int64_t r = begin; r < end; r++) {
        const struct batch_row *row = &args->rows[r];
        size_t at = ((size_t)row->sequence * cache->n_ctx + (size_t)row->position) * n;
        bool k_finite = store(cache->k, cache->type, at, args->k + (size_t)r * n, n);
        bool v_finite = store(cache->v, cache->type, at, args->v + (size_t)r * n, n);
        if (!k_finite || !v_finite)
            cpu_report_fault(task->fault, "kv_store", (int32_t)r);
    }
}
