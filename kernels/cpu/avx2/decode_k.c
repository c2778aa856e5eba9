/* decode_k.c - the K types by AVX2. 16-bit shifts move bits between bytes; the masks drop them. */
#include "kernels/cpu/avx2/decode.h"

/* The 2-bit values of bytes already shifted to their lowest place. */
static inline __m256i two_bits(__m256i bytes)
{
    return _mm256_and_si256(bytes, _mm256_set1_epi8(3));
}

void decode_q2_k_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    for (int half = 0; half < 2; half++) {
        int8_t *q = out->q + 128 * half;
        __m256i four = load_32(bytes + 16 + 32 * half);
        store_q(q, two_bits(four));
        store_q(q + 32, two_bits(_mm256_srli_epi16(four, 2)));
        store_q(q + 64, two_bits(_mm256_srli_epi16(four, 4)));
        store_q(q + 96, two_bits(_mm256_srli_epi16(four, 6)));
    }
    __m256i words = _mm256_cvtepu8_epi16(load_16(bytes));
    store_words(out->scale, _mm256_and_si256(words, _mm256_set1_epi16(15)));
    store_words(out->min, _mm256_srli_epi16(words, 4));
    out->d = load_f16(bytes + 80);
    out->dmin = load_f16(bytes + 82);
}

/* Sixteen 6-bit scales less 32: low nibbles in 8 bytes, the high pairs of bits in 4. */
static inline __m256i q3_k_scales(const uint8_t *packed)
{
    const uint64_t nibble = 0x0f0f0f0f0f0f0f0f, pair = 0x0303030303030303;
    uint64_t low = load_u64(packed);
    uint64_t high = load_u32(packed + 8);
    high |= high >> 2 << 32; /* bytes 4..7 hold the second pairs; the mask drops the rest */
    uint64_t first = (low & nibble) | (high & pair) << 4;
    uint64_t second = (low >> 4 & nibble) | (high >> 4 & pair) << 4;
    __m128i scales = _mm_set_epi64x((int64_t)second, (int64_t)first);
    return _mm256_cvtepi8_epi16(_mm_sub_epi8(scales, _mm_set1_epi8(32)));
}

/* 2-bit values, less 4 where high_bits lacks the bit. */
static inline __m256i q3_k_values(__m256i low, __m256i high_bits, int bit)
{
    __m256i wanted = _mm256_set1_epi8((char)bit);
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(high_bits, wanted), wanted);
    return _mm256_sub_epi8(two_bits(low), _mm256_andnot_si256(set, _mm256_set1_epi8(4)));
}

static inline void q3_k_half(__m256i four, __m256i high_bits, int bit, int8_t *q)
{
    store_q(q, q3_k_values(four, high_bits, bit));
    store_q(q + 32, q3_k_values(_mm256_srli_epi16(four, 2), high_bits, 2 * bit));
    store_q(q + 64, q3_k_values(_mm256_srli_epi16(four, 4), high_bits, 4 * bit));
    store_q(q + 96, q3_k_values(_mm256_srli_epi16(four, 6), high_bits, 8 * bit));
}

void decode_q3_k_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    __m256i high_bits = load_32(bytes);
    q3_k_half(load_32(bytes + 32), high_bits, 1, out->q);
    q3_k_half(load_32(bytes + 64), high_bits, 16, out->q + 128);
    store_words(out->scale, q3_k_scales(bytes + 96));
    out->d = load_f16(bytes + 108);
    no_minima(out);
}

static inline void scales_and_minima(const uint8_t *packed, struct kblock *out)
{
    uint32_t scale = load_u32(packed), min = load_u32(packed + 4), both = load_u32(packed + 8);
    uint64_t high_scale = (both & 0x0f0f0f0f) | (scale >> 2 & 0x30303030);
    uint64_t high_min = (both >> 4 & 0x0f0f0f0f) | (min >> 2 & 0x30303030);
    store_words(out->scale, words_of_8((scale & 0x3f3f3f3f) | high_scale << 32));
    store_words(out->min, words_of_8((min & 0x3f3f3f3f) | high_min << 32));
}

void decode_q4_k_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    const __m256i nibble = _mm256_set1_epi8(15);
    for (int i = 0; i < 4; i++) {
        __m256i both = load_32(bytes + 16 + 32 * i);
        store_q(out->q + 64 * i, _mm256_and_si256(both, nibble));
        store_q(out->q + 64 * i + 32, _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble));
    }
    scales_and_minima(bytes + 4, out);
    out->d = load_f16(bytes);
    out->dmin = load_f16(bytes + 2);
}

/* Where high_bits has the bit, 16. */
static inline __m256i fifth_bit(__m256i high_bits, __m256i bit)
{
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(high_bits, bit), bit);
    return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

void decode_q5_k_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i high_bits = load_32(bytes + 16);
    __m256i bit = _mm256_set1_epi8(1);
    for (int i = 0; i < 4; i++) {
        __m256i both = load_32(bytes + 48 + 32 * i);
        __m256i next_bit = _mm256_add_epi8(bit, bit);
        __m256i low = _mm256_and_si256(both, nibble);
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
        store_q(out->q + 64 * i, _mm256_or_si256(low, fifth_bit(high_bits, bit)));
        store_q(out->q + 64 * i + 32, _mm256_or_si256(high, fifth_bit(high_bits, next_bit)));
        bit = _mm256_add_epi8(next_bit, next_bit);
    }
    scales_and_minima(bytes + 4, out);
    out->d = load_f16(bytes);
    out->dmin = load_f16(bytes + 2);
}

/* 4 low bits, and 2 high bits already at bits 4 and 5 (with others around them), less 32. */
static inline __m256i six_bits(__m256i low, __m256i high)
{
    low = _mm256_and_si256(low, _mm256_set1_epi8(15));
    high = _mm256_and_si256(high, _mm256_set1_epi8(0x30));
    return _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32));
}

void decode_q6_k_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    for (int half = 0; half < 2; half++) {
        int8_t *q = out->q + 128 * half;
        __m256i first = load_32(bytes + 64 * half);
        __m256i second = load_32(bytes + 64 * half + 32);
        __m256i high = load_32(bytes + 128 + 32 * half);
        store_q(q, six_bits(first, _mm256_slli_epi16(high, 4)));
        store_q(q + 32, six_bits(second, _mm256_slli_epi16(high, 2)));
        store_q(q + 64, six_bits(_mm256_srli_epi16(first, 4), high));
        store_q(q + 96, six_bits(_mm256_srli_epi16(second, 4), _mm256_srli_epi16(high, 2)));
    }
    store_words(out->scale, _mm256_cvtepi8_epi16(load_16(bytes + 192)));
    out->d = load_f16(bytes + 208);
    no_minima(out);
}
