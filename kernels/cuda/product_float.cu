/* product_float.cu - products with float weights. */
#include "kernels/cuda/product_float.cuh"

#include "kernels/cuda/product_launch.h"

template <int TYPE>
static cudaError_t launch_float(const struct launch *launch)
{
    struct product p = launch->product;
    p.most = launch->alone ? 1 : FLOAT_COLUMNS;
    return cuda_launch_grid((const void *)float_product<TYPE>, &p,
                            (p.n_out + PRODUCT_WARPS - 1) / PRODUCT_WARPS, 8, 0, launch->stream);
}

cudaError_t cuda_launch_product_float(const struct launch *launch)
{
    switch (launch->type) {
    case MTP_TYPE_F32: return launch_float<MTP_TYPE_F32>(launch);
    case MTP_TYPE_F16: return launch_float<MTP_TYPE_F16>(launch);
    case MTP_TYPE_BF16: return launch_float<MTP_TYPE_BF16>(launch);
    default: return cudaErrorInvalidValue;
    }
}
