/* dot_q6_k.c - products with Q6_K straight from the file's blocks: quants of 0..63, less 32. */
#include "kernels/cpu/avx2/dot_k.h"

ALWAYS_INLINE void load_q6_k(const uint8_t *block, decode_k_fn *decode, struct k_form form,
                             struct k_weights *w)
{
    (void)decode;
    const __m256i nibble = _mm256_set1_epi8(15), top = _mm256_set1_epi8(0x30);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        __m256i first = load_32(block + 64 * half), second = load_32(block + 64 * half + 32);
        __m256i high = load_32(block + 128 + 32 * half);
        __m256i *q = w->q + 4 * half;
        q[0] = _mm256_or_si256(_mm256_and_si256(first, nibble),
                               _mm256_and_si256(_mm256_slli_epi16(high, 4), top));
        q[1] = _mm256_or_si256(_mm256_and_si256(second, nibble),
                               _mm256_and_si256(_mm256_slli_epi16(high, 2), top));
        q[2] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(first, 4), nibble),
                               _mm256_and_si256(high, top));
        q[3] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(second, 4), nibble),
                               _mm256_and_si256(_mm256_srli_epi16(high, 2), top));
    }
    __m256i scale = _mm256_cvtepi8_epi16(load_16(block + 192));
    w->scale = evens_and_odds(scale);
    w->taken = _mm256_mullo_epi16(scale, _mm256_set1_epi16((short)-form.offset));
    w->d = load_f16(block + 208);
    w->dmin = 0.0f;
}

void dot_q6_k_avx2(const struct dot_args *args)
{
    k_groups(args, load_q6_k, (struct k_form){.offset = 32});
}
