/* embed.cu - embedding rows, a thread a weight. */
#include "kernels/cuda/weight_value.cuh"

enum { THREADS = 128 };

struct embed_work {
    struct embed_args args;
    struct device_type type;
};

static __global__ void embed_kernel(struct embed_work work)
{
    begin_kernel();
    const struct weight *table = &work.args.table;
    size_t n = table->n_in, i = (size_t)blockIdx.x * THREADS + threadIdx.x, row = blockIdx.y;
    if (i >= n)
        return;
    size_t token = (size_t)work.args.rows[row].token;
    const uint8_t *weights = (const uint8_t *)table->data + token * table->row_bytes;
    work.args.dst[row * n + i] = weight_value(work.type, weights, i);
}

cudaError_t cuda_launch_embed(const struct embed_args *args, cudaStream_t stream)
{
    const struct type_info *info = type_info(args->table.type);
    if (info == NULL || info->weight_class == WEIGHT_NONE)
        return cudaErrorInvalidValue;
    struct embed_work work = {
        *args, {args->table.type, info->block_elements, info->block_bytes, info->has_min}};
    dim3 grid(blocks_for(args->table.n_in, THREADS), (unsigned)args->n_rows);
    return LAUNCH(embed_kernel, grid, THREADS, stream, work);
}
