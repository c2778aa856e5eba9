/* embed.c - embedding rows: the definition. */
#include "kernels/cpu/kernels.h"

void embed_scalar(const struct embed_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)task;
    for (int64_t r = begin; r < end; r++) {
        const uint8_t *table = args->table.data;
        size_t row = (size_t)args->rows[r].token;
        dequantize_row(args->table.type, table + row * args->table.row_bytes,
                       args->dst + (size_t)r * args->table.n_in, args->table.n_in);
    }
}
