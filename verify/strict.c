/* strict.c - see strict.h. */
#include "strict.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/fpcontrol.h"
#include "mtp/mtp_head.h"
#include "verify/compare.h"
#include "verify/instrument.h"
#include "verify/strict_search.h"

/* ---- opening ----------------------------------------------------------------------------- */

/* Room in the session's own memory. */
static uint8_t *copy_of_state(mtp_session *session, size_t bytes)
{
    return session->backend->ops->alloc(session->backend, bytes + 1, MEMORY_WHOLE);
}

void strict_shadow_options(struct mtp_session_options *options)
{
    options->strict = MTP_STRICT_OFF;
    options->test_flip = NULL;
    options->progress = NULL;
    options->profile = false;
    options->n_batch = 1;
}

uint64_t strict_copies_bytes(uint64_t state_bytes)
{
    return 2 * (state_bytes + 1);
}

enum mtp_status strict_open(mtp_session *session, struct mtp_error *error)
{
    struct strict *strict = calloc(1, sizeof *strict);
    if (strict == NULL)
        return mtp_fail_memory(error, "the strict check", sizeof *strict);
    session->strict = strict;
    strict->report.mode = session->options.strict;
    struct mtp_session_options options = session->options;
    strict_shadow_options(&options);
    strict->state_bytes = session_state(session)->used;
    strict->rows = calloc(session->options.n_batch, sizeof *strict->rows);
    if (strict->rows == NULL)
        return mtp_fail_memory(error, "a list of rows", session->options.n_batch * sizeof *strict->rows);
    enum mtp_status status =
        session_open_on(&strict->shadow, session->model, session->source, &options, 1, error);
    if (status != MTP_OK)
        return status;
    strict->before = copy_of_state(session, strict->state_bytes);
    strict->shadow_before = copy_of_state(strict->shadow, strict->state_bytes);
    if (strict->before == NULL || strict->shadow_before == NULL)
        return backend_fail_memory(session->backend, error, "copies of the state", 2 * strict->state_bytes);
    return session_instrument(strict->shadow, error);
}

void strict_close(mtp_session *session)
{
    struct strict *strict = session->strict;
    if (strict == NULL)
        return;
    mtp_session *shadow = strict->shadow;
    session->backend->ops->free(session->backend, strict->before, strict->state_bytes + 1);
    if (shadow != NULL)
        shadow->backend->ops->free(shadow->backend, strict->shadow_before, strict->state_bytes + 1);
    mtp_session_close(shadow);
    free(strict->rows);
    free(strict);
    session->strict = NULL;
}

bool strict_checks_prompt(const mtp_session *session)
{
    return session->strict != NULL && session->options.strict == MTP_STRICT_FULL;
}

void mtp_session_get_strict_report(const mtp_session *session, struct mtp_strict_report *report)
{
    memset(report, 0, sizeof *report);
    if (session->strict != NULL)
        *report = session->strict->report;
}

/* ---- poison ------------------------------------------------------------------------------ */

static void fill(mtp_session *s, void *memory, size_t bytes)
{
    s->backend->ops->fill(s->backend, memory, 0xff, bytes);
}

/* KV rows from the session's length on: those the pass is to write, and some more. */
static void poison_cache(mtp_session *s, const struct kv_cache *cache, uint32_t from, uint32_t rows)
{
    size_t element = cache->type == KV_F32 ? sizeof(float) : sizeof(uint16_t);
    size_t bytes = cache->n_kv_heads * cache->head_dim * element;
    uint32_t end = from + rows + 2 * MAX_STEP_ROWS;
    end = end < s->options.n_ctx ? end : s->options.n_ctx;
    if (end <= from)
        return;
    fill(s, (uint8_t *)cache->k + from * bytes, (end - from) * bytes);
    fill(s, (uint8_t *)cache->v + from * bytes, (end - from) * bytes);
}

static void poison(mtp_session *s, const struct forward_batch *batch)
{
    const struct hparams *h = &s->model->hparams;
    for (uint32_t i = 0; i < h->n_layers; i++)
        if (!h->recurrent[i])
            poison_cache(s, &s->layers[i].kv, s->lengths[0], (uint32_t)batch->n_rows);
    if (s->mtp != NULL)
        poison_cache(s, &s->mtp->kv, s->mtp->filled, (uint32_t)batch->n_rows);
    workspace_poison(&s->work, s->backend, (size_t)batch->n_rows);
    exchange_poison(s);
    if (!batch->speculative)
        return;
    fill(s, s->state_arenas[1 - s->live].base, s->state_arenas[1 - s->live].used);
    fill(s, s->journal_arena.base, s->journal_arena.used);
}

