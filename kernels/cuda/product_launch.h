/* product_launch.h - what the launchers of products share: the kernels, chosen by type. */
#ifndef MTP_KERNELS_CUDA_PRODUCT_LAUNCH_H
#define MTP_KERNELS_CUDA_PRODUCT_LAUNCH_H

#include <cuda_runtime.h>

#include "kernels/cuda/columns.cuh"

/* A product to be launched; `most` of it is set by what launches it. */
struct launch {
    struct product product;
    uint32_t type;
    bool tiles;      /* weights are packed */
    bool alone;      /* no two batch rows share a read of the weights */
    int sharing;     /* batch rows that are likely to share one: 1, 2, 4, 8 or 16 */
    int columns;     /* batch rows a block of the wide kernels takes */
    cudaStream_t stream;
};

/* What all products have; y has n rows. */
struct launch cuda_product_of(const struct weight *w, const float *x, const struct act_block *act, float *y,
                              size_t y_stride, int32_t n);
struct launch cuda_matmul_of(const struct matmul_args *args);
struct launch cuda_expert_matmul_of(const struct expert_matmul_args *args);

/* The product of the type's kernel; cudaErrorInvalidValue for a type that is no matrix. */
cudaError_t cuda_launch_product(const struct launch *launch);

/* By groups of types; cudaErrorInvalidValue for others. */
cudaError_t cuda_launch_product_k(const struct launch *launch);
cudaError_t cuda_launch_product_iq(const struct launch *launch);
cudaError_t cuda_launch_product_s(const struct launch *launch);
cudaError_t cuda_launch_product_float(const struct launch *launch);

/* Products of many batch rows (product_wide.cuh): whether this is one, and its launch, by groups of types. */
bool cuda_product_is_wide(const struct launch *launch);
cudaError_t cuda_launch_product_wide(const struct launch *launch);
cudaError_t cuda_launch_product_wide_k4(const struct launch *launch);
cudaError_t cuda_launch_product_wide_k6(const struct launch *launch);
cudaError_t cuda_launch_product_wide_s(const struct launch *launch);

/* The same for many batch rows with an F32 matrix (product_float_rows.cu). */
bool cuda_product_is_float_rows(const struct launch *launch);
cudaError_t cuda_launch_product_float_rows(const struct launch *launch);

/* Several in one launch (product_merged.cuh): whether one may be among them, and the launch of n of these. */
bool cuda_product_merges(const struct launch *launch);
cudaError_t cuda_launch_merged(const struct launch *launches, int n, cudaStream_t stream);
cudaError_t cuda_launch_merged_few(const struct launch *launches, int n, int rows, cudaStream_t stream);
cudaError_t cuda_launch_merged_more(const struct launch *launches, int n, int rows, cudaStream_t stream);

/* Slots (columns.cuh) of the product when up to `most` rows share one: exact for an ordinary matrix, an
 * upper bound for experts, whose numbers of rows the host does not know. */
uint32_t cuda_product_slots(const struct product *product);

/* How a kernel is launched: `blocks` blocks of threads fit on a multiprocessor. */
struct kernel_launch {
    const void *kernel;
    int blocks;
    size_t shared_bytes;
    cudaStream_t stream;
};

/* Whether a block of threads may have that much shared memory on the device in use. */
bool cuda_allows_shared(size_t bytes);

/* Blocks of threads that run at once; 0 where the device cannot be asked. */
uint32_t cuda_resident_blocks(int blocks);

/* Launches a kernel that takes one argument. */
cudaError_t cuda_launch_kernel(const struct kernel_launch *launch, dim3 grid, void *argument);

/* Launches `kernel` for the product: slots times as many blocks as fit, each with the same number, but
 * for one, of the n_units groups of weight rows. `blocks` of them fit on a multiprocessor. */
cudaError_t cuda_launch_grid(const void *kernel, const struct product *product, uint32_t n_units, int blocks,
                             size_t shared_bytes, cudaStream_t stream);
/* The same with a block for every group of every slot. */
cudaError_t cuda_launch_blocks(const void *kernel, const struct product *product, uint32_t n_units,
                               int blocks, size_t shared_bytes, cudaStream_t stream);

#endif
