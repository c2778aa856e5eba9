/* decode_iq.c - the IQ types with super-blocks of 256, by AVX2: table look-ups of 8 or 4 weights at
 * a time, signs for 32. */
#include "kernels/cpu/avx2/decode.h"
#include "kernels/cpu/scalar/decode.h"
#include "kernels/cpu/scalar/iq_tables.h"

static inline void finish(struct kblock *out, __m256i scales, float d)
{
    store_words(out->scale, scales);
    out->d = d;
    no_minima(out);
}

/* Eight nibbles, low first, to eight bytes. */
static inline uint64_t bytes_of_nibbles(uint32_t nibbles)
{
    uint64_t x = nibbles;
    x = (x | x << 16) & 0x0000ffff0000ffff;
    x = (x | x << 8) & 0x00ff00ff00ff00ff;
    return (x | x << 4) & 0x0f0f0f0f0f0f0f0f;
}

/* Eight pairs of bits, low first, to eight bytes. */
static inline uint64_t bytes_of_pairs(uint16_t pairs)
{
    uint64_t x = pairs;
    x = (x | x << 24) & 0x000000ff000000ff;
    x = (x | x << 12) & 0x000f000f000f000f;
    return (x | x << 6) & 0x0303030303030303;
}

void decode_iq4_xs_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    const __m256i values = _mm256_broadcastsi128_si256(load_16((const uint8_t *)iq4_values));
    for (int sub = 0; sub < 8; sub++) {
        __m256i codes = nibbles_of_16(load_16(bytes + 8 + 16 * sub));
        store_q(out->q + SUB_BLOCK * sub, _mm256_shuffle_epi8(values, codes));
    }
    uint64_t scales = bytes_of_nibbles(load_u32(bytes + 4));
    scales |= bytes_of_pairs(load_u16(bytes + 2)) << 4;
    __m256i words = _mm256_sub_epi16(words_of_8(scales), _mm256_set1_epi16(32));
    finish(out, words, load_f16(bytes));
}

/* Four groups of 7 stored signs, one in each byte, to four groups of 8 (see iq_signs). Shifts carry
 * bits across bytes, but never into a bit that counts. */
static inline uint32_t four_iq_signs(uint32_t stored)
{
    uint32_t parity = stored ^ stored >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return stored | (parity & 0x01010101) << 7;
}

/* The same from 28 adjacent bits. */
static inline uint32_t signs_of_28_bits(uint32_t bits)
{
    return four_iq_signs((bits & 0x7f) | (bits << 1 & 0x7f00) | (bits << 2 & 0x7f0000) |
                         (bits << 3 & 0x7f000000));
}

static inline void store_signed(int8_t *q, __m256i magnitudes, uint32_t signs)
{
    __m256i negative = mask_of_bits(signs);
    store_q(q, _mm256_sub_epi8(_mm256_xor_si256(magnitudes, negative), negative));
}

static inline __m256i four_entries(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    return _mm256_setr_epi64x((int64_t)a, (int64_t)b, (int64_t)c, (int64_t)d);
}

/* 2 s + 1 for the sixteen nibbles of eight bytes, low first. */
static inline __m256i odd_scales_of_16(const uint8_t *nibbles)
{
    __m128i bytes = _mm_cvtsi64_si128((int64_t)load_u64(nibbles));
    __m128i s = _mm_unpacklo_epi8(bytes, _mm_srli_epi16(bytes, 4));
    s = _mm_and_si128(s, _mm_set1_epi8(15));
    return _mm256_cvtepi8_epi16(_mm_add_epi8(_mm_add_epi8(s, s), _mm_set1_epi8(1)));
}

/* 2 s + 1 for one byte a sub-block of 32. */
static inline __m256i odd_scales_of_8(uint64_t s)
{
    return words_of_8(2 * s + 0x0101010101010101);
}

