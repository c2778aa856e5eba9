/* packed.h - shared pieces of the products with packed weights (kernels/cpu/pack.h). Included by the
 * AVX2 and the AVX-512 kernels. */
#ifndef MTP_KERNELS_CPU_AVX2_PACKED_H
#define MTP_KERNELS_CPU_AVX2_PACKED_H

#include <string.h>

#include "kernels/cpu/avx2/decode.h"
#include "kernels/cpu/avx2/vmath.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/pack.h"
#include "kernels/reduce.h"

#ifndef ALWAYS_INLINE
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#endif

/* How a type is packed; constant in every copy of a kernel. */
struct packed_form {
    uint32_t type;
    size_t block_bytes; /* of a group */
    int offset;         /* quants are q + offset */
    int run;            /* sums of so many products of two pairs fit 16 bits */
    bool has_min;
};

#define FORM_Q3_K ((struct packed_form){MTP_TYPE_Q3_K, 16 * 110, 4, 4, false})
#define FORM_Q4_K ((struct packed_form){MTP_TYPE_Q4_K, 16 * 144, 0, 8, true})
#define FORM_Q5_K ((struct packed_form){MTP_TYPE_Q5_K, 16 * 176, 0, 4, true})
#define FORM_Q6_K ((struct packed_form){MTP_TYPE_Q6_K, 16 * 210, 32, 2, false})
#define FORM_Q8_0 ((struct packed_form){MTP_TYPE_Q8_0, 16 * 34, 0, 1, false})
#define FORM_Q4_0 ((struct packed_form){MTP_TYPE_Q4_0, 16 * 18, 8, 8, false})

/* Scales and minima of a super-block of sixteen rows: `one` for types with a scale a sub-block of 32,
 * `two` for those with one a sub-block of 16. A load lies within what one store has written: one that spans
 * two stores would wait for the cache. */
struct k_tables {
    _Alignas(64) int8_t one[8][PACK_ROWS];
    _Alignas(64) uint8_t min[8][PACK_ROWS];
    int8_t two[8][PACK_ROWS][2];
    const uint8_t *scales; /* one or two, bytes of 8 sub-blocks */
    const uint8_t *lines;
};

ALWAYS_INLINE void store_16(void *to, __m128i bytes)
{
    _mm_store_si128(to, bytes);
}

ALWAYS_INLINE __m128i six_bits(__m128i low, __m128i high, int low_at, int high_at)
{
    const __m128i nibble = _mm_set1_epi8(15), top = _mm_set1_epi8(0x30);
    low = _mm_and_si128(low_at ? _mm_srli_epi16(low, 4) : low, nibble);
    high = high_at < 4 ? _mm_slli_epi16(high, 4 - high_at) : _mm_srli_epi16(high, high_at - 4);
    return _mm_or_si128(low, _mm_and_si128(high, top));
}

/* Bits 0..3 from the nibbles at low_at, bits 4, 5 from those at high_at, of several sub-blocks. */
#ifdef __AVX512BW__
enum { SCALES_AT_ONCE = 4 }; /* sub-blocks */
typedef __m512i scales_vector;
ALWAYS_INLINE scales_vector load_some(const void *at)
{
    return _mm512_loadu_si512(at);
}
ALWAYS_INLINE void store_some(void *to, scales_vector low, scales_vector high, int low_at, int high_at)
{
    const __m512i nibble = _mm512_set1_epi8(15), top = _mm512_set1_epi8(0x30);
    low = _mm512_and_si512(low_at ? _mm512_srli_epi16(low, 4) : low, nibble);
    high = high_at < 4 ? _mm512_slli_epi16(high, (unsigned)(4 - high_at))
                       : _mm512_srli_epi16(high, (unsigned)(high_at - 4));
    _mm512_store_si512(to, _mm512_or_si512(low, _mm512_and_si512(high, top)));
}
#else
enum { SCALES_AT_ONCE = 2 };
typedef __m256i scales_vector;
ALWAYS_INLINE scales_vector load_some(const void *at)
{
    return load_32(at);
}
ALWAYS_INLINE void store_some(void *to, scales_vector low, scales_vector high, int low_at, int high_at)
{
    const __m256i nibble = _mm256_set1_epi8(15), top = _mm256_set1_epi8(0x30);
    low = _mm256_and_si256(low_at ? _mm256_srli_epi16(low, 4) : low, nibble);
    high = high_at < 4 ? _mm256_slli_epi16(high, 4 - high_at) : _mm256_srli_epi16(high, high_at - 4);
    _mm256_store_si256(to, _mm256_or_si256(low, _mm256_and_si256(high, top)));
}
#endif

