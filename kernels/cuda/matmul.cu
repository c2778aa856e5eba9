/* matmul.cu - the product of a batch with a matrix (matmul_args of kernels/ops.h). */
#include "kernels/cuda/product_launch.h"
#include "kernels/cuda/products.h"

cudaError_t cuda_launch_matmul(const struct matmul_args *args, cudaStream_t stream)
{
    const struct weight *w = &args->w;
    struct launch launch = {};
    launch.tiles = w->packed != NULL && w->packed->data != NULL;
    launch.wide = args->n_rows > 8;
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
    p->n = args->n_rows;
    p->pairs_per_input = 1;
    p->n_in = w->n_in;
    p->n_out = w->n_out;
    p->n_experts = 1;
    return cuda_launch_product(&launch);
}
