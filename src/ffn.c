/* ffn.c - see ffn.h. */
#include "ffn.h"

#include "linear.h"

static void swiglu(struct backend *backend, const float *gate, float *up, size_t n, int32_t n_rows)
{
    const struct mul_silu_args args = {up, gate, up, n, n, n, n, n_rows};
    backend->ops->mul_silu(backend, &args);
}

static void swiglu_mlp(struct linear_input *input, const struct dense_ffn_weights *w,
                       struct act_block *act, float *gate, float *up, float *out)
{
    linear(input, &w->gate, gate);
    linear(input, &w->up, up);
    swiglu(input->backend, gate, up, w->gate.n_out, input->n_rows);
    struct linear_input middle = {input->backend, up, act, w->down.n_in, input->n_rows, false};
    linear(&middle, &w->down, out);
}

static struct expert_matmul_args expert_product(const mtp_session *session, const struct weight *w,
                                                const struct linear_input *input, float *y)
{
    const struct workspace *work = &session->work;
    return (struct expert_matmul_args){
        .w = *w,
        .x = input->x,
        .act = input->act,
        .y = y,
        .y_stride = w->n_out,
        .order = work->order,
        .start = work->start,
        .grouped = session->options.moe_mode == MTP_MOE_GROUPED,
    };
}

/* Routed experts of every row into work.expert_out, one row a (row, rank). */
static void routed_experts(mtp_session *session, const struct moe_weights *w,
                           struct linear_input *input)
{
    struct workspace *work = &session->work;
    struct backend *backend = session->backend;
    int32_t used = (int32_t)session->model->hparams.n_experts_used;
    int32_t n_pairs = input->n_rows * used;
    linear_prepare(input, &w->gate);
    struct expert_matmul_args gate = expert_product(session, &w->gate, input, work->gate);
    gate.n_pairs = n_pairs;
    gate.pairs_per_input = used;
    backend->ops->expert_matmul(backend, &gate);
    linear_prepare(input, &w->up);
    struct expert_matmul_args up = expert_product(session, &w->up, input, work->up);
    up.n_pairs = n_pairs;
    up.pairs_per_input = used;
    backend->ops->expert_matmul(backend, &up);
    swiglu(backend, work->gate, work->up, w->gate.n_out, n_pairs);
    struct linear_input middle = {backend, work->up, work->expert_act, w->down.n_in, n_pairs, false};
    linear_prepare(&middle, &w->down);
    struct expert_matmul_args down = expert_product(session, &w->down, &middle, work->expert_out);
    down.n_pairs = n_pairs;
    down.pairs_per_input = 1;
    backend->ops->expert_matmul(backend, &down);
}

static void moe_forward(mtp_session *session, const struct moe_weights *w,
                        struct linear_input *input)
{
    struct workspace *work = &session->work;
    struct backend *backend = session->backend;
    const struct hparams *h = &session->model->hparams;
    linear(input, &w->router, work->router);
    const struct route_args route = {work->router, work->experts, work->expert_weights, work->order,
                                     work->start, h->n_experts, h->n_experts_used, input->n_rows};
    backend->ops->route(backend, &route);
    routed_experts(session, w, input);
    linear(input, &w->shared_router, work->shared_router);
    const struct dense_ffn_weights shared = {w->shared_gate, w->shared_up, w->shared_down};
    swiglu_mlp(input, &shared, work->act, work->shared_gate, work->shared_up, work->shared_out);
    const struct moe_combine_args combine = {work->expert_out, work->expert_weights,
                                             work->shared_out, work->shared_router, work->mixed,
                                             h->n_embd, h->n_experts_used, input->n_rows};
    backend->ops->moe_combine(backend, &combine);
}

void ffn_forward(mtp_session *session, const struct layer *layer, int32_t n_rows)
{
    struct workspace *work = &session->work;
    struct linear_input input = {session->backend, work->normed, work->act,
                                 session->model->hparams.n_embd, n_rows, false};
    if (session->model->hparams.arch == ARCH_QWEN35MOE)
        moe_forward(session, &layer->moe, &input);
    else
        swiglu_mlp(&input, &layer->ffn, work->act, work->gate, work->up, work->mixed);
}
