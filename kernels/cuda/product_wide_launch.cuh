/* product_wide_launch.cuh - launches the kernels of product_wide.cuh for one type. */
#ifndef MTP_KERNELS_CUDA_PRODUCT_WIDE_LAUNCH_CUH
#define MTP_KERNELS_CUDA_PRODUCT_WIDE_LAUNCH_CUH

#include "kernels/cuda/product_launch.h"
#include "kernels/cuda/product_wide.cuh"

template <int TYPE, class SHAPE>
static cudaError_t launch_wide(const struct launch *launch)
{
    struct product p = launch->product;
    p.most = SHAPE::COLUMNS;
    uint32_t n_tiles = (p.n_out + TILE_ROWS - 1) / TILE_ROWS;
    return cuda_launch_blocks((const void *)wide_product<TYPE, SHAPE>, &p,
                              (n_tiles + SHAPE::TILES - 1) / SHAPE::TILES, SHAPE::BLOCKS, SHAPE::BYTES,
                              launch->stream);
}

/* Batch rows a block takes: 32, 64 or 128. */
template <int TYPE>
static cudaError_t launch_wide_type(const struct launch *launch)
{
    if constexpr (format<TYPE>::CLASS_K) {
        if (launch->columns > 64)
            return launch_wide<TYPE, wide_shape<TYPE, 4, 4, 2, 1>>(launch);
        if (launch->columns > 32)
            return launch_wide<TYPE, wide_shape<TYPE, 2, 4, 4, 2>>(launch);
        return launch_wide<TYPE, wide_shape<TYPE, 2, 4, 8, 2>>(launch);
    } else {
        if (launch->columns > 32)
            return launch_wide<TYPE, wide_shape<TYPE, 1, 4, 4, 1>>(launch);
        return launch_wide<TYPE, wide_shape<TYPE, 1, 4, 8, 1>>(launch);
    }
}

#endif
