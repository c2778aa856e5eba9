/* cublas.h - the few functions of cuBLAS that --fast uses. The library is loaded when somebody asks for it:
 * programs start, and compute exactly, on machines without it. */
#ifndef MTP_KERNELS_CUDA_CUBLAS_H
#define MTP_KERNELS_CUDA_CUBLAS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda/backend.h"

struct cublas {
    void *library;
    void *handle;
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*set_stream)(void *handle, cudaStream_t stream);
    int (*set_workspace)(void *handle, void *workspace, size_t bytes);
    int (*gemm_ex)(void *handle, int op_a, int op_b, int m, int n, int k, const void *alpha,
                   const void *a, int a_type, int lda, const void *b, int b_type, int ldb,
                   const void *beta, void *c, int c_type, int ldc, int compute, int algorithm);
};

/* Loads the library and makes a handle for the present device; its room is `workspace`, which stays the
 * caller's. False, with a message and nothing left open, where that fails. */
bool cublas_open(struct cublas *cublas, cudaStream_t stream, void *workspace, size_t bytes,
                 struct cuda_message *why);
void cublas_close(struct cublas *cublas); /* after open has failed too */

/* y[r][o] = sum over i of w[o][i] x[r][i], bfloat16 by bfloat16, summed in float32 in an order of cuBLAS's
 * own. y's rows are y_stride apart. */
bool cublas_product(const struct cublas *cublas, const uint16_t *w, const uint16_t *x, float *y,
                    size_t y_stride, uint32_t n_out, int32_t n_rows, uint32_t n_in);

#endif
