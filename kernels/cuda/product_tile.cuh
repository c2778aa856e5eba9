/* product_tile.cuh - products with weights laid in tiles (tile.cuh), up to W = 1, 2, 4, 8 or 16 batch rows at
 * a time. Eight warps are the eight segments of sixteen weight rows; of rows with fewer super-blocks than
 * segments, the warps share out several sixteens. A warp reads ahead into its own ring of tiles
 * (tile_reader.cuh). Activations are read with every tile or, of four and eight rows, kept in shared memory
 * where there is room for them (kept_rows.cuh). */
#ifndef MTP_KERNELS_CUDA_PRODUCT_TILE_CUH
#define MTP_KERNELS_CUDA_PRODUCT_TILE_CUH

#include "kernels/cuda/kept_rows.cuh"
#include "kernels/cuda/sums_few.cuh"
#include "kernels/cuda/tile_reader.cuh"

/* Shared memory of a multiprocessor of compute capability 9.0; and what a block may have on every one since
 * 8.0, so that the kernels run there too, though fewer at a time. */
enum { SHARED_BYTES = 227 * 1024, SHARED_OF_BLOCK = 99 * 1024 };

/* Blocks of threads on a multiprocessor: as many as registers allow. */
template <int W>
HOST_DEVICE constexpr int tile_blocks()
{
    return W < 8 ? 3 : 2;
}

/* The same where activations are kept. */
template <int W>
HOST_DEVICE constexpr int kept_blocks()
{
    return W <= 2 ? 3 : 2;
}
/* Of two rows the copies cost as much as they save; of more they pay where a block has at least KEPT_UNITS
 * units of weight rows (docs/performance.md). */
enum { KEPT_UNITS = 3 };
template <int W>
HOST_DEVICE constexpr bool may_keep()
{
    return W == 4 || W == 8;
}

/* What a lane adds up, by class and number of batch rows. */
template <int TYPE, int W, bool KEPT, bool CLASS_K = format<TYPE>::CLASS_K, bool FEW = (W < 8)>
struct sums_of;
template <int TYPE, int W, bool KEPT>
struct sums_of<TYPE, W, KEPT, true, true> {
    using type = few_sums_k<TYPE, W, KEPT>;
};
template <int TYPE, int W, bool KEPT>
struct sums_of<TYPE, W, KEPT, false, true> {
    using type = few_sums_s<TYPE, W>;
};
template <int TYPE, int W, bool KEPT>
struct sums_of<TYPE, W, KEPT, true, false> {
    using type = sums_k<TYPE, W / 8, KEPT>;
};
template <int TYPE, int W, bool KEPT>
struct sums_of<TYPE, W, KEPT, false, false> {
    using type = sums_s<TYPE, W / 8>;
};

template <int TYPE, int W, int BLOCKS, bool KEEPS = false>
struct tile_plan {
    static constexpr bool KEPT = KEEPS;
    using sums = typename sums_of<TYPE, W, KEPT>::type;
    static constexpr int COLUMNS_BYTES = ((int)sizeof(struct columns<W>) + 15) / 16 * 16;
    /* Sums of the warps, twice: while one is folded the other is filled. */
    static constexpr int PARTS = PRODUCT_WARPS * W * PARTS_STRIDE;
    static constexpr int FIXED_BYTES = COLUMNS_BYTES + 2 * PARTS * (int)sizeof(float);
    static constexpr int SHARE = SHARED_BYTES / BLOCKS - 1024;
    static constexpr int MOST_BYTES = SHARE < (int)SHARED_OF_BLOCK ? SHARE : (int)SHARED_OF_BLOCK;
    static constexpr int STAGE_BYTES = PRODUCT_WARPS * tile<TYPE>::BYTES;
    static constexpr int FIT = (MOST_BYTES - FIXED_BYTES) / STAGE_BYTES;
    /* With eight and more batch rows, what is not taken serves better as first cache of the activations. */
    static constexpr int MOST = W < 8 ? 6 : 3;
    static constexpr int STAGES = FIT < 2 ? 2 : FIT > MOST ? MOST : FIT;
    static constexpr int BYTES = FIXED_BYTES + STAGES * STAGE_BYTES;

