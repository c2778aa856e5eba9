/* fast.c - see fast.h. */
#include "kernels/cuda/fast.h"

#include <stdio.h>
#include <string.h>

#include "kernels/cuda/fast_launch.h"

enum { WORKSPACE_BYTES = 32 << 20 }; /* what cuBLAS's manual advises for compute capability 9.0 */
enum { PIECE_ROWS = 256 };           /* pieces of weights are whole tiles of cuBLAS's kernels */
enum { LEAST_CAPABILITY = 8 };       /* products of bfloat16 */

size_t cuda_fast_bytes(const struct cuda_fast_limits *limits)
{
    return WORKSPACE_BYTES + limits->weight_bytes + limits->input_bytes;
}

bool cuda_fast_open(struct cuda_fast *fast, const struct cuda_fast_limits *limits, void *memory,
                    cudaStream_t stream, struct cuda_message *why)
{
    int device = 0, capability = 0;
    memset(fast, 0, sizeof *fast);
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&capability, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
        capability < LEAST_CAPABILITY) {
        snprintf(why->text, sizeof why->text,
                 "fast arithmetic needs a device of compute capability 8.0, and this one has %d", capability);
        return false;
    }
    uint8_t *at = memory;
    fast->limits = *limits;
    fast->weights = (uint16_t *)(void *)(at + WORKSPACE_BYTES);
    fast->inputs = (uint16_t *)(void *)(at + WORKSPACE_BYTES + limits->weight_bytes);
    return cublas_open(&fast->cublas, stream, memory, WORKSPACE_BYTES, why);
}

void cuda_fast_close(struct cuda_fast *fast)
{
    cublas_close(&fast->cublas);
}

/* Weight rows and batch rows that the scratch holds. */
static uint32_t most_weights(const struct cuda_fast *fast, uint32_t n_in)
{
    return (uint32_t)(fast->limits.weight_bytes / sizeof *fast->weights / n_in / PIECE_ROWS * PIECE_ROWS);
}
static int32_t most_inputs(const struct cuda_fast *fast, uint32_t n_in)
{
    return (int32_t)(fast->limits.input_bytes / sizeof *fast->inputs / n_in);
}

bool cuda_fast_serves(const struct cuda_fast *fast, const struct matmul_args *args)
{
    const struct weight *w = &args->w;
    return args->n_rows >= fast->limits.least_rows && args->x != NULL && w->packed != NULL &&
           w->packed->data != NULL && w->n_experts == 1 && most_weights(fast, w->n_in) > 0 &&
           most_inputs(fast, w->n_in) > 0;
}

/* The rows first.. of y, from weights that are ready. */
static cudaError_t multiply(const struct cuda_fast *fast, const struct matmul_args *args, uint32_t first,
                            uint32_t n_weights, bool rounded, cudaStream_t stream)
{
    const uint32_t n_in = args->w.n_in;
    const int32_t most = most_inputs(fast, n_in);
    for (int32_t row = 0, n; row < args->n_rows; row += n) {
        n = args->n_rows - row < most ? args->n_rows - row : most;
        cudaError_t status = cudaSuccess;
        if (!rounded || n < args->n_rows)
            status = cuda_launch_round(args->x + (size_t)row * n_in, fast->inputs, (size_t)n * n_in, stream);
        if (status != cudaSuccess)
            return status;
        if (!cublas_product(&fast->cublas, fast->weights, fast->inputs,
                            args->y + (size_t)row * args->y_stride + first, args->y_stride, n_weights, n,
                            n_in))
            return cudaErrorUnknown;
    }
    return cudaSuccess;
}

cudaError_t cuda_fast_matmul(const struct cuda_fast *fast, const struct matmul_args *args,
                             cudaStream_t stream)
{
    const struct weight *w = &args->w;
    const uint32_t most = most_weights(fast, w->n_in);
    for (uint32_t first = 0, n; first < w->n_out; first += n) {
        n = w->n_out - first < most ? w->n_out - first : most;
        cudaError_t status = cuda_launch_dequantise(w, first, n, fast->weights, stream);
        if (status == cudaSuccess)
            status = multiply(fast, args, first, n, first > 0, stream);
        if (status != cudaSuccess)
            return status;
    }
    return cudaSuccess;
}