ALWAYS_INLINE void load_scales_and_minima(const struct k_scales *s, struct k_tables *t)
{
#pragma GCC unroll 2
    for (int j = 0; j < 4; j += SCALES_AT_ONCE) {
        scales_vector a = load_some(s->low_a[j]), b = load_some(s->low_b[j]);
        scales_vector high = load_some(s->high[j]);
        store_some(t->one[j], a, high, 0, 0);
        store_some(t->one[j + 4], a, high, 4, 2);
        store_some(t->min[j], b, high, 0, 4);
        store_some(t->min[j + 4], b, high, 4, 6);
    }
}

/* Scales 2 j and 2 j + 1 of each row side by side. */
ALWAYS_INLINE void store_pairs(int8_t (*to)[2], __m128i first, __m128i second)
{
    store_16(to, _mm_unpacklo_epi8(first, second));
    store_16(to + 8, _mm_unpackhi_epi8(first, second));
}

ALWAYS_INLINE void load_sixteen_scales(const struct k_scales *s, struct k_tables *t)
{
    const __m128i bias = _mm_set1_epi8(32);
    __m128i scale[16];
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        __m128i a = load_16(s->low_a[j]), b = load_16(s->low_b[j]), high = load_16(s->high[j]);
        scale[j] = _mm_sub_epi8(six_bits(a, high, 0, 0), bias);
        scale[j + 4] = _mm_sub_epi8(six_bits(b, high, 0, 2), bias);
        scale[j + 8] = _mm_sub_epi8(six_bits(a, high, 4, 4), bias);
        scale[j + 12] = _mm_sub_epi8(six_bits(b, high, 4, 6), bias);
    }
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        store_pairs(t->two[j], scale[2 * j], scale[2 * j + 1]);
}

/* Where a block's scales begin. */
ALWAYS_INLINE const uint8_t *after_halves(const uint8_t *block, struct packed_form f)
{
    return block + (f.has_min ? 4 : 2) * PACK_ROWS;
}

ALWAYS_INLINE void load_tables(const uint8_t *block, struct packed_form f, struct k_tables *t)
{
    const uint8_t *at = after_halves(block, f);
    if (f.type == MTP_TYPE_Q6_K) { /* as they are */
        t->scales = at;
        t->lines = at + sizeof t->two;
        return;
    }
    const struct k_scales *s = (const void *)at;
    if (f.type == MTP_TYPE_Q3_K)
        load_sixteen_scales(s, t);
    else
        load_scales_and_minima(s, t);
    t->scales = f.has_min ? (const uint8_t *)t->one : (const uint8_t *)t->two;
    t->lines = at + sizeof *s;
}

/* Bytes of the lines of 32 weights. */
ALWAYS_INLINE size_t line_bytes(struct packed_form f)
{
    switch (f.type) {
    case MTP_TYPE_Q3_K: return 3 * PACK_LINE;
    case MTP_TYPE_Q5_K: return 5 * PACK_LINE;
    case MTP_TYPE_Q6_K: return 6 * PACK_LINE;
    case MTP_TYPE_Q8_0: return 8 * PACK_LINE;
    default: return 4 * PACK_LINE;
    }
}

/* Four quants of activations, or two sums of sixteen. */
ALWAYS_INLINE int32_t load_pair(const void *at)
{
    int32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Which super-blocks a row has, and what a kernel multiplies. */
struct packed_rows {
    const struct dot_args *args;
    const uint8_t *group;
    int32_t first, o; /* batch row, output */
};

/* Rows of so few super-blocks have one in segment 7 alone, or in segments 3 and 7. */
enum { FEW_BLOCKS = 2 };

/* Outputs that are wanted of a group from output o on. */
ALWAYS_INLINE int32_t packed_outputs(const struct dot_args *args, int32_t o)
{
    int32_t left = args->n_out - o;
    return left < PACK_ROWS ? left : PACK_ROWS;
}

#endif
