/* tile.cuh - weights rearranged for the int8 products of a warp: the super-block of sixteen rows lies
 * together, each lane's share in its own words, in the order in which they are needed.
 *
 * Of sub-block j (32 elements) lane 4 g + t has elements 8 t .. 8 t + 7 of the rows g and g + 8: the
 * first four of row g (word a[0]) and of g + 8 (a[1]), the other four of row g (a[2]) and g + 8 (a[3]).
 * Activations are taken in the same order, so the sums are over the same products.
 *
 * A tile, in this order ([8][32] counts sub-block and lane, [16] rows):
 *   quants   bytes      uint4 [8][32]   the four words                              Q8_0
 *            nibbles    uint2 [8][32]   a[0] | a[1] << 4, a[2] | a[3] << 4
 *            codes      uint2 [8][32]   the nibbles of a[0], of a[1]; of a[2], of a[3]
 *            two bits   uint  [8][32]   a[0] | a[1] << 2 | a[2] << 4 | a[3] << 6
 *   above    one bit    uint  [4][32]   four bits of sub-block j: << 4 (j % 2)
 *   them     two bits   uint  [8][32]   eight bits
 *            With these the words are cut otherwise, so that few instructions put them together; x and y are
 *            what lies below (of three bits: x), z what lies above:
 *            six bits: x = a[0] | a[3] << 6, y = a[1] | a[3] >> 2 << 6, z = a[2] | a[3] >> 4 << 6;
 *            five: x = a[0] | a[2] << 5, y = a[1] | a[3] << 5, z = a[2] >> 3 | a[3] >> 3 << 2;
 *            three: x = a[0] | a[1] << 3 | a[2] << 6, z = a[3] | a[2] >> 2 << 3.
 *   class K  [16][16] or [16][8] bytes of scales: Q4_K, Q5_K eight scales, eight minima; Q2_K as in the
 *            file; Q3_K, Q6_K sixteen signed bytes; IQ4_XS eight; then d u16[16] and dmin u16[16]
 *   class S  d of the sub-blocks u16[16][8] (MXFP4 u8[16][8]), then minima alike
 * The IQ2 and IQ3 types: the sixteen rows' blocks as they are. Absent rows and sub-blocks are zeros. */
#ifndef MTP_KERNELS_CUDA_TILE_CUH
#define MTP_KERNELS_CUDA_TILE_CUH

#include "kernels/cuda/decode.cuh"

enum { TILE_ROWS = 16, LANES = 32 };

/* Bits of a quant in the first part of a tile, and above them. */
template <int TYPE>
HOST_DEVICE constexpr int low_bits()
{
    return TYPE == MTP_TYPE_Q8_0 ? 8 : TYPE == MTP_TYPE_Q2_K || TYPE == MTP_TYPE_Q3_K ? 2 : 4;
}
template <int TYPE>
HOST_DEVICE constexpr int high_bits()
{
    return TYPE == MTP_TYPE_Q6_K ? 2
           : TYPE == MTP_TYPE_Q3_K || TYPE == MTP_TYPE_Q5_K || TYPE == MTP_TYPE_Q5_0 ||
                   TYPE == MTP_TYPE_Q5_1 ? 1 : 0;
}

template <int TYPE>
struct tile {
    using type = format<TYPE>;
    static constexpr bool RAW = has_grid<TYPE>();
    static constexpr int SCALE_BYTES = TYPE == MTP_TYPE_IQ4_XS ? 8 : 16;                 /* class K */
    static constexpr int D_BYTES = TYPE == MTP_TYPE_MXFP4 ? 8 : type::CLASS_K ? 2 : 16; /* of a row */
    static constexpr int HIGH_AT = 16 * 256 * low_bits<TYPE>() / 8;
    static constexpr int SCALES_AT = HIGH_AT + 16 * 256 * high_bits<TYPE>() / 8;
    static constexpr int D_AT = SCALES_AT + (type::CLASS_K ? TILE_ROWS * SCALE_BYTES : 0);
    static constexpr int MIN_AT = D_AT + TILE_ROWS * D_BYTES;
    static constexpr int BYTES = RAW ? TILE_ROWS * type::BLOCK_BYTES
                                     : MIN_AT + (type::HAS_MIN ? TILE_ROWS * D_BYTES : 0);
    static_assert(BYTES % 16 == 0, "tiles are copied sixteen bytes at a time");
};

