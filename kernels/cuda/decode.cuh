/* decode.cuh - eight neighbouring weights of a block as it lies in the file, and the block's scales
 * (docs/arithmetic.md, "Quantised weights"; kernels/cpu/scalar/decode_*.c are the definition).
 *
 * A super-block has 32 eights; eight i is its elements 8 i .. 8 i + 7. Types of class S have blocks of
 * 32, of which eight make a super-block. */
#ifndef MTP_KERNELS_CUDA_DECODE_CUH
#define MTP_KERNELS_CUDA_DECODE_CUH

#include "kernels/cuda/tables.cuh"

/* Bytes, the first weight lowest. */
struct eight {
    uint32_t low, high;
};

DEVICE uint32_t load_u16(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}
DEVICE uint32_t load_u32(const uint8_t *at)
{
    return load_u16(at) | load_u16(at + 2) << 16;
}
/* Of blocks whose size is even: they lie at even addresses. */
DEVICE uint32_t load_even_u16(const uint8_t *at)
{
    return *(const uint16_t *)(const void *)at;
}
DEVICE uint32_t load_even_u32(const uint8_t *at)
{
    return load_even_u16(at) | load_even_u16(at + 2) << 16;
}
DEVICE struct eight load_eight(const uint8_t *at)
{
    struct eight e = {load_even_u32(at), load_even_u32(at + 4)};
    return e;
}

/* What a type's quants are: stored is the number in the file, and q = stored - OFFSET, or the value of
 * a code. */
enum { NO_VALUES = 0, IQ4_VALUES = 1, MXFP4_VALUES = 2 };

template <int TYPE>
struct format;

#define FORMAT(type, bytes, k, min, per_16, offset, values)                                          \
    template <>                                                                                    \
    struct format<type> {                                                                          \
        static constexpr int BLOCK_BYTES = bytes, OFFSET = offset, VALUES = values;                \
        static constexpr bool CLASS_K = k, HAS_MIN = min, SCALES_PER_16 = per_16;                  \
        static constexpr int SUPER_BYTES = k ? bytes : 8 * bytes;                                  \
    }
FORMAT(MTP_TYPE_Q4_0, 18, false, false, false, 8, NO_VALUES);
FORMAT(MTP_TYPE_Q4_1, 20, false, true, false, 0, NO_VALUES);
FORMAT(MTP_TYPE_Q5_0, 22, false, false, false, 16, NO_VALUES);
FORMAT(MTP_TYPE_Q5_1, 24, false, true, false, 0, NO_VALUES);
FORMAT(MTP_TYPE_Q8_0, 34, false, false, false, 0, NO_VALUES);
FORMAT(MTP_TYPE_IQ4_NL, 18, false, false, false, 0, IQ4_VALUES);
FORMAT(MTP_TYPE_MXFP4, 17, false, false, false, 0, MXFP4_VALUES);
FORMAT(MTP_TYPE_Q2_K, 84, true, true, true, 0, NO_VALUES);
FORMAT(MTP_TYPE_Q3_K, 110, true, false, true, 4, NO_VALUES);
FORMAT(MTP_TYPE_Q4_K, 144, true, true, false, 0, NO_VALUES);
FORMAT(MTP_TYPE_Q5_K, 176, true, true, false, 0, NO_VALUES);
FORMAT(MTP_TYPE_Q6_K, 210, true, false, true, 32, NO_VALUES);
FORMAT(MTP_TYPE_IQ4_XS, 136, true, false, false, 0, IQ4_VALUES);
FORMAT(MTP_TYPE_IQ2_XXS, 66, true, false, false, 0, NO_VALUES);
FORMAT(MTP_TYPE_IQ2_XS, 74, true, false, true, 0, NO_VALUES);
FORMAT(MTP_TYPE_IQ2_S, 82, true, false, true, 0, NO_VALUES);
FORMAT(MTP_TYPE_IQ3_XXS, 98, true, false, false, 0, NO_VALUES);
FORMAT(MTP_TYPE_IQ3_S, 110, true, false, false, 0, NO_VALUES);
#undef FORMAT

/* Bit i of the lowest four to bit 0 of byte i: the partial products do not meet. */
DEVICE uint32_t spread_bits(uint32_t bits)
{
    return (bits & 15) * 0x00204081u & 0x01010101u;
}

