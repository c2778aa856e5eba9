/* product_wide_s.cu - products of many rows with the types of class S. */
#include "kernels/cuda/product_wide_launch.cuh"

cudaError_t cuda_launch_product_wide_s(const struct launch *launch)
{
    switch (launch->type) {
    case MTP_TYPE_Q4_0: return launch_wide_type<MTP_TYPE_Q4_0>(launch);
    case MTP_TYPE_Q4_1: return launch_wide_type<MTP_TYPE_Q4_1>(launch);
    case MTP_TYPE_Q5_0: return launch_wide_type<MTP_TYPE_Q5_0>(launch);
    case MTP_TYPE_Q5_1: return launch_wide_type<MTP_TYPE_Q5_1>(launch);
    case MTP_TYPE_Q8_0: return launch_wide_type<MTP_TYPE_Q8_0>(launch);
    case MTP_TYPE_IQ4_NL: return launch_wide_type<MTP_TYPE_IQ4_NL>(launch);
    case MTP_TYPE_MXFP4: return launch_wide_type<MTP_TYPE_MXFP4>(launch);
    default: return cudaErrorInvalidValue;
    }
}
