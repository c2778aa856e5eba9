/* decode.h - shared pieces of the AVX2 decoders. Each produces what its scalar namesake does, byte
 * for byte; no load leaves the block, which may end where the mapped file ends. */
#ifndef MTP_KERNELS_CPU_AVX2_DECODE_H
#define MTP_KERNELS_CPU_AVX2_DECODE_H

#include <immintrin.h>

#include "kernels/cpu/block_read.h"

decode_s_fn decode_q4_0_avx2, decode_q4_1_avx2, decode_q5_0_avx2, decode_q5_1_avx2;
decode_s_fn decode_q8_0_avx2, decode_iq4_nl_avx2, decode_mxfp4_avx2;
decode_k_fn decode_q2_k_avx2, decode_q3_k_avx2, decode_q4_k_avx2, decode_q5_k_avx2;
decode_k_fn decode_q6_k_avx2, decode_iq4_xs_avx2;
decode_k_fn decode_iq2_xxs_avx2, decode_iq2_xs_avx2, decode_iq2_s_avx2;
decode_k_fn decode_iq3_xxs_avx2, decode_iq3_s_avx2;

static inline uint64_t load_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t load_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint16_t load_u16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline float load_f16(const uint8_t *at)
{
    return _cvtsh_ss(load_u16(at));
}

static inline __m128i load_16(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

static inline __m256i load_32(const uint8_t *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

static inline void store_q(int8_t *q, __m256i values)
{
    _mm256_store_si256((__m256i *)(void *)q, values);
}

static inline void store_words(int16_t words[16], __m256i values)
{
    _mm256_storeu_si256((__m256i *)(void *)words, values);
}

/* 16 bytes holding 32 nibbles: the low ones, then the high ones. */
static inline __m256i nibbles_of_16(__m128i bytes)
{
    __m256i both = _mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* Byte i becomes 0xff where bit i is set. */
static inline __m256i mask_of_bits(uint32_t bits)
{
    const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202,
                                              0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201u);
    __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int32_t)bits), spread);
    return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
}

/* Eight bytes, signed, one a sub-block of 32, to sixteen words, one a sub-block of 16. */
static inline __m256i words_of_8(uint64_t bytes)
{
    __m128i values = _mm_cvtsi64_si128((int64_t)bytes);
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(values, values));
}

static inline void no_minima(struct kblock *out)
{
    store_words(out->min, _mm256_setzero_si256());
    out->dmin = 0.0f;
}

#endif
