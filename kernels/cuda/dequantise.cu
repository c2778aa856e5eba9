/* dequantise.cu - operands of the products of --fast (fast.h): weights and activations as bfloat16. */
#include "kernels/cuda/dequantise.cuh"

#include "kernels/cuda/fast_launch.h"

enum { THREADS = 256 };

struct rounding {
    const float4 *src;
    uint2 *dst;
    size_t n; /* fours */
};

static __global__ void round_rows(const struct rounding p)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    let_next_begin();
    wait_for_earlier();
    if (i >= p.n)
        return;
    const float4 x = p.src[i];
    p.dst[i] = make_uint2(bfloat_pair(x.x, x.y), bfloat_pair(x.z, x.w));
}

cudaError_t cuda_launch_round(const float *src, uint16_t *dst, size_t n, cudaStream_t stream)
{
    struct rounding p = {(const float4 *)(const void *)src, (uint2 *)(void *)dst, n / 4};
    if (n % 4 != 0 || (uintptr_t)src % 16 != 0 || (uintptr_t)dst % 8 != 0)
        return cudaErrorInvalidValue;
    round_rows<<<dim3((unsigned)((p.n + THREADS - 1) / THREADS)), dim3(THREADS), 0, stream>>>(p);
    return cudaGetLastError();
}

static const void *kernel_of(uint32_t type)
{
    switch (type) {
    case MTP_TYPE_Q4_0: return (const void *)dequantise_tiles<MTP_TYPE_Q4_0>;
    case MTP_TYPE_Q4_1: return (const void *)dequantise_tiles<MTP_TYPE_Q4_1>;
    case MTP_TYPE_Q5_0: return (const void *)dequantise_tiles<MTP_TYPE_Q5_0>;
    case MTP_TYPE_Q5_1: return (const void *)dequantise_tiles<MTP_TYPE_Q5_1>;
    case MTP_TYPE_Q8_0: return (const void *)dequantise_tiles<MTP_TYPE_Q8_0>;
    case MTP_TYPE_IQ4_NL: return (const void *)dequantise_tiles<MTP_TYPE_IQ4_NL>;
    case MTP_TYPE_MXFP4: return (const void *)dequantise_tiles<MTP_TYPE_MXFP4>;
    case MTP_TYPE_Q2_K: return (const void *)dequantise_tiles<MTP_TYPE_Q2_K>;
    case MTP_TYPE_Q3_K: return (const void *)dequantise_tiles<MTP_TYPE_Q3_K>;
    case MTP_TYPE_Q4_K: return (const void *)dequantise_tiles<MTP_TYPE_Q4_K>;
    case MTP_TYPE_Q5_K: return (const void *)dequantise_tiles<MTP_TYPE_Q5_K>;
    case MTP_TYPE_Q6_K: return (const void *)dequantise_tiles<MTP_TYPE_Q6_K>;
    case MTP_TYPE_IQ4_XS: return (const void *)dequantise_tiles<MTP_TYPE_IQ4_XS>;
    case MTP_TYPE_IQ2_XXS: return (const void *)dequantise_tiles<MTP_TYPE_IQ2_XXS>;
    case MTP_TYPE_IQ2_XS: return (const void *)dequantise_tiles<MTP_TYPE_IQ2_XS>;
    case MTP_TYPE_IQ2_S: return (const void *)dequantise_tiles<MTP_TYPE_IQ2_S>;
    case MTP_TYPE_IQ3_XXS: return (const void *)dequantise_tiles<MTP_TYPE_IQ3_XXS>;
    case MTP_TYPE_IQ3_S: return (const void *)dequantise_tiles<MTP_TYPE_IQ3_S>;
    default: return NULL;
    }
}

cudaError_t cuda_launch_dequantise(const struct weight *w, uint32_t first_row, uint32_t n_rows, uint16_t *dst,
                                   cudaStream_t stream)
{
    const void *kernel = kernel_of(w->type);
    if (kernel == NULL || first_row % TILE_ROWS != 0 || first_row + n_rows > w->n_out)
        return cudaErrorInvalidValue;
    struct dequantising p = {};
    p.tiles = (const uint8_t *)w->packed->data;
    p.dst = dst;
    p.first = first_row / TILE_ROWS;
    p.n = (n_rows + TILE_ROWS - 1) / TILE_ROWS;
    p.n_in = w->n_in;
    p.n_out = first_row + n_rows;
    p.n_blocks = (uint32_t)act_blocks(w->n_in);
    void *arguments[] = {&p};
    const uint64_t blocks = ((uint64_t)p.n * p.n_blocks * LANES + THREADS - 1) / THREADS;
    return cudaLaunchKernel(kernel, dim3((unsigned)blocks), dim3(THREADS), arguments, 0, stream);
}