/* ---- comparing --------------------------------------------------------------------------- */

static bool same(const mtp_session *s, const void *a, const mtp_session *shadow, const void *b, size_t n)
{
    return same_bytes(s->backend, a, shadow->backend, b, n);
}

static bool same_cache_rows(const mtp_session *s, const struct kv_cache *a, const mtp_session *shadow,
                            const struct kv_cache *b, uint32_t from, uint32_t to)
{
    size_t element = a->type == KV_F32 ? sizeof(float) : sizeof(uint16_t);
    size_t bytes = a->n_kv_heads * a->head_dim * element;
    const uint8_t *ak = a->k, *av = a->v, *bk = b->k, *bv = b->v;
    return to <= from ||
           (same(s, ak + from * bytes, shadow, bk + from * bytes, (to - from) * bytes) &&
            same(s, av + from * bytes, shadow, bv + from * bytes, (to - from) * bytes));
}

/* All committed state: recurrent, and the KV rows that the pass added. */
static bool same_state(const mtp_session *s, const mtp_session *shadow, uint32_t from)
{
    const struct arena *a = session_state(s), *b = session_state(shadow);
    if (s->lengths[0] != shadow->lengths[0] || !same(s, a->base, shadow, b->base, a->used))
        return false;
    for (uint32_t i = 0; i < s->model->hparams.n_layers; i++)
        if (!s->model->hparams.recurrent[i] &&
            !same_cache_rows(s, &s->layers[i].kv, shadow, &shadow->layers[i].kv, from, s->lengths[0]))
            return false;
    return true;
}

/* The shadow reads one token by the plain path; its logits are in its work.logits row 0. */
static enum mtp_status shadow_row(mtp_session *shadow, int32_t token, struct mtp_error *error)
{
    const struct batch_row row = {token, (int32_t)shadow->lengths[0], 0};
    const int32_t wanted = 0;
    const struct forward_batch batch = {&row, 1, &wanted, 1, false};
    poison(shadow, &batch);
    enum mtp_status status = session_forward(shadow, &batch, error);
    if (status == MTP_OK && shadow->mtp != NULL)
        status = session_note(shadow, &token, (uint32_t)row.position, 1, error);
    return status;
}

/* The MTP block's rows that both have put through. They cannot change the text: counted apart. */
static enum mtp_status compare_mtp(mtp_session *s, struct mtp_error *error)
{
    struct strict *strict = s->strict;
    mtp_session *shadow = strict->shadow;
    if (s->mtp == NULL || s->mtp->skipped > 0) /* rows skipped: the shadow's stand elsewhere */
        return MTP_OK;
    fp_control saved = fp_control_enter();
    enum mtp_status status = mtp_catch_up(shadow, error);
    fp_control_leave(saved);
    uint32_t both = s->mtp->filled < shadow->mtp->filled ? s->mtp->filled : shadow->mtp->filled;
    if (both < strict->mtp_compared)
        strict->mtp_compared = both;
    strict->report.mtp_mismatches +=
        !same_cache_rows(s, &s->mtp->kv, shadow, &shadow->mtp->kv, strict->mtp_compared, both);
    strict->mtp_compared = both;
    return status;
}

static enum mtp_status differs(mtp_session *s, struct mtp_error *error)
{
    struct strict *strict = s->strict;
    strict->report.mismatches++;
    strict_search(s);
    s->broken = true;
    return mtp_fail(error, MTP_ERR_STRICT,
                    "strict: the pass at position %" PRIu32 " differs from plain decoding: %s",
                    strict->first, strict->report.first_difference);
}

/* Lets the shadow read n tokens and compares every row of logits, then all state. */
static enum mtp_status check_rows(mtp_session *s, uint32_t n, struct mtp_error *error)
{
    struct strict *strict = s->strict;
    mtp_session *shadow = strict->shadow;
    size_t n_vocab = s->model->hparams.n_vocab;
    bool equal = true;
    for (uint32_t r = 0; r < n; r++) {
        enum mtp_status status = shadow_row(shadow, strict->rows[r].token, error);
        if (status != MTP_OK)
            return status;
        equal = equal && same(s, s->work.logits + r * n_vocab, shadow, shadow->work.logits,
                              n_vocab * sizeof(float));
    }
    if (!equal || !same_state(s, shadow, strict->first))
        return differs(s, error);
    return compare_mtp(s, error);
}

/* ---- passes ------------------------------------------------------------------------------ */

