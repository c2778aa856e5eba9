/* dot_q4_k.c - products with Q4_K and Q5_K straight from the file's blocks. */
#include "kernels/cpu/avx2/dot_k.h"

/* Eight 6-bit scales and eight 6-bit minima from 12 bytes (see decode_k.c). */
ALWAYS_INLINE void load_scales(const uint8_t *block, struct k_weights *w)
{
    uint32_t scale = load_u32(block + 4), min = load_u32(block + 8), both = load_u32(block + 12);
    uint64_t high_scale = (both & 0x0f0f0f0f) | (scale >> 2 & 0x30303030);
    uint64_t high_min = (both >> 4 & 0x0f0f0f0f) | (min >> 2 & 0x30303030);
    uint64_t scales = (scale & 0x3f3f3f3f) | high_scale << 32;
    __m128i words = _mm_cvtepu8_epi16(_mm_cvtsi64_si128((int64_t)scales));
    w->scale = _mm256_broadcastsi128_si256(words); /* both halves of 32 share a scale */
    w->min = words_of_8((min & 0x3f3f3f3f) | high_min << 32);
    w->d = load_f16(block);
    w->dmin = load_f16(block + 2);
}

ALWAYS_INLINE void load_q4_k(const uint8_t *block, decode_k_fn *decode, struct k_form form,
                             struct k_weights *w)
{
    (void)decode, (void)form;
    const __m256i nibble = _mm256_set1_epi8(15);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m256i both = load_32(block + 16 + 32 * i);
        w->q[2 * i] = _mm256_and_si256(both, nibble);
        w->q[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
    }
    load_scales(block, w);
}

/* The fifth bits of sub-block j are bits j of 32 bytes. */
ALWAYS_INLINE void load_q5_k(const uint8_t *block, decode_k_fn *decode, struct k_form form,
                             struct k_weights *w)
{
    (void)decode, (void)form;
    const __m256i nibble = _mm256_set1_epi8(15), fifth = _mm256_set1_epi8(16);
    __m256i high = load_32(block + 16);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m256i both = load_32(block + 48 + 32 * i);
        __m256i even = i < 2 ? _mm256_slli_epi16(high, 4 - 2 * i)
                             : _mm256_srli_epi16(high, 2 * i - 4);
        __m256i odd = i < 2 ? _mm256_slli_epi16(high, 3 - 2 * i)
                            : _mm256_srli_epi16(high, 2 * i - 3);
        w->q[2 * i] = _mm256_or_si256(_mm256_and_si256(both, nibble),
                                      _mm256_and_si256(even, fifth));
        w->q[2 * i + 1] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(both, 4), nibble),
                                          _mm256_and_si256(odd, fifth));
    }
    load_scales(block, w);
}

void dot_q4_k_avx2(const struct dot_args *args)
{
    k_groups(args, load_q4_k, (struct k_form){.has_min = true});
}

void dot_q5_k_avx2(const struct dot_args *args)
{
    k_groups(args, load_q5_k, (struct k_form){.has_min = true});
}
