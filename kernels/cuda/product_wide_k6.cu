/* product_wide_k6.cu - products of many rows with Q5_K, Q6_K and IQ4_XS. */
#include "kernels/cuda/product_wide_launch.cuh"

cudaError_t cuda_launch_product_wide_k6(const struct launch *launch)
{
    switch (launch->type) {
    case MTP_TYPE_Q5_K: return launch_wide_type<MTP_TYPE_Q5_K>(launch);
    case MTP_TYPE_Q6_K: return launch_wide_type<MTP_TYPE_Q6_K>(launch);
    case MTP_TYPE_IQ4_XS: return launch_wide_type<MTP_TYPE_IQ4_XS>(launch);
    default: return cudaErrorInvalidValue;
    }
}
