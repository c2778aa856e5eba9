/* dequantise.cuh - packed weights (tile.cuh) as bfloat16, row after row: a warp a tile. For --fast alone:
 * what it gives is rounded to eight bits. */
#ifndef MTP_KERNELS_CUDA_DEQUANTISE_CUH
#define MTP_KERNELS_CUDA_DEQUANTISE_CUH

#include "kernels/cuda/tile.cuh"

/* Rows 16 first .. of one matrix, n of these sixteens, each of n_blocks super-blocks. dst begins with the
 * first of the rows; rows behind n_out are not written. */
struct dequantising {
    const uint8_t *tiles;
    uint16_t *dst; /* [n_out - 16 first][n_in] */
    uint32_t first, n, n_in, n_out, n_blocks;
};

/* Two floats as bfloat16, rounded to nearest even, the first in the low half. */
DEVICE uint32_t bfloat_pair(float low, float high)
{
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 800
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    uint32_t bits[2];
    const float values[2] = {low, high};
    for (int i = 0; i < 2; i++) {
        memcpy(&bits[i], &values[i], sizeof bits[i]);
        bits[i] = (bits[i] + 0x7fff + (bits[i] >> 16 & 1)) >> 16;
    }
    return bits[0] | bits[1] << 16;
#endif
}

/* What is needed of one of the lane's two rows to make weights of its quants. */
template <int TYPE>
struct row_factors {
    struct row_scales scales; /* class K */
    struct row_halves d, m;   /* class S */
    float row_scale, row_minimum;
    const uint8_t *minima; /* of Q4_K and Q5_K */

    DEVICE void read(const uint8_t *tile_at, int row)
    {
        if constexpr (format<TYPE>::CLASS_K) {
            scales = read_scales<TYPE>(tile_at, row);
            row_scale = row_d<TYPE>(tile_at, row);
            row_minimum = format<TYPE>::HAS_MIN ? row_min<TYPE>(tile_at, row) : 0.0f;
            minima = tile_at + tile<TYPE>::SCALES_AT + row * 16 + 8;
        } else {
            d = read_halves<TYPE>(tile_at, row, false);
            if (format<TYPE>::HAS_MIN)
                m = read_halves<TYPE>(tile_at, row, true);
        }
    }

    /* weight = scale * q + shift, for the eight of lane t = 0..3 in sub-block j. */
    DEVICE float2 of_eight(int j, int t) const
    {
        if constexpr (format<TYPE>::CLASS_K) {
            const int s = format<TYPE>::SCALES_PER_16 ? 2 * j + t / 2 : j;
            float shift = 0.0f;
            if constexpr (format<TYPE>::HAS_MIN) {
                int min = minima[j];
                if (TYPE == MTP_TYPE_Q2_K)
                    min = (int)(scales.word[s / 4] >> (8 * (s % 4) + 4) & 15);
                shift = __fmul_rn(-row_minimum, __int2float_rn(min));
            }
            return make_float2(__fmul_rn(row_scale, __int2float_rn(scale_at<TYPE>(scales, s))), shift);
        } else {
            return make_float2(half_of_sub<TYPE>(d, j),
                               format<TYPE>::HAS_MIN ? half_of_sub<TYPE>(m, j) : 0.0f);
        }
    }
};

/* Weight i (0..3) of a word of fragment(), rounded as dequantize_row of kernels/blocks.h rounds it. */
template <int TYPE>
DEVICE float weight_of(uint32_t word, int i, float2 factors)
{
    int q = (int8_t)(word >> 8 * i & 255);
    q = format<TYPE>::CLASS_K ? q - format<TYPE>::OFFSET : q >> top_shift<TYPE>();
    const float product = __fmul_rn(factors.x, __int2float_rn(q));
    return format<TYPE>::HAS_MIN ? __fadd_rn(product, factors.y) : product;
}

template <int TYPE>
DEVICE uint4 eight_weights(uint32_t low, uint32_t high, float2 f)
{
    uint4 out;
    out.x = bfloat_pair(weight_of<TYPE>(low, 0, f), weight_of<TYPE>(low, 1, f));
    out.y = bfloat_pair(weight_of<TYPE>(low, 2, f), weight_of<TYPE>(low, 3, f));
    out.z = bfloat_pair(weight_of<TYPE>(high, 0, f), weight_of<TYPE>(high, 1, f));
    out.w = bfloat_pair(weight_of<TYPE>(high, 2, f), weight_of<TYPE>(high, 3, f));
    return out;
}

template <int TYPE>
__global__ void __launch_bounds__(256) dequantise_tiles(const struct dequantising p)
{
    const uint64_t warp = ((uint64_t)blockIdx.x * 256 + threadIdx.x) / LANES;
    let_next_begin();
    wait_for_earlier();
    if (warp >= (uint64_t)p.n * p.n_blocks)
        return;
    const int lane = (int)threadIdx.x % LANES, g = lane / 4, t = lane % 4;
    const uint32_t sixteen = (uint32_t)(warp / p.n_blocks), block = (uint32_t)(warp % p.n_blocks);
    const uint8_t *tile_at =
        p.tiles + ((uint64_t)(p.first + sixteen) * p.n_blocks + block) * tile<TYPE>::BYTES;
    const uint32_t left = p.n_out - (p.first + sixteen) * TILE_ROWS, subs = p.n_in / SUB_BLOCK - 8 * block;
    uint16_t *out = p.dst + ((uint64_t)sixteen * TILE_ROWS + (uint32_t)g) * p.n_in + 256 * block + 8 * t;
    struct row_factors<TYPE> row, row_8;
    row.read(tile_at, g);
    row_8.read(tile_at, g + 8);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        if ((uint32_t)j >= subs)
            break;
        uint32_t a[4];
        fragment<TYPE>(tile_at, lane, j, a);
        if ((uint32_t)g < left)
            *(uint4 *)(void *)(out + 32 * j) = eight_weights<TYPE>(a[0], a[2], row.of_eight(j, t));
        if ((uint32_t)g + 8 < left)
            *(uint4 *)(void *)(out + (uint64_t)8 * p.n_in + 32 * j) =
                eight_weights<TYPE>(a[1], a[3], row_8.of_eight(j, t));
    }
}

#endif
