/* product_wide.cuh - products of many batch rows with weights laid in tiles (tile.cuh). A block of threads
 * has a rectangle of weight rows and batch rows and goes through their super-blocks in order; tiles and
 * activations of one super-block are in shared memory while the next are on their way. As segments
 * follow one another, an output needs the sum of the segment at hand and, for the fold
 * ((0+1)+(2+3))+((4+5)+(6+7)), at most three sums put aside. */
#ifndef MTP_KERNELS_CUDA_PRODUCT_WIDE_CUH
#define MTP_KERNELS_CUDA_PRODUCT_WIDE_CUH

#include "kernels/cuda/product_wide_sums.cuh"

template <int TYPE>
DEVICE void copy_wide_tile(uint8_t *shared, const uint8_t *weights, int lane)
{
#pragma unroll
    for (int at = 0; at < tile<TYPE>::BYTES; at += 16 * LANES)
        if (at + 16 * lane < tile<TYPE>::BYTES)
            copy_async(shared + at + 16 * lane, weights + at + 16 * lane);
}

/* ROW_WARPS warps, each with M sixteens of weight rows, by as many as are left, each with N eights of
 * batch rows. BLOCK_COUNT of these blocks run on a multiprocessor. */
template <int TYPE, int M, int N, int ROW_WARPS, int BLOCK_COUNT>
struct wide_shape {
    static constexpr int M_WARP = M, N_WARP = N, ROWS = ROW_WARPS, BLOCKS = BLOCK_COUNT;
    static constexpr int TILES = M * ROW_WARPS, COLUMNS = 8 * N * PRODUCT_WARPS / ROW_WARPS;
    static constexpr int INPUTS_AT = TILES * tile<TYPE>::BYTES;
    static constexpr int SUMS_AT = INPUTS_AT + COLUMNS * INPUT_STRIDE;
    static constexpr int STAGE_BYTES = SUMS_AT + COLUMNS * INPUT_SUMS;
    static constexpr int BYTES = 2 * STAGE_BYTES + 8 * COLUMNS * (int)sizeof(float);
};

template <bool CLASS_K, int TYPE, int M, int N>
struct wide_sums {
    using type = wide_sums_k<TYPE, M, N>;
};
template <int TYPE, int M, int N>
struct wide_sums<false, TYPE, M, N> {
    using type = wide_sums_s<TYPE, M, N>;
};

/* Sums put aside: of one segment, of two, of four. In the thread's own memory, whose places are found by a
 * variable so that they are not kept in registers. */
template <int OUTPUTS>
struct aside {
    float sums[3][OUTPUTS];
    uint32_t filled; /* a bit a level */

    /* Adds what is aside to the sum of `segment`; a result that is not yet the whole is put aside. */
    DEVICE void fold(uint32_t segment, float sum[OUTPUTS])
    {
#pragma unroll 1
        for (uint32_t level = 0; level < 3; level++) {
            if ((segment >> level & 1) == 0) {
                put(level, sum);
                return;
            }
            if ((filled >> level & 1) == 0)
                continue;
            filled ^= 1u << level;
#pragma unroll
            for (int i = 0; i < OUTPUTS; i++)
                sum[i] = __fadd_rn(sums[level][i], sum[i]);
        }
    }
    /* The same for a segment without super-blocks. Adding its +0 changes no sum, for none is -0: what is
     * aside on the levels it would have joined, one at most, rises to the level where it waits. */
    DEVICE void pass(uint32_t segment)
    {
        uint32_t level = 0, from = 3;
        for (; (segment >> level & 1) != 0; level++)
            from = (filled >> level & 1) != 0 ? level : from;
        if (from == 3)
            return;
        float sum[OUTPUTS];
#pragma unroll
        for (int i = 0; i < OUTPUTS; i++)
            sum[i] = sums[from][i];
        filled ^= 1u << from;
        put(level, sum);
    }
    DEVICE void put(uint32_t level, const float sum[OUTPUTS])
    {
        filled |= 1u << level;
#pragma unroll
        for (int i = 0; i < OUTPUTS; i++)
            sums[level][i] = sum[i];
    }
};

/* What a block reads: tiles from `first` on, as often the last one as there are none behind it. */
template <int TYPE, class SHAPE>
struct wide_source {
    const uint8_t *weights;
    const struct act_block *act;
    const uint32_t *input; /* rows of the batch, [COLUMNS] */
    uint32_t first, n_tiles, n_blocks; /* sixteens: the first of the block's, and all */

