/* session.c - opening, feeding and closing a session. */
#include "session.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "arch_qwen35.h"
#include "cpu_count.h"
#include "device.h"
#include "kernels/cpu/backend.h"
#include "kernels/fpcontrol.h"
#include "kernels/rope.h"
#include "mtp/draft_costs.h"
#include "mtp/draft_policy.h"
#include "mtp/mtp_head.h"
#include "mtp/ngram.h"
#include "profile.h"
#include "verify/instrument.h"
#include "verify/strict.h"

enum { DEFAULT_BATCH = 512, MAX_BATCH = 8192, MAX_THREADS = 256 };

static enum mtp_status check_option(const char *name, uint32_t value, uint32_t high,
                                    struct mtp_error *error)
{
    if (value >= 1 && value <= high)
        return MTP_OK;
    return mtp_fail(error, MTP_ERR_USAGE, "%s is %" PRIu32 ", outside 1..%" PRIu32, name, value,
                    high);
}

enum mtp_status session_complete_options(const mtp_model *model,
                                         const struct mtp_session_options *given,
                                         struct mtp_session_options *out, struct mtp_error *error)
{
    const struct mtp_session_options none = {0};
    *out = given != NULL ? *given : none;
    if (out->n_ctx == 0)
        out->n_ctx = model->hparams.n_ctx_train;
    if (out->n_threads == 0)
        out->n_threads = physical_cores_usable();
    if (out->n_batch == 0)
        out->n_batch = DEFAULT_BATCH;
    if (out->n_batch > out->n_ctx)
        out->n_batch = out->n_ctx;
    enum mtp_status status = check_option("the context length", out->n_ctx, 1 << 24, error);
    if (status == MTP_OK)
        status = check_option("the number of threads", out->n_threads, MAX_THREADS, error);
    if (status == MTP_OK)
        status = check_option("the batch size", out->n_batch, MAX_BATCH, error);
    if (status == MTP_OK && out->fast && out->strict != MTP_STRICT_OFF)
        status = mtp_fail(error, MTP_ERR_USAGE, "strict compares exact bits, which fast gives up: "
                          "choose one of them");
    bool on_cpu = out->device != MTP_DEVICE_CUDA; /* else the instruction set does not matter */
    if (status == MTP_OK && on_cpu && out->isa == MTP_ISA_AVX2 && !cpu_has_avx2())
        status = mtp_fail(error, MTP_ERR_UNSUPPORTED, "this processor or build has no AVX2 kernels");
    if (status == MTP_OK && on_cpu && out->isa == MTP_ISA_AVX512 && !cpu_has_avx512())
        status = mtp_fail(error, MTP_ERR_UNSUPPORTED,
                          "this processor or build has no AVX-512 VNNI kernels");
    return status;
}

/* ---- opening and closing ----------------------------------------------------------------- */

static enum mtp_status open_profile(struct mtp_session *s, struct mtp_error *error)
{
    s->profile = profile_open(s->backend);
    if (s->profile == NULL)
        return mtp_fail_memory(error, "the profile", 0);
    s->backend = profile_backend(s->profile);
    return MTP_OK;
}

static enum mtp_status open_backend(struct mtp_session *s, struct mtp_error *error)
{
    struct memory_fit fit;
    enum mtp_status status = s->source->open(s->source->user, &s->options, &s->backend, error);
    if (status == MTP_OK && !s->backend->ops->host_memory)
        status = memory_fit(&fit, s->model, s->source, s->backend, &s->options, s->context_least,
                            error);
    if (status == MTP_OK)
        status = model_weights_for(s->model, s->source, s->backend, &s->weights, error);
    if (status == MTP_OK && s->options.profile)
        status = open_profile(s, error);
    if (status != MTP_OK || (s->options.strict == MTP_STRICT_OFF && s->options.test_flip == NULL))
        return status;
    status = session_instrument(s, error);
    if (status == MTP_OK && s->options.test_flip != NULL)
        status = instrument_plan_flip(s->backend, s->options.test_flip, error);
    return status;
}

enum mtp_status session_instrument(mtp_session *session, struct mtp_error *error)
{
    struct backend *around = instrument_open(session->backend, session->model->hparams.n_vocab);
    if (around == NULL)
        return mtp_fail_memory(error, "the instrumented backend", 0);
    session->backend = around;
    session->instrumented = true;
    return MTP_OK;
}

