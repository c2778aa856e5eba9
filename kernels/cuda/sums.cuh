/* sums.cuh - what a lane adds up while its warp goes through a segment: class K and class S of
 * docs/arithmetic.md, for tiles of sixteen weight rows and NT times eight batch rows.
 *
 * Lane 4 g + t has the weight rows g and g + 8 and, of each eight batch rows, 2 t and 2 t + 1: value i
 * is row g + 8 (i / 2), batch row 2 t + i % 2. Integer sums wrap around; docs/arithmetic.md bounds the
 * whole ones. */
#ifndef MTP_KERNELS_CUDA_SUMS_CUH
#define MTP_KERNELS_CUDA_SUMS_CUH

#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/tile.cuh"

enum { PARTS_STRIDE = 20 }; /* from one batch row's sixteen sums to the next one's: other banks */

/* Whether the quants are read before the tile they are multiplied with has arrived: class S has no
 * registers left for that with sixteen batch rows. */
template <int TYPE, int NT>
HOST_DEVICE constexpr bool reads_early()
{
    return format<TYPE>::CLASS_K || NT == 1;
}

/* Where the two parts of an act_block lie: in global memory as they are, in shared memory apart. */
struct row_at {
    const uint8_t *quants; /* q, bsum */
    const uint8_t *scales; /* mul, d */
};
enum { QUANTS_BYTES = 288, SCALES_BYTES = 16 };
static_assert(offsetof(struct act_block, bsum) == SUPER_BLOCK &&
                  offsetof(struct act_block, mul) == QUANTS_BYTES &&
                  offsetof(struct act_block, d) == QUANTS_BYTES + 8,
              "activations are read by these offsets");
DEVICE struct row_at row_of_block(const struct act_block *block)
{
    const uint8_t *at = (const uint8_t *)(const void *)block;
    return {at, at + QUANTS_BYTES};
}

/* Where a lane finds the quants of row g as the first and as the second halves of sub-blocks, with zeros for
 * the other half. */
struct halves_at {
    const uint8_t *half[2];
};

DEVICE uint2 input_quants(const uint8_t *quants, int j, int t)
{
    return pair_at(quants + 32 * j + 8 * t);
}
DEVICE uint2 input_sums(const struct row_at &row, int t)
{
    return pair_at(row.quants + SUPER_BLOCK + 8 * t);
}
DEVICE int32_t input_sum_of_32(const struct row_at &row, int j)
{
    const int16_t *bsum = (const int16_t *)(const void *)(row.quants + SUPER_BLOCK) + 2 * j;
    return bsum[0] + bsum[1];
}

/* Whether products of the two halves of a sub-block are scaled apart. */
template <int TYPE>
HOST_DEVICE constexpr bool in_halves()
{
    return format<TYPE>::CLASS_K && format<TYPE>::SCALES_PER_16;
}

/* A super-block of the batch rows a lane needs: of row g the quants it multiplies, of rows 2 t and
 * 2 t + 1 the scales. APART: the quants are read as halves, when they are needed. */
template <int TYPE, int NT, bool APART>
struct lane_inputs {
    uint2 q[NT][8];
    uint2 sums[NT]; /* of row g: four bsum, 4 t .. 4 t + 3 */
    uint2 mul[NT][2];
    float d[NT][2];
    struct row_at of_row[NT], of_value[NT][2];
    struct halves_at halves;

    /* row[3 nt] is row g's, row[3 nt + 1 + i] that of row 2 t + i. */
    DEVICE void load(const struct row_at row[3 * NT], const struct halves_at &at, int lane)
    {
        const int t = lane % 4;
        halves = at;
#pragma unroll
        for (int nt = 0; nt < NT; nt++) {
            of_row[nt] = row[3 * nt];
            if (reads_early<TYPE, NT>() && !APART)
#pragma unroll
                for (int j = 0; j < 8; j++)
                    q[nt][j] = input_quants(of_row[nt].quants, j, t);
            if (format<TYPE>::CLASS_K && (format<TYPE>::HAS_MIN || format<TYPE>::OFFSET != 0))
                sums[nt] = input_sums(of_row[nt], t);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                of_value[nt][i] = row[3 * nt + 1 + i];
                const uint4 scales = quad_at(of_value[nt][i].scales);
                mul[nt][i] = make_uint2(scales.x, scales.y);
                d[nt][i] = bits_to_float(scales.z);
            }
        }
    }

    /* Half h of sub-block j, zeros for the other. */
    DEVICE uint2 half(int nt, int j, int h, int t) const
    {
        if constexpr (APART)
            return input_quants(halves.half[h], j, t);
        const uint32_t mask = t / 2 == h ? ~0u : 0u;
        return make_uint2(q[nt][j].x & mask, q[nt][j].y & mask);
    }
};

