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
    bool there = options->draft && model->weights.mtp.present;
    return there ? 2 * (uint64_t)kv_bytes(model, options) * n_sequences : 0;
}

uint64_t mtp_state_row_bytes(const mtp_model *model)
{
    const struct hparams *h = &model->hparams;
    return queue_bytes(model) + (2 * (uint64_t)h->n_embd + h->n_vocab) * sizeof(float);
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
    m->top = &s->work.board->tokens[1];
    return m->kv.k != NULL && m->kv.v != NULL && m->tokens != NULL && m->hidden != NULL &&
           m->last_hidden != NULL && m->out != NULL && m->logits != NULL;
}

enum mtp_status mtp_state_open(mtp_session *session, struct mtp_error *error)
{
    session->mtp = calloc(1, sizeof *session->mtp);
    if (session->mtp == NULL || !allocate(session, session->mtp))
        return backend_fail_memory(session->backend, error, "the MTP block's cache",
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

/* Rows of the block that are put through together. */
struct draft_pass {
    const int32_t *tokens;  /* the host's, or NULL: one row, of draft number `draft` - 1 */
    const float *hidden;
    uint32_t first, n;      /* rows of the block's cache */
    uint32_t n_head;        /* ids to choose from; 0: keys and values only */
    uint32_t draft;         /* the number of the draft that comes out, from 0 */
    bool drawn;             /* by the board's noise */
};

/* The rest of the block for the last row alone, and its draft. */
static void predict(struct pass p, const struct mtp_block *block, struct mtp_state *m,
                    const struct draft_pass *d)
{
    struct workspace *work = p.work;
    size_t n = p.h->n_embd, last = (size_t)p.n_rows - 1;
    size_t q_width = (size_t)p.h->n_heads * 2 * p.h->head_dim;
    p.n_rows = 1;
    if (last > 0) {
        p.ops->copy(p.backend, work->x, work->x + last * n, n * sizeof *work->x);
        p.ops->copy(p.backend, work->q, work->q + last * q_width, q_width * sizeof *work->q);
        p.ops->copy(p.backend, work->rows, work->rows + last, sizeof *work->rows);
    }
    const struct weight *const whole_head = &block->head;
    bool quantised = linear_wants_act(&whole_head, 1);
    struct due due = qwen35_attend_and_feed(&p, &block->layer, &m->kv);
    qwen35_add_and_norm(&p, due, block->head_norm, m->out, quantised);
    struct weight head = *whole_head;
    head.n_out = d->n_head;
    struct linear_input input = {p.backend, m->out, work->act, n, 1, quantised};
    linear(&input, &head, m->logits);
    /* Draft number i is to stand behind the drawn token and i drafts. */
    const struct argmax_args argmax = {m->logits, m->top + d->draft, d->n_head, 1,
                                       d->drawn ? &work->board->noise : NULL, &work->board->trunk_first,
                                       1 + (int32_t)d->draft};
    p.ops->argmax(p.backend, &argmax);
}

/* Where a pass finds its hidden rows: the row of the queue, or behind them all the block's own output. */
static uint64_t hidden_place(const mtp_session *s, const float *hidden)
{
    const struct mtp_state *m = s->mtp;
    size_t row_bytes = s->model->hparams.n_embd * sizeof *hidden;
    return hidden == m->out ? MTP_QUEUE_ROWS : ((uintptr_t)hidden - (uintptr_t)m->hidden) / row_bytes;
}

/* Rows of known tokens go to the backend; the others are made there, inside the pass. */
static void upload_rows(const struct pass *p, const struct draft_pass *d)
{
    if (d->tokens == NULL)
        return;
    for (uint32_t r = 0; r < d->n; r++)
        p->session->exchange.rows[r] = (struct batch_row){d->tokens[r], (int32_t)(d->first + r), 0};
    exchange_upload_rows(p->session, p->n_rows);
}

static void chain_row(const struct pass *p, const struct draft_pass *d)
{
    const struct step_board *board = p->work->board;
    const struct chain_rows_args chain = {board->tokens + d->draft, &board->draft_first, (int32_t)d->draft,
                                          p->work->rows, 1};
    if (d->tokens == NULL)
        p->ops->chain_rows(p->backend, &chain);
}

static enum mtp_status run_rows(mtp_session *s, const struct draft_pass *d, struct mtp_error *error)
{
    struct pass p = qwen35_pass(s, (int32_t)d->n);
    const struct mtp_block *block = &s->weights->mtp;
    upload_rows(&p, d);
    p.backend->layer = (int32_t)p.h->n_layers + 1;
    uint64_t more = (uint64_t)d->n_head * (MTP_QUEUE_ROWS + 1) + hidden_place(s, d->hidden);
    more = more << 4 | (uint64_t)d->drawn << 3 | d->draft;
    bool done = qwen35_pass_begin(&p, PASS_DRAFT, more, d->n_head > 0 ? d->draft + 1 : 0);
    while (!done) {
        chain_row(&p, d);
        join(&p, block, d->hidden);
        qwen35_store_keys(&p, &block->layer, (struct due){0}, &s->mtp->kv, d->n_head > 0);
        if (d->n_head > 0)
            predict(p, block, s->mtp, d);
        done = qwen35_pass_end(&p);
    }
    /* To ask a device is to wait for it: the pass that checks the drafts will. */
    return p.ops->host_memory ? qwen35_check_fault(&p, error) : MTP_OK;
}

/* The pass in parts of at most options.n_batch rows. */
static enum mtp_status run_parts(mtp_session *session, const struct draft_pass *whole,
                                 struct mtp_error *error)
{
    uint32_t most = session->options.n_batch;
    size_t width = session->model->hparams.n_embd;
    int outer = profile_enter(session->profile, MTP_PROFILE_DRAFT);
    enum mtp_status status = MTP_OK;
    for (uint32_t done = 0; done < whole->n && status == MTP_OK; done += most) {
        struct draft_pass part = *whole;
        uint32_t left = whole->n - done;
        part.n = left < most ? left : most;
        part.tokens = whole->tokens != NULL ? whole->tokens + done : NULL;
        part.hidden = whole->hidden + done * width;
        part.first = whole->first + done;
        part.n_head = part.n == left ? whole->n_head : 0;
        status = run_rows(session, &part, error);
    }
    profile_enter(session->profile, outer);
    return status;
}

enum mtp_status mtp_rows(mtp_session *session, const int32_t *tokens, const float *hidden,
                         uint32_t first, uint32_t n, uint32_t n_head, struct mtp_error *error)
{
    const struct draft_pass pass = {tokens, hidden, first, n, n_head, 0, false};
    return run_parts(session, &pass, error);
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

/* Makes room behind the rows that wait; *room is how many rows may be put there. */
static enum mtp_status queue_room(mtp_session *s, uint32_t *room, struct mtp_error *error)
{
    struct mtp_state *m = s->mtp;
    enum mtp_status status = MTP_OK;
    if (m->n_queued == MTP_QUEUE_ROWS && m->may_skip)
        mtp_skip(s);
    else if (m->n_queued == MTP_QUEUE_ROWS)
        status = mtp_catch_up(s, error);
    *room = MTP_QUEUE_ROWS - m->n_queued;
    return status;
}

/* Queues n rows; row i of hidden is that of the position before tokens[i]'s. */
static enum mtp_status push(mtp_session *s, const int32_t *tokens, const float *hidden, uint32_t n,
                            struct mtp_error *error)
{
    struct mtp_state *m = s->mtp;
    size_t width = s->model->hparams.n_embd;
    enum mtp_status status = MTP_OK;
    for (uint32_t done = 0, part = 0; done < n && status == MTP_OK; done += part) {
        uint32_t left = n - done;
        status = queue_room(s, &part, error);
        part = part < left ? part : left;
        memcpy(m->tokens + m->n_queued, tokens + done, part * sizeof *tokens);
        s->backend->ops->copy(s->backend, m->hidden + m->n_queued * width, hidden + done * width,
                              part * width * sizeof *hidden);
        m->n_queued += part;
    }
    return status;
}

enum mtp_status mtp_note(mtp_session *session, const int32_t *tokens, const float *hidden,
                         uint32_t first, uint32_t n, struct mtp_error *error)
{
    struct mtp_state *m = session->mtp;
    size_t width = session->model->hparams.n_embd;
    uint32_t known = m->skipped + m->filled + m->n_queued; /* rows that tokens before these have given */
    uint32_t i = known + 1 > first ? known + 1 - first : 0; /* the first token that gives a new one */
    enum mtp_status status = MTP_OK;
    /* A catch-up runs in the workspace that may hold `hidden`; nothing it writes is work.hidden. */
    if (first + i != known + 1) /* rows in between are missing */
        i = n;
    if (i == 0 && n > 0) {
        status = push(session, tokens, m->last_hidden, 1, error);
        i++;
    }
    if (status == MTP_OK && i < n)
        status = push(session, tokens + i, hidden + (i - 1) * width, n - i, error);
    if (status == MTP_OK && n > 0)
        session->backend->ops->copy(session->backend, m->last_hidden, hidden + (n - 1) * width,
                                    width * sizeof *m->last_hidden);
    return status;
}

enum mtp_status mtp_draft(mtp_session *session, int32_t token, uint32_t n, uint32_t n_head,
                          const struct draw_noise *noise, struct mtp_error *error)
{
    struct mtp_state *m = session->mtp;
    uint32_t position = session->lengths[0];
    uint32_t first = position - 1 - m->skipped; /* row of the token that comes next */
    *session->exchange.board = (struct step_board){
        .trunk_first = (int32_t)position, .draft_first = (int32_t)first, .tokens = {token}};
    if (noise != NULL)
        session->exchange.board->noise = *noise;
    exchange_rotary_until(session, position + n + 1);
    enum mtp_status status = push(session, &token, m->last_hidden, 1, error);
    if (status != MTP_OK)
        return status;
    const struct draft_pass caught_up = {m->tokens, m->hidden, m->filled, m->n_queued, n_head, 0,
                                         noise != NULL};
    status = run_parts(session, &caught_up, error);
    m->filled += m->n_queued;
    m->n_queued = 0;
    for (uint32_t i = 1; status == MTP_OK && i < n; i++) {
        const struct draft_pass next = {NULL, m->out, first + i, 1, n_head, i, noise != NULL};
        status = run_parts(session, &next, error);
    }
    return status;
}

enum mtp_status mtp_drafts(mtp_session *session, uint32_t n, int32_t *drafts, struct mtp_error *error)
{
    session->backend->ops->download(session->backend, drafts, session->mtp->top, n * sizeof *drafts);
    return session_check_backend(session, error);
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
