/* product_merged.cu - several products of one input (products_args of kernels/ops.h): in one launch what can
 * be, the others one by one. */
#include "kernels/cuda/product_launch.h"
#include "kernels/cuda/product_merged.cuh"
#include "kernels/cuda/products.h"

bool cuda_product_merges(const struct launch *launch)
{
    if (launch->alone || launch->sharing > 8 || launch->product.n <= 0 || launch->product.n_out == 0)
        return false;
    if (launch->product.start != NULL && launch->sharing > 4)
        return false;
    switch (launch->type) {
    case MTP_TYPE_Q3_K:
    case MTP_TYPE_Q4_K:
    case MTP_TYPE_Q5_K:
    case MTP_TYPE_Q6_K:
    case MTP_TYPE_Q8_0: return launch->tiles;
    case MTP_TYPE_F32:
    case MTP_TYPE_F16:
    case MTP_TYPE_BF16: return true;
    default: return false;
    }
}

cudaError_t cuda_launch_merged(const struct launch *launches, int n, cudaStream_t stream)
{
    int rows = 1;
    for (int i = 0; i < n; i++)
        rows = launches[i].sharing > rows ? launches[i].sharing : rows;
    return rows <= 2 ? cuda_launch_merged_few(launches, n, rows, stream)
                     : cuda_launch_merged_more(launches, n, rows, stream);
}

/* Collects products of one launch. */
struct gathered {
    struct launch launches[MERGED_MOST];
    int n;
    cudaStream_t stream;
};

static cudaError_t launch_gathered(struct gathered *all)
{
    cudaError_t error = all->n == 0   ? cudaSuccess
                        : all->n == 1 ? cuda_launch_product(&all->launches[0])
                                      : cuda_launch_merged(all->launches, all->n, all->stream);
    all->n = 0;
    return error;
}

static cudaError_t gather(struct gathered *all, struct launch launch)
{
    cudaError_t error = cudaSuccess;
    launch.stream = all->stream;
    if (!cuda_product_merges(&launch))
        return cuda_launch_product(&launch);
    if (all->n == MERGED_MOST)
        error = launch_gathered(all);
    all->launches[all->n++] = launch;
    return error;
}

cudaError_t cuda_launch_products(const struct products_args *args, cudaStream_t stream)
{
    struct gathered all;
    all.n = 0;
    all.stream = stream;
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < args->n_experts && error == cudaSuccess; i++)
        error = gather(&all, cuda_expert_matmul_of(&args->experts[i]));
    for (int i = 0; i < args->n_matmuls && error == cudaSuccess; i++)
        error = gather(&all, cuda_matmul_of(&args->matmuls[i]));
    return error == cudaSuccess ? launch_gathered(&all) : error;
}
