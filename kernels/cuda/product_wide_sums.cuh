/* product_wide_sums.cuh - what a warp adds up for M sixteens of weight rows and N eights of batch rows
 * while its block goes through the super-blocks (product_wide.cuh): class K and class S of
 * docs/arithmetic.md.
 *
 * Integers pass to floats without a conversion: a sum of products starts at BIAS, the bits of the float
 * 1.5 * 2^23, so that its own bits are those of 1.5 * 2^23 plus the sum. Multiplied and moved back into
 * that window by one fma, which is exact while the result stays under 2^22, they are an integer again,
 * plus BIAS. So a sub-block costs an output one float and one integer operation, which different units
 * of the processor do. */
#ifndef MTP_KERNELS_CUDA_PRODUCT_WIDE_SUMS_CUH
#define MTP_KERNELS_CUDA_PRODUCT_WIDE_SUMS_CUH

#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/tile.cuh"

/* A batch row's super-block in shared memory: the quants, then multipliers and d; the sums elsewhere. The
 * stride lets eight rows be read without a conflict. */
enum { INPUT_STRIDE = 288, INPUT_MUL = 256, INPUT_D = 264, INPUT_SUMS = 32 };

static constexpr uint32_t BIAS = 0x4b400000u;
static constexpr float WINDOW = 12582912.0f; /* its value */

/* One super-block of the warp's rows, in shared memory. */
struct wide_view {
    const uint8_t *tiles;      /* M of them */
    const uint8_t *inputs;     /* [8 N] of INPUT_STRIDE */
    const uint8_t *sums;       /* [8 N] of INPUT_SUMS */
    const float *multipliers;  /* [8][stride] */
    int stride, lane, n_sub;
};

/* Whether multiplier times a sum of products of a sub-block stays under 2^22. */
template <int TYPE>
HOST_DEVICE constexpr bool fits_window()
{
    return format<TYPE>::VALUES == NO_VALUES;
}

/* A multiplier as the sums want it: as a float (class S: less the power of two that top_shift names), or
 * as the bits of an integer where fits_window is not so. */
template <int TYPE>
DEVICE float wide_multiplier(uint32_t mul)
{
    if (format<TYPE>::CLASS_K && !fits_window<TYPE>())
        return bits_to_float(mul);
    float value = __fadd_rn(bits_to_float(0x4b000000u | mul), -8388608.0f);
    return __fmul_rn(value, 1.0f / (float)(1 << top_shift<TYPE>()));
}

/* The batch rows a lane multiplies with: of each eight, quants of row g, multipliers of 2 t and 2 t + 1. */
template <int N>
struct wide_inputs {
    uint2 q[N];
    float mul[N][2], back[N][2]; /* back: what leads mul * (WINDOW + c) to `window` + mul * c */
};

template <int N>
DEVICE void load_sub_block(const struct wide_view &v, int j, float window, struct wide_inputs<N> *in)
{
    const int g = v.lane / 4, t = v.lane % 4;
#pragma unroll
    for (int n = 0; n < N; n++) {
        in->q[n] = pair_at(v.inputs + (8 * n + g) * INPUT_STRIDE + 32 * j + 8 * t);
        const float2 mul = *(const float2 *)(const void *)(v.multipliers + j * v.stride + 8 * n + 2 * t);
        in->mul[n][0] = mul.x, in->mul[n][1] = mul.y;
#pragma unroll
        for (int i = 0; i < 2; i++)
            in->back[n][i] = __fmaf_rn(-in->mul[n][i], WINDOW, window);
    }
}

DEVICE float input_d(const struct wide_view &v, int n, int i)
{
    const uint8_t *row = v.inputs + (8 * n + 2 * (v.lane % 4) + i) * INPUT_STRIDE;
    return bits_to_float(word_at(row + INPUT_D));
}

/* Scale s of a row (scale_at), from the tile. */
template <int TYPE>
DEVICE uint32_t wide_scale(const uint8_t *tile_at, int row, int s)
{
    uint8_t byte = tile_at[tile<TYPE>::SCALES_AT + row * tile<TYPE>::SCALE_BYTES + s];
    if (TYPE == MTP_TYPE_Q2_K)
        return byte & 15;
    if (TYPE == MTP_TYPE_Q4_K || TYPE == MTP_TYPE_Q5_K)
        return byte;
    return (uint32_t)(int32_t)(int8_t)byte;
}

template <int TYPE, int M, int N>
struct wide_sums_k {
    static constexpr int OUTPUTS = 4 * M * N;
    static constexpr bool PER_16 = format<TYPE>::SCALES_PER_16, FLOATS = fits_window<TYPE>();
    float sum[M][N][4];