    /* Where activations are kept: bytes before the rings, and stages, 0 where there is no room. */
    HOST_DEVICE static int bytes_before(uint32_t n_in)
    {
        return FIXED_BYTES + (int)kept_rows<W>::bytes_of(spread_of(n_in).n);
    }
    HOST_DEVICE static int kept_stages(uint32_t n_in)
    {
        const int fit = ((int)SHARE - bytes_before(n_in)) / (int)STAGE_BYTES;
        return fit < 2 ? 0 : fit > 3 ? 3 : fit;
    }
    HOST_DEVICE static int kept_bytes(uint32_t n_in, int stages)
    {
        return bytes_before(n_in) + stages * (int)STAGE_BYTES;
    }
};

/* Folds the segments of one of the block's units, and stores the results. */
template <int W>
DEVICE void fold_parts(const struct product &p, const struct columns<W> &columns, const struct spread &spread,
                       const float *parts, uint32_t unit_number)
{
    const uint32_t n = TILE_ROWS * W * spread.tiles;
    for (uint32_t i = threadIdx.x; i < n; i += PRODUCT_THREADS) {
        uint32_t row = i % TILE_ROWS, column = i / TILE_ROWS % W, part = i / (TILE_ROWS * W);
        uint32_t output = (unit_number * spread.tiles + part) * TILE_ROWS + row;
        if ((int32_t)column >= columns.n || output >= p.n_out)
            continue;
        float v[SEGMENTS];
#pragma unroll
        for (uint32_t s = 0; s < SEGMENTS; s++) {
            uint32_t begin = first_of_segment(spread.n, s);
            bool empty = begin == first_of_segment(spread.n, s + 1);
            uint32_t warp = part * spread.warps + (spread.n < SEGMENTS ? begin : s);
            v[s] = empty ? 0.0f : parts[(warp * W + column) * PARTS_STRIDE + row];
        }
        p.y[columns.output[column] * p.y_stride + output] = fold_eight(v);
    }
}

/* The batch rows a lane needs: of row g the quants, of the rows whose sums it has the scales. */
template <int TYPE, int W, class PLAN>
struct lane_rows {
    static constexpr bool FEW = W < 8;
    static constexpr int NT = W > 8 ? W / 8 : 1, ROWS = FEW ? 2 : 3 * NT;
    const struct act_block *act;
    uint32_t block[ROWS];    /* numbers of the rows' first super-blocks */
    struct row_at row[ROWS]; /* or where the segment's first ones are kept */
    struct halves_at halves; /* of few rows: twice the half that is column g's piece */
    uint32_t half_step[2];   /* to the next super-block: zeros stay */
    int lane;

    DEVICE lane_rows(const struct product &p, const struct columns<W> &columns, int lane, uint32_t n,
                     const uint8_t *kept, const uint8_t *zeros)
        : act(p.act), halves(), lane(lane)
    {
        const int g = lane / 4, t = lane % 4;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const int of_eight = i % 3 == 0 ? g : 2 * t + i % 3 - 1;
            const int column = FEW ? of_eight * W / 8 : 8 * (i / 3) + of_eight;
            if (PLAN::KEPT)
                row[i] = kept_rows<W>::row(kept, column);
            else
                block[i] = columns.input[column] * n;
        }
        if (PLAN::KEPT)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const bool own = t / 2 == (FEW ? g % 2 : h);
                halves.half[h] = own ? row[0].quants : zeros;
                half_step[h] = own ? (uint32_t)kept_rows<W>::BYTES : 0;
            }
    }

    /* Super-block b, of the segment the one number i. */
    DEVICE void load(uint32_t b, uint32_t i_of_segment, typename PLAN::sums::inputs *in) const
    {
        struct row_at at[ROWS];
        const uint32_t offset = i_of_segment * (uint32_t)kept_rows<W>::BYTES;
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            at[i] = PLAN::KEPT ? row_at{row[i].quants + offset, row[i].scales + offset}
                               : row_of_block(act + block[i] + b);
        struct halves_at apart = halves;
        if (PLAN::KEPT)
#pragma unroll
            for (int h = 0; h < 2; h++)
                apart.half[h] += i_of_segment * half_step[h];
        in->load(at, apart, lane);
    }
};

/* A segment of a sixteen: its super-blocks in sequence. in: the segment's first super-block of one batch row,
 * and again when it returns: the next one is read while one is multiplied. For more rows that would take more
 * registers, and reads past the end, than it gives. */
