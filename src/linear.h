/* linear.h - y = W x for a batch, quantising the input at most once whatever reads it. */
#ifndef MTP_SRC_LINEAR_H
#define MTP_SRC_LINEAR_H

#include "kernels/ops.h"

struct linear_input {
    struct backend *backend;
    const float *x;          /* [n_rows][n] */
    struct act_block *act;   /* room for the rows quantised */
    size_t n;
    int32_t n_rows;
    bool quantised;          /* act holds them */
};

/* y: [n_rows][w->n_out]. */
void linear(struct linear_input *input, const struct weight *w, float *y);

/* n <= LINEAR_MOST products of the same rows together: ys[i] = ws[i] x. */
enum { LINEAR_MOST = 4 };
void linear_all(struct linear_input *input, const struct weight *const *ws, float *const *ys, int n);

/* The arguments of one, whose rows are quantised if they must be. */
struct matmul_args linear_args(struct linear_input *input, const struct weight *w, float *y);

/* Whether one of n matrices reads its rows quantised. */
bool linear_wants_act(const struct weight *const *ws, int n);

/* Quantises the rows when w needs it and act does not hold them yet. */
void linear_prepare(struct linear_input *input, const struct weight *w);

#endif