    DEVICE void clear()
    {
#pragma unroll
        for (int i = 0; i < OUTPUTS; i++)
            sum[i / (4 * N)][i / 4 % N][i % 4] = 0.0f;
    }
    DEVICE void take(float out[OUTPUTS])
    {
#pragma unroll
        for (int i = 0; i < OUTPUTS; i++)
            out[i] = sum[i / (4 * N)][i / 4 % N][i % 4];
    }

    /* total += scale * mul * (a q) for the four values of a lane. */
    DEVICE static void add_products(const uint32_t a[4], uint2 q, const float mul[2], const float back[2],
                                    const uint32_t scale[2], uint32_t total[4])
    {
        int32_t c[4];
        mma_32_from(FLOATS ? (int32_t)BIAS : 0, c, a, q);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float m = mul[i % 2];
            uint32_t product = FLOATS
                ? float_to_bits(__fmaf_rn(m, bits_to_float((uint32_t)c[i]), back[i % 2]))
                : float_to_bits(m) * (uint32_t)c[i];
            total[i] += scale[i / 2] * product;
        }
    }

    DEVICE static void add_sub_block(const struct wide_view &v, int j, uint32_t total[M][N][4])
    {
        const uint32_t first_half = v.lane % 4 < 2 ? ~0u : 0u;
        struct wide_inputs<N> in;
        load_sub_block<N>(v, j, WINDOW, &in);
#pragma unroll
        for (int m = 0; m < M; m++) {
            const uint8_t *at = v.tiles + m * tile<TYPE>::BYTES;
            uint32_t a[4], scale[2][2];
            fragment<TYPE>(at, v.lane, j, a);
#pragma unroll
            for (int r = 0; r < 2; r++)
#pragma unroll
                for (int half = 0; half <= PER_16; half++)
                    scale[half][r] =
                        wide_scale<TYPE>(at, v.lane / 4 + 8 * r, PER_16 ? 2 * j + half : j);
#pragma unroll
            for (int n = 0; n < N; n++) {
                const uint2 q = in.q[n];
                if (!PER_16) {
                    add_products(a, q, in.mul[n], in.back[n], scale[0], total[m][n]);
                    continue;
                }
                add_products(a, make_uint2(q.x & first_half, q.y & first_half), in.mul[n], in.back[n],
                             scale[0], total[m][n]);
                add_products(a, make_uint2(q.x & ~first_half, q.y & ~first_half), in.mul[n], in.back[n],
                             scale[1], total[m][n]);
            }
        }
    }

    /* What the totals start at: less the BIAS that every product brings along. */
    DEVICE static uint32_t total_start(const uint8_t *tile_at, int row)
    {
        const uint8_t *at = tile_at + tile<TYPE>::SCALES_AT + row * tile<TYPE>::SCALE_BYTES;
        uint32_t scales = 0;
#pragma unroll
        for (int i = 0; i < (PER_16 ? 4 : 2); i++) {
            uint32_t word = word_at(at + 4 * i);
            scales = (uint32_t)__dp4a((int)(TYPE == MTP_TYPE_Q2_K ? word & 0x0f0f0f0fu : word), 0x01010101,
                                      (int)scales);
        }
        return FLOATS ? 0u - BIAS * scales : 0u;
    }

    /* factors[16] of two rows times bsum[16], whose bytes are multiplied one by one. */
    DEVICE static void multiply_sums(const uint32_t factors[2], uint2 sums, uint32_t out[4])
    {
        int32_t low[4], high[4];
        mma_16_unsigned(low, factors[0], factors[1], pick_bytes(sums.x, sums.y, 0x6420));
        mma_16(high, factors[0], factors[1], pick_bytes(sums.x, sums.y, 0x7531));
#pragma unroll
        for (int i = 0; i < 4; i++)
            out[i] = 256u * (uint32_t)high[i] + (uint32_t)low[i];
    }

    /* The floats of a super-block: sums of one sixteen. */
    DEVICE static void add_floats(const struct wide_view &v, const uint8_t *tile_at,
                                  uint32_t total[N][4], float s[N][4])
    {
        const int g = v.lane / 4, t = v.lane % 4;
        float d[2], min[2] = {0.0f, 0.0f};
        uint32_t factors[2] = {0, 0};
#pragma unroll
        for (int r = 0; r < 2; r++) {
            d[r] = row_d<TYPE>(tile_at, g + 8 * r);
            if constexpr (format<TYPE>::HAS_MIN)
                min[r] = row_min<TYPE>(tile_at, g + 8 * r);
            if constexpr (format<TYPE>::HAS_MIN || format<TYPE>::OFFSET != 0)
                factors[r] = sum_factors<TYPE>(tile_at, g + 8 * r, t);
        }
#pragma unroll
        for (int n = 0; n < N; n++) {
            uint32_t sums[4] = {0, 0, 0, 0};
            if (format<TYPE>::HAS_MIN || format<TYPE>::OFFSET != 0)
                multiply_sums(factors, pair_at(v.sums + (8 * n + g) * INPUT_SUMS + 8 * t), sums);
            const float x_d[2] = {input_d(v, n, 0), input_d(v, n, 1)};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (!format<TYPE>::HAS_MIN)
                    total[n][i] -= (uint32_t)format<TYPE>::OFFSET * sums[i];
                s[n][i] = __fmaf_rn(__fmul_rn(d[i / 2], x_d[i % 2]),
                                    __int2float_rn((int32_t)total[n][i]), s[n][i]);
                if (format<TYPE>::HAS_MIN)
                    s[n][i] = __fmaf_rn(-__fmul_rn(min[i / 2], x_d[i % 2]),
                                        __int2float_rn((int32_t)sums[i]), s[n][i]);
            }
        }
    }

    DEVICE void add(const struct wide_view &v)
    {
        uint32_t total[M][N][4];
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                uint32_t start = total_start(v.tiles + m * tile<TYPE>::BYTES, v.lane / 4 + 8 * r);
#pragma unroll
                for (int i = 0; i < 2 * N; i++)
                    total[m][i / 2][2 * r + i % 2] = start;
            }
