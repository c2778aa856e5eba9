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

void qwen35_add_and_norm(const struct pass *p, struct due due, const float *w, float *dst, bool quantised)
{
    struct workspace *work = p->work;
    size_t n = p->h->n_embd;
    const struct moe_combine_args combine = ffn_combine(p->session, p->n_rows);
    const struct add_args add = {work->x, work->mixed, work->x, n, p->n_rows};
    const struct rms_norm_args norm = {work->x, dst, w, n, 1, n, 0, n, 0, p->h->rms_eps, p->n_rows};
    const struct quantize_args quantize = {dst, work->act, n, p->n_rows};
    const struct fused_args fused = {.combine = due.experts ? &combine : NULL,
                                     .add = due.mixed || due.experts ? &add : NULL,
                                     .norm = w != NULL ? &norm : NULL,
                                     .quantize = quantised ? &quantize : NULL,
                                     .layer_of_add = due.layer};
    p->ops->fused(p->backend, &fused);
}

/* What a mixer leaves in work.mixed. */
static struct due due_of_mixer(const struct pass *p)
{
    return (struct due){.mixed = true, .layer = p->backend->layer};
}

/* Norm of each head of x in place; heads are head_stride apart. */
static struct rms_norm_args norm_heads(const struct pass *p, float *x, const float *w, size_t dim,
                                       size_t n_heads, size_t head_stride)
{
    size_t stride = n_heads * head_stride;
    return (struct rms_norm_args){x, x, w, dim, n_heads, stride, head_stride, stride, head_stride,
                                  p->h->rms_eps, p->n_rows};
}

static struct rope_args rotate(const struct pass *p, float *x, uint32_t n_heads, size_t head_stride)
{
    return (struct rope_args){x, n_heads * head_stride, head_stride, n_heads, p->h->n_rot / 2,
                              p->session->exchange.rotary, p->n_rows, p->work->rows};
}

/* Norms and rotations of the heads in work.k and work.q, and the cache. */
static void place_heads(const struct pass *p, const struct attention_weights *w,
                        const struct kv_cache *cache, bool with_queries)
{
    struct workspace *work = p->work;
    const struct hparams *h = p->h;
    size_t dim = h->head_dim;
    const struct rms_norm_args k_norm = norm_heads(p, work->k, w->k_norm, dim, h->n_kv_heads, dim);
    const struct rms_norm_args q_norm = norm_heads(p, work->q, w->q_norm, dim, h->n_heads, 2 * dim);
    const struct rope_args k_rope = rotate(p, work->k, h->n_kv_heads, dim);
    const struct rope_args q_rope = rotate(p, work->q, h->n_heads, 2 * dim);
    const struct kv_store_args store = {*cache, work->rows, work->k, work->v, p->n_rows};
    const struct place_heads_args args = {&k_norm, with_queries ? &q_norm : NULL, &k_rope,
                                          with_queries ? &q_rope : NULL, &store};
    p->ops->place_heads(p->backend, &args);
}

void qwen35_store_keys(const struct pass *p, const struct layer *layer, struct due due,
                       const struct kv_cache *cache, bool with_queries)
{
    struct workspace *work = p->work;
    const struct attention_weights *w = &layer->attention;
    const struct weight *const ws[] = {&w->k, &w->v, &w->q};
    float *const ys[] = {work->k, work->v, work->q};
    int n = with_queries ? 3 : 2;
    bool quantised = linear_wants_act(ws, n);
    qwen35_add_and_norm(p, due, layer->attn_norm, work->normed, quantised);
    struct linear_input input = {p->backend, work->normed, work->act, p->h->n_embd, p->n_rows, quantised};
    linear_all(&input, ws, ys, n);
    place_heads(p, w, cache, with_queries);
}

/* work.mixed = the attention layer's output for the queries in work.q. */
static struct due attend(const struct pass *p, const struct attention_weights *w,
                         const struct kv_cache *cache)
{
    struct workspace *work = p->work;
    const struct hparams *h = p->h;
    size_t dim = h->head_dim;
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
    const struct weight *const output = &w->output;
    struct linear_input heads = {p->backend, work->heads, work->act, h->n_heads * dim, p->n_rows,
                                 linear_wants_act(&output, 1)};
    const struct quantize_args quantize = {work->heads, work->act, heads.n, p->n_rows};
    const struct fused_args fused = {.attention = &args, .quantize = heads.quantised ? &quantize : NULL};
    p->ops->fused(p->backend, &fused);
    linear(&heads, output, work->mixed);
    return due_of_mixer(p);
}

/* work.mixed = rms of each head of work.heads, times silu(work.z), through the output matrix. */
static struct due delta_net_output(const struct pass *p, const struct delta_net_weights *w)
{
    struct workspace *work = p->work;
    const struct hparams *h = p->h;
    size_t inner = (size_t)h->n_v_heads * h->state_dim;
    const struct weight *const output = &w->output;
    struct linear_input heads = {p->backend, work->heads, work->act, inner, p->n_rows,
                                 linear_wants_act(&output, 1)};
    const struct rms_norm_args norm =
        norm_heads(p, work->heads, w->norm, h->state_dim, h->n_v_heads, h->state_dim);
    const struct mul_silu_args gate = {work->heads, work->z, work->heads, inner, inner, inner, inner,
                                       p->n_rows};
    const struct quantize_args quantize = {work->heads, work->act, inner, p->n_rows};
    const struct fused_args fused = {.norm = &norm, .gate = &gate,
                                     .quantize = heads.quantised ? &quantize : NULL};
    p->ops->fused(p->backend, &fused);
    linear(&heads, output, work->mixed);
    return due_of_mixer(p);
}

