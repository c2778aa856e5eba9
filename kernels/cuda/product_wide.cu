/* product_wide.cu - which products go to the kernels of product_wide.cuh, and in which shape. */
#include "kernels/cuda/product_launch.h"

/* Batch rows from which a block of many is faster than blocks of sixteen (docs/performance.md). */
#ifndef MTP_CUDA_WIDE_FROM
#define MTP_CUDA_WIDE_FROM 17
#endif
/* Pairs an expert, on average, from which this is so. */
#ifndef MTP_CUDA_WIDE_PAIRS
#define MTP_CUDA_WIDE_PAIRS 5
#endif

#ifndef MTP_CUDA_WIDE_MOST
#define MTP_CUDA_WIDE_MOST 128
#endif

bool cuda_product_is_wide(const struct launch *launch)
{
    const struct product *p = &launch->product;
    if (!launch->tiles || launch->alone)
        return false;
    switch (launch->type) {
    case MTP_TYPE_IQ2_XXS:
    case MTP_TYPE_IQ2_XS:
    case MTP_TYPE_IQ2_S:
    case MTP_TYPE_IQ3_XXS:
    case MTP_TYPE_IQ3_S: return false;
    default: break;
    }
    if (p->start == NULL)
        return p->n >= MTP_CUDA_WIDE_FROM;
    return (uint32_t)p->n >= MTP_CUDA_WIDE_PAIRS * p->n_experts;
}

/* Batch rows a block takes. The largest blocks read least; smaller ones where those would leave
 * multiprocessors without work. */
static int columns_of(const struct product *p)
{
    enum { BLOCKS_WANTED = 120, ROWS_OF_BLOCK = 128 };
    if (p->start != NULL)
        return (uint32_t)p->n > 48 * p->n_experts ? 64 : 32;
    if (p->n <= 32)
        return 32;
    uint32_t rows = (p->n_out + ROWS_OF_BLOCK - 1) / ROWS_OF_BLOCK;
    return MTP_CUDA_WIDE_MOST <= 64 || p->n <= 64 || rows * (((uint32_t)p->n + 127) / 128) < BLOCKS_WANTED ? 64 : 128;
}

cudaError_t cuda_launch_product_wide(const struct launch *launch)
{
    struct launch wide = *launch;
    wide.columns = columns_of(&launch->product);
    switch (launch->type) {
    case MTP_TYPE_Q2_K:
    case MTP_TYPE_Q3_K:
    case MTP_TYPE_Q4_K: return cuda_launch_product_wide_k4(&wide);
    case MTP_TYPE_Q5_K:
    case MTP_TYPE_Q6_K:
    case MTP_TYPE_IQ4_XS: return cuda_launch_product_wide_k6(&wide);
    default: return cuda_launch_product_wide_s(&wide);
    }
}
