/* product_file.cuh - products with weights as they lie in the file: eight warps are the eight segments of
 * a row, a lane has eight weights of each super-block. Serves every quantised type. */
#ifndef MTP_KERNELS_CUDA_PRODUCT_FILE_CUH
#define MTP_KERNELS_CUDA_PRODUCT_FILE_CUH

#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/decode.cuh"

enum { FILE_COLUMNS = 8 };

/* Sum of q x of a lane's eight. */
DEVICE int32_t dot_eight(const struct eight &q, const struct act_block *x, int lane)
{
    uint2 pair = *(const uint2 *)(const void *)(x->q + 8 * lane);
    return __dp4a((int)q.high, (int)pair.y, __dp4a((int)q.low, (int)pair.x, 0));
}

/* The warp's super-blocks of class K; every lane ends with the segments' sums. */
template <int TYPE>
DEVICE void add_segment_k(const struct product &p, const struct columns<FILE_COLUMNS> &columns,
                          const uint8_t *row, uint32_t begin, uint32_t end, float sum[FILE_COLUMNS])
{
    const int lane = (int)threadIdx.x % 32;
    const uint32_t n = p.n_in / SUPER_BLOCK;
    for (uint32_t b = begin; b < end; b++) {
        const uint8_t *block = row + (size_t)b * format<TYPE>::BLOCK_BYTES;
        const struct eight q = decode_eight<TYPE>(block, lane);
        const int32_t scale = scale_of_16<TYPE>(block, lane / 2);
        const float d = block_d<TYPE>(block);
        int32_t min = 0;
        float d_min = 0.0f;
        if constexpr (format<TYPE>::HAS_MIN) {
            min = lane % 2 == 0 ? min_of_16<TYPE>(block, lane / 2) : 0;
            d_min = block_min<TYPE>(block);
        }
#pragma unroll
        for (int c = 0; c < FILE_COLUMNS; c++) {
            if (c >= columns.n)
                continue;
            const struct act_block *x = p.act + (size_t)columns.input[c] * n + b;
            int32_t s = __reduce_add_sync(~0u, scale * x->mul[lane / 4] * dot_eight(q, x, lane));
            sum[c] = __fmaf_rn(__fmul_rn(d, x->d), __int2float_rn(s), sum[c]);
            if (format<TYPE>::HAS_MIN) {
                int32_t m = __reduce_add_sync(~0u, min * x->bsum[lane / 2]);
                sum[c] = __fmaf_rn(-__fmul_rn(d_min, x->d), __int2float_rn(m), sum[c]);
            }
        }
    }
}

/* Class S: lanes 4 j .. 4 j + 3 keep partial j; every lane ends with the segments' sums. */
template <int TYPE>
DEVICE void add_segment_s(const struct product &p, const struct columns<FILE_COLUMNS> &columns,
                          const uint8_t *row, uint32_t begin, uint32_t end, float sum[FILE_COLUMNS])
{
    const int lane = (int)threadIdx.x % 32, j = lane / 4;
    const uint32_t subs = p.n_in / SUB_BLOCK, n = (subs + 7) / 8;
    for (uint32_t b = begin; b < end; b++) {
        const bool there = 8 * b + (uint32_t)j < subs;
        const uint8_t *block = row + ((size_t)8 * b + (there ? j : 0)) * format<TYPE>::BLOCK_BYTES;
        const struct eight q = decode_eight<TYPE>(block, lane % 4);
        const float d = block_d<TYPE>(block);
#pragma unroll
        for (int c = 0; c < FILE_COLUMNS; c++) {
            if (c >= columns.n)
                continue;
            const struct act_block *x = p.act + (size_t)columns.input[c] * n + b;
            int32_t s = dot_eight(q, x, lane);
            s += __shfl_xor_sync(~0u, s, 1);
            s += __shfl_xor_sync(~0u, s, 2);
            if (!there)
                continue;
            sum[c] = __fmaf_rn(__fmul_rn(d, x->d), __int2float_rn(x->mul[j] * s), sum[c]);
            if constexpr (format<TYPE>::HAS_MIN)
                sum[c] = __fmaf_rn(__fmul_rn(block_min<TYPE>(block), x->d),
                                   __int2float_rn(x->bsum[2 * j] + x->bsum[2 * j + 1]), sum[c]);
        }
    }
#pragma unroll
    for (int c = 0; c < FILE_COLUMNS; c++) {
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; i++)
            v[i] = __shfl_sync(~0u, sum[c], 4 * i);
        sum[c] = fold_eight(v);
    }
}

/* Block (x, y): slot x, every gridDim.y-th row of weights from y on. */
template <int TYPE>
__global__ void __launch_bounds__(PRODUCT_THREADS) file_product(const struct product p)
{
    __shared__ struct columns<FILE_COLUMNS> columns;
    __shared__ float parts[2][SEGMENTS][FILE_COLUMNS];
    let_next_begin();
    wait_for_earlier();
    find_columns(p, &columns);
    if (columns.n == 0)
        return;
    const uint32_t warp = threadIdx.x / 32, n = (p.n_in + SUPER_BLOCK - 1) / SUPER_BLOCK;
    const uint32_t begin = first_of_segment(n, warp), end = first_of_segment(n, warp + 1);
    const uint8_t *weights = p.weights + (size_t)columns.expert * p.expert_bytes;
    int filled = 0;
    for (uint32_t output = blockIdx.y; output < p.n_out; output += gridDim.y) {
        const uint8_t *row = weights + (size_t)output * p.row_bytes;
        float sum[FILE_COLUMNS] = {};
        if constexpr (format<TYPE>::CLASS_K)
            add_segment_k<TYPE>(p, columns, row, begin, end, sum);
        else
            add_segment_s<TYPE>(p, columns, row, begin, end, sum);
#pragma unroll
        for (int c = 0; c < FILE_COLUMNS; c++)
            if ((int)threadIdx.x % 32 == c)
                parts[filled][warp][c] = sum[c];
        __syncthreads();
        if ((int32_t)threadIdx.x < columns.n) {
            float v[SEGMENTS];
#pragma unroll
            for (int s = 0; s < SEGMENTS; s++)
                v[s] = parts[filled][s][threadIdx.x];
            p.y[columns.output[threadIdx.x] * p.y_stride + output] = fold_eight(v);
        }
        filled ^= 1;
    }
}

#endif