/* ---- reading --------------------------------------------------------------------------------- */

DEVICE uint32_t word_at(const uint8_t *at)
{
    return *(const uint32_t *)(const void *)at;
}
DEVICE uint2 pair_at(const uint8_t *at)
{
    return *(const uint2 *)(const void *)at;
}
DEVICE uint4 quad_at(const uint8_t *at)
{
    return *(const uint4 *)(const void *)at;
}

/* How far to the left of its value class S leaves a quant in its byte: the top bit, turned over, makes
 * q = stored - OFFSET of it, and the sum of products is divided by the power of two, exactly. */
template <int TYPE>
HOST_DEVICE constexpr int top_shift()
{
    return TYPE == MTP_TYPE_Q4_0 ? 4 : TYPE == MTP_TYPE_Q5_0 ? 3 : 0;
}

template <int TYPE>
DEVICE void low_fragment(const uint8_t *tile, int lane, int j, uint32_t a[4])
{
    if constexpr (low_bits<TYPE>() == 8) {
        uint4 quad = quad_at(tile + (j * LANES + lane) * 16);
        a[0] = quad.x, a[1] = quad.y, a[2] = quad.z, a[3] = quad.w;
    } else if constexpr (low_bits<TYPE>() == 2) {
        uint32_t word = word_at(tile + (j * LANES + lane) * 4);
        for (int r = 0; r < 4; r++)
            a[r] = word >> 2 * r & 0x03030303u;
    } else {
        uint2 pair = pair_at(tile + (j * LANES + lane) * 8);
        if constexpr (format<TYPE>::VALUES != NO_VALUES) {
            a[0] = values_of_nibbles(pair.x, format<TYPE>::VALUES);
            a[1] = values_of_nibbles(pair.x >> 16, format<TYPE>::VALUES);
            a[2] = values_of_nibbles(pair.y, format<TYPE>::VALUES);
            a[3] = values_of_nibbles(pair.y >> 16, format<TYPE>::VALUES);
        } else if constexpr (TYPE == MTP_TYPE_Q4_0) {
            a[0] = (pair.x << 4 & 0xf0f0f0f0u) ^ 0x80808080u;
            a[1] = (pair.x & 0xf0f0f0f0u) ^ 0x80808080u;
            a[2] = (pair.y << 4 & 0xf0f0f0f0u) ^ 0x80808080u;
            a[3] = (pair.y & 0xf0f0f0f0u) ^ 0x80808080u;
        } else {
            a[0] = pair.x & 0x0f0f0f0fu;
            a[1] = pair.x >> 4 & 0x0f0f0f0fu;
            a[2] = pair.y & 0x0f0f0f0fu;
            a[3] = pair.y >> 4 & 0x0f0f0f0fu;
        }
    }
}

/* Every byte of a word, `right` bits lower, and of those the lowest `bits`. */
DEVICE uint32_t bits_of_bytes(uint32_t word, int right, uint32_t bits)
{
    return word >> right & ((1u << bits) - 1) * 0x01010101u;
}