static enum mtp_status open_on(mtp_session **out, mtp_model *model, const struct backend_source *source,
                               const struct mtp_session_options *options, uint32_t n_sequences,
                               uint32_t context_least, struct mtp_error *error)
{
    *out = NULL;
    struct mtp_session_options complete;
    enum mtp_status status = session_complete_options(model, options, &complete, error);
    if (status != MTP_OK)
        return status;
    mtp_session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return mtp_fail_memory(error, "a session", sizeof *s);
    s->model = model;
    s->source = source;
    s->options = complete;
    s->context_least = options != NULL && options->n_ctx > 0 ? 0 : context_least;
    s->n_sequences = n_sequences;
    status = open_backend(s, error);
    if (status == MTP_OK)
        status = session_allocate(s, error);
    if (status == MTP_OK)
        status = session_check_backend(s, error);
    if (status != MTP_OK) {
        mtp_session_close(s);
        return status;
    }
    /* A profile would show it, and what a strict step takes says nothing. */
    if (s->options.measure_passes && s->options.draft && !s->options.profile && !s->instrumented)
        draft_costs_measure(s);
    *out = s;
    return MTP_OK;
}

enum mtp_status session_open_on(mtp_session **out, mtp_model *model, const struct backend_source *source,
                                const struct mtp_session_options *options, uint32_t n_sequences,
                                struct mtp_error *error)
{
    return open_on(out, model, source, options, n_sequences, CONTEXT_STEP, error);
}

/* On a GPU if there is one that takes the model, else on the CPU. */
static enum mtp_status open_anywhere(mtp_session **out, mtp_model *model,
                                     const struct mtp_session_options *options, uint32_t n_sequences,
                                     struct mtp_error *error)
{
    const struct backend_source *source;
    struct mtp_error why = {MTP_OK, ""};
    bool there = false;
    enum mtp_status status = MTP_ERR_UNSUPPORTED;
    if (options == NULL || options->isa == MTP_ISA_AUTO)
        status = device_cuda_source(&source, &there, &why);
    if (status == MTP_OK) {
        there = true;
        status = open_on(out, model, source, options, n_sequences, AUTO_CONTEXT, &why);
    }
    if (status == MTP_ERR_UNSUPPORTED || status == MTP_ERR_MEMORY || status == MTP_ERR_DEVICE) {
        device_source(MTP_DEVICE_CPU, &source, NULL);
        status = session_open_on(out, model, source, options, n_sequences, error);
        if (status != MTP_OK)
            return status;
        (*out)->why_cpu = why;
        (*out)->gpu_there = there;
    }
    return status == MTP_OK ? MTP_OK : mtp_fail(error, status, "%s", why.message);
}

enum mtp_status session_open(mtp_session **out, mtp_model *model,
                             const struct mtp_session_options *options, uint32_t n_sequences,
                             struct mtp_error *error)
{
    const struct backend_source *source;
    *out = NULL;
    if (options == NULL || options->device == MTP_DEVICE_AUTO)
        return open_anywhere(out, model, options, n_sequences, error);
    enum mtp_status status = device_source(options->device, &source, error);
    return status != MTP_OK ? status
                            : session_open_on(out, model, source, options, n_sequences, error);
}

enum mtp_status mtp_session_open(mtp_session **out, mtp_model *model,
                                 const struct mtp_session_options *options, struct mtp_error *error)
{
    return session_open(out, model, options, 1, error);
}

void mtp_session_close(mtp_session *session)
{
    if (session == NULL)
        return;
    strict_close(session);
    free(session->policy);
    ngram_close(session->ngram);
    free(session->first_row);
    exchange_close(session);
    if (session->backend != NULL) {
        mtp_state_close(session);
        session_free_arenas(session);
    }
    if (session->backend != NULL)
        session->backend->ops->close(session->backend);
    free(session->layers);
    free(session->lengths);
    free(session->rope_frequencies);
    free(session);
}

/* ---- feeding ----------------------------------------------------------------------------- */

static enum mtp_status check_row(const mtp_session *s, const struct batch_row *row,
                                 struct mtp_error *error)
{
    if (row->token < 0 || (uint32_t)row->token >= s->model->hparams.n_vocab)
        return mtp_fail(error, MTP_ERR_USAGE, "token id %" PRId32 " is outside the vocabulary of %"
                        PRIu32, row->token, s->model->hparams.n_vocab);
    if (row->sequence < 0 || (uint32_t)row->sequence >= s->n_sequences)
        return mtp_fail(error, MTP_ERR_USAGE, "sequence %" PRId32 " does not exist", row->sequence);
    return MTP_OK;
}

