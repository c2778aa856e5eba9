/* products.h - the launchers of the matrix products. */
#ifndef MTP_KERNELS_CUDA_PRODUCTS_H
#define MTP_KERNELS_CUDA_PRODUCTS_H

#include <cuda_runtime_api.h>

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

cudaError_t cuda_launch_matmul(const struct matmul_args *args, cudaStream_t stream);
cudaError_t cuda_launch_expert_matmul(const struct expert_matmul_args *args, cudaStream_t stream);

/* Bytes of the packed form of w; 0 when the products read the file's. */
size_t cuda_pack_bytes(const struct weight *w);
/* Arranges n_rows rows of the file (of row_bytes each, in the device's memory) in dst, the packed form
 * of the whole of w. Rows are counted over all experts: expert * n_out + row; a piece begins at a
 * multiple of 16 of its expert's rows. */
cudaError_t cuda_launch_pack(const struct weight *w, const void *file_rows, void *dst,
                             uint64_t first_row, uint64_t n_rows, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
