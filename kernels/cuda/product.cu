/* product.cu - see product_launch.h. */
#include "kernels/cuda/product_launch.h"

#include "kernels/cuda/common.cuh"

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

/* Blocks that share the units of one slot: together as many as run at once; where there are several slots of
 * some rows, or slots that may be without work, several times as many, so that those leave no gap. */
static uint32_t blocks_of_slot(const struct product *product, uint32_t n_units, uint32_t resident)
{
    const uint32_t slots = cuda_product_slots(product);
    const bool each = product->start != NULL && slots == (uint32_t)product->n; /* has work, or nearly each */
    const uint32_t blocks = slots == 1 || each ? resident : 4 * resident;
    uint32_t most = (blocks + slots - 1) / slots;
    if (most > 65535)
        most = 65535;
    return n_units < most ? n_units : most;
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

bool cuda_allows_shared(size_t bytes)
{
    int device, most;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess)
        return false;
    return bytes <= (size_t)most;
}

uint32_t cuda_resident_blocks(int blocks)
{
    int device, processors;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device) != cudaSuccess)
        return 0;
    return (uint32_t)(processors * blocks);
}

cudaError_t cuda_launch_kernel(const struct kernel_launch *launch, dim3 grid, void *argument)
{
    cudaError_t error = cudaSuccess;
    if (launch->shared_bytes > 0)
        error = allow_shared(launch->kernel, launch->blocks, launch->shared_bytes);
    if (error != cudaSuccess)
        return error;
    void *arguments[] = {argument};
    cudaLaunchAttribute overlap = {};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(PRODUCT_THREADS);
    config.dynamicSmemBytes = launch->shared_bytes;
    config.stream = launch->stream;
    config.attrs = &overlap;
    config.numAttrs = MTP_CUDA_OVERLAP && kernels_wait() ? 1 : 0;
    return cudaLaunchKernelExC(&config, launch->kernel, arguments);
}

cudaError_t cuda_launch_grid(const void *kernel, const struct product *product, uint32_t n_units, int blocks,
                             size_t shared_bytes, cudaStream_t stream)
{
    const struct kernel_launch launch = {kernel, blocks, shared_bytes, stream};
    const uint32_t resident = cuda_resident_blocks(blocks), slots = cuda_product_slots(product);
    if (resident == 0)
        return cudaGetLastError();
    struct product copy = *product;
    return cuda_launch_kernel(&launch, dim3(slots, blocks_of_slot(product, n_units, resident)), &copy);
}

struct launch cuda_product_of(const struct weight *w, const float *x, const struct act_block *act, float *y,
                              size_t y_stride, int32_t n)
{
    struct launch launch = {};
    launch.tiles = w->packed != NULL && w->packed->data != NULL;
    launch.type = w->type;
    struct product *p = &launch.product;
    p->weights = (const uint8_t *)(launch.tiles ? w->packed->data : w->data);
    p->row_bytes = w->row_bytes;
    p->expert_bytes = w->expert_bytes;
    p->act = act;
    p->x = x;
    p->y = y;
    p->y_stride = y_stride;
    p->n = n;
    p->pairs_per_input = 1;
    p->n_in = w->n_in;
    p->n_out = w->n_out;
    p->n_experts = w->n_experts;
    return launch;
}

cudaError_t cuda_launch_blocks(const void *kernel, const struct product *product, uint32_t n_units,
                               int blocks, size_t shared_bytes, cudaStream_t stream)
{
    const struct kernel_launch launch = {kernel, blocks, shared_bytes, stream};
    struct product copy = *product;
    const dim3 grid(cuda_product_slots(product), n_units < 65535 ? n_units : 65535);
    return cuda_launch_kernel(&launch, grid, &copy);
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
