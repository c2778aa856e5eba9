/* product_tile.cuh - products with weights laid in tiles (tile.cuh), up to W = 1, 2, 4, 8 or 16 batch rows at
 * a time. Eight warps are the eight segments of sixteen weight rows; of rows with fewer super-blocks than
 * segments, the warps share out several sixteens. A warp reads ahead into its own ring of tiles, across the
 * ends of rows. */
#ifndef MTP_KERNELS_CUDA_PRODUCT_TILE_CUH
#define MTP_KERNELS_CUDA_PRODUCT_TILE_CUH

#include "kernels/cuda/sums_few.cuh"

/* Shared memory of a multiprocessor of compute capability 9.0; and what a block may have on every one since
 * 8.0, so that the kernels run there too, though fewer at a time. */
enum { SHARED_BYTES = 227 * 1024, SHARED_OF_BLOCK = 99 * 1024 };

/* Blocks of threads on a multiprocessor: as many as registers allow. */
template <int W>
HOST_DEVICE constexpr int tile_blocks()
{
    return W < 8 ? 3 : 2;
}

template <int TYPE, int W, int BLOCKS>
struct tile_plan {
    /* Units whose sums are kept at a time, so that a super-block of eight batch rows is read once for two;
     * class S has no registers for that. */
    static constexpr int TOGETHER = W == 8 && format<TYPE>::CLASS_K ? 2 : 1;
    static constexpr int COLUMNS_BYTES = ((int)sizeof(struct columns<W>) + 15) / 16 * 16;
    /* Sums of the warps, twice: while one is folded the other is filled. */
    static constexpr int PARTS = TOGETHER * PRODUCT_WARPS * W * PARTS_STRIDE;
    static constexpr int FIXED_BYTES = COLUMNS_BYTES + 2 * PARTS * (int)sizeof(float);
    static constexpr int SHARE = SHARED_BYTES / BLOCKS - 1024;
    static constexpr int MOST_BYTES = SHARE < (int)SHARED_OF_BLOCK ? SHARE : (int)SHARED_OF_BLOCK;
    static constexpr int FIT = (MOST_BYTES - FIXED_BYTES) / (PRODUCT_WARPS * tile<TYPE>::BYTES);
    /* With eight and more batch rows, what is not taken serves better as first cache of the activations. */
    static constexpr int MOST = W < 8 ? 6 : W == 8 ? 4 : 3;
    static constexpr int STAGES = FIT < 2 ? 2 : FIT > MOST ? MOST : FIT;
    static constexpr int BYTES = FIXED_BYTES + PRODUCT_WARPS * STAGES * tile<TYPE>::BYTES;
};

/* What a lane adds up, by class and number of batch rows. */
template <int TYPE, int W, bool CLASS_K = format<TYPE>::CLASS_K, bool FEW = (W < 8)>
struct sums_of;
template <int TYPE, int W>
struct sums_of<TYPE, W, true, true> {
    using type = few_sums_k<TYPE, W>;
};
template <int TYPE, int W>
struct sums_of<TYPE, W, false, true> {
    using type = few_sums_s<TYPE, W>;
};
template <int TYPE, int W>
struct sums_of<TYPE, W, true, false> {
    using type = sums_k<TYPE, W / 8>;
};
template <int TYPE, int W>
struct sums_of<TYPE, W, false, false> {
    using type = sums_s<TYPE, W / 8>;
};

/* How rows of n super-blocks are spread over the warps of a block. */
struct spread {
    uint32_t n, warps, tiles; /* super-blocks of a row, warps that share it, sixteens of rows at a time */
};
HOST_DEVICE struct spread spread_of(uint32_t n_in)
{
    uint32_t n = (n_in + SUPER_BLOCK - 1) / SUPER_BLOCK;
    uint32_t warps = n < (uint32_t)PRODUCT_WARPS ? n : (uint32_t)PRODUCT_WARPS;
    struct spread s = {n, warps, PRODUCT_WARPS / warps};
    return s;
}
HOST_DEVICE uint32_t sixteens_of(uint32_t n_out)
{
    return (n_out + TILE_ROWS - 1) / TILE_ROWS;
}

