/* arch_qwen35.c - the trunk of Qwen3.5/3.6 models (qwen35, qwen35moe): blocks of gated DeltaNet or
 * gated full attention, each followed by a feed-forward part.
 *
 *   r = x;  x = r + mixer(rms(x, attn_norm));  x = x + ffn(rms(x, post_attention_norm))
 *   hidden = rms(x, output_norm);  logits = output hidden
 */
#include <math.h>
#include <string.h>

#include "arch_qwen35.h"
#include "ffn.h"
#include "linear.h"

struct pass qwen35_pass(mtp_session *session, int32_t n_rows)
{
    return (struct pass){.session = session,
                         .work = &session->work,
                         .h = &session->model->hparams,
                         .backend = session->backend,
                         .ops = session->backend->ops,
                         .n_rows = n_rows};
}

void qwen35_norm(const struct pass *p, const float *src, const float *w, float *dst,
                 size_t dst_stride)
{
    size_t width = p->h->n_embd;
    const struct rms_norm_args args = {src, dst, w, width, 1, width, 0, dst_stride, 0,
                                       p->h->rms_eps, p->n_rows};
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
                                   p->h->n_rot / 2, p->session->exchange.rotary, p->n_rows,
                                   p->work->rows};
    p->ops->rope(p->backend, &args);
}

void qwen35_store_keys(const struct pass *p, const struct attention_weights *w,
                       const struct kv_cache *cache, bool with_queries)
{
    struct workspace *work = p->work;
    const struct hparams *h = p->h;
    struct linear_input input = {p->backend, work->normed, work->act, h->n_embd, p->n_rows, false};
    const struct weight *const ws[] = {&w->k, &w->v, &w->q};
    float *const ys[] = {work->k, work->v, work->q};
    linear_all(&input, ws, ys, with_queries ? 3 : 2);
    norm_heads(p, work->k, w->k_norm, h->head_dim, h->n_kv_heads, h->head_dim);
    rotate(p, work->k, h->n_kv_heads, h->head_dim);
    const struct kv_store_args store = {*cache, work->rows, work->k, work->v, p->n_rows};
    p->ops->kv_store(p->backend, &store);
}

