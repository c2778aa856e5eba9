/* products_absent.cu - stands in for the matrix products, which this backend does not have yet. */
#include "kernels/cuda/products.h"

cudaError_t cuda_launch_matmul(const struct matmul_args *args, cudaStream_t stream)
{
    (void)args;
    (void)stream;
    return cudaErrorNotSupported;
}

cudaError_t cuda_launch_expert_matmul(const struct expert_matmul_args *args, cudaStream_t stream)
{
    (void)args;
    (void)stream;
    return cudaErrorNotSupported;
}

size_t cuda_pack_bytes(const struct weight *w)
{
    (void)w;
    return 0;
}

cudaError_t cuda_launch_pack(const struct weight *w, const void *file_rows, void *dst,
                             uint64_t first_row, uint64_t n_rows, cudaStream_t stream)
{
    (void)w;
    (void)file_rows;
    (void)dst;
    (void)first_row;
    (void)n_rows;
    (void)stream;
    return cudaErrorNotSupported;
}