/* Units of a matrix: spread.tiles sixteens each. */
HOST_DEVICE uint32_t units_of(uint32_t n_in, uint32_t n_out)
{
    const uint32_t tiles = spread_of(n_in).tiles;
    return (sixteens_of(n_out) + tiles - 1) / tiles;
}

/* The units of a block, n of them: TOGETHER neighbours, then as many again `stride` times as far on. */
template <int TOGETHER>
struct units {
    uint32_t first, stride, n;

    DEVICE units(uint32_t of_all, const struct place &place)
        : first(place.number), stride(place.count), n(0)
    {
        const uint32_t groups = (of_all + TOGETHER - 1) / TOGETHER;
        if (first < groups) {
            const uint32_t own = (groups - first + stride - 1) / stride;
            n = own * TOGETHER;
            if (first + (own - 1) * stride == groups - 1)
                n -= groups * TOGETHER - of_all;
        }
    }
    DEVICE uint32_t number(uint32_t unit) const
    {
        return (unit / TOGETHER * stride + first) * TOGETHER + unit % TOGETHER;
    }
};

/* A warp's way through its tiles: some units at a time, of those super-block by super-block. */
struct walk {
    uint32_t unit, together, block;
};
template <int TOGETHER>
struct route_of_warp {
    struct units<TOGETHER> units;
    uint32_t first, last;          /* super-blocks of its segment */
    uint32_t part, tiles, n_tiles; /* its sixteen of a unit's */

    DEVICE uint32_t tile_at(uint32_t unit) const
    {
        return units.number(unit) * tiles + part;
    }
    DEVICE void advance(struct walk *at) const
    {
        if (TOGETHER > 1 && ++at->together < TOGETHER && at->unit + at->together < units.n)
            return;
        at->together = 0;
        if (at->block++ < last)
            return;
        at->block = first;
        at->unit += TOGETHER;
    }
};

template <int TYPE>
DEVICE void copy_tile(uint8_t *shared, const uint8_t *weights, int lane)
{
#pragma unroll
    for (int at = 0; at < tile<TYPE>::BYTES; at += 16 * LANES)
        if (at + 16 * lane < tile<TYPE>::BYTES)
            copy_async(shared + at + 16 * lane, weights + at + 16 * lane);
}

template <int TYPE, class PLAN>
struct warp_reader {
    const uint8_t *weights;
    uint8_t *ring;
    struct route_of_warp<PLAN::TOGETHER> route;
    struct walk ahead;
    uint32_t n_blocks;
    int lane, free_stage, stage;

    DEVICE static int after(int stage)
    {
        return stage + 1 == PLAN::STAGES ? 0 : stage + 1;
    }

    /* Every call is one group of copies, an empty one past the end. */
    DEVICE void read_ahead()
    {
        if (ahead.unit < route.units.n) {
            const uint32_t tile_at = route.tile_at(ahead.unit + ahead.together);
            const size_t at = ((size_t)tile_at * n_blocks + ahead.block) * tile<TYPE>::BYTES;
            if (tile_at < route.n_tiles)
                copy_tile<TYPE>(ring + free_stage * tile<TYPE>::BYTES, weights + at, lane);
            route.advance(&ahead);
        }
        copy_commit();
        free_stage = after(free_stage);
    }

    DEVICE void start()
    {
        for (int i = 0; i < PLAN::STAGES - 1; i++)
            read_ahead();
    }

    /* The oldest tile; the one before it is given up. */
    DEVICE const uint8_t *next()
    {
        copy_wait<PLAN::STAGES - 2>();
        __syncwarp();
        read_ahead();
        const uint8_t *at = ring + stage * tile<TYPE>::BYTES;
        stage = after(stage);
        return at;
    }
};