/* Words with bits above the low ones: six, five or three. */
template <int TYPE>
DEVICE void joined_fragment(const uint8_t *tile_at, int lane, int j, uint32_t a[4])
{
    const uint8_t *low = tile_at + (j * LANES + lane) * 2 * low_bits<TYPE>();
    const uint8_t *high = tile_at + tile<TYPE>::HIGH_AT;
    if constexpr (low_bits<TYPE>() == 2) {
        const uint32_t x = word_at(low), z = word_at(high + (j / 2 * LANES + lane) * 4);
        const int at = 4 * (j % 2);
        a[0] = bits_of_bytes(x, 0, 3);
        a[1] = bits_of_bytes(x, 3, 3);
        a[2] = bits_of_bytes(x, 6, 2) | (z >> (at + 1) & 0x04040404u);
        a[3] = bits_of_bytes(z, at, 3);
    } else if constexpr (high_bits<TYPE>() == 1) {
        const uint2 pair = pair_at(low);
        const uint32_t z = word_at(high + (j / 2 * LANES + lane) * 4);
        a[0] = bits_of_bytes(pair.x, 0, 5);
        a[1] = bits_of_bytes(pair.y, 0, 5);
        a[2] = bits_of_bytes(pair.x, 5, 3) | ((j % 2 == 0 ? z << 3 : z >> 1) & 0x18181818u);
        a[3] = bits_of_bytes(pair.y, 5, 3) | ((j % 2 == 0 ? z << 1 : z >> 3) & 0x18181818u);
    } else {
        const uint2 pair = pair_at(low);
        const uint32_t z = word_at(high + (j * LANES + lane) * 4);
        a[0] = bits_of_bytes(pair.x, 0, 6);
        a[1] = bits_of_bytes(pair.y, 0, 6);
        a[2] = bits_of_bytes(z, 0, 6);
        a[3] = bits_of_bytes(pair.x, 6, 2) | (pair.y >> 4 & 0x0c0c0c0cu) | (z >> 2 & 0x30303030u);
    }
}

/* The lane's four words of sub-block j: q, but class K leaves OFFSET in, and class S top_shift. */
template <int TYPE>
DEVICE void fragment(const uint8_t *tile_at, int lane, int j, uint32_t a[4])
{
    using shape = tile<TYPE>;
    if constexpr (shape::RAW) {
        const uint8_t *block = tile_at + lane / 4 * format<TYPE>::BLOCK_BYTES;
        struct eight g = grid_eight<TYPE>(block, 4 * j + lane % 4);
        struct eight g_8 = grid_eight<TYPE>(block + 8 * format<TYPE>::BLOCK_BYTES, 4 * j + lane % 4);
        a[0] = g.low, a[1] = g_8.low, a[2] = g.high, a[3] = g_8.high;
    } else {
        if constexpr (high_bits<TYPE>() > 0)
            joined_fragment<TYPE>(tile_at, lane, j, a);
        else
            low_fragment<TYPE>(tile_at, lane, j, a);
        if constexpr (TYPE == MTP_TYPE_Q5_0)
            for (int r = 0; r < 4; r++)
                a[r] = a[r] << 3 ^ 0x80808080u;
    }
}

/* A row's scale bytes of class K; for the types in the file's layout, where its block is. */
struct row_scales {
    uint32_t word[4];
    const uint8_t *block;
};

template <int TYPE>
DEVICE struct row_scales read_scales(const uint8_t *tile_at, int row)
{
    struct row_scales s;
    if constexpr (tile<TYPE>::RAW) {
        s.block = tile_at + row * format<TYPE>::BLOCK_BYTES;
    } else if constexpr (tile<TYPE>::SCALE_BYTES == 8 || TYPE == MTP_TYPE_Q4_K || TYPE == MTP_TYPE_Q5_K) {
        uint2 pair = pair_at(tile_at + tile<TYPE>::SCALES_AT + row * tile<TYPE>::SCALE_BYTES);
        s.word[0] = pair.x, s.word[1] = pair.y;
    } else {
        uint4 quad = quad_at(tile_at + tile<TYPE>::SCALES_AT + row * tile<TYPE>::SCALE_BYTES);
        s.word[0] = quad.x, s.word[1] = quad.y, s.word[2] = quad.z, s.word[3] = quad.w;
    }
    return s;
}

