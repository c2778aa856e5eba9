/* mtp_head.c - see mtp_head.h. */
#include "mtp_head.h"

#include <stdlib.h>
#include <string.h>

#include "arch_qwen35.h"
#include "linear.h"
#include "profile.h"

/* ---- memory ------------------------------------------------------------------------------ */

static size_t kv_bytes(const mtp_model *model, const struct mtp_session_options *options)
{
    const struct hparams *h = &model->hparams;
    size_t element = options->kv_type == MTP_KV_F32 ? sizeof(float) : sizeof(uint16_t);
    return (size_t)options->n_ctx * h->n_kv_heads * h->head_dim * element;
}

static size_t queue_bytes(const mtp_model *model)
{
    return (size_t)MTP_QUEUE_ROWS * model->hparams.n_embd * sizeof(float);
}

uint64_t mtp_state_kv_bytes(const mtp_model *model, const struct mtp_session_options *options,
                            uint32_t n_sequences)
{
    return options->draft ? 2 * (uint64_t)kv_bytes(model, options) * n_sequences : 0;
}

static bool allocate(mtp_session *s, struct mtp_state *m)
{
    const struct hparams *h = &s->model->hparams;
    const struct ops *ops = s->backend->ops;
    size_t bytes = kv_bytes(s->model, &s->options);
    m->kv = (struct kv_cache){
        .k = ops->alloc(s->backend, bytes, MEMORY_STREAM),
        .v = ops->alloc(s->backend, bytes, MEMORY_STREAM),
        .type = s->options.kv_type == MTP_KV_F32 ? KV_F32 : KV_F16,
        .n_kv_heads = h->n_kv_heads,
        .head_dim = h->head_dim,
        .n_ctx = s->options.n_ctx,
    };
    m->tokens = calloc(MTP_QUEUE_ROWS, sizeof *m->tokens);
    m->hidden = ops->alloc(s->backend, queue_bytes(s->model), MEMORY_WHOLE);
    m->last_hidden = ops->alloc(s->backend, h->n_embd * sizeof *m->last_hidden, MEMORY_WHOLE);
    m->out = ops->alloc(s->backend, h->n_embd * sizeof *m->out, MEMORY_WHOLE);
    m->logits = ops->alloc(s->backend, h->n_vocab * sizeof *m->logits, MEMORY_PARTS);
    m->top = ops->alloc(s->backend, sizeof *m->top, MEMORY_WHOLE);
    return m->kv.k != NULL && m->kv.v != NULL && m->tokens != NULL && m->hidden != NULL &&
           m->last_hidden != NULL && m->out != NULL && m->logits != NULL && m->top != NULL;
}

enum mtp_status mtp_state_open(mtp_session *session, struct mtp_error *error)
{
    session->mtp = calloc(1, sizeof *session->mtp);
    if (session->mtp == NULL || !allocate(session, session->mtp))
        return mtp_fail_memory(error, "the MTP block's cache",
                               2 * (uint64_t)kv_bytes(session->model, &session->options));
    return MTP_OK;
}

void mtp_state_close(mtp_session *session)
{
    struct mtp_state *m = session->mtp;
    if (m == NULL)
        return;
    const struct hparams *h = &session->model->hparams;
    const struct ops *ops = session->backend->ops;
    size_t bytes = kv_bytes(session->model, &session->options);
    ops->free(session->backend, m->kv.k, bytes);
    ops->free(session->backend, m->kv.v, bytes);
    ops->free(session->backend, m->hidden, queue_bytes(session->model));
    ops->free(session->backend, m->last_hidden, h->n_embd * sizeof *m->last_hidden);
    ops->free(session->backend, m->out, h->n_embd * sizeof *m->out);
    ops->free(session->backend, m->logits, h->n_vocab * sizeof *m->logits);
    ops->free(session->backend, m->top, sizeof *m->top);
    free(m->tokens);
    free(m);
    session->mtp = NULL;
}

/* ---- passes ------------------------------------------------------------------------------ */

/* work.x = eh_proj [enorm'ed embedding; hnorm'ed hidden] of every row. */
static void join(const struct pass *p, const struct mtp_block *block, const float *hidden)
{
    struct workspace *work = p->work;
    size_t n = p->h->n_embd;
    const struct embed_args embed = {block->embedding, work->rows, work->x, p->n_rows};
    p->ops->embed(p->backend, &embed);
    qwen35_norm(p, work->x, block->enorm, work->pairs, 2 * n);
    qwen35_norm(p, hidden, block->hnorm, work->pairs + n, 2 * n);
    struct linear_input input = {p->backend, work->pairs, work->act, 2 * n, p->n_rows, false};
    linear(&input, &block->eh_proj, work->x);
}