/* Folds the segments of n_units of the block's units, from `unit` on, and stores the results. */
template <int W, int TOGETHER>
DEVICE void fold_parts(const struct product &p, const struct columns<W> &columns,
                       const struct spread &spread, const struct units<TOGETHER> &units, const float *parts,
                       uint32_t unit, uint32_t n_units)
{
    const uint32_t n = TILE_ROWS * W * spread.tiles * n_units;
    for (uint32_t i = threadIdx.x; i < n; i += PRODUCT_THREADS) {
        uint32_t row = i % TILE_ROWS, column = i / TILE_ROWS % W, sixteen = i / (TILE_ROWS * W);
        uint32_t of_units = spread.tiles == 1 ? sixteen : sixteen / spread.tiles;
        uint32_t part = sixteen - of_units * spread.tiles;
        uint32_t output = (units.number(unit + of_units) * spread.tiles + part) * TILE_ROWS + row;
        if ((int32_t)column >= columns.n || output >= p.n_out)
            continue;
        float v[SEGMENTS];
#pragma unroll
        for (uint32_t s = 0; s < SEGMENTS; s++) {
            uint32_t begin = first_of_segment(spread.n, s);
            bool empty = begin == first_of_segment(spread.n, s + 1);
            uint32_t warp = part * spread.warps + (spread.n < SEGMENTS ? begin : s);
            uint32_t at = (of_units * PRODUCT_WARPS + warp) * W + column;
            v[s] = empty ? 0.0f : parts[at * PARTS_STRIDE + row];
        }
        p.y[columns.output[column] * p.y_stride + output] = fold_eight(v);
    }
}

/* The batch rows a lane needs, as numbers of their first super-blocks. */
template <int W>
struct lane_rows {
    static constexpr bool FEW = W < 8;
    static constexpr int NT = W > 8 ? W / 8 : 1, BLOCKS = FEW ? 2 : 3 * NT;
    uint32_t block[BLOCKS];

    DEVICE lane_rows(const struct columns<W> &columns, int lane, uint32_t n)
    {
        const int g = lane / 4, t = lane % 4;
#pragma unroll
        for (int i = 0; i < BLOCKS; i++) {
            const int column = i % 3 == 0 ? g : 2 * t + i % 3 - 1;
            block[i] = columns.input[FEW ? column * W / 8 : 8 * (i / 3) + column] * n;
        }
    }
};

/* Super-block b of the rows. */
template <int TYPE, int W>
DEVICE void load_rows(const struct product &p, const struct lane_rows<W> &rows, uint32_t b, int lane,
                      typename sums_of<TYPE, W>::type::inputs *in)
{
    const struct act_block *block[lane_rows<W>::BLOCKS];
#pragma unroll
    for (int i = 0; i < lane_rows<W>::BLOCKS; i++)
        block[i] = p.act + rows.block[i] + b;
    in->load(block, lane);
}
/* The segments of up to TOGETHER units' sixteens: their super-blocks in sequence. in: the segment's first
 * super-block of one batch row, and again when it returns: the next one is read while one is multiplied. For
 * more rows that would take more registers, and reads past the end, than it gives. */
template <int TYPE, int W, class PLAN>
DEVICE void add_segments(const struct product &p, const struct lane_rows<W> &rows,
                         struct warp_reader<TYPE, PLAN> *reader, uint32_t n_units,
                         typename sums_of<TYPE, W>::type::inputs *in,
                         typename sums_of<TYPE, W>::type sums[PLAN::TOGETHER])
{
    const uint32_t first = reader->route.first, last = reader->route.last;
    for (uint32_t b = first; b <= last; b++) {
        typename sums_of<TYPE, W>::type::inputs next;
        if (W == 1)
            load_rows<TYPE, W>(p, rows, b < last ? b + 1 : first, reader->lane, &next);
        else
            load_rows<TYPE, W>(p, rows, b, reader->lane, in);
        const uint32_t left = p.n_in / SUB_BLOCK - 8 * b;
#pragma unroll
        for (int k = 0; k < PLAN::TOGETHER; k++)
            if (k == 0 || (uint32_t)k < n_units)
                sums[k].add(reader->next(), reader->lane, left < 8 ? (int)left : 8, *in);
        if (W == 1)
            *in = next;
    }
}