static void retreat(mtp_session *s, const struct forward_batch *batch, int32_t n_rows)
{
    for (int32_t r = 0; r < n_rows; r++)
        s->lengths[batch->rows[r].sequence]--;
}

/* Rows must continue their sequences one position at a time. All lengths advance, or none. */
static enum mtp_status advance(mtp_session *s, const struct forward_batch *batch,
                               struct mtp_error *error)
{
    for (int32_t r = 0; r < batch->n_rows; r++) {
        const struct batch_row *row = &batch->rows[r];
        enum mtp_status status = batch->chained ? MTP_OK : check_row(s, row, error);
        uint32_t length = status == MTP_OK ? s->lengths[row->sequence] : 0;
        if (status == MTP_OK && (row->position != (int32_t)length || length >= s->options.n_ctx))
            status = mtp_fail(error, MTP_ERR_CONTEXT,
                              "position %" PRId32 " does not follow %" PRIu32 " in a context of %"
                              PRIu32, row->position, length, s->options.n_ctx);
        if (status != MTP_OK) {
            retreat(s, batch, r);
            return status;
        }
        s->lengths[row->sequence]++;
    }
    return MTP_OK;
}

enum mtp_status session_check_backend(mtp_session *session, struct mtp_error *error)
{
    const char *failed = session->backend->ops->error(session->backend);
    if (failed == NULL)
        return MTP_OK;
    session->broken = true;
    return mtp_fail(error, MTP_ERR_DEVICE, "%s", failed);
}

enum mtp_status session_check_broken(mtp_session *session, struct mtp_error *error)
{
    if (!session->broken)
        return MTP_OK;
    enum mtp_status status = session_check_backend(session, error);
    return status != MTP_OK ? status
                            : mtp_fail(error, MTP_ERR_NUMERIC,
                                       "this session met an infinity or NaN and cannot go on");
}

/* What is to be known of a pass once its results have come. */
static enum mtp_status finish_pass(mtp_session *s, const struct forward_batch *batch, struct mtp_error *error)
{
    const struct pass pass = qwen35_pass(s, batch->n_rows);
    enum mtp_status status = qwen35_check_fault(&pass, error);
    if (status == MTP_OK)
        status = session_check_backend(s, error);
    if (status != MTP_OK || !batch->speculative)
        return status;
    s->pending = s->settled = (uint32_t)batch->n_rows;
    if (batch->settle)
        s->settled = (uint32_t)accepted_rows(s->exchange.tokens, s->exchange.top, batch->n_rows);
    return MTP_OK;
}

enum mtp_status session_forward(mtp_session *session, const struct forward_batch *batch,
                                struct mtp_error *error)
{
    enum mtp_status status = session_check_broken(session, error);
    if (status != MTP_OK)
        return status;
    if (batch->n_rows < 1 || (uint32_t)batch->n_rows > session->options.n_batch)
        return mtp_fail(error, MTP_ERR_INTERNAL, "a batch of %" PRId32 " rows in a session for %"
                        PRIu32, batch->n_rows, session->options.n_batch);
    status = advance(session, batch, error);
    if (status != MTP_OK)
        return status;
    fp_control saved = fp_control_enter();
    status = qwen35_forward(session, batch, error);
    fp_control_leave(saved);
    exchange_fetch(session, status == MTP_OK ? batch->n_logit_rows : 0);
    if (status == MTP_OK)
        status = finish_pass(session, batch, error);
    if (status != MTP_OK)
        retreat(session, batch, batch->n_rows);
    session->rows += (uint64_t)batch->n_rows;
    session->passes++;
    return status;
}

const struct arena *session_state(const mtp_session *session)
{
    return &session->state_arenas[session->live];
}

/* The further layers like `layer`, all of one size, and how far apart they lie. */
static struct replay_more further_layers(const mtp_session *s, const struct layer_state *layer, int live)
{
    struct replay_more more = {0};
    const struct layer_state *second = NULL;
    for (uint32_t i = (uint32_t)(layer - s->layers) + 1; i < s->model->hparams.n_layers; i++)
        if (s->model->hparams.recurrent[i]) {
            second = second != NULL ? second : &s->layers[i];
            more.n_layers++;
        }
    if (second != NULL) {
        more.state_bytes = (uintptr_t)second->delta[live] - (uintptr_t)layer->delta[live];
        more.rows_bytes = (uintptr_t)second->journal.k - (uintptr_t)layer->journal.k;
    }
    return more;
}

