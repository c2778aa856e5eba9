/* expert_matmul.cu - products with routed experts (expert_matmul_args of kernels/ops.h). */
#include "kernels/cuda/product_launch.h"
#include "kernels/cuda/products.h"

/* Experts that get more than eight rows on average are taken sixteen rows at a time. */
static bool many_rows(const struct expert_matmul_args *args)
{
    return args->grouped && (uint32_t)args->n_pairs > 8 * args->w.n_experts;
}

cudaError_t cuda_launch_expert_matmul(const struct expert_matmul_args *args, cudaStream_t stream)
{
    const struct weight *w = &args->w;
    struct launch launch = {};
    launch.tiles = w->packed != NULL && w->packed->data != NULL;
    launch.alone = !args->grouped;
    launch.wide = many_rows(args);
    launch.type = w->type;
    launch.stream = stream;
    struct product *p = &launch.product;
    p->weights = (const uint8_t *)(launch.tiles ? w->packed->data : w->data);
    p->row_bytes = w->row_bytes;
    p->expert_bytes = w->expert_bytes;
    p->act = args->act;
    p->x = args->x;
    p->y = args->y;
    p->y_stride = args->y_stride;
    p->order = args->order;
    p->start = args->start;
    p->n = args->n_pairs;
    p->pairs_per_input = args->pairs_per_input;
    p->n_in = w->n_in;
    p->n_out = w->n_out;
    p->n_experts = w->n_experts;
    return cuda_launch_product(&launch);
}
