/* product_iq.cu - products with the types of looked-up magnitudes. */
#include "kernels/cuda/product_quantised.cuh"

cudaError_t cuda_launch_product_iq(const struct launch *launch)
{
    switch (launch->type) {
    case MTP_TYPE_IQ2_XXS: return launch_type<MTP_TYPE_IQ2_XXS>(launch);
    case MTP_TYPE_IQ2_XS: return launch_type<MTP_TYPE_IQ2_XS>(launch);
    case MTP_TYPE_IQ2_S: return launch_type<MTP_TYPE_IQ2_S>(launch);
    case MTP_TYPE_IQ3_XXS: return launch_type<MTP_TYPE_IQ3_XXS>(launch);
    case MTP_TYPE_IQ3_S: return launch_type<MTP_TYPE_IQ3_S>(launch);
    default: return cudaErrorInvalidValue;
    }
}
