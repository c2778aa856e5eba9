/* product_tile.cuh - products with weights laid in tiles (tile.cuh). Eight warps are the eight segments
 * of sixteen weight rows; of rows with fewer super-blocks than segments, the warps share out several
 * sixteens. A warp reads ahead into its own ring of tiles, across the ends of rows. */
#ifndef MTP_KERNELS_CUDA_PRODUCT_TILE_CUH
#define MTP_KERNELS_CUDA_PRODUCT_TILE_CUH

#include "kernels/cuda/sums.cuh"

/* Shared memory of a multiprocessor of compute capability 9.0; and what a block may have on every one since
 * 8.0, so that the kernels run there too, though fewer at a time. */
enum { SHARED_BYTES = 227 * 1024, SHARED_OF_BLOCK = 99 * 1024, PARTS_STRIDE = 20 };

template <int TYPE, int NT>
struct tile_plan {
    /* Of threads, on a multiprocessor: as many as registers allow. */
    static constexpr int BLOCKS = NT == 1 && format<TYPE>::CLASS_K ? 3 : 2;
    /* Sums of the warps, twice: while one is folded the other is filled. */
    static constexpr int PARTS = PRODUCT_WARPS * 8 * NT * PARTS_STRIDE;
    static constexpr int PARTS_BYTES = 2 * PARTS * (int)sizeof(float);
    static constexpr int SHARE = SHARED_BYTES / BLOCKS - 1024;
    static constexpr int MOST_BYTES = SHARE < (int)SHARED_OF_BLOCK ? SHARE : (int)SHARED_OF_BLOCK;
    static constexpr int ROOM = MOST_BYTES - 512 - PARTS_BYTES;
    static constexpr int FIT = ROOM / (PRODUCT_WARPS * tile<TYPE>::BYTES);
    /* With sixteen batch rows, what is not taken serves better as first cache of the activations. */
    static constexpr int MOST = NT == 1 ? 4 : 3;
    static constexpr int STAGES = FIT < 2 ? 2 : FIT > MOST ? MOST : FIT;
    static constexpr int BYTES = PARTS_BYTES + PRODUCT_WARPS * STAGES * tile<TYPE>::BYTES;
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

/* A warp's way through its tiles: super-blocks first..end-1 of every `step`-th sixteen of rows. */
struct walk {
    uint32_t tile, block;
};
struct route_of_warp {
    uint32_t first, end, step, n_tiles;

