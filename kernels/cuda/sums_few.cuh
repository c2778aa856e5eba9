/* sums_few.cuh - as sums.cuh, for one, two or four batch rows. The eight columns of an int8 product would
 * be empty but for those; here they are pieces of the rows instead: column c is piece c % PIECES of batch row
 * c / PIECES, so that one chain of products gives the sums of several sub-blocks side by side, and the lanes
 * share out what comes after. Of a product with one sub-block of weights only the columns of its pieces are
 * of use: the others are zeros, or a lane passes over them.
 *
 * A piece is a sub-block or, where scales are of 16, half of one. Chain a has the pieces a PIECES ..
 * (a + 1) PIECES - 1. Lane 4 g + t multiplies column g and gets columns 2 t and 2 t + 1 of the weight rows g
 * and g + 8: two neighbouring pieces of one batch row. */
#ifndef MTP_KERNELS_CUDA_SUMS_FEW_CUH
#define MTP_KERNELS_CUDA_SUMS_FEW_CUH

#include "kernels/cuda/sums.cuh"

template <int TYPE, int W>
struct few {
    static constexpr bool HALVES = in_halves<TYPE>();
    static constexpr int PIECES = 8 / W;
    static constexpr int CHAINS = (HALVES ? 16 : 8) / PIECES;
    static constexpr int SUBS = HALVES ? PIECES / 2 : PIECES; /* sub-blocks of a chain */
    static constexpr int LANES_OF_ROW = PIECES / 2;           /* neighbours that share its sums */

    /* The first of the lane's two pieces in chain a. */
    DEVICE static int piece(int lane, int a)
    {
        return a * PIECES + 2 * (lane % 4) % PIECES;
    }
};

/* What a lane needs of a super-block of the batch rows. APART: halves are read together with zeros. */
template <int TYPE, int W, bool APART>
struct few_inputs {
    uint2 q[few<TYPE, W>::CHAINS];
    uint2 sums; /* of column g's row: four bsum, 4 t .. 4 t + 3 */
    uint2 mul;  /* of the results' row, as d and value */
    float d;
    struct row_at value;

    /* row: column g's, the results'; halves: the column's. */
    DEVICE void load(const struct row_at row[2], const struct halves_at &halves, int lane)
    {
        using shape = few<TYPE, W>;
        const int column = lane / 4, t = lane % 4;
        const uint8_t *quants = APART ? halves.half[0] : row[0].quants;
#pragma unroll
        for (int a = 0; a < shape::CHAINS; a++) {
            q[a] = input_quants(quants + 32 * (column % shape::PIECES / (shape::HALVES ? 2 : 1)),
                                a * shape::SUBS, t);
            if (shape::HALVES && !APART && column % 2 != t / 2)
                q[a] = make_uint2(0, 0);
        }
        if (format<TYPE>::CLASS_K && (format<TYPE>::HAS_MIN || format<TYPE>::OFFSET != 0))
            sums = input_sums(row[0], t);
        const uint4 scales = quad_at(row[1].scales);
        mul = make_uint2(scales.x, scales.y);
        d = bits_to_float(scales.z);
        value = row[1];
    }
};

/* multiply_pieces by choice: a chain's sub-blocks multiply whole columns, and each lane takes the sums of its
 * own two pieces. */
template <int TYPE, int W, class INPUTS>
DEVICE void choose_pieces(const uint8_t *tile_at, int lane, const INPUTS &in,
                          int32_t c[few<TYPE, W>::CHAINS][4])
{
    using shape = few<TYPE, W>;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const int chain = j / shape::SUBS, sub = j % shape::SUBS;
        uint32_t a[4];
        int32_t sums[4];
        fragment<TYPE>(tile_at, lane, j, a);
        mma_32(sums, a, in.q[chain]);
        const bool own = sub / 2 == shape::piece(lane, 0) / 2;
#pragma unroll
        for (int r = 0; r < 2; r++)
            if (sub < 2 || own)
                c[chain][2 * r + sub % 2] = sums[2 * r + sub % 2];
    }
}