/* Four bytes under 128, each less offset. */
DEVICE uint32_t subtract_bytes(uint32_t bytes, uint32_t offset)
{
    return ((bytes | 0x80808080u) - offset * 0x01010101u) ^ 0x80808080u;
}

/* Magnitudes, none of them 0, negative where a bit of signs is set. */
DEVICE uint32_t apply_signs(uint32_t magnitudes, uint32_t signs)
{
    uint32_t ones = spread_bits(signs);
    return (magnitudes ^ ones * 255u) + ones;
}
DEVICE struct eight signed_grid(uint64_t magnitudes, uint32_t signs)
{
    struct eight e = {apply_signs((uint32_t)magnitudes, signs),
                      apply_signs((uint32_t)(magnitudes >> 32), signs >> 4)};
    return e;
}
DEVICE uint32_t signs_of_seven(uint32_t stored)
{
    uint32_t parity = stored ^ stored >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return (stored & 127) | (parity & 1) << 7;
}

/* Four codes of four bits, one a byte, as sixteen bits. */
DEVICE uint32_t nibbles_of(uint32_t codes)
{
    uint32_t pairs = codes | codes >> 4; /* two codes in bytes 0 and 2 */
    return (pairs & 255) | (pairs >> 8 & 0xff00);
}

/* The values of the four codes in the lowest sixteen bits, a byte each. */
DEVICE uint32_t values_of_nibbles(uint32_t four, int values)
{
    const uint32_t iq4[4] = {0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u};
    const uint32_t mxfp4[4] = {0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu};
    const uint32_t *table = values == IQ4_VALUES ? iq4 : mxfp4;
    uint32_t below_8 = pick_bytes(table[0], table[1], four & 0x7777);
    uint32_t from_8 = pick_bytes(table[2], table[3], four & 0x7777);
    return pick_bytes(below_8, from_8, 0x3210 | (four & 0x8888) >> 1);
}

/* ---- eights as they are stored ------------------------------------------------------------- */

/* Types of class S: block is the one of 32, part 0..3 of it. */
template <int TYPE>
DEVICE struct eight stored_s(const uint8_t *block, int part)
{
    constexpr int quants = TYPE == MTP_TYPE_MXFP4 ? 1 : TYPE == MTP_TYPE_Q4_1 ? 4
                           : TYPE == MTP_TYPE_Q5_0 ? 6 : TYPE == MTP_TYPE_Q5_1 ? 8 : 2;
    if (TYPE == MTP_TYPE_Q8_0)
        return load_eight(block + 2 + 8 * part);
    const uint8_t *at = block + quants + part % 2 * 8;
    struct eight e;
    if (TYPE == MTP_TYPE_MXFP4) {
        e.low = load_u32(at);
        e.high = load_u32(at + 4);
    } else {
        e = load_eight(at);
    }
    int shift = part / 2 * 4;
    e.low = e.low >> shift & 0x0f0f0f0fu;
    e.high = e.high >> shift & 0x0f0f0f0fu;
    if (TYPE == MTP_TYPE_Q5_0 || TYPE == MTP_TYPE_Q5_1) {
        uint32_t fifth = load_even_u32(block + quants - 4) >> 8 * part;
        e.low |= spread_bits(fifth) << 4;
        e.high |= spread_bits(fifth >> 4) << 4;
    }
    return e;
}

/* Bits of eight i: of `low` bits from shift on, and one or two of `high`, put above them. */
DEVICE struct eight join_bits(const uint8_t *low, int low_shift, uint32_t low_mask, const uint8_t *high,
                              int high_shift, uint32_t high_mask, int high_to)
{
    struct eight l = load_eight(low), h = load_eight(high);
    struct eight e = {(l.low >> low_shift & low_mask) | (h.low >> high_shift & high_mask) << high_to,
                      (l.high >> low_shift & low_mask) | (h.high >> high_shift & high_mask) << high_to};
    return e;
}

DEVICE struct eight masked(struct eight e, int shift, uint32_t mask)
{
    struct eight out = {e.low >> shift & mask, e.high >> shift & mask};
    return out;
}

