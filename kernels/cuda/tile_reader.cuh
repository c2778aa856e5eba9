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

/* What a warp has of the units of its block: a segment of one sixteen of rows of each; of the last unit,
 * perhaps none. */
struct route_of_warp {
    uint32_t first_unit, stride, units; /* the block's: every `stride`th */
    uint32_t first, last;               /* super-blocks of its segment */
    uint32_t part, n;                   /* its sixteen of a unit's, units that have it */

    DEVICE route_of_warp(const struct product &p, const struct place &place, const struct spread &spread)
        : first_unit(place.number), stride(place.count), units(0)
    {
        const uint32_t warp = threadIdx.x / LANES, share = warp % spread.warps;
        const uint32_t of_all = units_of(p.n_in, p.n_out);
        const bool whole = spread.n >= SEGMENTS;
        if (first_unit < of_all)
            units = (of_all - first_unit + stride - 1) / stride;
        first = whole ? first_of_segment(spread.n, share) : share;
        last = whole ? first_of_segment(spread.n, share + 1) - 1 : share;
        part = warp / spread.warps;
        n = part < spread.tiles ? units : 0;
        if (n > 0 && number(n - 1) * spread.tiles + part >= sixteens_of(p.n_out))
            n--;
    }
    DEVICE uint32_t number(uint32_t unit) const
    {
        return unit * stride + first_unit;
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

/* Until at most stages - 2 groups of copies are under way, or fewer. */
template <class PLAN>
DEVICE void wait_for_oldest(int stages)
{
    if constexpr (!PLAN::KEPT)
        copy_wait<PLAN::STAGES - 2>();
    else if (stages == 2)
        copy_wait<0>();
    else
        copy_wait<1>();
}

template <int TYPE, class PLAN>
struct warp_reader {
    const uint8_t *from; /* the lane's part of the next tile to be asked for */
    size_t jump;         /* from the end of a segment to that of the next unit */
    uint32_t blocks, blocks_left, units_left;
    uint8_t *ring;
    int lane, stages, ring_bytes;
    int oldest, given_up; /* where in the ring tiles are */

    /* shared + rings: where those of all warps begin. */
    DEVICE warp_reader(const struct product &p, const struct route_of_warp &route,
                       const struct spread &spread, uint8_t *shared, uint32_t rings)
        : lane((int)threadIdx.x % LANES), stages(PLAN::KEPT ? (int)p.stages : (int)PLAN::STAGES), oldest(0)
    {
        const size_t row_bytes = (size_t)spread.n * tile<TYPE>::BYTES, unit_bytes = spread.tiles * row_bytes;
        blocks = blocks_left = route.last - route.first + 1;
        units_left = route.n;
        jump = route.stride * unit_bytes - (size_t)blocks * tile<TYPE>::BYTES;
        from = p.weights + route.first_unit * unit_bytes + route.part * row_bytes +
               (size_t)route.first * tile<TYPE>::BYTES + 16 * lane;
        ring_bytes = stages * tile<TYPE>::BYTES;
        ring = shared + kept_number(rings + threadIdx.x / LANES * (uint32_t)ring_bytes);
    }

    /* Every call is one group of copies, an empty one past the end. */
    DEVICE void read_ahead(int to)
    {
        if (units_left > 0) {
            copy_tile<TYPE>(ring + to + 16 * lane, from, lane);
            from += tile<TYPE>::BYTES;
            if (--blocks_left == 0) {
                blocks_left = blocks;
                from += jump;
                units_left--;
            }
        }
        copy_commit();
    }

    DEVICE void start()
    {
        given_up = 0;
        for (int i = 0; i < stages - 1; i++, given_up += tile<TYPE>::BYTES)
            read_ahead(given_up);
    }

    /* The oldest tile; the one before it is given up. */
    DEVICE const uint8_t *next()
    {
        wait_for_oldest<PLAN>(stages);
        __syncwarp();
        read_ahead(given_up);
        given_up = oldest;
        oldest += tile<TYPE>::BYTES;
        if (oldest == ring_bytes)
            oldest = 0;
        return ring + given_up;
    }
};

#endif
