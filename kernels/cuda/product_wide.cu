/* product_wide.cu - which products go to the kernels of product_wide.cuh, and in which shape. */
#include "kernels/cuda/product_launch.h"

/* Measured on an H200 (docs/performance.md, "Prefill"): batch rows from which these kernels are faster than
 * blocks of sixteen rows; and pairs an expert, on average. */
#ifndef MTP_CUDA_WIDE_FROM
#define MTP_CUDA_WIDE_FROM 97
#endif
#ifndef MTP_CUDA_WIDE_PAIRS
#define MTP_CUDA_WIDE_PAIRS 12
#endif
#ifndef MTP_CUDA_WIDE_PAIRS_DEAR
#define MTP_CUDA_WIDE_PAIRS_DEAR 32
#endif

/* Types with a scale every 32 elements and one sum a super-block; others cost more a product. */
static bool is_cheap(uint32_t type)
{
    return type == MTP_TYPE_Q4_K || type == MTP_TYPE_Q5_K || type == MTP_TYPE_IQ4_XS;
}

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
    uint32_t pairs = is_cheap(launch->type) ? MTP_CUDA_WIDE_PAIRS : MTP_CUDA_WIDE_PAIRS_DEAR;
    return (uint32_t)p->n >= pairs * p->n_experts;
}

/* Batch rows a block takes. Of the cheap types two blocks of 64 a multiprocessor wait less than one of 128;
 * of the others the larger block is faster where there are enough of them for all multiprocessors. */
static int columns_of(const struct product *p, uint32_t type)
{
    enum { BLOCKS_WANTED = 120, ROWS_OF_BLOCK = 128 };
    if (p->start != NULL)
        return (uint32_t)p->n > 48 * p->n_experts ? 64 : 32;
    uint32_t rows = (p->n_out + ROWS_OF_BLOCK - 1) / ROWS_OF_BLOCK;
    bool many = rows * (((uint32_t)p->n + 127) / 128) >= BLOCKS_WANTED;
    return is_cheap(type) || !many ? 64 : 128;
}

cudaError_t cuda_launch_product_wide(const struct launch *launch)
{
    struct launch wide = *launch;
    wide.columns = columns_of(&launch->product, launch->type);
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
