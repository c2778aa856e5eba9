/* product_float.cu - products with float weights. */
#include "kernels/cuda/product_float.cuh"

#include "kernels/cuda/product_launch.h"

template <int TYPE>
static cudaError_t launch_float(const struct launch *launch)
{
    struct product p = launch->product;
    const bool one = launch->alone || launch->sharing == 1;
    p.most = one ? 1 : FLOAT_COLUMNS;
    return cuda_launch_grid(one ? (const void *)float_product_1<TYPE> : (const void *)float_product<TYPE>, &p,
                            (p.n_out + PRODUCT_WARPS - 1) / PRODUCT_WARPS, one ? 4 : 3, 0, launch->stream);
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
