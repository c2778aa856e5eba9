/* fast_launch.h - the kernels of --fast: operands rounded to bfloat16. */
#ifndef MTP_KERNELS_CUDA_FAST_LAUNCH_H
#define MTP_KERNELS_CUDA_FAST_LAUNCH_H

#include <cuda_runtime_api.h>

#include "kernels/cuda/headers.h"

#ifdef __cplusplus
extern "C" {
#endif

/* dst[i] = src[i] for n floats, a multiple of 4; src at 16 bytes, dst at 8. */
cudaError_t cuda_launch_round(const float *src, uint16_t *dst, size_t n, cudaStream_t stream);

/* Rows first_row (a multiple of 16) to first_row + n_rows of a packed matrix without experts, n_in weights
 * each, to dst at 16 bytes. cudaErrorInvalidValue for types that are not packed. */
cudaError_t cuda_launch_dequantise(const struct weight *w, uint32_t first_row, uint32_t n_rows, uint16_t *dst,
                                   cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
