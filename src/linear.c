/* linear.c - see linear.h. */
#include "linear.h"

void linear_prepare(struct linear_input *input, const struct weight *w)
{
    if (input->quantised || type_info(w->type)->weight_class == WEIGHT_FLOAT)
        return;
    const struct quantize_args args = {input->x, input->act, input->n, input->n_rows};
    input->backend->ops->quantize(input->backend, &args);
    input->quantised = true;
}

void linear(struct linear_input *input, const struct weight *w, float *y)
{
    linear_prepare(input, w);
    const struct matmul_args args = {*w, input->x, input->act, y, w->n_out, input->n_rows};
    input->backend->ops->matmul(input->backend, &args);
}