template <int TYPE, class PLAN>
DEVICE struct warp_reader<TYPE, PLAN> reader_of_warp(const struct product &p, const struct place &place,
                                                     const struct spread &spread, uint8_t *rings)
{
    const uint32_t warp = threadIdx.x / LANES, share = warp % spread.warps, part = warp / spread.warps;
    const bool whole = spread.n >= SEGMENTS;
    const struct units<PLAN::TOGETHER> units(units_of(p.n_in, p.n_out), place);
    const uint32_t first = whole ? first_of_segment(spread.n, share) : share;
    const uint32_t last = whole ? first_of_segment(spread.n, share + 1) - 1 : share;
    return {p.weights,
            rings + warp * PLAN::STAGES * tile<TYPE>::BYTES,
            {units, first, last, part, spread.tiles, part < spread.tiles ? sixteens_of(p.n_out) : 0},
            {0, 0, first},
            spread.n,
            (int)threadIdx.x % LANES,
            0,
            0};
}

/* The block's units, some at a time. */
template <int TYPE, int W, class PLAN>
DEVICE void add_units(const struct product &p, const struct columns<W> &columns, const struct spread &spread,
                      struct warp_reader<TYPE, PLAN> *reader, float *parts)
{
    const struct lane_rows<W> rows(columns, reader->lane, spread.n);
    const auto &route = reader->route;
    typename sums_of<TYPE, W>::type::inputs in;
    if (W == 1)
        load_rows<TYPE, W>(p, rows, route.first, reader->lane, &in);
    for (uint32_t unit = 0; unit < route.units.n; unit += PLAN::TOGETHER) {
        const uint32_t left = route.units.n - unit;
        const uint32_t n_units = left < (uint32_t)PLAN::TOGETHER ? left : (uint32_t)PLAN::TOGETHER;
        if (route.tile_at(unit) < route.n_tiles) {
            typename sums_of<TYPE, W>::type sums[PLAN::TOGETHER];
#pragma unroll
            for (int k = 0; k < PLAN::TOGETHER; k++)
                sums[k].clear();
            add_segments<TYPE, W, PLAN>(p, rows, reader, n_units, &in, sums);
#pragma unroll
            for (int k = 0; k < PLAN::TOGETHER; k++)
                sums[k].put(parts + ((uint32_t)k * PRODUCT_WARPS + threadIdx.x / LANES) * W * PARTS_STRIDE,
                            reader->lane);
        }
        __syncthreads();
        fold_parts<W>(p, columns, spread, route.units, parts, unit, n_units);
        parts = (unit & PLAN::TOGETHER) != 0 ? parts - PLAN::PARTS : parts + PLAN::PARTS;
    }
}

/* A block's place of a product; shared: PLAN::BYTES. */
template <int TYPE, int W, class PLAN>
DEVICE void multiply_tiles(const struct product &p, const struct place &place, uint8_t *shared)
{
    auto *columns = columns_in<W>(shared);
    const struct spread spread = spread_of(p.n_in);
    struct warp_reader<TYPE, PLAN> reader =
        reader_of_warp<TYPE, PLAN>(p, place, spread, shared + PLAN::FIXED_BYTES);
    const bool routed = p.start != NULL;
    let_next_begin();
    if (!routed)
        reader.start();
    wait_for_earlier();
    find_columns(p, place.slot, columns);
    if (columns->n == 0)
        return;
    if (routed) {
        reader.weights += (size_t)columns->expert * sixteens_of(p.n_out) * spread.n * tile<TYPE>::BYTES;
        reader.start();
    }
    add_units<TYPE, W, PLAN>(p, *columns, spread, &reader, (float *)(void *)(shared + PLAN::COLUMNS_BYTES));
}

template <int TYPE, int W>
__global__ void __launch_bounds__(PRODUCT_THREADS, (tile_blocks<W>()))
    tile_product(__grid_constant__ const struct product p)
{
    DYNAMIC_SHARED(shared);
    multiply_tiles<TYPE, W, tile_plan<TYPE, W, tile_blocks<W>()>>(p, place_in_grid(), shared);
}

#endif
