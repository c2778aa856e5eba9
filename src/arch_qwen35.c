/* arch_qwen35.c - the trunk of Qwen3.5/3.6 models (qwen35, qwen35moe): blocks of gated DeltaNet or
 * gated full attention, each followed by a feed-forward part.
 *
 *   r = x;  x = r + mixer(rms(x, attn_norm));  x = x + ffn(rms(x, post_attention_norm))
 *   hidden = rms(x, output_norm);  logits = output hidden
 */
#include <math.h>
#include <string.h>

#include "ffn.h"
#include "kernels/rope.h"
#include "linear.h"
#include "session.h"

/* A forward pass: what the parts below share. */
struct pass {
    mtp_session *session;
    struct workspace *work;
    const struct hparams *h;
    struct backend *backend;
    const struct ops *ops;
    int32_t n_rows;
};

static void norm_rows(const struct pass *p, const float *src, const float *w, float *dst, int32_t n)
{
    size_t width = p->h->n_embd;
    const struct rms_norm_args args = {src, dst, w, width, 1, width, 0, width, 0, p->h->rms_eps, n};
    p->ops->rms_norm(p->backend, &args);
}

/* Norm of each head of x in place; heads are head_stride apart. */
static void norm_heads(const struct pass *p, float *x, const float *w, size_t dim, size_t n_heads,
                       size_t head_stride)
{
    size_t stride = n_heads * head_stride;
    const struct rms_norm_args args = {x, x, w, dim, n_heads, stride, head_stride, stride,
                                       head_stride, p->h->rms_eps, p->n_rows};
    p->ops->rms_norm(p->backend, &args);
}

static void rotate(const struct pass *p, float *x, uint32_t n_heads, size_t head_stride)
{
    const struct rope_args args = {x, n_heads * head_stride, head_stride, n_heads,
                                   p->h->n_rot / 2, p->work->cos_sin, p->n_rows};
    p->ops->rope(p->backend, &args);
}

static void attention_layer(const struct pass *p, const struct attention_weights *w,
                            const struct layer_state *state)
{
    struct workspace *work = p->work;
    const struct hparams *h = p->h;
    size_t dim = h->head_dim;
    struct linear_input input = {p->backend, work->normed, work->act, h->n_embd, p->n_rows, false};
    linear(&input, &w->q, work->q);
    linear(&input, &w->k, work->k);
    linear(&input, &w->v, work->v);
    norm_heads(p, work->q, w->q_norm, dim, h->n_heads, 2 * dim);
    norm_heads(p, work->k, w->k_norm, dim, h->n_kv_heads, dim);
    rotate(p, work->q, h->n_heads, 2 * dim);
    rotate(p, work->k, h->n_kv_heads, dim);
    const struct kv_store_args store = {state->kv, work->rows, work->k, work->v, p->n_rows};
    p->ops->kv_store(p->backend, &store);
    const struct attention_args attend = {
        .cache = state->kv,
        .rows = work->rows,
        .q = work->q,
        .gate = work->q + dim,
        .q_stride = h->n_heads * 2 * dim,
        .q_head_stride = 2 * dim,
        .n_heads = h->n_heads,
        .scale = 1.0f / sqrtf((float)dim),
        .out = work->heads,
        .n_rows = p->n_rows,
    };
    p->ops->attention(p->backend, &attend);
    struct linear_input heads = {p->backend, work->heads, work->act, h->n_heads * dim, p->n_rows,
                                 false};
    linear(&heads, &w->output, work->mixed);
}

static void delta_net_layer(const struct pass *p, const struct delta_net_weights *w,
                            const struct layer_state *state)
{
    struct workspace *work = p->work;
    const struct hparams *h = p->h;
    size_t inner = (size_t)h->n_v_heads * h->state_dim;
    struct linear_input input = {p->backend, work->normed, work->act, h->n_embd, p->n_rows, false};
    linear(&input, &w->qkv, work->qkv);
    linear(&input, &w->gate, work->z);
    linear(&input, &w->alpha, work->alpha);
    linear(&input, &w->beta, work->beta);
    const struct conv_args conv = {work->rows, work->qkv, w->conv, state->conv, work->conv,
                                   hparams_conv_channels(h), h->conv_taps, p->session->n_sequences,
                                   p->n_rows};
    p->ops->conv(p->backend, &conv);
    const struct delta_net_args delta = {
        .rows = work->rows,
        .x = work->conv,
        .alpha = work->alpha,
        .beta = work->beta,
        .a = w->a,
        .dt = w->dt,
        .state = state->delta,
        .out = work->heads,
        .n_k_heads = h->n_k_heads,
        .n_v_heads = h->n_v_heads,
        .d = h->state_dim,
        .n_sequences = p->session->n_sequences,
        .n_rows = p->n_rows,
    };
    p->ops->delta_net(p->backend, &delta);
    norm_heads(p, work->heads, w->norm, h->state_dim, h->n_v_heads, h->state_dim);
    const struct mul_silu_args gate = {work->heads, work->z, work->heads, inner, inner, inner, inner,
                                       p->n_rows};
    p->ops->mul_silu(p->backend, &gate);
    struct linear_input heads = {p->backend, work->heads, work->act, inner, p->n_rows, false};
    linear(&heads, &w->output, work->mixed);
}

