/* linear.c - see linear.h. */
#include "linear.h"

bool linear_wants_act(const struct weight *const *ws, int n)
{
    for (int i = 0; i < n; i++)
        if (type_info(ws[i]->type)->weight_class != WEIGHT_FLOAT)
            return true;
    return false;
}

void linear_prepare(struct linear_input *input, const struct weight *w)
{
    if (input->quantised || type_info(w->type)->weight_class == WEIGHT_FLOAT)
        return;
    const struct quantize_args args = {input->x, input->act, input->n, input->n_rows};
    input->backend->ops->quantize(input->backend, &args);
    input->quantised = true;
}

struct matmul_args linear_args(struct linear_input *input, const struct weight *w, float *y)
{
    linear_prepare(input, w);
    return (struct matmul_args){*w, input->x, input->act, y, w->n_out, input->n_rows};
}

void linear(struct linear_input *input, const struct weight *w, float *y)
{
    const struct matmul_args args = linear_args(input, w, y);
    input->backend->ops->matmul(input->backend, &args);
}

void linear_all(struct linear_input *input, const struct weight *const *ws, float *const *ys, int n)
{
    struct matmul_args args[LINEAR_MOST];
    for (int i = 0; i < n; i++)
        args[i] = linear_args(input, ws[i], ys[i]);
    const struct products_args all = {.matmuls = args, .n_matmuls = n};
    input->backend->ops->products(input->backend, &all);
}
