/* ffn.c - see ffn.h. */
#include "ffn.h"

#include "linear.h"

/* up = up * silu(gate), quantised too if down wants it; up is then the input of down. */
struct swiglu {
    struct mul_silu_args gate;
    struct quantize_args quantize;
    struct linear_input middle;
};

static struct swiglu swiglu_of(struct backend *backend, const float *gate, float *up, struct act_block *act,
                               const struct weight *down, int32_t n_rows)
{
    size_t n = down->n_in;
    return (struct swiglu){{up, gate, up, n, n, n, n, n_rows},
                           {up, act, n, n_rows},
                           {backend, up, act, n, n_rows, linear_wants_act(&down, 1)}};
}

static struct fused_args swiglu_args(const struct swiglu *s)
{
    return (struct fused_args){.gate = &s->gate, .quantize = s->middle.quantised ? &s->quantize : NULL};
}

static void dense_forward(struct linear_input *input, const struct dense_ffn_weights *w,
                          struct workspace *work)
{
    struct backend *backend = input->backend;
    const struct weight *const ws[] = {&w->gate, &w->up};
    float *const ys[] = {work->gate, work->up};
    linear_all(input, ws, ys, 2);
    struct swiglu s = swiglu_of(backend, work->gate, work->up, work->act, &w->down, input->n_rows);
    const struct fused_args fused = swiglu_args(&s);
    backend->ops->fused(backend, &fused);
    linear(&s.middle, &w->down, work->mixed);
}

/* The product of w with the experts' pairs of rows. */
static struct expert_matmul_args expert_args(const mtp_session *session, const struct weight *w,
                                             struct linear_input *input, int32_t n_pairs,
                                             int32_t pairs_per_input, float *y)
{
    const struct workspace *work = &session->work;
    linear_prepare(input, w);
    return (struct expert_matmul_args){
        .w = *w,
        .x = input->x,
        .act = input->act,
        .y = y,
        .y_stride = w->n_out,
        .n_pairs = n_pairs,
        .pairs_per_input = pairs_per_input,
        .order = work->order,
        .start = work->start,
        .grouped = session->options.moe_mode == MTP_MOE_GROUPED,
        .experts = work->experts,
    };
}

/* Gate and up of the routed experts and of the shared one, and the shared one's own gate. */
static void experts_in(mtp_session *session, const struct moe_weights *w, struct linear_input *input)
{
    struct workspace *work = &session->work;
    int32_t used = (int32_t)session->model->hparams.n_experts_used, pairs = input->n_rows * used;
    const struct expert_matmul_args experts[] = {
        expert_args(session, &w->gate, input, pairs, used, work->gate),
        expert_args(session, &w->up, input, pairs, used, work->up),
    };
    const struct matmul_args shared[] = {
        linear_args(input, &w->shared_gate, work->shared_gate),
        linear_args(input, &w->shared_up, work->shared_up),
        linear_args(input, &w->shared_router, work->shared_router),
    };
    session->backend->ops->products(session->backend,
                                    &(struct products_args){shared, experts, 3, 2});
}

/* The middle of both, and down: one row of work.expert_out a (row, rank). */
static void experts_out(mtp_session *session, const struct moe_weights *w, int32_t n_rows)
{
    struct workspace *work = &session->work;
    struct backend *backend = session->backend;
    int32_t pairs = n_rows * (int32_t)session->model->hparams.n_experts_used;
    struct swiglu routed = swiglu_of(backend, work->gate, work->up, work->expert_act, &w->down, pairs);
    struct swiglu shared_one =
        swiglu_of(backend, work->shared_gate, work->shared_up, work->act, &w->shared_down, n_rows);
    const struct fused_args beside = swiglu_args(&shared_one);
    struct fused_args fused = swiglu_args(&routed);
    fused.beside = &beside;
    backend->ops->fused(backend, &fused);
    const struct expert_matmul_args experts =
        expert_args(session, &w->down, &routed.middle, pairs, 1, work->expert_out);
    const struct matmul_args shared = linear_args(&shared_one.middle, &w->shared_down, work->shared_out);
    backend->ops->products(backend, &(struct products_args){&shared, &experts, 1, 1});
}

static void moe_forward(mtp_session *session, const struct moe_weights *w,
                        struct linear_input *input)
{
    struct workspace *work = &session->work;
    struct backend *backend = session->backend;
    const struct hparams *h = &session->model->hparams;
    const struct matmul_args router = linear_args(input, &w->router, work->router);
    const struct route_args route = {work->router, work->experts, work->expert_weights, work->order,
                                     work->start, h->n_experts, h->n_experts_used, input->n_rows};
    backend->ops->fused(backend, &(struct fused_args){.product = &router, .route = &route});
    experts_in(session, w, input);
    experts_out(session, w, input->n_rows);
}

struct moe_combine_args ffn_combine(const mtp_session *session, int32_t n_rows)
{
    const struct workspace *work = &session->work;
    const struct hparams *h = &session->model->hparams;
    return (struct moe_combine_args){work->expert_out, work->expert_weights, work->shared_out,
                                     work->shared_router, work->mixed, h->n_embd, h->n_experts_used,
                                     n_rows};
}

bool ffn_wants_act(const mtp_session *session, const struct layer *layer)
{
    const struct dense_ffn_weights *f = &layer->ffn;
    const struct moe_weights *m = &layer->moe;
    const struct weight *const dense[] = {&f->gate, &f->up};
    const struct weight *const experts[] = {&m->router, &m->gate, &m->up, &m->shared_gate,
                                            &m->shared_up, &m->shared_router};
    return session->model->hparams.arch == ARCH_QWEN35MOE ? linear_wants_act(experts, 6)
                                                          : linear_wants_act(dense, 2);
}

void ffn_forward(mtp_session *session, const struct layer *layer, int32_t n_rows, bool quantised)
{
    struct workspace *work = &session->work;
    struct linear_input input = {session->backend, work->normed, work->act,
                                 session->model->hparams.n_embd, n_rows, quantised};
    if (session->model->hparams.arch == ARCH_QWEN35MOE)
        moe_forward(session, &layer->moe, &input);
    else
        dense_forward(&input, &layer->ffn, work);
}
