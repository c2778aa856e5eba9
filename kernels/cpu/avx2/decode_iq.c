/* decode_iq.c - the IQ types with super-blocks of 256, by AVX2: table look-ups of 8 or 4 weights at
 * a time, signs for 32. */
#include "kernels/cpu/avx2/decode.h"
#include "kernels/cpu/scalar/decode.h"
#include "kernels/cpu/scalar/iq_tables.h"

static inline void finish(struct kblock *out, float d)
{
    out->d = d;
    no_minima(out);
}

static inline void store_index(uint16_t index[16], __m256i values)
{
    _mm256_storeu_si256((__m256i *)(void *)index, values);
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
    store_words(out->scale, _mm256_sub_epi16(words_of_8(scales), _mm256_set1_epi16(32)));
    finish(out, load_f16(bytes));
}

/* The eighth sign of every byte from the seven stored in it (see iq_signs). Shifts carry bits from
 * byte to byte, but never into a bit that counts. */
static inline __m256i with_eighth_sign(__m256i stored)
{
    __m256i parity = _mm256_xor_si256(stored, _mm256_srli_epi32(stored, 4));
    parity = _mm256_xor_si256(parity, _mm256_srli_epi32(parity, 2));
    parity = _mm256_xor_si256(parity, _mm256_srli_epi32(parity, 1));
    parity = _mm256_and_si256(parity, _mm256_set1_epi8(1));
    return _mm256_or_si256(stored, _mm256_slli_epi32(parity, 7));
}

/* What IQ2_XXS and IQ3_XXS store for every 32 weights: four times 7 signs and, in the highest four
 * bits, the scale. Eight such words to 32 sign bytes, and to the scales of kblock. */
static inline void signs_and_scales(__m256i words, uint32_t signs[8], struct kblock *out)
{
    __m256i spread = _mm256_and_si256(words, _mm256_set1_epi32(0x7f));
    __m256i second = _mm256_and_si256(words, _mm256_set1_epi32(0x7f << 7));
    __m256i third = _mm256_and_si256(words, _mm256_set1_epi32(0x7f << 14));
    __m256i fourth = _mm256_and_si256(words, _mm256_set1_epi32(0x7f << 21));
    spread = _mm256_or_si256(spread, _mm256_slli_epi32(second, 1));
    spread = _mm256_or_si256(spread, _mm256_slli_epi32(third, 2));
    spread = _mm256_or_si256(spread, _mm256_slli_epi32(fourth, 3));
    _mm256_storeu_si256((__m256i *)(void *)signs, with_eighth_sign(spread));
    __m256i s = _mm256_srli_epi32(words, 28);
    __m256i odd = _mm256_or_si256(_mm256_slli_epi32(s, 1), _mm256_set1_epi32(1));
    store_words(out->scale, _mm256_or_si256(odd, _mm256_slli_epi32(odd, 16)));
}

static inline void store_signed(int8_t *q, __m256i magnitudes, uint32_t signs)
{
    __m256i negative = mask_of_bits(signs);
    store_q(q, _mm256_sub_epi8(_mm256_xor_si256(magnitudes, negative), negative));
}

/* Four table entries side by side. Broadcasts come from memory for free; only blends compute. */
static inline __m256i four_entries(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    __m256i low = _mm256_blend_epi32(_mm256_set1_epi64x((int64_t)a),
                                     _mm256_set1_epi64x((int64_t)b), 0x0c);
    __m256i high = _mm256_blend_epi32(_mm256_set1_epi64x((int64_t)c),
                                      _mm256_set1_epi64x((int64_t)d), 0xc0);
    return _mm256_blend_epi32(low, high, 0xf0);
}

static inline __m256i broadcast(uint32_t entry)
{
    return _mm256_set1_epi32((int32_t)entry);
}

/* Eight table entries side by side, likewise. */
static inline __m256i eight_entries(const uint32_t *grid, const uint16_t index[8])
{
    __m256i ab = _mm256_blend_epi32(broadcast(grid[index[0]]), broadcast(grid[index[1]]), 0x02);
    __m256i cd = _mm256_blend_epi32(broadcast(grid[index[2]]), broadcast(grid[index[3]]), 0x08);
    __m256i ef = _mm256_blend_epi32(broadcast(grid[index[4]]), broadcast(grid[index[5]]), 0x20);
    __m256i gh = _mm256_blend_epi32(broadcast(grid[index[6]]), broadcast(grid[index[7]]), 0x80);
    return _mm256_blend_epi32(_mm256_blend_epi32(ab, cd, 0x0c),
                              _mm256_blend_epi32(ef, gh, 0xc0), 0xf0);
}

/* 2 s + 1 for the sixteen nibbles of eight bytes, low first. */
static inline __m256i odd_scales_of_16(const uint8_t *nibbles)
{
    __m128i bytes = _mm_cvtsi64_si128((int64_t)load_u64(nibbles));
    __m128i s = _mm_unpacklo_epi8(bytes, _mm_srli_epi16(bytes, 4));
    s = _mm_and_si128(s, _mm_set1_epi8(15));
    return _mm256_cvtepi8_epi16(_mm_add_epi8(_mm_add_epi8(s, s), _mm_set1_epi8(1)));
}

