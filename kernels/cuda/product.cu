/* product.cu - see product_launch.h. */
#include "kernels/cuda/product_launch.h"

uint32_t cuda_product_slots(const struct product *product)
{
    uint32_t n = (uint32_t)product->n, most = (uint32_t)product->most;
    if (product->start == NULL)
        return (n + most - 1) / most;
    uint32_t slots = n / most + product->n_experts;
    return slots < n ? slots : n;
}

/* 1: a product begins, and reads weights, while the kernel before it ends (device.cuh, wait_for_earlier).
 * 0: when that has ended. */
#ifndef MTP_CUDA_OVERLAP
#define MTP_CUDA_OVERLAP 1
#endif

/* Blocks that share the units of one slot. With one slot as many as run at once; with more, several times
 * as many, so that slots without work leave no gap. */
static uint32_t blocks_of_slot(uint32_t slots, uint32_t n_units, uint32_t resident)
{
    uint32_t most = slots == 1 ? resident : (4 * resident + slots - 1) / slots;
    if (most > 65535)
        most = 65535;
    if (n_units <= most)
        return n_units;
    uint32_t rounds = (n_units + most - 1) / most;
    return (n_units + rounds - 1) / rounds;
}

/* Lets `blocks` blocks of that much shared memory run on a multiprocessor. Where much is left it is cache;
 * otherwise all kernels ask for the same, since those that do not cannot run side by side. */
static cudaError_t allow_shared(const void *kernel, int blocks, size_t shared_bytes)
{
    enum { MOST = 228 * 1024, OF_SYSTEM = 2048 };
    cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
    if (error != cudaSuccess)
        return error;
    int percent = (int)(((size_t)blocks * (shared_bytes + OF_SYSTEM) * 100 + MOST - 1) / MOST);
    return cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                percent < 75 ? percent : 100);
}

static cudaError_t launch_grid(const void *kernel, const struct product *product, dim3 grid, int blocks,
                               size_t shared_bytes, cudaStream_t stream)
{
    int device, capability;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&capability, cudaDevAttrComputeCapabilityMajor, device);
    if (error == cudaSuccess && shared_bytes > 0)
        error = allow_shared(kernel, blocks, shared_bytes);
    if (error != cudaSuccess)
        return error;
    struct product copy = *product;
    void *arguments[] = {&copy};
    cudaLaunchAttribute overlap = {};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(PRODUCT_THREADS);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &overlap;
    config.numAttrs = capability >= 9 ? MTP_CUDA_OVERLAP : 0;
    return cudaLaunchKernelExC(&config, kernel, arguments);
}

cudaError_t cuda_launch_grid(const void *kernel, const struct product *product, uint32_t n_units, int blocks,
                             size_t shared_bytes, cudaStream_t stream)
{
    int device, processors;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (error != cudaSuccess)
        return error;
    uint32_t slots = cuda_product_slots(product);
    dim3 grid(slots, blocks_of_slot(slots, n_units, (uint32_t)(processors * blocks)));
    return launch_grid(kernel, product, grid, blocks, shared_bytes, stream);
}

cudaError_t cuda_launch_blocks(const void *kernel, const struct product *product, uint32_t n_units,
                               int blocks, size_t shared_bytes, cudaStream_t stream)
{
    dim3 grid(cuda_product_slots(product), n_units < 65535 ? n_units : 65535);
    return launch_grid(kernel, product, grid, blocks, shared_bytes, stream);
}

cudaError_t cuda_launch_product(const struct launch *launch)
{
    const struct product *p = &launch->product;
    if (p->n <= 0 || p->n_out == 0)
        return cudaSuccess;
    if (cuda_product_is_wide(launch))
        return cuda_launch_product_wide(launch);
    if (cuda_product_is_float_rows(launch))
        return cuda_launch_product_float_rows(launch);
    switch (launch->type) {
    case MTP_TYPE_F32:
    case MTP_TYPE_F16:
    case MTP_TYPE_BF16: return cuda_launch_product_float(launch);
    case MTP_TYPE_Q2_K:
    case MTP_TYPE_Q3_K:
    case MTP_TYPE_Q4_K:
    case MTP_TYPE_Q5_K:
    case MTP_TYPE_Q6_K:
    case MTP_TYPE_IQ4_XS: return cuda_launch_product_k(launch);
    case MTP_TYPE_IQ2_XXS:
    case MTP_TYPE_IQ2_XS:
    case MTP_TYPE_IQ2_S:
    case MTP_TYPE_IQ3_XXS:
    case MTP_TYPE_IQ3_S: return cuda_launch_product_iq(launch);
    default: return cuda_launch_product_s(launch);
    }
}