void session_replay(mtp_session *session, int32_t n_rows, const int32_t *n_kept)
{
    const struct hparams *h = &session->model->hparams;
    int live = session->live, next = 1 - live;
    const struct layer_state *l = session->layers, *end = l + h->n_layers;
    while (l < end && !h->recurrent[l - session->layers])
        l++;
    if (l == end)
        return;
    struct replay_more more = further_layers(session, l, live);
    more.n_kept = n_kept;
    const struct conv_replay_args conv = {
        l->conv_rows, l->conv[live], l->conv[next], hparams_conv_channels(h), h->conv_taps, n_rows, more};
    const struct delta_net_replay_args delta = {
        l->journal, l->delta[live], l->delta[next], h->n_k_heads, h->n_v_heads, h->state_dim, n_rows, more};
    session->backend->ops->conv_replay(session->backend, &conv);
    session->backend->ops->delta_net_replay(session->backend, &delta);
}

void session_keep(mtp_session *session, uint32_t n_rows)
{
    if (n_rows > 0 && n_rows != session->settled)
        session_replay(session, (int32_t)n_rows, NULL);
    if (n_rows > 0)
        session->live = 1 - session->live;
    session->lengths[0] -= session->pending - n_rows;
    session->pending = 0;
}

static enum mtp_status append_chunk(mtp_session *s, const int32_t *ids, int32_t n, bool last,
                                    struct batch_row *rows, struct mtp_error *error)
{
    for (int32_t r = 0; r < n; r++)
        rows[r] = (struct batch_row){ids[r], (int32_t)s->lengths[0] + r, 0};
    uint32_t first = s->lengths[0];
    int32_t want = n - 1;
    struct forward_batch batch = {rows, n, &want, last ? 1 : 0, false};
    enum mtp_status status = s->strict != NULL ? strict_prompt(s, &batch, error)
                                               : session_forward(s, &batch, error);
    if (status == MTP_OK && s->mtp != NULL)
        status = session_note(s, ids, first, (uint32_t)n, error);
    if (status == MTP_OK && s->ngram != NULL)
        ngram_add(s->ngram, ids, (size_t)n);
    /* A strict pass has logits of every row. */
    s->logits_row = strict_checks_prompt(s) ? (uint32_t)n - 1 : 0;
    return status;
}

enum mtp_status session_note(mtp_session *session, const int32_t *ids, uint32_t first, uint32_t n,
                             struct mtp_error *error)
{
    fp_control saved = fp_control_enter();
    enum mtp_status status = mtp_note(session, ids, session->work.hidden, first, n, error);
    fp_control_leave(saved);
    return status;
}

const float *session_logits(const mtp_session *session)
{
    return exchange_logits(session, session->logits_row);
}

enum mtp_status mtp_session_append(mtp_session *session, const int32_t *ids, size_t n_ids,
                                   struct mtp_error *error)
{
    uint32_t room = session->options.n_ctx - session->lengths[0];
    if (n_ids > room)
        return mtp_fail(error, MTP_ERR_CONTEXT,
                        "%zu tokens do not fit: the context holds %" PRIu32 " and %" PRIu32
                        " are used", n_ids, session->options.n_ctx, session->lengths[0]);
    if (n_ids == 0)
        return MTP_OK;
    struct batch_row *rows = calloc(session->options.n_batch, sizeof *rows);
    if (rows == NULL)
        return mtp_fail_memory(error, "a batch", session->options.n_batch * sizeof *rows);
    enum mtp_status status = MTP_OK;
    const struct mtp_session_options *o = &session->options;
    int outer = profile_enter(session->profile, MTP_PROFILE_PROMPT);
    for (size_t done = 0; done < n_ids && status == MTP_OK;) {
        session->have_logits = false;
        size_t left = n_ids - done, n = left < o->n_batch ? left : o->n_batch;
        status = append_chunk(session, ids + done, (int32_t)n, n == left, rows, error);
        done += n;
        if (status == MTP_OK && o->progress != NULL && done < n_ids &&
            !o->progress(o->user, "prefill", done, n_ids))
            status = mtp_fail(error, MTP_ERR_INTERRUPTED, "interrupted while reading the prompt");
    }
    profile_enter(session->profile, outer);
    free(rows);
    session->have_logits = status == MTP_OK;
    return status;
}