void decode_iq2_xxs_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    /* Eight pairs of four indices and a word of signs; the shuffle brings the words together. */
    const __m256i odd = _mm256_setr_epi32(1, 3, 5, 7, 1, 3, 5, 7);
    __m256i low = _mm256_permutevar8x32_epi32(load_32(bytes + 2), odd);
    __m256i high = _mm256_permutevar8x32_epi32(load_32(bytes + 34), odd);
    uint32_t signs[8];
    signs_and_scales(_mm256_blend_epi32(low, high, 0xf0), signs, out);
    for (int sub = 0; sub < 8; sub++) {
        const uint8_t *index = bytes + 2 + 8 * sub;
        __m256i magnitudes = four_entries(iq2xxs_grid[index[0]], iq2xxs_grid[index[1]],
                                          iq2xxs_grid[index[2]], iq2xxs_grid[index[3]]);
        store_signed(out->q + SUB_BLOCK * sub, magnitudes, signs[sub]);
    }
    finish(out, load_f16(bytes) * 0.125f);
}

void decode_iq2_xs_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    const __m256i index_mask = _mm256_set1_epi16(511);
    __m256i low = load_32(bytes + 2), high = load_32(bytes + 34);
    /* packus takes turns between 128-bit lanes; the permutation restores the order. */
    __m256i packed = _mm256_packus_epi16(_mm256_srli_epi16(low, 9), _mm256_srli_epi16(high, 9));
    uint32_t signs[8];
    _mm256_storeu_si256((__m256i *)(void *)signs,
                        with_eighth_sign(_mm256_permute4x64_epi64(packed, 0xd8)));
    uint16_t index[32];
    store_index(index, _mm256_and_si256(low, index_mask));
    store_index(index + 16, _mm256_and_si256(high, index_mask));
    for (int sub = 0; sub < 8; sub++) {
        const uint16_t *at = index + 4 * sub;
        __m256i magnitudes = four_entries(iq2xs_grid[at[0]], iq2xs_grid[at[1]],
                                          iq2xs_grid[at[2]], iq2xs_grid[at[3]]);
        store_signed(out->q + SUB_BLOCK * sub, magnitudes, signs[sub]);
    }
    store_words(out->scale, odd_scales_of_16(bytes + 66));
    finish(out, load_f16(bytes) * 0.125f);
}

/* Sixteen 10-bit indices: 8 bits of each in `low`, the other two in pairs of bits of `high`. */
static inline __m256i ten_bit_indices(const uint8_t *low, const uint8_t *high)
{
    const __m256i spread = _mm256_setr_epi64x(
        (int64_t)0xff00ff00ff00ff00u, (int64_t)0xff01ff01ff01ff01u,
        (int64_t)0xff02ff02ff02ff02u, (int64_t)0xff03ff03ff03ff03u);
    const __m256i to_bit_8 = _mm256_set1_epi64x(0x0004001000400100);
    __m256i words = _mm256_shuffle_epi8(_mm256_set1_epi32((int32_t)load_u32(high)), spread);
    __m256i pairs = _mm256_and_si256(_mm256_mullo_epi16(words, to_bit_8),
                                     _mm256_set1_epi16(0x300));
    return _mm256_or_si256(pairs, _mm256_cvtepu8_epi16(load_16(low)));
}

void decode_iq2_s_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    uint16_t index[32];
    store_index(index, ten_bit_indices(bytes + 2, bytes + 66));
    store_index(index + 16, ten_bit_indices(bytes + 18, bytes + 70));
    for (int sub = 0; sub < 8; sub++) {
        const uint16_t *at = index + 4 * sub;
        __m256i magnitudes = four_entries(iq2s_grid[at[0]], iq2s_grid[at[1]],
                                          iq2s_grid[at[2]], iq2s_grid[at[3]]);
        store_signed(out->q + SUB_BLOCK * sub, magnitudes, load_u32(bytes + 34 + 4 * sub));
    }
    store_words(out->scale, odd_scales_of_16(bytes + 74));
    finish(out, load_f16(bytes) * 0.125f);
}

void decode_iq3_xxs_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    uint32_t signs[8];
    signs_and_scales(load_32(bytes + 66), signs, out);
    uint16_t index[64];
    for (int k = 0; k < 64; k += 16)
        store_index(index + k, _mm256_cvtepu8_epi16(load_16(bytes + 2 + k)));
    for (int sub = 0; sub < 8; sub++)
        store_signed(out->q + SUB_BLOCK * sub, eight_entries(iq3xxs_grid, index + 8 * sub),
                     signs[sub]);
    finish(out, load_f16(bytes) * 0.25f);
}

/* Sixteen 9-bit indices: 8 bits of each in `low`, the ninth in a bit of `high`. */
static inline __m256i nine_bit_indices(const uint8_t *low, const uint8_t *high)
{
    const __m256i bit = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096,
                                          8192, 16384, (int16_t)0x8000);
    __m256i words = _mm256_and_si256(_mm256_set1_epi16((int16_t)load_u16(high)), bit);
    __m256i ninth = _mm256_and_si256(_mm256_cmpeq_epi16(words, bit), _mm256_set1_epi16(256));
    return _mm256_or_si256(ninth, _mm256_cvtepu8_epi16(load_16(low)));
}

void decode_iq3_s_avx2(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    uint16_t index[64];
    for (int k = 0; k < 64; k += 16)
        store_index(index + k, nine_bit_indices(bytes + 2 + k, bytes + 66 + k / 8));
    for (int sub = 0; sub < 8; sub++)
        store_signed(out->q + SUB_BLOCK * sub, eight_entries(iq3s_grid, index + 8 * sub),
                     load_u32(bytes + 74 + 4 * sub));
    uint64_t s = bytes_of_nibbles(load_u32(bytes + 106));
    store_words(out->scale, words_of_8(2 * s + 0x0101010101010101));
    finish(out, load_f16(bytes));
}