static void store_keys(const struct pass *p, const struct mtp_block *block,
                       const struct kv_cache *cache, bool with_queries)
{
    qwen35_norm(p, p->work->x, block->layer.attn_norm, p->work->normed, p->h->n_embd);
    qwen35_store_keys(p, &block->layer.attention, cache, with_queries);
}

/* The rest of the block for the last row alone, and its draft. */
static void predict(struct pass p, const struct mtp_block *block, struct mtp_state *m,
                    uint32_t n_head)
{
    struct workspace *work = p.work;
    size_t n = p.h->n_embd, last = (size_t)p.n_rows - 1;
    size_t q_width = (size_t)p.h->n_heads * 2 * p.h->head_dim;
    p.n_rows = 1;
    if (last > 0) {
        p.ops->copy(p.backend, work->x, work->x + last * n, n * sizeof *work->x);
        p.ops->copy(p.backend, work->q, work->q + last * q_width, q_width * sizeof *work->q);
        p.ops->copy(p.backend, work->rows, work->rows + last, sizeof *work->rows);
        p.ops->copy(p.backend, work->cos_sin, work->cos_sin + last * p.h->n_rot,
                    p.h->n_rot * sizeof *work->cos_sin);
    }
    qwen35_attend_and_feed(&p, &block->layer, &m->kv);
    qwen35_norm(&p, work->x, block->head_norm, m->out, n);
    struct weight head = block->head;
    head.n_out = n_head;
    struct linear_input input = {p.backend, m->out, work->act, n, 1, false};
    linear(&input, &head, m->logits);
    const struct argmax_args argmax = {m->logits, m->top, n_head, 1};
    p.ops->argmax(p.backend, &argmax);
}

/* Where a pass finds its hidden rows: the row of the queue, or behind them all the block's own output. */
static uint64_t hidden_place(const mtp_session *s, const float *hidden)
{
    const struct mtp_state *m = s->mtp;
    size_t row_bytes = s->model->hparams.n_embd * sizeof *hidden;
    return hidden == m->out ? MTP_QUEUE_ROWS : ((uintptr_t)hidden - (uintptr_t)m->hidden) / row_bytes;
}

/* As mtp_rows, for at most options.n_batch rows; n_head 0: keys and values only. */
static enum mtp_status run_rows(mtp_session *s, const int32_t *tokens, const float *hidden,
                                uint32_t first, uint32_t n, uint32_t n_head,
                                struct mtp_error *error)
{
    struct pass p = qwen35_pass(s, (int32_t)n);
    const struct mtp_block *block = &s->weights->mtp;
    for (uint32_t r = 0; r < n; r++)
        s->exchange.rows[r] = (struct batch_row){tokens[r], (int32_t)(first + r), 0};
    exchange_upload_rows(s, (int32_t)n);
    p.backend->layer = (int32_t)p.h->n_layers + 1;
    uint64_t more = (uint64_t)n_head * (MTP_QUEUE_ROWS + 1) + hidden_place(s, hidden);
    bool done = qwen35_pass_begin(&p, PASS_DRAFT, more);
    while (!done) {
        join(&p, block, hidden);
        store_keys(&p, block, &s->mtp->kv, n_head > 0);
        if (n_head > 0)
            predict(p, block, s->mtp, n_head);
        done = qwen35_pass_end(&p);
    }
    return qwen35_check_fault(&p, error);
}

enum mtp_status mtp_rows(mtp_session *session, const int32_t *tokens, const float *hidden,
                         uint32_t first, uint32_t n, uint32_t n_head, struct mtp_error *error)
{
    uint32_t most = session->options.n_batch;
    size_t width = session->model->hparams.n_embd;
    int outer = profile_enter(session->profile, MTP_PROFILE_DRAFT);
    enum mtp_status status = MTP_OK;
    for (uint32_t done = 0; done < n && status == MTP_OK; done += most) {
        uint32_t take = n - done < most ? n - done : most;
        bool last = done + take == n;
        status = run_rows(session, tokens + done, hidden + done * width, first + done, take,
                          last ? n_head : 0, error);
    }
    profile_enter(session->profile, outer);
    return status;
}

/* ---- the queue --------------------------------------------------------------------------- */