template <int TYPE>
DEVICE struct eight stored_k(const uint8_t *b, int i)
{
    const uint32_t ones = 0x01010101u;
    const int half = i / 16, quarter = i / 4 % 4, in_32 = 8 * (i % 4);
    switch (TYPE) {
    case MTP_TYPE_Q2_K:
        return masked(load_eight(b + 16 + 32 * half + in_32), 2 * quarter, 3 * ones);
    case MTP_TYPE_Q3_K:
        return join_bits(b + 32 + 32 * half + in_32, 2 * quarter, 3 * ones, b + in_32, i / 4, ones, 2);
    case MTP_TYPE_Q4_K:
        return masked(load_eight(b + 16 + i / 8 * 32 + in_32), i / 4 % 2 * 4, 15 * ones);
    case MTP_TYPE_Q5_K:
        return join_bits(b + 48 + i / 8 * 32 + in_32, i / 4 % 2 * 4, 15 * ones, b + 16 + in_32, i / 4,
                         ones, 4);
    case MTP_TYPE_Q6_K:
        return join_bits(b + 64 * half + 8 * (i % 8), i / 8 % 2 * 4, 15 * ones,
                         b + 128 + 32 * half + in_32, 2 * quarter, 3 * ones, 4);
    default: /* IQ4_XS */
        return masked(load_eight(b + 8 + 16 * (i / 4) + 8 * (i % 2)), i / 2 % 2 * 4, 15 * ones);
    }
}

/* The IQ2 and IQ3 types: the weights themselves. */
template <int TYPE>
DEVICE struct eight grid_eight(const uint8_t *b, int i)
{
    const int sub = i / 4, k = i % 4;
    uint32_t first, second, signs;
    switch (TYPE) {
    case MTP_TYPE_IQ2_XXS:
        signs = load_even_u32(b + 2 + 8 * sub + 4) >> 7 * k & 127;
        return signed_grid(DEVICE_TABLE(iq2xxs_grid)[b[2 + 8 * sub + k]], signs_of_seven(signs));
    case MTP_TYPE_IQ2_XS:
        first = load_even_u16(b + 2 + 2 * i);
        return signed_grid(DEVICE_TABLE(iq2xs_grid)[first & 511], signs_of_seven(first >> 9));
    case MTP_TYPE_IQ2_S:
        first = b[2 + i] | (uint32_t)(b[66 + sub] >> 2 * k & 3) << 8;
        return signed_grid(DEVICE_TABLE(iq2s_grid)[first], b[34 + i]);
    case MTP_TYPE_IQ3_XXS:
        signs = signs_of_seven(load_even_u32(b + 66 + 4 * sub) >> 7 * k & 127);
        first = DEVICE_TABLE(iq3xxs_grid)[b[2 + 2 * i]];
        second = DEVICE_TABLE(iq3xxs_grid)[b[2 + 2 * i + 1]];
        break;
    default: /* IQ3_S */
        signs = b[74 + i];
        first = b[66 + sub] >> 2 * k;
        second = DEVICE_TABLE(iq3s_grid)[b[2 + 2 * i + 1] | (first & 2) << 7];
        first = DEVICE_TABLE(iq3s_grid)[b[2 + 2 * i] | (first & 1) << 8];
        break;
    }
    struct eight e = {apply_signs(first, signs), apply_signs(second, signs >> 4)};
    return e;
}

template <int TYPE>
HOST_DEVICE constexpr bool has_grid()
{
    return TYPE == MTP_TYPE_IQ2_XXS || TYPE == MTP_TYPE_IQ2_XS || TYPE == MTP_TYPE_IQ2_S ||
           TYPE == MTP_TYPE_IQ3_XXS || TYPE == MTP_TYPE_IQ3_S;
}

/* Eight i of a super-block that begins at b, as stored. */
template <int TYPE>
DEVICE struct eight stored_eight(const uint8_t *b, int i)
{
    if constexpr (!format<TYPE>::CLASS_K)
        return stored_s<TYPE>(b + i / 4 * format<TYPE>::BLOCK_BYTES, i % 4);
    else if constexpr (has_grid<TYPE>())
        return grid_eight<TYPE>(b, i);
    else
        return stored_k<TYPE>(b, i);
}

