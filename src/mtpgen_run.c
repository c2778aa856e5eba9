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

/* Makes room for n ids in an array of *capacity. */
static enum mtp_status reserve(int32_t **ids, size_t *capacity, size_t n, struct mtp_error *error)
{
    if (*capacity >= n)
        return MTP_OK;
    size_t grown_capacity = 2 * n + 256;
    int32_t *grown = realloc(*ids, grown_capacity * sizeof *grown);
    if (grown == NULL)
        return mtpgen_fail(error, MTP_ERR_MEMORY, "not enough memory for %zu tokens",
                           grown_capacity);
    *ids = grown;
    *capacity = grown_capacity;
    return MTP_OK;
}

static enum mtp_status append(struct mtpgen_run *run, const int32_t *ids, size_t n,
                              struct mtp_error *error)
{
    enum mtp_status status = reserve(&run->held, &run->held_capacity, run->n_held + n, error);
    if (status != MTP_OK)
        return status;
    memcpy(run->held + run->n_held, ids, n * sizeof *ids);
    status = mtp_session_append(run->session, ids, n, error);
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
    mtpgen_history_prompt(&run->history, ids, run->n_held - before);
    return status;
}

/* ---- generation ------------------------------------------------------------------------------ */

struct generation {
    struct mtpgen_run *run;
    struct mtpgen_answer *answer;
    struct mtpgen_stopper stopper;
    mtp_decoder *decoder;
    uint64_t n_shown;
    bool stopped; /* by a stop text */
    enum mtpgen_stop_reason reason;
    enum mtp_status status; /* of the last token taken; why goes to error */
    struct mtp_error *error;
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

/* Remembers a token that takes a position of the session, if the session goes on to hold it. */
static enum mtp_status remember(struct mtpgen_run *run, int32_t id, uint32_t position,
                                struct mtp_error *error)
{
    enum mtp_status status =
        reserve(&run->held, &run->held_capacity, (size_t)position + 1, error);
    if (status == MTP_OK)
        status = reserve(&run->ids, &run->ids_capacity, run->n_ids + 1, error);
    if (status != MTP_OK)
        return status;
    run->held[position] = id;
    run->ids[run->n_ids++] = id;
    return MTP_OK;
}

static bool stop(struct generation *g, enum mtpgen_stop_reason reason)
{
    g->reason = reason;
    return false;
}

/* A token of a step: shows it and says whether the text goes on. */
static bool take_token(void *user, int32_t id, uint32_t position)
{
    struct generation *g = user;
    struct mtpgen_run *run = g->run;
    g->status = remember(run, id, position, g->error);
    if (g->status != MTP_OK)
        return false;
    if (mtp_token_is_end(run->model, id) && !run->options->ignore_eos)
        return stop(g, STOP_END);
    run->report.n_generated++;
    g->n_shown++;
    g->status = show_token(g, id, g->error);
    if (run->report.first_token_seconds == 0.0)
        run->report.first_token_seconds = mtpgen_now() - run->turn_start;
    if (g->status != MTP_OK)
        return false;
    if (g->stopped)
        return stop(g, STOP_TEXT);
    if (g->n_shown == run->options->n_predict)
        return stop(g, STOP_LENGTH);
    if (position >= mtp_session_n_ctx(run->session))
        return stop(g, STOP_CONTEXT);
    return true;
}

static void note_step(struct mtpgen_run *run)
{
    struct mtp_step_outcome outcome;
    if (!run->history.wanted)
        return;
    mtp_session_get_last_step(run->session, &outcome);
    mtpgen_history_step(&run->history, &outcome);
}

static enum mtp_status generate(struct generation *g)
{
    struct mtpgen_run *run = g->run;
    enum mtp_status status = MTP_OK;
    if (run->options->n_predict == 0)
        g->reason = STOP_LENGTH;
    while (status == MTP_OK && g->reason == STOP_NONE) {
        if (mtpgen_interrupted()) {
            g->reason = STOP_INTERRUPTED;
            return MTP_OK;
        }
        status = mtp_session_step(run->session, &run->generation, take_token, g, g->error);
        run->n_held = mtp_session_length(run->session);
        note_step(run);
        if (status == MTP_OK)
            status = g->status;
    }
    return status;
}

static enum mtp_status generate_text(struct mtpgen_run *run, struct mtpgen_answer *answer,
                                     struct mtp_error *error)
{
    struct generation g = { .run = run, .answer = answer, .error = error };
    g.stopper.stops = run->options->stops;
    g.stopper.n_stops = run->options->n_stops;
    bool progress = run->progress.enabled;
    enum mtp_status status = mtp_decoder_open(&g.decoder, run->model, error);
    if (status != MTP_OK)
        return status;
    run->progress.enabled = false;
    size_t before = run->n_held;
    double start = mtpgen_now();
    status = generate(&g);
    run->progress.enabled = progress;
    run->report.decode_seconds += mtpgen_now() - start;
    run->report.n_decoded += run->n_held - before;
    if (status == MTP_ERR_INTERRUPTED) {
        g.reason = STOP_INTERRUPTED;
        status = MTP_OK;
    }
    run->report.stop = g.reason;
    /* After another failure too, what was held back is shown: it was generated before. */
    if (status != MTP_ERR_IO) {
        enum mtp_status flushed = finish(&g, status == MTP_OK ? error : NULL);
        status = status != MTP_OK ? status : flushed;
    }
    mtpgen_stopper_free(&g.stopper);
    mtp_decoder_close(g.decoder);
    return status;
}

/* With --trace there is one answer a run: mtpgen_options_parse sees to it. */
enum mtp_status mtpgen_generate(struct mtpgen_run *run, struct mtpgen_answer *answer,
                                struct mtp_error *error)
{
    const struct mtpgen_options *options = run->options;
    if (options->trace_path == NULL)
        return generate_text(run, answer, error);
    mtp_trace *trace = NULL;
    enum mtp_status status =
        mtp_trace_create(&trace, options->trace_path, run->session, &run->generation, run->held,
                         run->n_held, options->trace_logits, error);
    if (status != MTP_OK)
        return status;
    status = generate_text(run, answer, error);
    enum mtp_status closed = mtp_trace_close(trace, status == MTP_OK ? error : NULL);
    return status != MTP_OK ? status : closed;
}