    DEVICE void advance(struct walk *at) const
    {
        at->block++;
        if (at->block == end) {
            at->block = first;
            at->tile += step;
        }
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

template <int TYPE, int NT>
struct warp_reader {
    const uint8_t *weights;
    uint8_t *ring;
    struct route_of_warp route;
    struct walk ahead;
    uint32_t n_blocks;
    int lane, free_stage, stage;

    /* Every call is one group of copies, an empty one past the end. */
    DEVICE void read_ahead()
    {
        if (ahead.tile < route.n_tiles) {
            size_t at = ((size_t)ahead.tile * n_blocks + ahead.block) * tile<TYPE>::BYTES;
            copy_tile<TYPE>(ring + free_stage * tile<TYPE>::BYTES, weights + at, lane);
            route.advance(&ahead);
        }
        copy_commit();
        free_stage = free_stage + 1 == tile_plan<TYPE, NT>::STAGES ? 0 : free_stage + 1;
    }

    DEVICE void start()
    {
        free_stage = stage = 0;
        for (int i = 0; i < tile_plan<TYPE, NT>::STAGES - 1; i++)
            read_ahead();
    }

    /* The oldest tile; the one before it is given up. */
    DEVICE const uint8_t *next()
    {
        copy_wait<tile_plan<TYPE, NT>::STAGES - 2>();
        __syncwarp();
        read_ahead();
        const uint8_t *at = ring + stage * tile<TYPE>::BYTES;
        stage = stage + 1 == tile_plan<TYPE, NT>::STAGES ? 0 : stage + 1;
        return at;
    }
};

/* Puts a lane's sums where fold_parts finds them: [warp][batch row][weight row]. */
template <int NT, class SUMS>
DEVICE void put_parts(float *parts, int warp, int lane, const SUMS &sums)
{
#pragma unroll
    for (int nt = 0; nt < NT; nt++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int column = 8 * nt + 2 * (lane % 4) + i % 2, row = lane / 4 + 8 * (i / 2);
            parts[(warp * 8 * NT + column) * PARTS_STRIDE + row] = sums.result(nt, i);
        }
}

/* Folds the segments of the sixteens from `tile` on and stores the results. */
template <int NT>
DEVICE void fold_parts(const struct product &p, const struct columns<8 * NT> &columns,
                       const struct spread &spread, const float *parts, uint32_t tile)
{
    const uint32_t n = TILE_ROWS * 8 * NT * spread.tiles;
    for (uint32_t i = threadIdx.x; i < n; i += PRODUCT_THREADS) {
        uint32_t row = i % TILE_ROWS, column = i / TILE_ROWS % (8 * NT), part = i / (TILE_ROWS * 8 * NT);
        uint32_t output = (tile + part) * TILE_ROWS + row;
        if ((int32_t)column >= columns.n || output >= p.n_out)
            continue;
        float v[SEGMENTS];
#pragma unroll
        for (uint32_t s = 0; s < SEGMENTS; s++) {
            uint32_t begin = first_of_segment(spread.n, s);
            bool empty = begin == first_of_segment(spread.n, s + 1);
            uint32_t warp = part * spread.warps + (spread.n < SEGMENTS ? begin : s);
            v[s] = empty ? 0.0f : parts[(warp * 8 * NT + column) * PARTS_STRIDE + row];
        }
        p.y[columns.output[column] * p.y_stride + output] = fold_eight(v);
    }
}

/* The batch rows a lane needs, as numbers of their first super-blocks. */
template <int NT>
struct lane_rows {
    uint32_t block[NT][3];
};
template <int NT>
DEVICE struct lane_rows<NT> rows_of_lane(const struct columns<8 * NT> &columns, int lane, uint32_t n)
{
    struct lane_rows<NT> rows;
#pragma unroll
    for (int nt = 0; nt < NT; nt++) {
        rows.block[nt][0] = columns.input[8 * nt + lane / 4] * n;
        rows.block[nt][1] = columns.input[8 * nt + 2 * (lane % 4)] * n;
        rows.block[nt][2] = columns.input[8 * nt + 2 * (lane % 4) + 1] * n;
    }
    return rows;
}

/* A segment of sixteen rows: its super-blocks in sequence. */
template <int TYPE, int NT, class SUMS>
DEVICE void add_segment(const struct product &p, const struct lane_rows<NT> &rows,
                        struct warp_reader<TYPE, NT> *reader, SUMS *sums)
{
    const int lane = reader->lane;
    for (uint32_t b = reader->route.first; b < reader->route.end; b++) {
        const struct act_block *block[NT][3];
#pragma unroll
        for (int i = 0; i < 3 * NT; i++)
            block[i / 3][i % 3] = p.act + rows.block[i / 3][i % 3] + b;
        struct lane_inputs<NT> in;
        load_inputs<TYPE, NT>(block, lane % 4, &in);
        uint32_t left = p.n_in / SUB_BLOCK - 8 * b;
        sums->add(reader->next(), lane, left < 8 ? (int)left : 8, in);
    }
}

template <int TYPE, int NT>
DEVICE struct warp_reader<TYPE, NT> reader_of_warp(const struct product &p, const struct spread &spread,
                                                   uint8_t *shared)
{
    const uint32_t warp = threadIdx.x / LANES, part = warp / spread.warps, share = warp % spread.warps;
    const uint32_t n_tiles = (p.n_out + TILE_ROWS - 1) / TILE_ROWS;
    struct warp_reader<TYPE, NT> r;
    r.weights = p.weights;
    r.ring = shared + warp * tile_plan<TYPE, NT>::STAGES * tile<TYPE>::BYTES;
    bool whole = spread.n >= SEGMENTS;
    r.route.first = whole ? first_of_segment(spread.n, share) : share;
    r.route.end = whole ? first_of_segment(spread.n, share + 1) : share + 1;
    r.route.step = gridDim.y * spread.tiles;
    r.route.n_tiles = part < spread.tiles ? n_tiles : 0;
    r.ahead.tile = blockIdx.y * spread.tiles + part;
    r.ahead.block = r.route.first;
    r.n_blocks = spread.n;
    r.lane = (int)threadIdx.x % LANES;
    return r;
}

/* Block (x, y): slot x, every gridDim.y-th group of sixteens from y on. */
template <int TYPE, int NT, class SUMS>
__global__ void __launch_bounds__(PRODUCT_THREADS, (tile_plan<TYPE, NT>::BLOCKS))
    tile_product(const struct product p)
{
    __shared__ struct columns<8 * NT> columns;
    DYNAMIC_SHARED(shared);
    using plan = tile_plan<TYPE, NT>;
    const struct spread spread = spread_of(p.n_in);
    const uint32_t n_tiles = (p.n_out + TILE_ROWS - 1) / TILE_ROWS;
    const int warp = (int)threadIdx.x / LANES;
    float *parts = (float *)(void *)shared;
    struct warp_reader<TYPE, NT> reader = reader_of_warp<TYPE, NT>(p, spread, shared + plan::PARTS_BYTES);
    const bool routed = p.start != NULL;
    let_next_begin();
    if (!routed)
        reader.start();
    wait_for_earlier();
    find_columns(p, &columns);
    if (columns.n == 0)
        return;
    if (routed) {
        reader.weights += (size_t)columns.expert * n_tiles * spread.n * tile<TYPE>::BYTES;
        reader.start();
    }
    const struct lane_rows<NT> rows = rows_of_lane<NT>(columns, reader.lane, spread.n);
    int filled = 0;
    for (uint32_t at = blockIdx.y * spread.tiles; at < n_tiles; at += gridDim.y * spread.tiles) {
        if (at + warp / spread.warps < reader.route.n_tiles) {
            SUMS sums;
            sums.clear();
            add_segment(p, rows, &reader, &sums);
            put_parts<NT>(parts + filled * plan::PARTS, warp, reader.lane, sums);
        }
        __syncthreads();
        fold_parts<NT>(p, columns, spread, parts + filled * plan::PARTS, at);
        filled ^= 1;
    }
}

#endif