#pragma unroll 2
        for (int j = 0; j < 8; j++)
            add_sub_block(v, j, total);
#pragma unroll
        for (int m = 0; m < M; m++)
            add_floats(v, v.tiles + m * tile<TYPE>::BYTES, total[m], sum[m]);
    }
};

/* M is 1: the eight partials of a segment leave no room for more. */
template <int TYPE, int M, int N>
struct wide_sums_s {
    static constexpr int OUTPUTS = 4 * N;
    static_assert(M == 1, "one sixteen a warp");
    float partial[N][4][8];

    DEVICE void clear()
    {
#pragma unroll
        for (int i = 0; i < 8 * OUTPUTS; i++)
            partial[i / 32][i / 8 % 4][i % 8] = 0.0f;
    }
    DEVICE void take(float out[OUTPUTS])
    {
#pragma unroll
        for (int i = 0; i < OUTPUTS; i++)
            out[i] = fold_eight(partial[i / 4][i % 4]);
    }

    DEVICE void add_sub_block(const struct wide_view &v, int j, const float d[2], const float min[2])
    {
        struct wide_inputs<N> in;
        uint32_t a[4];
        load_sub_block<N>(v, j, 0.0f, &in);
        fragment<TYPE>(v.tiles, v.lane, j, a);
#pragma unroll
        for (int n = 0; n < N; n++) {
            int32_t c[4];
            mma_32_from((int32_t)BIAS, c, a, in.q[n]);
            const float x_d[2] = {input_d(v, n, 0), input_d(v, n, 1)};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float *p = &partial[n][i][j];
                float sum = __fmaf_rn(in.mul[n][i % 2], bits_to_float((uint32_t)c[i]), in.back[n][i % 2]);
                *p = __fmaf_rn(__fmul_rn(d[i / 2], x_d[i % 2]), sum, *p);
                if (format<TYPE>::HAS_MIN) {
                    const uint8_t *sums = v.sums + (8 * n + 2 * (v.lane % 4) + i % 2) * INPUT_SUMS;
                    const int16_t *bsum = (const int16_t *)(const void *)sums + 2 * j;
                    *p = __fmaf_rn(__fmul_rn(min[i / 2], x_d[i % 2]), __int2float_rn(bsum[0] + bsum[1]), *p);
                }
            }
        }
    }

    DEVICE void add(const struct wide_view &v)
    {
        struct row_halves d[2], m[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            d[r] = read_halves<TYPE>(v.tiles, v.lane / 4 + 8 * r, false);
            if (format<TYPE>::HAS_MIN)
                m[r] = read_halves<TYPE>(v.tiles, v.lane / 4 + 8 * r, true);
        }
#pragma unroll
        for (int j = 0; j < 8; j++) {
            if (j >= v.n_sub)
                continue;
            float d_j[2], m_j[2] = {0.0f, 0.0f};
#pragma unroll
            for (int r = 0; r < 2; r++) {
                d_j[r] = half_of_sub<TYPE>(d[r], j);
                if (format<TYPE>::HAS_MIN)
                    m_j[r] = half_of_sub<TYPE>(m[r], j);
            }
            add_sub_block(v, j, d_j, m_j);
        }
    }
};

#endif
