/* expert_matmul.cu - products with routed experts (expert_matmul_args of kernels/ops.h). */
#include "kernels/cuda/product_launch.h"
#include "kernels/cuda/products.h"

/* Batch rows of an expert that a kernel takes at a time. Most experts that are read have one or two; rows
 * past the kernel's number find the weights in the second cache. */
static int sharing_of(const struct expert_matmul_args *args)
{
    const uint32_t pairs = (uint32_t)args->n_pairs, experts = args->w.n_experts;
    if (!args->grouped || pairs <= 8)
        return 1;
    if (pairs <= experts / 2)
        return 2;
    return pairs <= experts ? 4 : pairs <= 8 * experts ? 8 : 16;
}

struct launch cuda_expert_matmul_of(const struct expert_matmul_args *args)
{
    struct launch launch =
        cuda_product_of(&args->w, args->x, args->act, args->y, args->y_stride, args->n_pairs);
    launch.alone = !args->grouped;
    launch.sharing = sharing_of(args);
    launch.product.order = args->order;
    launch.product.start = args->start;
    launch.product.experts = args->experts;
    launch.product.pairs_per_input = args->pairs_per_input;
    return launch;
}

cudaError_t cuda_launch_expert_matmul(const struct expert_matmul_args *args, cudaStream_t stream)
{
    struct launch launch = cuda_expert_matmul_of(args);
    launch.stream = stream;
    return cuda_launch_product(&launch);
}