static struct due delta_net_layer(const struct pass *p, const struct layer *layer, struct due due,
                                  const struct layer_state *state)
{
    struct workspace *work = p->work;
    const struct hparams *h = p->h;
    const struct delta_net_weights *w = &layer->delta_net;
    int live = p->session->live, next = p->speculative ? 1 - live : live;
    float *qkv = p->speculative ? state->conv_rows : work->qkv;
    const struct weight *const ws[] = {&w->qkv, &w->gate, &w->alpha, &w->beta};
    float *const ys[] = {qkv, work->z, work->alpha, work->beta};
    bool quantised = linear_wants_act(ws, 4);
    qwen35_add_and_norm(p, due, layer->attn_norm, work->normed, quantised);
    struct linear_input input = {p->backend, work->normed, work->act, h->n_embd, p->n_rows, quantised};
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
    return delta_net_output(p, w);
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

/* work.x += due, then ffn(rms(work.x)), which is due in turn. */
static struct due feed(const struct pass *p, const struct layer *layer, struct due due)
{
    bool quantised = ffn_wants_act(p->session, layer), experts = p->h->arch == ARCH_QWEN35MOE;
    qwen35_add_and_norm(p, due, layer->ffn_norm, p->work->normed, quantised);
    ffn_forward(p->session, layer, p->n_rows, quantised);
    return (struct due){.mixed = !experts, .experts = experts, .layer = p->backend->layer};
}

struct due qwen35_attend_and_feed(const struct pass *p, const struct layer *layer,
                                  const struct kv_cache *cache)
{
    return feed(p, layer, attend(p, &layer->attention, cache));
}

static enum mtp_status run_layers(const struct pass *p, struct due *due, struct mtp_error *error)
{
    for (uint32_t i = 0; i < p->h->n_layers; i++) {
        const struct layer *layer = &p->session->weights->layers[i];
        const struct layer_state *state = &p->session->layers[i];
        p->backend->layer = (int32_t)i;
        if (layer->recurrent) {
            *due = feed(p, layer, delta_net_layer(p, layer, *due, state));
        } else {
            qwen35_store_keys(p, layer, *due, &state->kv, true);
            *due = qwen35_attend_and_feed(p, layer, &state->kv);
        }
        /* To ask a device is to wait for it. */
        enum mtp_status status = p->ops->host_memory ? qwen35_check_fault(p, error) : MTP_OK;
        if (status != MTP_OK)
            return status;
    }
    return MTP_OK;
}

static bool head_wants_act(const struct pass *p)
{
    const struct weight *const head = &p->session->weights->head;
    return linear_wants_act(&head, 1);
}

/* quantised: work.act has the n rows of hidden. */
static void logits_of(const struct pass *p, const float *hidden, int32_t n, bool quantised)
{
    struct workspace *work = p->work;
    struct linear_input input = {p->backend, hidden, work->act, p->h->n_embd, n, quantised};
    linear(&input, &p->session->weights->head, work->logits);
    const struct argmax_args argmax = {work->logits, results_top(work->results, n), p->h->n_vocab, n};
    p->ops->argmax(p->backend, &argmax);
    const struct digest_args digest = {work->logits, results_digests(work->results), p->h->n_vocab, n};
    p->ops->digest(p->backend, &digest);
}

/* work.hidden = the n rows of src after the last norm, and their logits. */
static void norm_and_logits(const struct pass *p, const float *src, int32_t n)
{
    struct workspace *work = p->work;
    size_t width = p->h->n_embd;
    bool quantised = head_wants_act(p);
    const struct rms_norm_args norm = {src, work->hidden, p->session->weights->output_norm, width, 1,
                                       width, 0, width, 0, p->h->rms_eps, n};
    const struct quantize_args quantize = {work->hidden, work->act, width, n};
    const struct fused_args fused = {.norm = &norm, .quantize = quantised ? &quantize : NULL};
    p->ops->fused(p->backend, &fused);
    logits_of(p, work->hidden, n, quantised);
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
static void head(const struct pass *p, const struct forward_batch *batch, struct due due)
{
    struct workspace *work = p->work;
    const float *norm = p->session->weights->output_norm;
    int32_t n = batch->n_logit_rows;
    bool drafts = p->session->mtp != NULL, all = n == p->n_rows;
    p->backend->layer = (int32_t)p->h->n_layers;
    if (drafts || all) {
        bool quantised = all && head_wants_act(p);
        qwen35_add_and_norm(p, due, norm, work->hidden, quantised);
        if (n > 0)
            logits_of(p, wanted_rows(p, batch, work->hidden), n, quantised);
        return;
    }
    qwen35_add_and_norm(p, due, NULL, NULL, false);
    if (n > 0)
        norm_and_logits(p, wanted_rows(p, batch, work->x), n);
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
        struct due due = {0};
        if (batch->chained)
            chain_rows(&p);
        embed_rows(&p);
        status = run_layers(&p, &due, error);
        if (status == MTP_OK)
            head(&p, batch, due);
        if (status == MTP_OK)
            settle(&p, batch);
        done = qwen35_pass_end(&p) || status != MTP_OK;
    }
    return status;
}