/* The weights' q, signed bytes. */
template <int TYPE>
DEVICE struct eight decode_eight(const uint8_t *b, int i)
{
    struct eight e = stored_eight<TYPE>(b, i);
    if constexpr (format<TYPE>::VALUES != NO_VALUES) {
        e.low = values_of_nibbles(nibbles_of(e.low), format<TYPE>::VALUES);
        e.high = values_of_nibbles(nibbles_of(e.high), format<TYPE>::VALUES);
    } else if constexpr (format<TYPE>::OFFSET != 0) {
        e.low = subtract_bytes(e.low, format<TYPE>::OFFSET);
        e.high = subtract_bytes(e.high, format<TYPE>::OFFSET);
    }
    return e;
}

/* ---- scales ---------------------------------------------------------------------------------- */

DEVICE int nibble_at(const uint8_t *bytes, int i)
{
    return bytes[i / 2] >> i % 2 * 4 & 15;
}

/* Scale j (0..7) and minimum j of the twelve bytes of Q4_K and Q5_K. */
DEVICE int six_bit_scale(const uint8_t *packed, int j)
{
    return j < 4 ? packed[j] & 63 : (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
}
DEVICE int six_bit_min(const uint8_t *packed, int j)
{
    return j < 4 ? packed[j + 4] & 63 : packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
}

/* Class K: the scale of sub-block s of 16 (0..15), and its minimum. */
template <int TYPE>
DEVICE int scale_of_16(const uint8_t *b, int s)
{
    const uint8_t *three = b + 96;
    switch (TYPE) {
    case MTP_TYPE_Q2_K: return b[s] & 15;
    case MTP_TYPE_Q3_K:
        return ((three[s % 8] >> s / 8 * 4 & 15) | (three[8 + s % 4] >> s / 4 * 2 & 3) << 4) - 32;
    case MTP_TYPE_Q4_K:
    case MTP_TYPE_Q5_K: return six_bit_scale(b + 4, s / 2);
    case MTP_TYPE_Q6_K: return (int8_t)b[192 + s];
    case MTP_TYPE_IQ4_XS:
        return (nibble_at(b + 4, s / 2) | (int)(load_even_u16(b + 2) >> s / 2 * 2 & 3) << 4) - 32;
    case MTP_TYPE_IQ2_XXS: return 2 * (b[2 + 8 * (s / 2) + 7] >> 4) + 1;
    case MTP_TYPE_IQ2_XS: return 2 * nibble_at(b + 66, s) + 1;
    case MTP_TYPE_IQ2_S: return 2 * nibble_at(b + 74, s) + 1;
    case MTP_TYPE_IQ3_XXS: return 2 * (b[66 + 4 * (s / 2) + 3] >> 4) + 1;
    default: return 2 * nibble_at(b + 106, s / 2) + 1; /* IQ3_S */
    }
}
template <int TYPE>
DEVICE int min_of_16(const uint8_t *b, int s)
{
    if (TYPE == MTP_TYPE_Q2_K)
        return b[s] >> 4;
    return six_bit_min(b + 4, s / 2);
}

/* Where a block keeps the halves d and, right after it, dmin. */
template <int TYPE>
HOST_DEVICE constexpr int half_at()
{
    return TYPE == MTP_TYPE_Q2_K ? 80 : TYPE == MTP_TYPE_Q3_K ? 108 : TYPE == MTP_TYPE_Q6_K ? 208 : 0;
}

/* The power of two that goes with a half, exactly (decode_iq.c). */
template <int TYPE>
DEVICE float scaled_half(uint32_t half)
{
    float d = half_to_float((uint16_t)half);
    if (TYPE == MTP_TYPE_IQ2_XXS || TYPE == MTP_TYPE_IQ2_XS || TYPE == MTP_TYPE_IQ2_S)
        return __fmul_rn(d, 0.125f);
    return TYPE == MTP_TYPE_IQ3_XXS ? __fmul_rn(d, 0.25f) : d;
}

/* 2^(exponent - 128), as read_e8m0_half of kernels/cpu/block_read.h. */
DEVICE float e8m0_half(uint32_t exponent)
{
    return bits_to_float(exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23);
}

/* d of a block (class S: of 32), and its minimum's factor. */
template <int TYPE>
DEVICE float block_d(const uint8_t *b)
{
    if (TYPE == MTP_TYPE_MXFP4)
        return e8m0_half(b[0]);
    return scaled_half<TYPE>(load_even_u16(b + half_at<TYPE>()));
}
template <int TYPE>
DEVICE float block_min(const uint8_t *b)
{
    return half_to_float((uint16_t)load_even_u16(b + half_at<TYPE>() + 2));
}

#endif