static void add_to_stream(const struct pass *p)
{
    const struct add_args args = {p->work->x, p->work->mixed, p->work->x, p->h->n_embd, p->n_rows};
    p->ops->add(p->backend, &args);
}

static enum mtp_status check_fault(const struct pass *p, const char *where, uint32_t layer,
                                   struct mtp_error *error)
{
    struct numeric_fault fault = p->ops->fault(p->backend);
    if (!fault.found)
        return MTP_OK;
    p->ops->clear_fault(p->backend);
    p->session->broken = true;
    return mtp_fail(error, MTP_ERR_NUMERIC,
                    "an infinity or NaN appeared in %s %u, operation %s, row %d of a batch that begins "
                    "at position %d: the model file is damaged",
                    where, layer, fault.operation, fault.row, p->work->rows[0].position);
}

static void embed_rows(const struct pass *p)
{
    const struct embed_args embed = {p->session->model->embedding, p->work->rows, p->work->x,
                                     p->n_rows};
    p->ops->embed(p->backend, &embed);
    rope_table(p->work->cos_sin, p->work->rows, p->n_rows, p->session->rope_frequencies,
               p->h->n_rot / 2);
}

static enum mtp_status run_layers(const struct pass *p, struct mtp_error *error)
{
    for (uint32_t i = 0; i < p->h->n_layers; i++) {
        const struct layer *layer = &p->session->model->layers[i];
        norm_rows(p, p->work->x, layer->attn_norm, p->work->normed, p->n_rows);
        if (layer->recurrent)
            delta_net_layer(p, &layer->delta_net, &p->session->layers[i]);
        else
            attention_layer(p, &layer->attention, &p->session->layers[i]);
        add_to_stream(p);
        norm_rows(p, p->work->x, layer->ffn_norm, p->work->normed, p->n_rows);
        ffn_forward(p->session, layer, p->n_rows);
        add_to_stream(p);
        enum mtp_status status = check_fault(p, "layer", i, error);
        if (status != MTP_OK)
            return status;
    }
    return MTP_OK;
}

/* hidden and logits of the rows that want them. */
static enum mtp_status head(const struct pass *p, int32_t n, struct mtp_error *error)
{
    struct workspace *work = p->work;
    const mtp_model *model = p->session->model;
    const struct gather_args gather = {work->x, work->logit_rows, work->mixed, p->h->n_embd, n};
    p->ops->gather(p->backend, &gather);
    norm_rows(p, work->mixed, model->output_norm, work->hidden, n);
    struct linear_input input = {p->backend, work->hidden, work->act, p->h->n_embd, n, false};
    linear(&input, &model->head, work->logits);
    const struct argmax_args argmax = {work->logits, work->top, p->h->n_vocab, n};
    p->ops->argmax(p->backend, &argmax);
    return check_fault(p, "the output head after layer", p->h->n_layers - 1, error);
}

enum mtp_status qwen35_forward(mtp_session *session, const struct forward_batch *batch,
                               struct mtp_error *error)
{
    struct pass p = {session, &session->work, &session->model->hparams, session->backend,
                     session->backend->ops, batch->n_rows};
    memcpy(p.work->rows, batch->rows, (size_t)batch->n_rows * sizeof *batch->rows);
    embed_rows(&p);
    enum mtp_status status = run_layers(&p, error);
    if (status != MTP_OK || batch->n_logit_rows == 0)
        return status;
    memcpy(p.work->logit_rows, batch->logit_rows,
           (size_t)batch->n_logit_rows * sizeof *batch->logit_rows);
    return head(&p, batch->n_logit_rows, error);
}