/* Notes where both sides stand, for a second run with taps, and poisons the main side. */
static void begin(mtp_session *s, const struct forward_batch *batch)
{
    struct strict *strict = s->strict;
    strict->first = s->lengths[0];
    strict->n_rows = batch->n_rows;
    strict->speculative = batch->speculative;
    memcpy(strict->rows, batch->rows, (size_t)batch->n_rows * sizeof *batch->rows);
    struct backend *backend = s->backend, *of_shadow = strict->shadow->backend;
    backend->ops->copy(backend, strict->before, session_state(s)->base, strict->state_bytes);
    of_shadow->ops->copy(of_shadow, strict->shadow_before, session_state(strict->shadow)->base,
                         strict->state_bytes);
    poison(s, batch);
}

enum mtp_status strict_prompt(mtp_session *session, const struct forward_batch *batch,
                              struct mtp_error *error)
{
    if (!strict_checks_prompt(session))
        return session_forward(session, batch, error);
    struct strict *strict = session->strict;
    uint32_t n = (uint32_t)batch->n_rows;
    int32_t *all = calloc(n, sizeof *all);
    if (all == NULL)
        return mtp_fail_memory(error, "a list of rows", n * sizeof *all);
    for (uint32_t r = 0; r < n; r++)
        all[r] = (int32_t)r;
    const struct forward_batch every = {batch->rows, batch->n_rows, all, batch->n_rows, false};
    begin(session, &every);
    enum mtp_status status = session_forward(session, &every, error);
    strict->kept = n;
    strict->step = UINT64_MAX;
    if (status == MTP_OK)
        status = check_rows(session, n, error);
    if (status == MTP_OK)
        strict->report.prompt_rows_checked += n;
    free(all);
    return status;
}

/* A spot check: the shadow takes over the main session's state as it stands. */
static void copy_to_shadow(mtp_session *s)
{
    mtp_session *shadow = s->strict->shadow;
    struct backend *backend = shadow->backend;
    s->backend->ops->synchronize(s->backend);
    backend->ops->copy(backend, session_state(shadow)->base, session_state(s)->base,
                       session_state(s)->used);
    backend->ops->copy(backend, shadow->kv_arena.base, s->kv_arena.base, s->kv_arena.used);
    shadow->lengths[0] = s->lengths[0];
    if (s->mtp != NULL) {
        mtp_cut(shadow, 0);
        backend->ops->copy(backend, shadow->mtp->last_hidden, s->mtp->last_hidden,
                           s->model->hparams.n_embd * sizeof *s->mtp->last_hidden);
        shadow->mtp->filled = s->lengths[0] > 0 ? s->lengths[0] - 1 : 0; /* nothing to compare */
        s->strict->mtp_compared = UINT32_MAX;
    }
    backend->ops->synchronize(backend); /* before the session's next pass writes what is read */
}

void strict_before_step(mtp_session *session, const struct forward_batch *batch)
{
    struct strict *strict = session->strict;
    strict->auditing = session->options.strict == MTP_STRICT_FULL ||
                       session->stats.steps % STRICT_SAMPLE_EVERY == 0;
    strict->step = session->stats.steps;
    if (!strict->auditing)
        return;
    if (session->options.strict == MTP_STRICT_SAMPLE)
        copy_to_shadow(session);
    begin(session, batch);
}

enum mtp_status strict_after_step(mtp_session *session, const int32_t *tokens, uint32_t kept,
                                  struct mtp_error *error)
{
    struct strict *strict = session->strict;
    if (!strict->auditing)
        return MTP_OK;
    strict->kept = kept;
    for (int32_t r = 0; r < strict->n_rows; r++)
        strict->rows[r].token = tokens[r];
    enum mtp_status status = check_rows(session, kept, error);
    if (status != MTP_OK)
        return status;
    strict->report.rows_checked += kept;
    strict->report.steps_checked++;
    return MTP_OK;
}

enum mtp_status strict_checkpoint_take(mtp_checkpoint **out, const mtp_session *session,
                                       struct mtp_error *error)
{
    *out = NULL;
    if (session->strict == NULL || session->options.strict == MTP_STRICT_SAMPLE)
        return MTP_OK;
    return mtp_checkpoint_take(out, session->strict->shadow, error);
}

enum mtp_status strict_checkpoint_restore(mtp_session *session, const mtp_checkpoint *checkpoint,
                                          struct mtp_error *error)
{
    if (checkpoint == NULL || session->strict == NULL)
        return MTP_OK;
    session->strict->mtp_compared = 0;
    return mtp_checkpoint_restore(session->strict->shadow, checkpoint, error);
}