template <int TYPE, int W, class PLAN>
DEVICE void add_segment(const struct product &p, const struct lane_rows<TYPE, W, PLAN> &rows,
                        const struct route_of_warp &route, struct warp_reader<TYPE, PLAN> *reader,
                        typename PLAN::sums::inputs *in, typename PLAN::sums *sums)
{
    for (uint32_t b = route.first; b <= route.last; b++) {
        typename PLAN::sums::inputs next;
        if (W == 1)
            rows.load(b < route.last ? b + 1 : route.first, 0, &next);
        else
            rows.load(b, b - route.first, in);
        const uint32_t left = p.n_in / SUB_BLOCK - 8 * b;
        sums->add(reader->next(), reader->lane, left < 8 ? (int)left : 8, *in);
        if (W == 1)
            *in = next;
    }
}

/* The block's units, one by one. */
template <int TYPE, int W, class PLAN>
DEVICE void add_units(const struct product &p, const struct columns<W> &columns, const struct spread &spread,
                      const struct route_of_warp &route, struct warp_reader<TYPE, PLAN> *reader,
                      const uint8_t *kept, const uint8_t *zeros, float *parts)
{
    const struct lane_rows<TYPE, W, PLAN> rows(p, columns, reader->lane, spread.n, kept, zeros);
    typename PLAN::sums::inputs in;
    if (W == 1)
        rows.load(route.first, 0, &in);
    for (uint32_t unit = 0; unit < route.units; unit++) {
        if (unit < route.n) {
            typename PLAN::sums sums;
            sums.clear();
            add_segment<TYPE, W, PLAN>(p, rows, route, reader, &in, &sums);
            sums.put(parts + threadIdx.x / LANES * W * PARTS_STRIDE, reader->lane);
        }
        __syncthreads();
        fold_parts<W>(p, columns, spread, parts, route.number(unit));
        parts = unit % 2 != 0 ? parts - PLAN::PARTS : parts + PLAN::PARTS;
    }
}

/* A block's place of a product; shared: PLAN::BYTES, or kept_bytes. */
template <int TYPE, int W, class PLAN>
DEVICE void multiply_tiles(const struct product &p, const struct place &place, uint8_t *shared)
{
    auto *columns = columns_in<W>(shared);
    const struct spread spread = spread_of(p.n_in);
    const struct route_of_warp route(p, place, spread);
    uint8_t *area = shared + PLAN::FIXED_BYTES, *kept = area;
    const int rings = PLAN::KEPT ? PLAN::bytes_before(p.n_in) : (int)PLAN::FIXED_BYTES;
    struct warp_reader<TYPE, PLAN> reader(p, route, spread, shared, (uint32_t)rings);
    const bool routed = p.start != NULL;
    let_next_begin();
    if (!routed)
        reader.start();
    if (PLAN::KEPT)
        kept_rows<W>::write_zeros(area);
    wait_for_earlier();
    find_columns(p, place.slot, columns);
    if (columns->n == 0)
        return;
    if (routed) {
        reader.from += (size_t)columns->expert * sixteens_of(p.n_out) * spread.n * tile<TYPE>::BYTES;
        reader.start();
    }
    if constexpr (PLAN::KEPT) {
        kept = kept_rows<W>::of_warp(area, spread.n < SEGMENTS ? threadIdx.x / LANES : route.first);
        kept_rows<W>::copy(p, *columns, spread.n, route.first, route.last, kept, reader.lane);
        copy_wait<0>();
        __syncwarp();
    }
    add_units<TYPE, W, PLAN>(p, *columns, spread, route, &reader, kept, area + kept_rows<W>::ZEROS_AT,
                             (float *)(void *)(shared + PLAN::COLUMNS_BYTES));
}

template <int TYPE, int W>
__global__ void __launch_bounds__(PRODUCT_THREADS, (tile_blocks<W>()))
    tile_product(__grid_constant__ const struct product p)
{
    DYNAMIC_SHARED(shared);
    multiply_tiles<TYPE, W, tile_plan<TYPE, W, tile_blocks<W>()>>(p, place_in_grid(), shared);
}

/* The same with p.stages and activations that are kept. */
template <int TYPE, int W>
using kept_plan = tile_plan<TYPE, W, kept_blocks<W>(), true>;
template <int TYPE, int W>
__global__ void __launch_bounds__(PRODUCT_THREADS, (kept_blocks<W>()))
    kept_product(__grid_constant__ const struct product p)
{
    DYNAMIC_SHARED(shared);
    multiply_tiles<TYPE, W, kept_plan<TYPE, W>>(p, place_in_grid(), shared);
}

#endif