/* The sums of products of all pieces: c[a][2 r + i] is piece + i of chain a, weight row g + 8 r. */
template <int TYPE, int W, class INPUTS>
DEVICE void multiply_pieces(const uint8_t *tile_at, int lane, const INPUTS &in,
                            int32_t c[few<TYPE, W>::CHAINS][4])
{
    using shape = few<TYPE, W>;
    if constexpr (!shape::HALVES && W > 1) {
        choose_pieces<TYPE, W>(tile_at, lane, in, c);
        return;
    }
    const int column_sub = lane / 4 % shape::PIECES / (shape::HALVES ? 2 : 1);
#pragma unroll
    for (int a = 0; a < shape::CHAINS; a++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            c[a][i] = 0;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const int chain = j / shape::SUBS;
        const bool there = shape::SUBS == 1 || column_sub == j % shape::SUBS;
        uint32_t a[4];
        fragment<TYPE>(tile_at, lane, j, a);
        mma_32_add(c[chain], a, make_uint2(there ? in.q[chain].x : 0, there ? in.q[chain].y : 0));
    }
}

/* Multipliers of the lane's sub-blocks: of sub-block j, where j may differ between lanes, and j + 1. */
DEVICE uint32_t multiplier_of_lane(uint2 mul, int j)
{
    return pick_bytes(mul.x, mul.y, (uint32_t)j) & 255;
}

template <int TYPE, int W, bool KEPT>
struct few_sums_k {
    using inputs = struct few_inputs<TYPE, W, KEPT && in_halves<TYPE>()>;
    float sum[2]; /* weight rows g and g + 8, batch row 2 t / PIECES */

    DEVICE void clear()
    {
        sum[0] = sum[1] = 0.0f;
    }

    /* Of weight row g + 8 r: scale * mul * (sum of q x) of the lane's pieces, then of all. */
    DEVICE static uint32_t scaled(const uint8_t *tile_at, int lane, int r, const inputs &in,
                                  const int32_t c[few<TYPE, W>::CHAINS][4])
    {
        using shape = few<TYPE, W>;
        uint32_t total = 0;
#pragma unroll
        for (int a = 0; a < shape::CHAINS; a++) {
            const int piece = shape::piece(lane, a);
            uint32_t scale[2];
            scale_pair<TYPE>(tile_at, lane / 4 + 8 * r, piece, scale);
            const uint32_t first = scale[0] * (uint32_t)c[a][2 * r];
            const uint32_t second = scale[1] * (uint32_t)c[a][2 * r + 1];
            if (shape::HALVES)
                total += multiplier_of_lane(in.mul, piece / 2) * (first + second);
            else
                total += multiplier_of_lane(in.mul, piece) * first +
                         multiplier_of_lane(in.mul, piece + 1) * second;
        }
#pragma unroll
        for (int distance = 1; distance < shape::LANES_OF_ROW; distance *= 2)
            total += __shfl_xor_sync(~0u, total, distance);
        return total;
    }

    DEVICE void add(const uint8_t *tile_at, int lane, int n_sub, const inputs &in)
    {
        (void)n_sub;
        constexpr bool has_factors = format<TYPE>::HAS_MIN || format<TYPE>::OFFSET != 0;
        int32_t c[few<TYPE, W>::CHAINS][4];
        multiply_pieces<TYPE, W>(tile_at, lane, in, c);
        uint32_t with_sums[4] = {0, 0, 0, 0};
        if constexpr (has_factors) {
            const uint32_t factors[2] = {sum_factors<TYPE>(tile_at, lane / 4, lane % 4),
                                         sum_factors<TYPE>(tile_at, lane / 4 + 8, lane % 4)};
            multiply_sums(factors, in.sums, with_sums);
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int row = lane / 4 + 8 * r;
            uint32_t total = scaled(tile_at, lane, r, in, c);
            if (!format<TYPE>::HAS_MIN)
                total -= (uint32_t)format<TYPE>::OFFSET * with_sums[2 * r];
            sum[r] = __fmaf_rn(__fmul_rn(row_d<TYPE>(tile_at, row), in.d), __int2float_rn((int32_t)total),
                               sum[r]);
            if constexpr (format<TYPE>::HAS_MIN)
                sum[r] = __fmaf_rn(-__fmul_rn(row_min<TYPE>(tile_at, row), in.d),
                                   __int2float_rn((int32_t)with_sums[2 * r]), sum[r]);
        }
    }

