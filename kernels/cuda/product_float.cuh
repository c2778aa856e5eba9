/* product_float.cuh - products with weights of F32, F16 and BF16: a warp a row of weights, sum64 of
 * docs/arithmetic.md. Lane i keeps the partials 2 i and 2 i + 1. */
#ifndef MTP_KERNELS_CUDA_PRODUCT_FLOAT_CUH
#define MTP_KERNELS_CUDA_PRODUCT_FLOAT_CUH

#include "kernels/cuda/columns.cuh"

enum { FLOAT_COLUMNS = 8 };

/* Reads under way, of 64 weights each: as many as registers allow. */
template <int W>
HOST_DEVICE constexpr int float_ahead()
{
    return W == 1 ? 16 : 8;
}

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
template <int TYPE, int W>
DEVICE void add_last(const struct product &p, const struct columns<W> &columns, const uint8_t *row, size_t i,
                     float2 sum[W])
{
    for (int k = 0; k < 2; k++) {
        if (i + (size_t)k >= p.n_in)
            return;
        const float w = widened<TYPE>(row, i + (size_t)k);
#pragma unroll
        for (int c = 0; c < W; c++) {
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

/* A lane's next float_ahead pairs of weights from element i on, as far as they are there. */
template <int TYPE, int W>
DEVICE void read_weights(const uint8_t *row, size_t i, size_t whole, bool paired, float2 w[float_ahead<W>()])
{
#pragma unroll
    for (int k = 0; k < float_ahead<W>(); k++) {
        const size_t at = i + 64 * (size_t)k;
        w[k] = widened_pair<TYPE>(row, at < whole ? at : i, paired);
    }
}

/* Multiplies them with each batch row's. All columns are read, those past n too, and all is read before it is
 * used: a read that waits for a sum would take as long as memory does, each time. */
template <int W>
DEVICE void add_weights(const struct product &p, const struct columns<W> &columns, size_t i, size_t whole,
                        bool paired, const float2 w[float_ahead<W>()], float2 sum[W])
{
#pragma unroll
    for (int c = 0; c < W; c++) {
        const float *row = p.x + (size_t)columns.input[c] * p.n_in;
        float2 x[float_ahead<W>()];
#pragma unroll
        for (int k = 0; k < float_ahead<W>(); k++) {
            const size_t at = i + 64 * (size_t)k;
            x[k] = pair_of(row + (at < whole ? at : i), paired);
        }
#pragma unroll
        for (int k = 0; k < float_ahead<W>(); k++)
            if (i + 64 * (size_t)k < whole) {
                sum[c].x = __fmaf_rn(w[k].x, x[k].x, sum[c].x);
                sum[c].y = __fmaf_rn(w[k].y, x[k].y, sum[c].y);
            }
    }
}

/* w: what read_weights has read of the row's beginning. */
template <int TYPE, int W>
DEVICE void add_row(const struct product &p, const struct columns<W> &columns, const uint8_t *row,
                    bool paired, float2 w[float_ahead<W>()], float2 sum[W])
{
    const size_t first = 2 * (threadIdx.x % 32), whole = p.n_in / 64 * 64;
    for (size_t i = first; i < whole; i += 64 * (size_t)float_ahead<W>()) {
        if (i != first)
            read_weights<TYPE, W>(row, i, whole, paired, w);
        add_weights<W>(p, columns, i, whole, paired, w, sum);
    }
    add_last<TYPE, W>(p, columns, row, whole + first, sum);
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

/* A block's place of a product: every place.count-th eight rows of weights. */
template <int TYPE, int W>
DEVICE void multiply_floats(const struct product &p, const struct place &place, struct columns<W> *columns)
{
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const size_t whole = p.n_in / 64 * 64;
    const uintptr_t pair = TYPE == MTP_TYPE_F32 ? 8 : 4;
    const bool paired =
        ((uintptr_t)p.weights | p.expert_bytes | p.row_bytes) % pair == 0 && (uintptr_t)p.x % 8 == 0 &&
        p.n_in % 2 == 0;
    const uint32_t first = place.number * PRODUCT_WARPS + warp;
    const bool early = p.start == NULL && first < p.n_out;
    const uint8_t *weights = p.weights;
    float2 w[float_ahead<W>()];
    let_next_begin();
    if (early) {
        const uint8_t *row = weights + (size_t)first * p.row_bytes;
        if (2 * lane < whole)
            read_weights<TYPE, W>(row, 2 * lane, whole, paired, w);
    }
    wait_for_earlier();
    find_columns(p, place.slot, columns);
    if (columns->n == 0)
        return;
    weights += (size_t)columns->expert * p.expert_bytes;
    for (uint32_t output = first; output < p.n_out; output += place.count * PRODUCT_WARPS) {
        const uint8_t *row = weights + (size_t)output * p.row_bytes;
        float2 sum[W] = {};
        if ((!early || output != first) && 2 * lane < whole)
            read_weights<TYPE, W>(row, 2 * lane, whole, paired, w);
        add_row<TYPE, W>(p, *columns, row, paired, w, sum);
#pragma unroll
        for (int c = 0; c < W; c++) {
            if (c >= columns->n)
                continue;
            float y = fold_lanes(sum[c]);
            if (lane == 0)
                p.y[columns->output[c] * p.y_stride + output] = y;
        }
    }
}

template <int TYPE>
__global__ void __launch_bounds__(PRODUCT_THREADS) float_product(__grid_constant__ const struct product p)
{
    __shared__ struct columns<FLOAT_COLUMNS> columns;
    multiply_floats<TYPE, FLOAT_COLUMNS>(p, place_in_grid(), &columns);
}
template <int TYPE>
__global__ void __launch_bounds__(PRODUCT_THREADS) float_product_1(__grid_constant__ const struct product p)
{
    __shared__ struct columns<1> columns;
    multiply_floats<TYPE, 1>(p, place_in_grid(), &columns);
}

#endif