enum mtp_status mtp_catch_up(mtp_session *session, struct mtp_error *error)
{
    struct mtp_state *m = session->mtp;
    if (m->n_queued == 0)
        return MTP_OK;
    enum mtp_status status =
        mtp_rows(session, m->tokens, m->hidden, m->filled, m->n_queued, 0, error);
    m->filled += m->n_queued;
    m->n_queued = 0;
    return status;
}

void mtp_skip(mtp_session *session)
{
    struct mtp_state *m = session->mtp;
    size_t n = session->model->hparams.n_embd;
    if (m->n_queued <= MTP_TRIAL_ROWS)
        return;
    uint32_t gone = m->n_queued - MTP_TRIAL_ROWS;
    memmove(m->tokens, m->tokens + gone, MTP_TRIAL_ROWS * sizeof *m->tokens);
    for (uint32_t done = 0; done < MTP_TRIAL_ROWS; done += gone) { /* what a copy reads it does not write */
        uint32_t left = MTP_TRIAL_ROWS - done, rows = left < gone ? left : gone;
        session->backend->ops->copy(session->backend, m->hidden + done * n, m->hidden + (done + gone) * n,
                                    rows * n * sizeof *m->hidden);
    }
    m->n_queued = MTP_TRIAL_ROWS;
    m->skipped += gone;
}

/* hidden is that of the position before the token's. */
static enum mtp_status push(mtp_session *s, int32_t token, const float *hidden, struct mtp_error *error)
{
    struct mtp_state *m = s->mtp;
    size_t n = s->model->hparams.n_embd;
    enum mtp_status status = MTP_OK;
    if (m->n_queued == MTP_QUEUE_ROWS && m->may_skip)
        mtp_skip(s);
    else if (m->n_queued == MTP_QUEUE_ROWS)
        status = mtp_catch_up(s, error);
    m->tokens[m->n_queued] = token;
    s->backend->ops->copy(s->backend, m->hidden + m->n_queued * n, hidden, n * sizeof *m->hidden);
    m->n_queued++;
    return status;
}

enum mtp_status mtp_note(mtp_session *session, const int32_t *tokens, const float *hidden,
                         uint32_t first, uint32_t n, struct mtp_error *error)
{
    struct mtp_state *m = session->mtp;
    size_t width = session->model->hparams.n_embd;
    /* A catch-up runs in the workspace that may hold `hidden`; nothing it writes is work.hidden. */
    for (uint32_t i = 0; i < n; i++) {
        uint32_t position = first + i;
        if (position > 0 && position - 1 == m->skipped + m->filled + m->n_queued) {
            const float *before = i > 0 ? hidden + (i - 1) * width : m->last_hidden;
            enum mtp_status status = push(session, tokens[i], before, error);
            if (status != MTP_OK)
                return status;
        }
    }
    if (n > 0)
        session->backend->ops->copy(session->backend, m->last_hidden, hidden + (n - 1) * width,
                                    width * sizeof *m->last_hidden);
    return MTP_OK;
}

enum mtp_status mtp_draft(mtp_session *session, int32_t token, uint32_t n, uint32_t n_head,
                          int32_t *drafts, struct mtp_error *error)
{
    struct mtp_state *m = session->mtp;
    uint32_t first = session->lengths[0] - 1 - m->skipped; /* row of the token that comes next */
    enum mtp_status status = push(session, token, m->last_hidden, error);
    if (status != MTP_OK)
        return status;
    status = mtp_rows(session, m->tokens, m->hidden, m->filled, m->n_queued, n_head, error);
    m->filled += m->n_queued;
    m->n_queued = 0;
    for (uint32_t i = 0; status == MTP_OK && i < n; i++) {
        session->backend->ops->download(session->backend, &drafts[i], m->top, sizeof *m->top);
        status = session_check_backend(session, error);
        if (status == MTP_OK && i + 1 < n)
            status = mtp_rows(session, &drafts[i], m->out, first + 1 + i, 1, n_head, error);
    }
    return status;
}

void mtp_cut(mtp_session *session, uint32_t n_positions)
{
    struct mtp_state *m = session->mtp;
    uint32_t rows = n_positions > 0 ? n_positions - 1 : 0;
    m->skipped = m->skipped < rows ? m->skipped : rows;
    rows -= m->skipped;
    if (m->filled > rows) {
        m->filled = rows;
        m->n_queued = 0;
    } else if (m->filled + m->n_queued > rows) {
        m->n_queued = rows - m->filled;
    }
}
