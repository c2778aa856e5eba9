/* products.h - matrix products on a CUDA device, bit for bit those of kernels/cpu/scalar.
 *
 * All pointers in the arguments are in the device's memory, activations at 64 bytes as act_block demands,
 * packed weights at 16. Nothing is waited for, and nothing in the device's memory is read by the host:
 * every launch can be captured in a graph.
 *
 * A product may read its weights while earlier kernels of the stream still run; all else it reads, and all
 * it writes, after they have ended. So weights must be complete before a product is launched: synchronise
 * once after packing. Kernels launched after a product wait for it as usual. */
#ifndef MTP_KERNELS_CUDA_PRODUCTS_H
#define MTP_KERNELS_CUDA_PRODUCTS_H

#include <cuda_runtime_api.h>

#include "kernels/cuda/headers.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads w.packed->data where there is a packed form and it has been made, w.data otherwise. */
cudaError_t cuda_launch_matmul(const struct matmul_args *args, cudaStream_t stream);
cudaError_t cuda_launch_expert_matmul(const struct expert_matmul_args *args, cudaStream_t stream);
/* Products that do not depend on each other, as few launches as can be. */
cudaError_t cuda_launch_products(const struct products_args *args, cudaStream_t stream);

/* Bytes of all experts packed (kernels/cuda/tile.cuh); 0 for types that are used as in the file: F32,
 * F16, BF16. */
size_t cuda_pack_bytes(const struct weight *w);

/* Packs a piece of w. Rows are counted over all experts; a piece begins at a multiple of 16 of its
 * expert's rows and ends at one, or at the end of an expert. file_rows: the piece's n_rows rows, at 16
 * bytes, w->row_bytes apart and across experts too. dst: where the whole packed matrix lies. w->data is
 * not read. */
cudaError_t cuda_launch_pack(const struct weight *w, const void *file_rows, void *dst,
                             uint64_t first_row, uint64_t n_rows, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