    /* Puts the lane's sums at [batch row][weight row]. */
    DEVICE void put(float *parts, int lane) const
    {
        const int t = lane % 4, column = t / few<TYPE, W>::LANES_OF_ROW;
        if (t % few<TYPE, W>::LANES_OF_ROW != 0)
            return;
        parts[column * PARTS_STRIDE + lane / 4] = sum[0];
        parts[column * PARTS_STRIDE + lane / 4 + 8] = sum[1];
    }
};

template <int TYPE, int W>
struct few_sums_s {
    using inputs = struct few_inputs<TYPE, W, false>;
    float partial[few<TYPE, W>::CHAINS][4]; /* as the sums of multiply_pieces */

    DEVICE void clear()
    {
#pragma unroll
        for (int i = 0; i < 4 * few<TYPE, W>::CHAINS; i++)
            partial[i / 4][i % 4] = 0.0f;
    }

    DEVICE void add(const uint8_t *tile_at, int lane, int n_sub, const inputs &in)
    {
        using shape = few<TYPE, W>;
        int32_t c[shape::CHAINS][4];
        multiply_pieces<TYPE, W>(tile_at, lane, in, c);
#pragma unroll
        for (int k = 0; k < 4 * shape::CHAINS; k++) {
            const int a = k / 4, r = k % 4 / 2, i = k % 2;
            const int sub = shape::piece(lane, a) + i, row = lane / 4 + 8 * r;
            if (sub >= n_sub)
                continue;
            float *p = &partial[a][k % 4];
            int32_t s = (int32_t)multiplier_of_lane(in.mul, sub) * c[a][k % 4] >> top_shift<TYPE>();
            *p = __fmaf_rn(__fmul_rn(sub_d<TYPE>(tile_at, row, sub), in.d), __int2float_rn(s), *p);
            if constexpr (format<TYPE>::HAS_MIN) {
                *p = __fmaf_rn(__fmul_rn(sub_min<TYPE>(tile_at, row, sub), in.d),
                               __int2float_rn(input_sum_of_32(in.value, sub)), *p);
            }
        }
    }

    /* ((0+1)+(2+3))+((4+5)+(6+7)) of weight row g + 8 r: a lane has neighbours, and of those pairs the
     * nearer lie in lanes, the others in chains. */
    DEVICE float folded(int r) const
    {
        constexpr int n = few<TYPE, W>::CHAINS;
        float v[n];
#pragma unroll
        for (int a = 0; a < n; a++) {
            v[a] = __fadd_rn(partial[a][2 * r], partial[a][2 * r + 1]);
#pragma unroll
            for (int distance = 1; distance < few<TYPE, W>::LANES_OF_ROW; distance *= 2)
                v[a] = __fadd_rn(v[a], __shfl_xor_sync(~0u, v[a], distance));
        }
#pragma unroll
        for (int half = 1; half < n; half *= 2)
#pragma unroll
            for (int a = 0; a < n; a += 2 * half)
                v[a] = __fadd_rn(v[a], v[a + half]);
        return v[0];
    }

    DEVICE void put(float *parts, int lane) const
    {
        const int t = lane % 4, column = t / few<TYPE, W>::LANES_OF_ROW;
        const float first = folded(0), second = folded(1);
        if (t % few<TYPE, W>::LANES_OF_ROW != 0)
            return;
        parts[column * PARTS_STRIDE + lane / 4] = first;
        parts[column * PARTS_STRIDE + lane / 4 + 8] = second;
    }
};

#endif
