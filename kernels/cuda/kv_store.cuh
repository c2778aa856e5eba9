/* kv_store.cuh - one value into the cache. */
#ifndef MTP_KERNELS_CUDA_KV_STORE_CUH
#define MTP_KERNELS_CUDA_KV_STORE_CUH

#include "kernels/cuda/common.cuh"

/* Where in the cache row `row` of the batch has its first element. */
static __device__ inline size_t cache_row(const struct kv_store_args *args, size_t row)
{
    const struct kv_cache *cache = &args->cache;
    struct batch_row place = args->rows[row];
    return ((size_t)place.sequence * cache->n_ctx + (size_t)place.position) * cache->n_kv_heads *
           cache->head_dim;
}

/* half_of_float by the processor, which rounds the same way but has a NaN of its own. */
static __device__ inline uint16_t half_to_cache(float value)
{
    uint16_t half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    const uint32_t bits = f32_bits(value), magnitude = bits & 0x7fffffff;
    const uint32_t nan = (bits >> 16 & 0x8000) | 0x7e00 | (magnitude >> 13 & 0x3ff);
    return magnitude > 0x7f800000 ? (uint16_t)nan : half;
}

/* False when the value became or was not finite: a finite float may be too large for a half. */
static __device__ inline bool store_cached(void *cache, enum kv_type type, size_t at, float value)
{
    if (type == KV_F32) {
        ((float *)cache)[at] = value;
        return !f32_not_finite(value);
    }
    uint16_t half = half_to_cache(value);
    ((uint16_t *)cache)[at] = half;
    return (half & 0x7c00) != 0x7c00;
}

#endif
