/* product_k.cu - products with the K types and IQ4_XS. */
#include "kernels/cuda/product_quantised.cuh"

cudaError_t cuda_launch_product_k(const struct launch *launch)
{
    switch (launch->type) {
    case MTP_TYPE_Q2_K: return launch_type<MTP_TYPE_Q2_K>(launch);
    case MTP_TYPE_Q3_K: return launch_type<MTP_TYPE_Q3_K>(launch);
    case MTP_TYPE_Q4_K: return launch_type<MTP_TYPE_Q4_K>(launch);
    case MTP_TYPE_Q5_K: return launch_type<MTP_TYPE_Q5_K>(launch);
    case MTP_TYPE_Q6_K: return launch_type<MTP_TYPE_Q6_K>(launch);
    case MTP_TYPE_IQ4_XS: return launch_type<MTP_TYPE_IQ4_XS>(launch);
    default: return cudaErrorInvalidValue;
    }
}
