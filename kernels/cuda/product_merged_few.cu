/* product_merged_few.cu - several products in one launch: one and two batch rows. */
#include "kernels/cuda/product_merged_launch.cuh"

cudaError_t cuda_launch_merged_few(const struct launch *launches, int n, int rows, cudaStream_t stream)
{
    return rows <= 1 ? launch_merged<1, 1>(launches, n, stream) : launch_merged<2, 2>(launches, n, stream);
}