/* Scale s: of 16 elements or, where all are alike in pairs, of 32. */
template <int TYPE>
DEVICE int32_t scale_at(const struct row_scales &scales, int s)
{
    if constexpr (tile<TYPE>::RAW) {
        return scale_of_16<TYPE>(scales.block, format<TYPE>::SCALES_PER_16 ? s : 2 * s);
    } else {
        if (TYPE == MTP_TYPE_Q2_K)
            return (int32_t)(scales.word[s / 4] >> 8 * (s % 4) & 15);
        if (TYPE == MTP_TYPE_Q4_K || TYPE == MTP_TYPE_Q5_K)
            return (int32_t)byte_of_word(scales.word[s / 4], s % 4);
        return signed_byte_of_word(scales.word[s / 4], s % 4);
    }
}

/* Scales s and s + 1, s even, of a row, read by themselves. */
template <int TYPE>
DEVICE void scale_pair(const uint8_t *tile_at, int row, int s, uint32_t scale[2])
{
    if constexpr (tile<TYPE>::RAW) {
        const struct row_scales scales = read_scales<TYPE>(tile_at, row);
        scale[0] = (uint32_t)scale_at<TYPE>(scales, s);
        scale[1] = (uint32_t)scale_at<TYPE>(scales, s + 1);
    } else {
        struct row_scales pair;
        pair.word[0] =
            load_even_u16(tile_at + tile<TYPE>::SCALES_AT + row * tile<TYPE>::SCALE_BYTES + s);
        scale[0] = (uint32_t)scale_at<TYPE>(pair, 0);
        scale[1] = (uint32_t)scale_at<TYPE>(pair, 1);
    }
}

/* Four of a row's sixteen factors of bsum (minima or, with an OFFSET, scales), those of lane t = 0..3. */
template <int TYPE>
DEVICE uint32_t sum_factors(const uint8_t *tile_at, int row, int t)
{
    const uint8_t *bytes = tile_at + tile<TYPE>::SCALES_AT + row * 16;
    if (TYPE == MTP_TYPE_Q2_K)
        return word_at(bytes + 4 * t) >> 4 & 0x0f0f0f0fu;
    if (TYPE == MTP_TYPE_Q4_K || TYPE == MTP_TYPE_Q5_K)
        return pick_bytes(load_even_u16(bytes + 8 + 2 * t), 0, 0x1100);
    return word_at(bytes + 4 * t);
}

/* Class K: d and dmin of a row. */
template <int TYPE>
DEVICE float row_d(const uint8_t *tile_at, int row)
{
    if constexpr (tile<TYPE>::RAW)
        return block_d<TYPE>(tile_at + row * format<TYPE>::BLOCK_BYTES);
    else
        return half_to_float((uint16_t)load_even_u16(tile_at + tile<TYPE>::D_AT + 2 * row));
}
template <int TYPE>
DEVICE float row_min(const uint8_t *tile_at, int row)
{
    return half_to_float((uint16_t)load_even_u16(tile_at + tile<TYPE>::MIN_AT + 2 * row));
}

/* Class S: the eight d (or m) of a row. */
struct row_halves {
    uint32_t word[4];
};

template <int TYPE>
DEVICE struct row_halves read_halves(const uint8_t *tile_at, int row, bool minima)
{
    const uint8_t *at = tile_at + (minima ? tile<TYPE>::MIN_AT : tile<TYPE>::D_AT);
    struct row_halves h;
    if constexpr (TYPE == MTP_TYPE_MXFP4) {
        uint2 pair = pair_at(at + 8 * row);
        h.word[0] = pair.x, h.word[1] = pair.y;
    } else {
        uint4 quad = quad_at(at + 16 * row);
        h.word[0] = quad.x, h.word[1] = quad.y, h.word[2] = quad.z, h.word[3] = quad.w;
    }
    return h;
}

template <int TYPE>
DEVICE float half_of_sub(const struct row_halves &h, int j)
{
    if constexpr (TYPE == MTP_TYPE_MXFP4)
        return e8m0_half(h.word[j / 4] >> 8 * (j % 4) & 255);
    else
        return half_to_float((uint16_t)(h.word[j / 2] >> 16 * (j % 2)));
}

