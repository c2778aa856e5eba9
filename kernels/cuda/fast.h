/* fast.h - products of --fast, which are not exact: packed weights and the float activations, both rounded
 * to bfloat16, multiplied by cuBLAS. Only for passes of many rows; all else is as without. */
#ifndef MTP_KERNELS_CUDA_FAST_H
#define MTP_KERNELS_CUDA_FAST_H

#include "kernels/cuda/cublas.h"

struct cuda_fast {
    struct cublas cublas;
    struct cuda_fast_limits limits;
    uint16_t *weights, *inputs; /* scratch */
};

/* Bytes of device memory that it takes, cuBLAS's own room included. */
size_t cuda_fast_bytes(const struct cuda_fast_limits *limits);
/* `memory` stays the caller's. False and a message where it cannot be. */
bool cuda_fast_open(struct cuda_fast *fast, const struct cuda_fast_limits *limits, void *memory,
                    cudaStream_t stream, struct cuda_message *why);
void cuda_fast_close(struct cuda_fast *fast);

/* Whether this product is one of those. */
bool cuda_fast_serves(const struct cuda_fast *fast, const struct matmul_args *args);
cudaError_t cuda_fast_matmul(const struct cuda_fast *fast, const struct matmul_args *args,
                             cudaStream_t stream);

#endif