/* factors[16] of two rows times bsum[16], whose bytes are multiplied one by one. */
DEVICE void multiply_sums(const uint32_t factors[2], uint2 sums, uint32_t out[4])
{
    int32_t low[4], high[4];
    mma_16_unsigned(low, factors[0], factors[1], pick_bytes(sums.x, sums.y, 0x6420));
    mma_16(high, factors[0], factors[1], pick_bytes(sums.x, sums.y, 0x7531));
#pragma unroll
    for (int i = 0; i < 4; i++)
        out[i] = 256u * (uint32_t)high[i] + (uint32_t)low[i];
}

/* Puts a lane's sums at [batch row][weight row]. */
template <int NT, class SUMS>
DEVICE void put_sums(const SUMS &sums, float *parts, int lane)
{
#pragma unroll
    for (int nt = 0; nt < NT; nt++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int column = 8 * nt + 2 * (lane % 4) + i % 2, row = lane / 4 + 8 * (i / 2);
            parts[column * PARTS_STRIDE + row] = sums.result(nt, i);
        }
}

DEVICE uint32_t multiplier(uint2 mul, int j)
{
    return byte_of_word(j < 4 ? mul.x : mul.y, j % 4);
}

template <int TYPE, int NT, bool KEPT>
struct sums_k {
    using inputs = struct lane_inputs<TYPE, NT, KEPT && in_halves<TYPE>()>;
    float sum[NT][4];

    DEVICE void clear()
    {
#pragma unroll
        for (int i = 0; i < 4 * NT; i++)
            sum[i / 4][i % 4] = 0.0f;
    }

    /* total += scale * mul * (sum of q x) for sub-block j, or for its halves. */
    DEVICE static void add_sub_block(const uint8_t *tile_at, int lane, int j,
                                     const struct row_scales scales[2],
                                     const inputs &in, uint32_t total[NT][4])
    {
        constexpr int HALVES = in_halves<TYPE>() ? 2 : 1;
        uint32_t a[4];
        fragment<TYPE>(tile_at, lane, j, a);
#pragma unroll
        for (int nt = 0; nt < NT; nt++) {
            uint32_t scaled[4] = {0, 0, 0, 0};
#pragma unroll
            for (int h = 0; h < HALVES; h++) {
                int32_t c[4];
                mma_32(c, a, HALVES == 2 ? in.half(nt, j, h, lane % 4) : in.q[nt][j]);
#pragma unroll
                for (int i = 0; i < 4; i++)
                    scaled[i] += (uint32_t)scale_at<TYPE>(scales[i / 2], HALVES * j + h) * (uint32_t)c[i];
            }
#pragma unroll
            for (int i = 0; i < 4; i++)
                total[nt][i] += multiplier(in.mul[nt][i % 2], j) * scaled[i];
        }
    }

