/* product_quantised.cuh - launches the kernels of one quantised type. */
#ifndef MTP_KERNELS_CUDA_PRODUCT_QUANTISED_CUH
#define MTP_KERNELS_CUDA_PRODUCT_QUANTISED_CUH

#include "kernels/cuda/product_launch.h"
#include "kernels/cuda/product_file.cuh"
#include "kernels/cuda/product_tile.cuh"

template <bool CLASS_K, int TYPE, int NT>
struct sums_of_class {
    using sums = sums_k<TYPE, NT>;
};
template <int TYPE, int NT>
struct sums_of_class<false, TYPE, NT> {
    using sums = sums_s<TYPE, NT>;
};

template <int TYPE, int NT>
static cudaError_t launch_tiles(const struct launch *launch)
{
    using plan = tile_plan<TYPE, NT>;
    using sums = typename sums_of_class<format<TYPE>::CLASS_K, TYPE, NT>::sums;
    struct product p = launch->product;
    p.most = launch->alone ? 1 : 8 * NT;
    const struct spread spread = spread_of(p.n_in);
    uint32_t n_tiles = (p.n_out + TILE_ROWS - 1) / TILE_ROWS;
    return cuda_launch_grid((const void *)tile_product<TYPE, NT, sums>, &p,
                            (n_tiles + spread.tiles - 1) / spread.tiles, plan::BLOCKS, plan::BYTES,
                            launch->stream);
}

template <int TYPE>
static cudaError_t launch_type(const struct launch *launch)
{
    if (launch->tiles)
        return launch->wide ? launch_tiles<TYPE, 2>(launch) : launch_tiles<TYPE, 1>(launch);
    struct product p = launch->product;
    p.most = launch->alone ? 1 : FILE_COLUMNS;
    return cuda_launch_grid((const void *)file_product<TYPE>, &p, p.n_out, 8, 0, launch->stream);
}

#endif
