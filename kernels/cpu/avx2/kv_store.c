/* kv_store.c - keys and values of a batch into the cache by F16C. */
#include <string.h>

#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

/* All ones in the lanes that hold an infinity or NaN. */
static inline __m256i not_finite(__m256 x)
{
    const __m256i exponent = _mm256_set1_epi32(0x7f800000);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_castps_si256(x), exponent), exponent);
}

static bool store_floats(float *dst, const float *src, size_t n)
{
    __m256i bad = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += LANES) {
        __m256 x = load_lanes(src + i, n - i);
        bad = _mm256_or_si256(bad, not_finite(x));
        store_lanes(dst + i, x, n - i);
    }
    return _mm256_testz_si256(bad, bad);
}

static bool store_halves(uint16_t *dst, const float *src, size_t n)
{
    const __m128i exponent = _mm_set1_epi16(0x7c00);
    __m128i bad = _mm_setzero_si128();
    for (size_t i = 0; i < n; i += LANES) {
        size_t left = n - i;
        __m256 x = load_lanes(src + i, left);
        __m128i half = _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
        bad = _mm_or_si128(bad, _mm_cmpeq_epi16(_mm_and_si128(half, exponent), exponent));
        if (left >= LANES)
            _mm_storeu_si128((__m128i *)(void *)(dst + i), half);
        else
            memcpy(dst + i, &half, left * sizeof *dst);
    }
    return _mm_testz_si128(bad, bad);
}

static bool store(void *cache, enum kv_type type, size_t at, const float *src, size_t n)
{
    return type == KV_F32 ? store_floats((float *)cache + at, src, n)
                          : store_halves((uint16_t *)cache + at, src, n);
}

void kv_store_avx2(const struct kv_store_args *args, int64_t begin, int64_t end,
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
