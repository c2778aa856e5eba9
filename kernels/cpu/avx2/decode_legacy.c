/* decode_legacy.c - blocks of 32 with a float scale of their own, by AVX2. */
#include "kernels/cpu/avx2/decode.h"
#include "kernels/cpu/scalar/decode.h"

enum {
    Q4_0_BYTES = 18, Q4_1_BYTES = 20, Q5_0_BYTES = 22, Q5_1_BYTES = 24, Q8_0_BYTES = 34,
    IQ4_NL_BYTES = 18, MXFP4_BYTES = 17,
};

/* The halves at `at` in each of n_sub blocks; the absent ones are 0. */
static inline __m256 halves(const uint8_t *at, size_t stride, uint32_t n_sub)
{
    __m128i words;
    if (n_sub == 8) {
        words = _mm_cvtsi32_si128(load_u16(at));
        words = _mm_insert_epi16(words, load_u16(at + stride), 1);
        words = _mm_insert_epi16(words, load_u16(at + 2 * stride), 2);
        words = _mm_insert_epi16(words, load_u16(at + 3 * stride), 3);
        words = _mm_insert_epi16(words, load_u16(at + 4 * stride), 4);
        words = _mm_insert_epi16(words, load_u16(at + 5 * stride), 5);
        words = _mm_insert_epi16(words, load_u16(at + 6 * stride), 6);
        words = _mm_insert_epi16(words, load_u16(at + 7 * stride), 7);
    } else {
        uint16_t present[8] = {0};
        for (uint32_t sub = 0; sub < n_sub; sub++)
            present[sub] = load_u16(at + sub * stride);
        words = _mm_loadu_si128((const __m128i *)(const void *)present);
    }
    return _mm256_cvtph_ps(words);
}

static inline void finish(struct sblock *out, uint32_t n_sub, __m256 d, __m256 m)
{
    for (uint32_t sub = n_sub; sub < 8; sub++)
        store_q(out->q + SUB_BLOCK * sub, _mm256_setzero_si256());
    _mm256_storeu_ps(out->d, d);
    _mm256_storeu_ps(out->m, m);
}

void decode_q4_0_avx2(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *bytes = blocks;
    for (uint32_t sub = 0; sub < n_sub; sub++) {
        __m256i q = nibbles_of_16(load_16(bytes + sub * Q4_0_BYTES + 2));
        store_q(out->q + SUB_BLOCK * sub, _mm256_sub_epi8(q, _mm256_set1_epi8(8)));
    }
    finish(out, n_sub, halves(bytes, Q4_0_BYTES, n_sub), _mm256_setzero_ps());
}

void decode_q4_1_avx2(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *bytes = blocks;
    for (uint32_t sub = 0; sub < n_sub; sub++)
        store_q(out->q + SUB_BLOCK * sub, nibbles_of_16(load_16(bytes + sub * Q4_1_BYTES + 4)));
    finish(out, n_sub, halves(bytes, Q4_1_BYTES, n_sub), halves(bytes + 2, Q4_1_BYTES, n_sub));
}

void decode_q5_0_avx2(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *bytes = blocks;
    for (uint32_t sub = 0; sub < n_sub; sub++) {
        const uint8_t *block = bytes + sub * Q5_0_BYTES;
        __m256i low = nibbles_of_16(load_16(block + 6));
        /* Where the fifth bit is clear, the high bits of a negative number: low - 16. */
        __m256i minus_16 = _mm256_andnot_si256(mask_of_bits(load_u32(block + 2)),
                                               _mm256_set1_epi8(-16));
        store_q(out->q + SUB_BLOCK * sub, _mm256_or_si256(low, minus_16));
    }
    finish(out, n_sub, halves(bytes, Q5_0_BYTES, n_sub), _mm256_setzero_ps());
}

void decode_q5_1_avx2(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *bytes = blocks;
    for (uint32_t sub = 0; sub < n_sub; sub++) {
        const uint8_t *block = bytes + sub * Q5_1_BYTES;
        __m256i low = nibbles_of_16(load_16(block + 8));
        __m256i fifth = _mm256_and_si256(mask_of_bits(load_u32(block + 4)),
                                         _mm256_set1_epi8(16));
        store_q(out->q + SUB_BLOCK * sub, _mm256_or_si256(low, fifth));
    }
    finish(out, n_sub, halves(bytes, Q5_1_BYTES, n_sub), halves(bytes + 2, Q5_1_BYTES, n_sub));
}

void decode_q8_0_avx2(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *bytes = blocks;
    for (uint32_t sub = 0; sub < n_sub; sub++)
        store_q(out->q + SUB_BLOCK * sub, load_32(bytes + sub * Q8_0_BYTES + 2));
    finish(out, n_sub, halves(bytes, Q8_0_BYTES, n_sub), _mm256_setzero_ps());
}

static inline void table_values(const int8_t table[16], const uint8_t *nibbles, size_t stride,
                                uint32_t n_sub, struct sblock *out)
{
    __m256i values = _mm256_broadcastsi128_si256(load_16((const uint8_t *)table));
    for (uint32_t sub = 0; sub < n_sub; sub++) {
        __m256i codes = nibbles_of_16(load_16(nibbles + sub * stride));
        store_q(out->q + SUB_BLOCK * sub, _mm256_shuffle_epi8(values, codes));
    }
}

void decode_iq4_nl_avx2(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *bytes = blocks;
    table_values(iq4_values, bytes + 2, IQ4_NL_BYTES, n_sub, out);
    finish(out, n_sub, halves(bytes, IQ4_NL_BYTES, n_sub), _mm256_setzero_ps());
}

void decode_mxfp4_avx2(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *bytes = blocks;
    table_values(mxfp4_values, bytes + 1, MXFP4_BYTES, n_sub, out);
    finish(out, n_sub, _mm256_setzero_ps(), _mm256_setzero_ps());
    for (uint32_t sub = 0; sub < n_sub; sub++)
        out->d[sub] = read_e8m0_half(bytes + sub * MXFP4_BYTES);
}
