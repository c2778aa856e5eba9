/* tile_reader.cuh - a warp's way through the tiles of its segments: it reads ahead into its own ring, across
 * the ends of rows. */
#ifndef MTP_KERNELS_CUDA_TILE_READER_CUH
#define MTP_KERNELS_CUDA_TILE_READER_CUH

#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/tile.cuh"

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

/* What a warp has of a block's units: a segment of one sixteen of rows of each; of the last unit, perhaps
 * none. */
template <int TOGETHER>
struct route_of_warp {
    struct units<TOGETHER> units;
    uint32_t first, last; /* super-blocks of its segment */
    uint32_t part, n;     /* its sixteen of a unit's, units that have it */

    DEVICE route_of_warp(const struct product &p, const struct place &place, const struct spread &spread)
        : units(units_of(p.n_in, p.n_out), place)
    {
        const uint32_t warp = threadIdx.x / LANES, share = warp % spread.warps;
        const bool whole = spread.n >= SEGMENTS;
        first = whole ? first_of_segment(spread.n, share) : share;
        last = whole ? first_of_segment(spread.n, share + 1) - 1 : share;
        part = warp / spread.warps;
        n = part < spread.tiles ? units.n : 0;
        if (n > 0 && units.number(n - 1) * spread.tiles + part >= sixteens_of(p.n_out))
            n--;
    }
};

/* Copies this lane's part; both pointers are the lane's own. */
template <int TYPE>
DEVICE void copy_tile(uint8_t *shared, const uint8_t *weights, int lane)
{
#pragma unroll
    for (int at = 0; at < tile<TYPE>::BYTES; at += 16 * LANES)
        if (at + 16 * LANES <= tile<TYPE>::BYTES || at + 16 * lane < tile<TYPE>::BYTES)
            copy_async(shared + at, weights + at);
}

/* Until at most stages - 2 groups of copies are under way. */
template <class PLAN>
DEVICE void wait_for_oldest(int stages)
{
    if constexpr (!PLAN::KEPT)
        copy_wait<PLAN::STAGES - 2>();
    else if (stages == 2)
        copy_wait<0>();
    else if (stages == 3)
        copy_wait<1>();
    else
        copy_wait<2>();
}

template <int TYPE, class PLAN>
struct warp_reader {
    const uint8_t *from; /* the lane's part of the next tile to be asked for */
    size_t pitch, jump;  /* from a tile to the next unit's, from a segment's end to that of the next units */
    uint32_t blocks, blocks_left, units_left, together;
    uint8_t *ring;
    int lane, stages, free_at, stage_at;

    /* ring: of all warps. */
    DEVICE warp_reader(const struct product &p, const struct route_of_warp<PLAN::TOGETHER> &route,
                       const struct spread &spread, uint8_t *rings)
        : lane((int)threadIdx.x % LANES), stages(PLAN::KEPT ? (int)p.stages : (int)PLAN::STAGES), free_at(0),
          stage_at(0)
    {
        const size_t row_bytes = (size_t)spread.n * tile<TYPE>::BYTES;
        blocks = blocks_left = route.last - route.first + 1;
        units_left = route.n;
        together = 0;
        pitch = spread.tiles * row_bytes;
        jump = PLAN::TOGETHER * route.units.stride * pitch - (size_t)blocks * tile<TYPE>::BYTES;
        from = p.weights + route.units.number(0) * pitch + route.part * row_bytes +
               (size_t)route.first * tile<TYPE>::BYTES + 16 * lane;
        ring = rings + threadIdx.x / LANES * (uint32_t)(stages * tile<TYPE>::BYTES);
    }

    DEVICE int after(int at) const
    {
        return at + tile<TYPE>::BYTES == stages * tile<TYPE>::BYTES ? 0 : at + tile<TYPE>::BYTES;
    }

    /* Some units at a time, of those super-block by super-block. */
    DEVICE void advance()
    {
        if constexpr (PLAN::TOGETHER > 1) {
            together++;
            if (together < PLAN::TOGETHER && together < units_left) {
                from += pitch;
                return;
            }
            from -= (together - 1) * pitch;
        }
        from += tile<TYPE>::BYTES;
        if (--blocks_left == 0) {
            blocks_left = blocks;
            from += jump;
            units_left -= PLAN::TOGETHER > 1 ? together : 1;
        }
        together = 0;
    }

    /* Every call is one group of copies, an empty one past the end. */
    DEVICE void read_ahead()
    {
        if (units_left > 0) {
            copy_tile<TYPE>(ring + free_at + 16 * lane, from, lane);
            advance();
        }
        copy_commit();
        free_at = after(free_at);
    }

    DEVICE void start()
    {
        for (int i = 0; i < stages - 1; i++)
            read_ahead();
    }

    /* The oldest tile; the one before it is given up. */
    DEVICE const uint8_t *next()
    {
        wait_for_oldest<PLAN>(stages);
        __syncwarp();
        read_ahead();
        const uint8_t *at = ring + stage_at;
        stage_at = after(stage_at);
        return at;
    }
};

#endif