/* The d (or m) of one sub-block of a row. */
template <int TYPE>
DEVICE float half_of_row(const uint8_t *rows_at, int row, int sub)
{
    if constexpr (TYPE == MTP_TYPE_MXFP4)
        return e8m0_half(rows_at[8 * row + sub]);
    else
        return half_to_float((uint16_t)load_even_u16(rows_at + 16 * row + 2 * sub));
}
template <int TYPE>
DEVICE float sub_d(const uint8_t *tile_at, int row, int sub)
{
    return half_of_row<TYPE>(tile_at + tile<TYPE>::D_AT, row, sub);
}
template <int TYPE>
DEVICE float sub_min(const uint8_t *tile_at, int row, int sub)
{
    return half_of_row<TYPE>(tile_at + tile<TYPE>::MIN_AT, row, sub);
}

/* ---- writing ---------------------------------------------------------------------------------- */

/* The counterpart of joined_fragment; `above` is the word of four bits, which two sub-blocks share. */
template <int TYPE>
DEVICE void put_joined(uint8_t *tile_at, int lane, int j, const uint32_t a[4], uint32_t *above)
{
    uint32_t *low = (uint32_t *)(void *)(tile_at + (j * LANES + lane) * 2 * low_bits<TYPE>());
    uint32_t *high = (uint32_t *)(void *)(tile_at + tile<TYPE>::HIGH_AT);
    if constexpr (high_bits<TYPE>() == 2) {
        low[0] = a[0] | bits_of_bytes(a[3], 0, 2) << 6;
        low[1] = a[1] | bits_of_bytes(a[3], 2, 2) << 6;
        high[j * LANES + lane] = a[2] | bits_of_bytes(a[3], 4, 2) << 6;
        return;
    }
    uint32_t four;
    if constexpr (low_bits<TYPE>() == 2) {
        low[0] = a[0] | a[1] << 3 | bits_of_bytes(a[2], 0, 2) << 6;
        four = a[3] | bits_of_bytes(a[2], 2, 1) << 3;
    } else {
        low[0] = a[0] | bits_of_bytes(a[2], 0, 3) << 5;
        low[1] = a[1] | bits_of_bytes(a[3], 0, 3) << 5;
        four = bits_of_bytes(a[2], 3, 2) | bits_of_bytes(a[3], 3, 2) << 2;
    }
    *above = j % 2 == 0 ? four : *above | four << 4;
    if (j % 2 == 1)
        high[j / 2 * LANES + lane] = *above;
}

/* The stored quants of sub-block j in the lane's words, put where fragment() finds them. */
template <int TYPE>
DEVICE void put_fragment(uint8_t *tile_at, int lane, int j, const uint32_t a[4], uint32_t *above)
{
    if constexpr (high_bits<TYPE>() > 0) {
        put_joined<TYPE>(tile_at, lane, j, a, above);
        return;
    }
    uint8_t *low = tile_at + (j * LANES + lane) * 2 * low_bits<TYPE>();
    uint32_t *words = (uint32_t *)(void *)low;
    if constexpr (low_bits<TYPE>() == 8) {
        for (int r = 0; r < 4; r++)
            words[r] = a[r];
    } else if constexpr (low_bits<TYPE>() == 2) {
        words[0] = 0;
        for (int r = 0; r < 4; r++)
            words[0] |= (a[r] & 0x03030303u) << 2 * r;
    } else if constexpr (format<TYPE>::VALUES != NO_VALUES) {
        words[0] = nibbles_of(a[0]) | nibbles_of(a[1]) << 16;
        words[1] = nibbles_of(a[2]) | nibbles_of(a[3]) << 16;
    } else {
        words[0] = (a[0] & 0x0f0f0f0fu) | (a[1] & 0x0f0f0f0fu) << 4;
        words[1] = (a[2] & 0x0f0f0f0fu) | (a[3] & 0x0f0f0f0fu) << 4;
    }
}

