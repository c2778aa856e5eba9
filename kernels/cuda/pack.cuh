/* pack.cuh - the kernel that lays weights in tiles: a warp a tile. */
#ifndef MTP_KERNELS_CUDA_PACK_CUH
#define MTP_KERNELS_CUDA_PACK_CUH

#include "kernels/cuda/tile.cuh"

/* Sixteens first .. first + n - 1 of the matrix, counted over all experts, each of n_blocks
 * super-blocks; file_rows begins with the first one's first row. */
struct packing {
    const uint8_t *file_rows;
    uint8_t *dst;
    size_t row_bytes;
    uint64_t first, n;
    uint32_t n_out, n_subs, n_blocks;
};

/* The row of all experts with which a sixteen begins. */
HOST_DEVICE uint64_t row_of_sixteen(uint64_t sixteen, uint32_t n_out)
{
    uint64_t of_expert = (n_out + TILE_ROWS - 1) / TILE_ROWS;
    return sixteen / of_expert * n_out + sixteen % of_expert * TILE_ROWS;
}

template <int TYPE>
__global__ void pack_tiles(const struct packing p)
{
    const uint64_t warp = ((uint64_t)blockIdx.x * 256 + threadIdx.x) / LANES;
    if (warp >= p.n * p.n_blocks)
        return;
    const uint64_t sixteen = p.first + warp / p.n_blocks, row = row_of_sixteen(sixteen, p.n_out);
    const uint32_t block = (uint32_t)(warp % p.n_blocks);
    const uint32_t left = p.n_out - (uint32_t)(row % p.n_out), subs = p.n_subs - 8 * block;
    const uint8_t *from = p.file_rows + (row - row_of_sixteen(p.first, p.n_out)) * p.row_bytes +
                          (size_t)block * format<TYPE>::SUPER_BYTES;
    pack_lane<TYPE>(p.dst + (sixteen * p.n_blocks + block) * tile<TYPE>::BYTES, (int)threadIdx.x % LANES,
                    from, p.row_bytes, left < TILE_ROWS ? (int)left : TILE_ROWS,
                    subs < 8 ? (int)subs : 8);
}

#endif