void decode_iq2_xxs_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    uint64_t scales = 0;
    for (int sub = 0; sub < 8; sub++) {
        const uint8_t *index = bytes + 2 + 8 * sub;
        uint32_t signs_and_scale = load_u32(index + 4);
        __m256i magnitudes = four_entries(iq2xxs_grid[index[0]], iq2xxs_grid[index[1]],
                                          iq2xxs_grid[index[2]], iq2xxs_grid[index[3]]);
        store_signed(out->q + SUB_BLOCK * sub, magnitudes, signs_of_28_bits(signs_and_scale));
        scales |= (uint64_t)(signs_and_scale >> 28) << 8 * sub;
    }
    finish(out, odd_scales_of_8(scales), load_f16(bytes) * 0.125f);
}

void decode_iq2_xs_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    for (int sub = 0; sub < 8; sub++) {
        uint64_t codes = load_u64(bytes + 2 + 8 * sub);
        __m256i magnitudes = four_entries(iq2xs_grid[codes & 511], iq2xs_grid[codes >> 16 & 511],
                                          iq2xs_grid[codes >> 32 & 511],
                                          iq2xs_grid[codes >> 48 & 511]);
        uint64_t signs = (codes >> 9 & 0x7f) | (codes >> 17 & 0x7f00) |
                         (codes >> 25 & 0x7f0000) | (codes >> 33 & 0x7f000000);
        store_signed(out->q + SUB_BLOCK * sub, magnitudes, four_iq_signs((uint32_t)signs));
    }
    finish(out, odd_scales_of_16(bytes + 66), load_f16(bytes) * 0.125f);
}

void decode_iq2_s_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    for (int sub = 0; sub < 8; sub++) {
        const uint8_t *low = bytes + 2 + 4 * sub;
        uint32_t high = bytes[66 + sub];
        __m256i magnitudes = four_entries(iq2s_grid[low[0] | (high << 8 & 0x300)],
                                          iq2s_grid[low[1] | (high << 6 & 0x300)],
                                          iq2s_grid[low[2] | (high << 4 & 0x300)],
                                          iq2s_grid[low[3] | (high << 2 & 0x300)]);
        store_signed(out->q + SUB_BLOCK * sub, magnitudes, load_u32(bytes + 34 + 4 * sub));
    }
    finish(out, odd_scales_of_16(bytes + 74), load_f16(bytes) * 0.125f);
}

static inline uint64_t two_entries(uint32_t first, uint32_t second)
{
    return first | (uint64_t)second << 32;
}

void decode_iq3_xxs_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    const uint32_t *grid = iq3xxs_grid;
    uint64_t scales = 0;
    for (int sub = 0; sub < 8; sub++) {
        const uint8_t *index = bytes + 2 + 8 * sub;
        uint32_t signs_and_scale = load_u32(bytes + 66 + 4 * sub);
        __m256i magnitudes = four_entries(two_entries(grid[index[0]], grid[index[1]]),
                                          two_entries(grid[index[2]], grid[index[3]]),
                                          two_entries(grid[index[4]], grid[index[5]]),
                                          two_entries(grid[index[6]], grid[index[7]]));
        store_signed(out->q + SUB_BLOCK * sub, magnitudes, signs_of_28_bits(signs_and_scale));
        scales |= (uint64_t)(signs_and_scale >> 28) << 8 * sub;
    }
    finish(out, odd_scales_of_8(scales), load_f16(bytes) * 0.25f);
}

/* Entries k and k + 1 of a group of eight, whose ninth index bits are those of `high`. */
static inline uint64_t two_iq3_s(const uint8_t *low, uint32_t high, int k)
{
    return two_entries(iq3s_grid[low[k] | (high << (8 - k) & 256)],
                       iq3s_grid[low[k + 1] | (high << (7 - k) & 256)]);
}

void decode_iq3_s_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    for (int sub = 0; sub < 8; sub++) {
        const uint8_t *low = bytes + 2 + 8 * sub;
        uint32_t high = bytes[66 + sub];
        __m256i magnitudes = four_entries(two_iq3_s(low, high, 0), two_iq3_s(low, high, 2),
                                          two_iq3_s(low, high, 4), two_iq3_s(low, high, 6));
        store_signed(out->q + SUB_BLOCK * sub, magnitudes, load_u32(bytes + 74 + 4 * sub));
    }
    __m256i scales = odd_scales_of_8(bytes_of_nibbles(load_u32(bytes + 106)));
    finish(out, scales, load_f16(bytes));
}
