#include "mtpgen.h"

#include <stdlib.h>
#include <string.h>

enum mtp_status mtpgen_check_length(const struct mtpgen_run *run, size_t n,
                                    struct mtp_error *error)
{
    uint32_t n_ctx = mtp_session_n_ctx(run->session);
    if (n <= n_ctx)
        return MTP_OK;
    return mtpgen_fail(error, MTP_ERR_CONTEXT,
                       "the prompt has %zu tokens, the context holds %u: shorten the prompt or "
                       "raise -c", n, n_ctx);
}

void mtpgen_held_cut(struct mtpgen_run *run, size_t n)
{
    if (run->n_held > n)
        run->n_held = n;
}

static enum mtp_status append(struct mtpgen_run *run, const int32_t *ids, size_t n,
                              struct mtp_error *error)
{
    if (run->held_capacity - run->n_held < n) {
        size_t capacity = 2 * run->held_capacity + n + 256;
        int32_t *grown = realloc(run->held, capacity * sizeof *grown);
        if (grown == NULL)
            return mtpgen_fail(error, MTP_ERR_MEMORY, "not enough memory for %zu tokens", capacity);
        run->held = grown;
        run->held_capacity = capacity;
    }
    memcpy(run->held + run->n_held, ids, n * sizeof *ids);
    enum mtp_status status = mtp_session_append(run->session, ids, n, error);
    run->n_held = mtp_session_length(run->session); /* whole chunks stay when it was interrupted */
    return status;
}

enum mtp_status mtpgen_prefill(struct mtpgen_run *run, const int32_t *ids, size_t n,
                               struct mtp_error *error)
{
    if (n == 0)
        return MTP_OK;
    double start = mtpgen_now();
    size_t before = run->n_held;
    enum mtp_status status = append(run, ids, n, error);
    mtpgen_progress_clear(&run->progress);
    run->report.prefill_seconds += mtpgen_now() - start;
    run->report.n_prefill += run->n_held - before;
    return status;
}

/* ---- generation ------------------------------------------------------------------------------ */

struct generation {
    struct mtpgen_run *run;
    struct mtpgen_answer *answer;
    struct mtpgen_stopper stopper;
    mtp_decoder *decoder;
    bool stopped;          /* by a stop text */
    double decoding_since; /* when the first token, which prefill gave, had been shown */
};

static enum mtp_status show(struct generation *g, const char *text, size_t length,
                            struct mtp_error *error)
{
    size_t ready;
    enum mtp_status status =
        mtpgen_stopper_add(&g->stopper, text, length, &ready, &g->stopped, error);
    if (status == MTP_OK)
        status = mtpgen_write(g->stopper.pending.data, ready, error);
    if (status == MTP_OK && g->answer != NULL)
        status = mtpgen_text_add(&g->answer->text, g->stopper.pending.data, ready, error);
    if (status == MTP_OK)
        mtpgen_stopper_drop(&g->stopper, ready);
    return status;
}

static enum mtp_status show_token(struct generation *g, int32_t id, struct mtp_error *error)
{
    size_t length;
    const char *text = mtp_decoder_push(g->decoder, id, &length);
    struct mtpgen_answer *answer = g->answer;
    bool open = answer != NULL && id == answer->think_open;
    bool close = answer != NULL && id == answer->think_close;
    if (open || close) {
        answer->thinking = open;
        if (length == 0) { /* a control token in this file: the template's marks are text to us */
            text = open ? "<think>" : "</think>";
            length = strlen(text);
        }
    }
    return show(g, text, length, error);
}

/* What was held back is shown in the end, unless it is (the rest of) a stop text. */
static enum mtp_status finish(struct generation *g, struct mtp_error *error)
{
    size_t length;
    const char *text = mtp_decoder_flush(g->decoder, &length);
    if (g->stopped)
        return MTP_OK;
    enum mtp_status status = show(g, text, length, error);
    if (status != MTP_OK || g->stopped)
        return status;
    struct mtpgen_text *pending = &g->stopper.pending;
    status = mtpgen_write(pending->data, pending->length, error);
    if (status == MTP_OK && g->answer != NULL)
        status = mtpgen_text_add(&g->answer->text, pending->data, pending->length, error);
    return status;
}

static enum mtp_status generate(struct generation *g, enum mtpgen_stop_reason *reason,
                                struct mtp_error *error)
{
    struct mtpgen_run *run = g->run;
    uint64_t most = run->options->n_predict;
    for (uint64_t n = 0; n < most; n++) {
        if (mtpgen_interrupted()) {
            *reason = STOP_INTERRUPTED;
            return MTP_OK;
        }
        int32_t id;
        enum mtp_status status = mtp_session_sample(run->session, &run->sampling, &id, error);
        if (status != MTP_OK)
            return status;
        if (mtp_token_is_end(run->model, id) && !run->options->ignore_eos) {
            *reason = STOP_END;
            return MTP_OK;
        }
        run->report.n_generated++;
        status = show_token(g, id, error);
        if (n == 0) {
            g->decoding_since = mtpgen_now();
            if (run->report.first_token_seconds == 0.0)
                run->report.first_token_seconds = g->decoding_since - run->turn_start;
        }
        if (status != MTP_OK)
            return status;
        if (g->stopped) {
            *reason = STOP_TEXT;
            return MTP_OK;
        }
        if (n + 1 == most)
            break;
        if (mtp_session_length(run->session) >= mtp_session_n_ctx(run->session)) {
            *reason = STOP_CONTEXT;
            return MTP_OK;
        }
        status = append(run, &id, 1, error);
        if (status != MTP_OK)
            return status;
        run->report.n_decoded++;
    }
    *reason = STOP_LENGTH;
    return MTP_OK;
}

enum mtp_status mtpgen_generate(struct mtpgen_run *run, struct mtpgen_answer *answer,
                                struct mtp_error *error)
{
    struct generation g = { run, answer, { run->options->stops, run->options->n_stops, { 0 } },
                            NULL, false, 0.0 };
    enum mtpgen_stop_reason reason = STOP_NONE;
    bool progress = run->progress.enabled;
    enum mtp_status status = mtp_decoder_open(&g.decoder, run->model, error);
    if (status != MTP_OK)
        return status;
    run->progress.enabled = false;
    status = generate(&g, &reason, error);
    run->progress.enabled = progress;
    if (g.decoding_since > 0.0)
        run->report.decode_seconds += mtpgen_now() - g.decoding_since;
    if (status == MTP_ERR_INTERRUPTED) {
        reason = STOP_INTERRUPTED;
        status = MTP_OK;
    }
    run->report.stop = reason;
    /* After another failure too, what was held back is shown: it was generated before. */
    if (status != MTP_ERR_IO) {
        enum mtp_status flushed = finish(&g, status == MTP_OK ? error : NULL);
        status = status != MTP_OK ? status : flushed;
    }
    mtpgen_stopper_free(&g.stopper);
    mtp_decoder_close(g.decoder);
    return status;
}
