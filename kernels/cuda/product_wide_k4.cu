/* product_wide_k4.cu - products of many rows with the K types of two to four bits. */
#include "kernels/cuda/product_wide_launch.cuh"

cudaError_t cuda_launch_product_wide_k4(const struct launch *launch)
{
    switch (launch->type) {
    case MTP_TYPE_Q2_K: return launch_wide_type<MTP_TYPE_Q2_K>(launch);
    case MTP_TYPE_Q3_K: return launch_wide_type<MTP_TYPE_Q3_K>(launch);
    case MTP_TYPE_Q4_K: return launch_wide_type<MTP_TYPE_Q4_K>(launch);
    default: return cudaErrorInvalidValue;
    }
}
