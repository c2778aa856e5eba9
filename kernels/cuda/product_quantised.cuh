/* product_quantised.cuh - launches the kernels of one quantised type. */
#ifndef MTP_KERNELS_CUDA_PRODUCT_QUANTISED_CUH
#define MTP_KERNELS_CUDA_PRODUCT_QUANTISED_CUH

#include "kernels/cuda/product_launch.h"
#include "kernels/cuda/product_file.cuh"
#include "kernels/cuda/product_tile.cuh"

/* Activations are kept where there is room and enough units share them: those of experts are few. */
template <int TYPE, int W>
static uint32_t stages_that_keep(const struct launch *launch)
{
    const struct product *p = &launch->product;
    const uint32_t blocks = cuda_resident_blocks(kept_blocks<W>());
    const bool shared = p->start == NULL && units_of(p->n_in, p->n_out) >= KEPT_UNITS * blocks;
    const int stages = shared ? kept_plan<TYPE, W>::kept_stages(p->n_in) : 0;
    const size_t bytes = (size_t)kept_plan<TYPE, W>::kept_bytes(p->n_in, stages);
    return stages > 0 && cuda_allows_shared(bytes) ? (uint32_t)stages : 0;
}

template <int TYPE, int W>
static cudaError_t launch_tiles(const struct launch *launch)
{
    if constexpr (may_keep<W>())
        if (const uint32_t stages = stages_that_keep<TYPE, W>(launch)) {
            struct product p = launch->product;
            p.most = W;
            p.stages = stages;
            const size_t bytes = (size_t)kept_plan<TYPE, W>::kept_bytes(p.n_in, (int)stages);
            return cuda_launch_grid((const void *)kept_product<TYPE, W>, &p, units_of(p.n_in, p.n_out),
                                    kept_blocks<W>(), bytes, launch->stream);
        }
    constexpr int blocks = tile_blocks<W>();
    struct product p = launch->product;
    p.most = launch->alone ? 1 : W;
    using plan = tile_plan<TYPE, W, blocks>;
    uint32_t units = units_of(p.n_in, p.n_out);
    if (W == 16) { /* blocks of as many units each: side by side they would only take cache from each other */
        const uint32_t resident = cuda_resident_blocks(blocks);
        const uint32_t each = resident > 0 ? (units - 1) / resident + 1 : 1;
        units = (units + each - 1) / each;
    }
    return cuda_launch_grid((const void *)tile_product<TYPE, W>, &p, units, blocks,
                            plan::BYTES, launch->stream);
}

template <int TYPE>
static cudaError_t launch_type(const struct launch *launch)
{
    if (launch->tiles)
        switch (launch->sharing) {
        case 1: return launch_tiles<TYPE, 1>(launch);
        case 2: return launch_tiles<TYPE, 2>(launch);
        case 4: return launch_tiles<TYPE, 4>(launch);
        case 8: return launch_tiles<TYPE, 8>(launch);
        default: return launch_tiles<TYPE, 16>(launch);
        }
    struct product p = launch->product;
    p.most = launch->alone ? 1 : FILE_COLUMNS;
    return cuda_launch_grid((const void *)file_product<TYPE>, &p, p.n_out, 8, 0, launch->stream);
}

#endif