    DEVICE void add(const uint8_t *tile_at, int lane, int n_sub, const inputs &in)
    {
        (void)n_sub;
        const int g = lane / 4, t = lane % 4;
        constexpr bool has_factors = format<TYPE>::HAS_MIN || format<TYPE>::OFFSET != 0;
        const struct row_scales scales[2] = {read_scales<TYPE>(tile_at, g),
                                             read_scales<TYPE>(tile_at, g + 8)};
        uint32_t total[NT][4] = {}, factors[2] = {0, 0};
#pragma unroll
        for (int j = 0; j < 8; j++)
            add_sub_block(tile_at, lane, j, scales, in, total);
        float d[2], min[2] = {0.0f, 0.0f};
#pragma unroll
        for (int r = 0; r < 2; r++) {
            d[r] = row_d<TYPE>(tile_at, g + 8 * r);
            if constexpr (format<TYPE>::HAS_MIN)
                min[r] = row_min<TYPE>(tile_at, g + 8 * r);
            if constexpr (has_factors)
                factors[r] = sum_factors<TYPE>(tile_at, g + 8 * r, t);
        }
#pragma unroll
        for (int nt = 0; nt < NT; nt++) {
            uint32_t with_sums[4] = {0, 0, 0, 0};
            if (has_factors)
                multiply_sums(factors, in.sums[nt], with_sums);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float x_d = in.d[nt][i % 2], *s = &sum[nt][i];
                if (!format<TYPE>::HAS_MIN)
                    total[nt][i] -= (uint32_t)format<TYPE>::OFFSET * with_sums[i];
                *s = __fmaf_rn(__fmul_rn(d[i / 2], x_d), __int2float_rn((int32_t)total[nt][i]), *s);
                if (format<TYPE>::HAS_MIN)
                    *s = __fmaf_rn(-__fmul_rn(min[i / 2], x_d), __int2float_rn((int32_t)with_sums[i]),
                                   *s);
            }
        }
    }

    DEVICE float result(int nt, int i) const
    {
        return sum[nt][i];
    }
    DEVICE void put(float *parts, int lane) const
    {
        put_sums<NT>(*this, parts, lane);
    }
};

template <int TYPE, int NT>
struct sums_s {
    using inputs = struct lane_inputs<TYPE, NT, false>;
    float partial[NT][4][8];

    DEVICE void clear()
    {
#pragma unroll
        for (int i = 0; i < 32 * NT; i++)
            partial[i / 32][i / 8 % 4][i % 8] = 0.0f;
    }

    DEVICE void add_sub_block(const uint8_t *tile_at, int lane, int j, const float d[2],
                              const float min[2], const inputs &in)
    {
        uint32_t a[4];
        fragment<TYPE>(tile_at, lane, j, a);
#pragma unroll
        for (int nt = 0; nt < NT; nt++) {
            int32_t c[4];
            if (reads_early<TYPE, NT>())
                mma_32(c, a, in.q[nt][j]);
            else
                mma_32(c, a, input_quants(in.of_row[nt].quants, j, lane % 4));
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float x_d = in.d[nt][i % 2], *p = &partial[nt][i][j];
                int32_t sum = (int32_t)multiplier(in.mul[nt][i % 2], j) * c[i] >> top_shift<TYPE>();
                *p = __fmaf_rn(__fmul_rn(d[i / 2], x_d), __int2float_rn(sum), *p);
                if (format<TYPE>::HAS_MIN) {
                    const int32_t bsum = input_sum_of_32(in.of_value[nt][i % 2], j);
                    *p = __fmaf_rn(__fmul_rn(min[i / 2], x_d), __int2float_rn(bsum), *p);
                }
            }
        }
    }

    DEVICE void add(const uint8_t *tile_at, int lane, int n_sub, const inputs &in)
    {
        struct row_halves d[2], m[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            d[r] = read_halves<TYPE>(tile_at, lane / 4 + 8 * r, false);
            if (format<TYPE>::HAS_MIN)
                m[r] = read_halves<TYPE>(tile_at, lane / 4 + 8 * r, true);
        }
#pragma unroll
        for (int j = 0; j < 8; j++) {
            if (j >= n_sub)
                continue;
            float d_j[2], m_j[2] = {0.0f, 0.0f};
#pragma unroll
            for (int r = 0; r < 2; r++) {
                d_j[r] = half_of_sub<TYPE>(d[r], j);
                if (format<TYPE>::HAS_MIN)
                    m_j[r] = half_of_sub<TYPE>(m[r], j);
            }
            add_sub_block(tile_at, lane, j, d_j, m_j, in);
        }
    }

    DEVICE float result(int nt, int i) const
    {
        return fold_eight(partial[nt][i]);
    }
    DEVICE void put(float *parts, int lane) const
    {
        put_sums<NT>(*this, parts, lane);
    }
};

#endif