    /* A warp copies a tile, sixteen threads the quants of a row, four its sums, multipliers and d. */
    DEVICE void read(uint8_t *stage, uint32_t block) const
    {
        const uint32_t thread = threadIdx.x;
#pragma unroll
        for (uint32_t t = 0; t < SHAPE::TILES; t += PRODUCT_WARPS) {
            const uint32_t mine = t + thread / LANES;
            if (SHAPE::TILES % PRODUCT_WARPS != 0 && mine >= SHAPE::TILES)
                break;
            const uint32_t from = first + mine < n_tiles ? first + mine : n_tiles - 1;
            copy_wide_tile<TYPE>(stage + mine * tile<TYPE>::BYTES,
                            weights + ((size_t)from * n_blocks + block) * tile<TYPE>::BYTES,
                            (int)thread % LANES);
        }
#pragma unroll
        for (uint32_t c = thread / 16; c < SHAPE::COLUMNS; c += PRODUCT_THREADS / 16)
            copy_async(stage + SHAPE::INPUTS_AT + c * INPUT_STRIDE + thread % 16 * 16,
                       row_at(c, block) + thread % 16 * 16);
#pragma unroll
        for (uint32_t c = thread / 4; c < SHAPE::COLUMNS; c += PRODUCT_THREADS / 4) {
            const uint32_t piece = thread % 4;
            if (piece < 2)
                copy_async(stage + SHAPE::SUMS_AT + c * INPUT_SUMS + 16 * piece,
                           row_at(c, block) + 256 + 16 * piece);
            else if (piece == 2)
                copy_async(stage + SHAPE::INPUTS_AT + c * INPUT_STRIDE + INPUT_MUL,
                           row_at(c, block) + 288);
        }
        copy_commit();
    }
    DEVICE const uint8_t *row_at(uint32_t c, uint32_t block) const
    {
        return (const uint8_t *)(act + (size_t)input[c] * n_blocks + block);
    }
};

/* The multipliers of a stage as floats, [8][COLUMNS]. */
template <int TYPE, class SHAPE>
DEVICE void convert_multipliers(const uint8_t *stage, float *multipliers)
{
    for (int i = (int)threadIdx.x; i < 8 * SHAPE::COLUMNS; i += PRODUCT_THREADS) {
        const int c = i % SHAPE::COLUMNS, j = i / SHAPE::COLUMNS;
        multipliers[i] = wide_multiplier<TYPE>(stage[SHAPE::INPUTS_AT + c * INPUT_STRIDE + INPUT_MUL + j]);
    }
}

template <int TYPE, class SHAPE>
DEVICE struct wide_view view_of_warp(const uint8_t *stage, const float *multipliers, uint32_t n_sub)
{
    const int warp = (int)threadIdx.x / LANES, column = warp / SHAPE::ROWS * 8 * SHAPE::N_WARP;
    struct wide_view v;
    v.tiles = stage + warp % SHAPE::ROWS * SHAPE::M_WARP * tile<TYPE>::BYTES;
    v.inputs = stage + SHAPE::INPUTS_AT + column * INPUT_STRIDE;
    v.sums = stage + SHAPE::SUMS_AT + column * INPUT_SUMS;
    v.multipliers = multipliers + column;
    v.stride = SHAPE::COLUMNS;
    v.lane = (int)threadIdx.x % LANES;
    v.n_sub = n_sub < 8 ? (int)n_sub : 8;
    return v;
}

template <class SHAPE, int N, int OUTPUTS>
DEVICE void store_outputs(const struct product &p, const struct columns<SHAPE::COLUMNS> &columns,
                          uint32_t first_tile, const float out[OUTPUTS])
{
    const uint32_t warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const uint32_t tile = first_tile + warp % SHAPE::ROWS * SHAPE::M_WARP;
#pragma unroll
    for (int k = 0; k < OUTPUTS; k++) {
        const uint32_t m = k / (4 * N), n = k / 4 % N, i = k % 4;
        uint32_t row = (tile + m) * TILE_ROWS + lane / 4 + 8 * (i / 2);
        uint32_t column = (warp / SHAPE::ROWS * SHAPE::N_WARP + n) * 8 + 2 * (lane % 4) + i % 2;
        if ((int32_t)column < columns.n && row < p.n_out)
            p.y[columns.output[column] * p.y_stride + row] = out[k];
    }
}

template <class SUMS>
DEVICE void end_segment(SUMS *sums, struct aside<SUMS::OUTPUTS> *aside, uint32_t segment)
{
    float sum[SUMS::OUTPUTS];
    sums->take(sum);
    aside->fold(segment, sum);
    sums->clear();
}