/* work.mixed = the attention layer's output for the queries in work.q. */
static void attend(const struct pass *p, const struct attention_weights *w,
                   const struct kv_cache *cache)
{
    struct workspace *work = p->work;
    const struct hparams *h = p->h;
    size_t dim = h->head_dim;
    norm_heads(p, work->q, w->q_norm, dim, h->n_heads, 2 * dim);
    rotate(p, work->q, h->n_heads, 2 * dim);
    const struct attention_args args = {
        .cache = *cache,
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
    p->ops->attention(p->backend, &args);
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
    int live = p->session->live, next = p->speculative ? 1 - live : live;
    float *qkv = p->speculative ? state->conv_rows : work->qkv;
    const struct weight *const ws[] = {&w->qkv, &w->gate, &w->alpha, &w->beta};
    float *const ys[] = {qkv, work->z, work->alpha, work->beta};
    linear_all(&input, ws, ys, 4);
    const struct conv_args conv = {
        .rows = work->rows,
        .x = qkv,
        .w = w->conv,
        .state = state->conv[next],
        .out = work->conv,
        .n_channels = hparams_conv_channels(h),
        .n_taps = h->conv_taps,
        .n_sequences = p->session->n_sequences,
        .n_rows = p->n_rows,
        .state_from = p->speculative ? state->conv[live] : NULL,
    };
    p->ops->conv(p->backend, &conv);
    struct delta_net_args delta = {
        .rows = work->rows,
        .x = work->conv,
        .alpha = work->alpha,
        .beta = work->beta,
        .a = w->a,
        .dt = w->dt,
        .state = state->delta[next],
        .out = work->heads,
        .n_k_heads = h->n_k_heads,
        .n_v_heads = h->n_v_heads,
        .d = h->state_dim,
        .n_sequences = p->session->n_sequences,
        .n_rows = p->n_rows,
        .state_from = p->speculative ? state->delta[live] : NULL,
    };
    if (p->speculative)
        delta.journal = state->journal;
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

/* What a layer's number (backend->layer) stands for. */
static const char *place_name(const struct hparams *h, int32_t layer, uint32_t *number)
{
    *number = layer < 0 ? 0 : (uint32_t)layer;
    if (*number < h->n_layers)
        return "layer";
    *number = *number == h->n_layers ? h->n_layers - 1 : h->n_layers;
    return layer == (int32_t)h->n_layers ? "the output head after layer" : "the MTP block, layer";
}

enum mtp_status qwen35_check_fault(const struct pass *p, struct mtp_error *error)
{
    struct numeric_fault fault = p->ops->fault(p->backend);
    if (!fault.found)
        return MTP_OK;
    p->ops->clear_fault(p->backend);
    p->session->broken = true;
    uint32_t number;
    const char *place = place_name(p->h, fault.layer, &number);
    return mtp_fail(error, MTP_ERR_NUMERIC,
                    "an infinity or NaN appeared in %s %u, operation %s, row %d of a batch that begins "
                    "at position %d: the model file is damaged",
                    place, number, fault.operation, fault.row,
                    p->session->exchange.rows[0].position);
}

bool qwen35_pass_begin(const struct pass *p, uint64_t kind, uint64_t more, uint32_t order)
{
    if (p->ops->pass_begin == NULL || p->n_rows > MAX_STEP_ROWS)
        return false;
    uint64_t key = (more << 16) + ((uint64_t)p->n_rows << 4) + kind;
    return p->ops->pass_begin(p->backend, key, order);
}

bool qwen35_pass_end(const struct pass *p)
{
    return p->ops->pass_end == NULL || p->ops->pass_end(p->backend);
}

static void embed_rows(const struct pass *p)
{
    const struct embed_args embed = {p->session->weights->embedding, p->work->rows, p->work->x,
                                     p->n_rows};
    p->backend->layer = -1;
    p->ops->embed(p->backend, &embed);
}

static void feed(const struct pass *p, const struct layer *layer)
{
    qwen35_norm(p, p->work->x, layer->ffn_norm, p->work->normed, p->h->n_embd);
    ffn_forward(p->session, layer, p->n_rows);
    add_to_stream(p);
}

void qwen35_attend_and_feed(const struct pass *p, const struct layer *layer,
                            const struct kv_cache *cache)
{
    attend(p, &layer->attention, cache);
    add_to_stream(p);
    feed(p, layer);
}

static enum mtp_status run_layers(const struct pass *p, struct mtp_error *error)
{
    for (uint32_t i = 0; i < p->h->n_layers; i++) {
        const struct layer *layer = &p->session->weights->layers[i];
        const struct layer_state *state = &p->session->layers[i];
        p->backend->layer = (int32_t)i;
        qwen35_norm(p, p->work->x, layer->attn_norm, p->work->normed, p->h->n_embd);
        if (layer->recurrent) {
            delta_net_layer(p, &layer->delta_net, state);
            add_to_stream(p);
            feed(p, layer);
        } else {
            qwen35_store_keys(p, &layer->attention, &state->kv, true);
            qwen35_attend_and_feed(p, layer, &state->kv);
        }
        /* To ask a device is to wait for it. */
        enum mtp_status status = p->ops->host_memory ? qwen35_check_fault(p, error) : MTP_OK;
        if (status != MTP_OK)
            return status;
    }
    return MTP_OK;
}

static void logits_of(struct pass p, const float *hidden, int32_t n)
{
    p.n_rows = n;
    struct workspace *work = p.work;
    struct linear_input input = {p.backend, hidden, work->act, p.h->n_embd, n, false};
    linear(&input, &p.session->weights->head, work->logits);
    const struct argmax_args argmax = {work->logits, results_top(work->results, n), p.h->n_vocab, n};
    p.ops->argmax(p.backend, &argmax);
    const struct digest_args digest = {work->logits, results_digests(work->results), p.h->n_vocab, n};
    p.ops->digest(p.backend, &digest);
}

/* Rows of src that want logits: src itself where all do. */
static const float *wanted_rows(const struct pass *p, const struct forward_batch *batch, const float *src)
{
    const struct gather_args gather = {src, p->work->logit_rows, p->work->mixed, p->h->n_embd,
                                       batch->n_logit_rows};
    if (batch->n_logit_rows == p->n_rows)
        return src;
    p->ops->gather(p->backend, &gather);
    return p->work->mixed;
}

/* Hidden rows and logits: of every row where drafts need them, else of the rows that want logits. */
static void head(const struct pass *p, const struct forward_batch *batch)
{
    struct workspace *work = p->work;
    const float *norm = p->session->weights->output_norm;
    int32_t n = batch->n_logit_rows;
    struct pass wanted = *p;
    wanted.n_rows = n;
    p->backend->layer = (int32_t)p->h->n_layers;
    if (p->session->mtp != NULL)
        qwen35_norm(p, work->x, norm, work->hidden, p->h->n_embd);
    if (p->session->mtp != NULL && n > 0) {
        logits_of(wanted, wanted_rows(p, batch, work->hidden), n);
    } else if (n > 0) {
        qwen35_norm(&wanted, wanted_rows(p, batch, work->x), norm, work->hidden, p->h->n_embd);
        logits_of(wanted, work->hidden, n);
    }
}

/* What greedy decoding keeps of a chained pass, found out where the pass runs. */
static void settle(const struct pass *p, const struct forward_batch *batch)
{
    struct workspace *work = p->work;
    const struct accept_args accept = {work->board->tokens, results_top(work->results, p->n_rows),
                                       &work->board->n_kept, results_tokens(work->results, p->n_rows),
                                       p->n_rows};
    if (!batch->chained)
        return;
    p->ops->accept(p->backend, &accept);
    if (batch->settle)
        session_replay(p->session, p->n_rows, &work->board->n_kept);
}

/* Rows that the host knows go to the backend; those of a chained pass are made there, inside it. */
static void upload_batch(const struct pass *p, const struct forward_batch *batch)
{
    mtp_session *session = p->session;
    memcpy(session->exchange.rows, batch->rows, (size_t)batch->n_rows * sizeof *batch->rows);
    if (!batch->chained)
        exchange_upload_rows(session, batch->n_rows);
    if (batch->n_logit_rows < batch->n_rows)
        p->ops->upload(p->backend, p->work->logit_rows, batch->logit_rows,
                       (size_t)batch->n_logit_rows * sizeof *p->work->logit_rows);
}

static void chain_rows(const struct pass *p)
{
    const struct step_board *board = p->work->board;
    const struct chain_rows_args chain = {board->tokens, &board->trunk_first, 0, p->work->rows, p->n_rows};
    p->ops->chain_rows(p->backend, &chain);
}

enum mtp_status qwen35_forward(mtp_session *session, const struct forward_batch *batch,
                               struct mtp_error *error)
{
    struct pass p = qwen35_pass(session, batch->n_rows);
    p.speculative = batch->speculative;
    upload_batch(&p, batch);
    uint64_t more = (uint64_t)batch->n_logit_rows << 4 | (uint64_t)batch->settle << 3 |
                    (uint64_t)batch->chained << 2 | (uint64_t)batch->speculative << 1 |
                    (uint64_t)session->live;
    enum mtp_status status = MTP_OK;
    bool done = qwen35_pass_begin(&p, PASS_TRUNK, more, PASS_ORDERS - 1);
    while (!done) {
        if (batch->chained)
            chain_rows(&p);
        embed_rows(&p);
        status = run_layers(&p, error);
        if (status == MTP_OK)
            head(&p, batch);
        if (status == MTP_OK)
            settle(&p, batch);
        done = qwen35_pass_end(&p) || status != MTP_OK;
    }
    return status;
}