/* Byte i of a row's scales as they lie in a tile. */
template <int TYPE>
DEVICE uint8_t scale_byte(const uint8_t *block, int i)
{
    if (TYPE == MTP_TYPE_Q2_K)
        return block[i];
    if (TYPE == MTP_TYPE_Q4_K || TYPE == MTP_TYPE_Q5_K)
        return (uint8_t)(i < 8 ? six_bit_scale(block + 4, i) : six_bit_min(block + 4, i - 8));
    return (uint8_t)scale_of_16<TYPE>(block, format<TYPE>::SCALES_PER_16 ? i : 2 * i);
}

/* Byte i of a row's d (of its minima's factors): of the block, or of the blocks one after another. */
template <int TYPE>
DEVICE uint8_t d_byte(const uint8_t *block, int i, bool minima)
{
    if (TYPE == MTP_TYPE_MXFP4)
        return block[i * format<TYPE>::BLOCK_BYTES];
    return block[i / 2 * format<TYPE>::BLOCK_BYTES + half_at<TYPE>() + (minima ? 2 : 0) + i % 2];
}

/* The scales and d of n_rows rows: bytes, each lane its own. */
template <int TYPE>
DEVICE void pack_scales(uint8_t *tile_at, int lane, const uint8_t *block, size_t row_bytes, int n_rows,
                        int n_sub)
{
    using shape = tile<TYPE>;
    if constexpr (format<TYPE>::CLASS_K)
        for (int i = lane; i < TILE_ROWS * shape::SCALE_BYTES; i += LANES) {
            int row = i / shape::SCALE_BYTES, at = i % shape::SCALE_BYTES;
            const uint8_t *from = block + (size_t)row * row_bytes;
            tile_at[shape::SCALES_AT + i] = row < n_rows ? scale_byte<TYPE>(from, at) : 0;
        }
    const int per_sub = shape::D_BYTES / 8; /* bytes of d a sub-block, class S */
    for (int i = lane; i < TILE_ROWS * shape::D_BYTES; i += LANES) {
        int row = i / shape::D_BYTES, at = i % shape::D_BYTES;
        bool there = row < n_rows && (format<TYPE>::CLASS_K || at < per_sub * n_sub);
        const uint8_t *from = block + (size_t)row * row_bytes;
        tile_at[shape::D_AT + i] = there ? d_byte<TYPE>(from, at, false) : 0;
        if (format<TYPE>::HAS_MIN)
            tile_at[shape::MIN_AT + i] = there ? d_byte<TYPE>(from, at, true) : 0;
    }
}

/* What one lane writes of a tile: rows are `row_bytes` apart from `block` on, `n_rows` of them are
 * there, and of the super-block n_sub sub-blocks. */
template <int TYPE>
DEVICE void pack_lane(uint8_t *tile_at, int lane, const uint8_t *block, size_t row_bytes, int n_rows,
                      int n_sub)
{
    if constexpr (tile<TYPE>::RAW) {
        for (int i = lane; i < tile<TYPE>::BYTES; i += LANES) {
            int row = i / format<TYPE>::BLOCK_BYTES;
            tile_at[i] = row < n_rows ? block[(size_t)row * row_bytes + i % format<TYPE>::BLOCK_BYTES] : 0;
        }
    } else {
        uint32_t above = 0;
        for (int j = 0; j < 8; j++) {
            struct eight rows[2] = {{0, 0}, {0, 0}};
            for (int k = 0; k < 2; k++)
                if (lane / 4 + 8 * k < n_rows && j < n_sub)
                    rows[k] = stored_eight<TYPE>(block + (size_t)(lane / 4 + 8 * k) * row_bytes,
                                                 4 * j + lane % 4);
            const uint32_t a[4] = {rows[0].low, rows[1].low, rows[0].high, rows[1].high};
            put_fragment<TYPE>(tile_at, lane, j, a, &above);
        }
        pack_scales<TYPE>(tile_at, lane, block, row_bytes, n_rows, n_sub);
    }
}

#endif