/* The outputs of one rectangle, of which each warp has N eights of batch rows. */
template <int TYPE, class SHAPE, int N>
DEVICE void wide_rectangle(const struct product &p, const struct columns<SHAPE::COLUMNS> &columns,
                           const struct wide_source<TYPE, SHAPE> &source, uint8_t *shared)
{
    using SUMS = typename wide_sums<format<TYPE>::CLASS_K, TYPE, SHAPE::M_WARP, N>::type;
    float *multipliers = (float *)(void *)(shared + 2 * SHAPE::STAGE_BYTES);
    const uint32_t n = source.n_blocks, warp = threadIdx.x / LANES;
    const bool busy = (int32_t)(warp / SHAPE::ROWS * 8 * SHAPE::N_WARP) < columns.n &&
                      source.first + warp % SHAPE::ROWS * SHAPE::M_WARP < source.n_tiles;
    struct aside<SUMS::OUTPUTS> aside;
    SUMS sums;
    uint32_t segment = 0;
    aside.filled = 0;
    sums.clear();
    source.read(shared, 0);
    for (uint32_t b = 0; b < n; b++) {
        uint8_t *stage = shared + b % 2 * SHAPE::STAGE_BYTES;
        copy_wait<0>();
        __syncthreads();
        if (b + 1 < n)
            source.read(shared + (b + 1) % 2 * SHAPE::STAGE_BYTES, b + 1);
        convert_multipliers<TYPE, SHAPE>(stage, multipliers);
        __syncthreads();
        if (!busy)
            continue;
        if (b > 0 && first_of_segment(n, segment + 1) == b)
            end_segment(&sums, &aside, segment++);
        for (; first_of_segment(n, segment + 1) <= b; segment++)
            aside.pass(segment);
        sums.add(view_of_warp<TYPE, SHAPE>(stage, multipliers, p.n_in / SUB_BLOCK - 8 * b));
    }
    if (busy) {
        float out[SUMS::OUTPUTS];
        sums.take(out);
        aside.fold(SEGMENTS - 1, out);
        store_outputs<SHAPE, N, SUMS::OUTPUTS>(p, columns, source.first, out);
    }
    __syncthreads(); /* the stages are read no more */
}

/* Where a warp has all rows of the slot, those that are not there cost nothing. */
template <int TYPE, class SHAPE>
DEVICE void fitting_rectangle(const struct product &p, const struct columns<SHAPE::COLUMNS> &columns,
                              const struct wide_source<TYPE, SHAPE> &source, uint8_t *shared)
{
    constexpr bool FITS = SHAPE::ROWS == PRODUCT_WARPS && SHAPE::N_WARP == 4;
    if (FITS && columns.n <= 16)
        wide_rectangle<TYPE, SHAPE, FITS ? 2 : SHAPE::N_WARP>(p, columns, source, shared);
    else if (FITS && columns.n <= 24)
        wide_rectangle<TYPE, SHAPE, FITS ? 3 : SHAPE::N_WARP>(p, columns, source, shared);
    else
        wide_rectangle<TYPE, SHAPE, SHAPE::N_WARP>(p, columns, source, shared);
}

/* Block (x, y): slot x, every gridDim.y-th group of TILES sixteens from y on. */
template <int TYPE, class SHAPE>
__global__ void __launch_bounds__(PRODUCT_THREADS, SHAPE::BLOCKS) wide_product(const struct product p)
{
    __shared__ struct columns<SHAPE::COLUMNS> columns;
    DYNAMIC_SHARED(shared);
    let_next_begin();
    wait_for_earlier();
    find_columns(p, &columns);
    if (columns.n == 0)
        return;
    struct wide_source<TYPE, SHAPE> source;
    source.n_tiles = (p.n_out + TILE_ROWS - 1) / TILE_ROWS;
    source.n_blocks = (p.n_in + SUPER_BLOCK - 1) / SUPER_BLOCK;
    const size_t expert_tiles = (size_t)source.n_tiles * source.n_blocks;
    source.weights = p.weights + columns.expert * expert_tiles * tile<TYPE>::BYTES;
    source.act = p.act;
    source.input = columns.input;
    for (source.first = blockIdx.y * SHAPE::TILES; source.first < source.n_tiles;
         source.first += gridDim.y * SHAPE::TILES)
        fitting_rectangle<TYPE, SHAPE>(p, columns, source, shared);
}

#endif
