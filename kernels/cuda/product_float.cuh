/* product_float.cuh - products with weights of F32, F16 and BF16: a warp a row of weights, sum64 of
 * docs/arithmetic.md. Lane i keeps the partials 2 i and 2 i + 1. */
#ifndef MTP_KERNELS_CUDA_PRODUCT_FLOAT_CUH
#define MTP_KERNELS_CUDA_PRODUCT_FLOAT_CUH

#include "kernels/cuda/columns.cuh"

enum { FLOAT_COLUMNS = 8, FLOAT_AHEAD = 4 };

template <int TYPE>
DEVICE float widened(const uint8_t *row, size_t i)
{
    if (TYPE == MTP_TYPE_F32)
        return ((const float *)(const void *)row)[i];
    uint16_t bits = ((const uint16_t *)(const void *)row)[i];
    return TYPE == MTP_TYPE_F16 ? half_to_float(bits) : bits_to_float((uint32_t)bits << 16);
}

/* Elements i and i + 1, in one read where `paired` says that rows allow it. */
template <int TYPE>
DEVICE float2 widened_pair(const uint8_t *row, size_t i, bool paired)
{
    if (!paired)
        return make_float2(widened<TYPE>(row, i), widened<TYPE>(row, i + 1));
    if (TYPE == MTP_TYPE_F32)
        return ((const float2 *)(const void *)row)[i / 2];
    uint32_t bits = ((const uint32_t *)(const void *)row)[i / 2];
    if (TYPE == MTP_TYPE_F16)
        return make_float2(half_to_float((uint16_t)bits), half_to_float((uint16_t)(bits >> 16)));
    return make_float2(bits_to_float(bits << 16), bits_to_float(bits & 0xffff0000u));
}

/* n <= 64 elements from i on; this lane's are the first two of `left`. */
template <int TYPE>
DEVICE void add_last(const struct product &p, const struct columns<FLOAT_COLUMNS> &columns,
                     const uint8_t *row, size_t i, float2 sum[FLOAT_COLUMNS])
{
    for (int k = 0; k < 2; k++) {
        if (i + (size_t)k >= p.n_in)
            return;
        const float w = widened<TYPE>(row, i + (size_t)k);
#pragma unroll
        for (int c = 0; c < FLOAT_COLUMNS; c++) {
            if (c >= columns.n)
                continue;
            float x = p.x[(size_t)columns.input[c] * p.n_in + i + (size_t)k];
            float *s = k == 0 ? &sum[c].x : &sum[c].y;
            *s = __fmaf_rn(w, x, *s);
        }
    }
}

DEVICE float2 pair_of(const float *x, bool paired)
{
    return paired ? *(const float2 *)(const void *)x : make_float2(x[0], x[1]);
}

template <int TYPE>
DEVICE void add_row(const struct product &p, const struct columns<FLOAT_COLUMNS> &columns,
                    const uint8_t *row, bool paired, float2 sum[FLOAT_COLUMNS])
{
    size_t i = 2 * (threadIdx.x % 32);
    const size_t whole = p.n_in / 64 * 64;
    while (i < whole) {
        float2 w[FLOAT_AHEAD];
#pragma unroll
        for (int k = 0; k < FLOAT_AHEAD; k++)
            if (i + 64 * (size_t)k < whole)
                w[k] = widened_pair<TYPE>(row, i + 64 * (size_t)k, paired);
#pragma unroll
        for (int k = 0; k < FLOAT_AHEAD; k++, i += 64) {
            if (i >= whole)
                continue;
#pragma unroll
            for (int c = 0; c < FLOAT_COLUMNS; c++) {
                if (c >= columns.n)
                    continue;
                float2 x = pair_of(p.x + (size_t)columns.input[c] * p.n_in + i, paired);
                sum[c].x = __fmaf_rn(w[k].x, x.x, sum[c].x);
                sum[c].y = __fmaf_rn(w[k].y, x.y, sum[c].y);
            }
        }
    }
    add_last<TYPE>(p, columns, row, whole + 2 * (threadIdx.x % 32), sum);
}

/* Folds by distance 32, 16, 8, 4, 2 across lanes, and 1 inside lane 0. */
DEVICE float fold_lanes(float2 sum)
{
    for (int distance = 16; distance >= 1; distance /= 2) {
        sum.x = __fadd_rn(sum.x, __shfl_down_sync(~0u, sum.x, distance));
        sum.y = __fadd_rn(sum.y, __shfl_down_sync(~0u, sum.y, distance));
    }
    return __fadd_rn(sum.x, sum.y);
}

/* Block (x, y): slot x, every gridDim.y-th eight rows of weights from y on. */
template <int TYPE>
__global__ void __launch_bounds__(PRODUCT_THREADS) float_product(const struct product p)
{
    __shared__ struct columns<FLOAT_COLUMNS> columns;
    let_next_begin();
    wait_for_earlier();
    find_columns(p, &columns);
    const uint32_t warp = threadIdx.x / 32;
    const uint8_t *weights = p.weights + (size_t)columns.expert * p.expert_bytes;
    const uintptr_t pair = TYPE == MTP_TYPE_F32 ? 8 : 4;
    const bool paired = ((uintptr_t)weights | p.row_bytes) % pair == 0 && (uintptr_t)p.x % 8 == 0 &&
                        p.n_in % 2 == 0;
    if (columns.n == 0)
        return;
    for (uint32_t output = blockIdx.y * PRODUCT_WARPS + warp; output < p.n_out;
         output += gridDim.y * PRODUCT_WARPS) {
        float2 sum[FLOAT_COLUMNS] = {};
        add_row<TYPE>(p, columns, weights + (size_t)output * p.row_bytes, paired, sum);
#pragma unroll
        for (int c = 0; c < FLOAT_COLUMNS; c++) {
            if (c >= columns.n)
                continue;
            float y = fold_lanes(sum[c]);
            if (threadIdx.x % 32 == 0)
                p.y[columns.output[c] * p.y_stride + output] = y;
        }
    }
}

#endif
