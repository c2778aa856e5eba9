/* product_merged_more.cu - several products in one launch: three to eight batch rows. */
#include "kernels/cuda/product_merged_launch.cuh"

cudaError_t cuda_launch_merged_more(const struct launch *launches, int n, int rows, cudaStream_t stream)
{
    return rows <= 4 ? launch_merged<4, 2>(launches, n, stream) : launch_merged<8, 2>(launches, n, stream);
}
