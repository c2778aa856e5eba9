/* session.c - opening, feeding and closing a session. */
#include "session.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cpu_count.h"
#include "kernels/cpu/backend.h"
#include "kernels/fpcontrol.h"
#include "kernels/rope.h"
#include "kernels/selftest.h"

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
    if (status == MTP_OK && out->isa == MTP_ISA_AVX2 && !cpu_has_avx2())
        status = mtp_fail(error, MTP_ERR_UNSUPPORTED, "this processor or build has no AVX2 kernels");
    return status;
}

/* ---- memory ------------------------------------------------------------------------------ */

static size_t kv_element_bytes(enum mtp_kv_type type)
{
    return type == MTP_KV_F32 ? sizeof(float) : sizeof(uint16_t);
}

static void layout_kv(struct mtp_session *s, struct arena *arena)
{
    const struct hparams *h = &s->model->hparams;
    size_t per_cache = (size_t)s->n_sequences * s->options.n_ctx * h->n_kv_heads * h->head_dim;
    size_t bytes = kv_element_bytes(s->options.kv_type);
    for (uint32_t i = 0; i < h->n_layers; i++) {
        if (h->recurrent[i])
            continue;
        struct kv_cache cache = {
            .type = s->options.kv_type == MTP_KV_F32 ? KV_F32 : KV_F16,
            .n_kv_heads = h->n_kv_heads,
            .head_dim = h->head_dim,
            .n_ctx = s->options.n_ctx,
        };
        cache.k = arena_take(arena, per_cache, bytes);
        cache.v = arena_take(arena, per_cache, bytes);
        if (s->layers != NULL)
            s->layers[i].kv = cache;
    }
}

static void layout_state(struct mtp_session *s, struct arena *arena)
{
    const struct hparams *h = &s->model->hparams;
    size_t conv = (size_t)(h->conv_taps - 1) * hparams_conv_channels(h);
    size_t delta = (size_t)h->n_v_heads * h->state_dim * h->state_dim;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        if (!h->recurrent[i])
            continue;
        float *conv_state = arena_take(arena, s->n_sequences * conv, sizeof(float));
        float *delta_state = arena_take(arena, s->n_sequences * delta, sizeof(float));
        if (s->layers != NULL) {
            s->layers[i].conv = conv_state;
            s->layers[i].delta = delta_state;
        }
    }
}

void session_plan(const mtp_model *model, const struct mtp_session_options *options,
                  uint32_t n_sequences, struct memory_plan *plan)
{
    struct mtp_session s = {.model = (mtp_model *)model, .options = *options,
                            .n_sequences = n_sequences};
    struct arena kv = {0}, state = {0}, work = {0};
    layout_kv(&s, &kv);
    layout_state(&s, &state);
    workspace_layout(&s.work, &model->hparams, options->n_batch, &work);
    *plan = (struct memory_plan){model->weight_bytes, kv.used, state.used, work.used};
}

static enum mtp_status arena_open(struct mtp_session *s, struct arena *arena, size_t bytes,
                                  const char *what, struct mtp_error *error)
{
    arena->size = bytes > 0 ? bytes : 1;
    arena->base = s->backend->ops->alloc(s->backend, arena->size);
    return arena->base != NULL ? MTP_OK : mtp_fail_memory(error, what, bytes);
}

static enum mtp_status allocate(struct mtp_session *s, struct mtp_error *error)
{
    struct memory_plan plan;
    session_plan(s->model, &s->options, s->n_sequences, &plan);
    const struct hparams *h = &s->model->hparams;
    s->layers = calloc(h->n_layers, sizeof *s->layers);
    s->lengths = calloc(s->n_sequences, sizeof *s->lengths);
    s->rope_frequencies = calloc(h->n_rot / 2, sizeof *s->rope_frequencies);
    if (s->layers == NULL || s->lengths == NULL || s->rope_frequencies == NULL)
        return mtp_fail_memory(error, "a session", h->n_layers * sizeof *s->layers);
    enum mtp_status status = arena_open(s, &s->kv_arena, plan.kv, "the KV cache", error);
    if (status == MTP_OK)
        status = arena_open(s, &s->state_arena, plan.state, "the recurrent state", error);
    if (status == MTP_OK)
        status = arena_open(s, &s->work_arena, plan.workspace, "the workspace", error);
    if (status != MTP_OK)
        return status;
    if (!s->backend->ops->reserve(s->backend, s->options.n_ctx))
        return mtp_fail_memory(error, "attention scores", s->options.n_ctx * sizeof(float));
    layout_kv(s, &s->kv_arena);
    layout_state(s, &s->state_arena);
    workspace_layout(&s->work, h, s->options.n_batch, &s->work_arena);
    fp_control saved = fp_control_enter();
    rope_frequencies(s->rope_frequencies, h->n_rot, h->rope_base);
    fp_control_leave(saved);
    return MTP_OK;
}

/* ---- opening and closing ----------------------------------------------------------------- */

static const struct cpu_kernels *choose_kernels(enum mtp_isa isa)
{
    return isa == MTP_ISA_SCALAR ? cpu_kernels_scalar() : cpu_kernels_best();
}

static enum mtp_status open_backend(struct mtp_session *s, struct mtp_error *error)
{
    const struct cpu_kernels *kernels = choose_kernels(s->options.isa);
    const char *failed = NULL;
    if (!kernels_selftest(kernels, &failed))
        return mtp_fail(error, MTP_ERR_INTERNAL,
                        "operation %s of the %s kernels gives wrong bits on this machine", failed,
                        kernels->name);
    s->backend = cpu_backend_open(kernels, s->options.n_threads);
    if (s->backend == NULL)
        return mtp_fail(error, MTP_ERR_MEMORY, "not enough memory for %" PRIu32 " threads",
                        s->options.n_threads);
    return MTP_OK;
}

enum mtp_status session_open(mtp_session **out, mtp_model *model,
                             const struct mtp_session_options *options, uint32_t n_sequences,
                             struct mtp_error *error)
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
    s->options = complete;
    s->n_sequences = n_sequences;
    status = open_backend(s, error);
    if (status == MTP_OK)
        status = allocate(s, error);
    if (status != MTP_OK) {
        mtp_session_close(s);
        return status;
    }
    *out = s;
    return MTP_OK;
}

enum mtp_status mtp_session_open(mtp_session **out, mtp_model *model,
                                 const struct mtp_session_options *options, struct mtp_error *error)
{
    return session_open(out, model, options, 1, error);
}

static void arena_close(mtp_session *s, struct arena *arena)
{
    if (arena->base != NULL)
        s->backend->ops->free(s->backend, arena->base, arena->size);
}

void mtp_session_close(mtp_session *session)
{
    if (session == NULL)
        return;
    arena_close(session, &session->kv_arena);
    arena_close(session, &session->state_arena);
    arena_close(session, &session->work_arena);
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
        enum mtp_status status = check_row(s, row, error);
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

enum mtp_status session_forward(mtp_session *session, const struct forward_batch *batch,
                                struct mtp_error *error)
{
    if (session->broken)
        return mtp_fail(error, MTP_ERR_NUMERIC, "this session met an infinity or NaN and cannot go on");
    if (batch->n_rows < 1 || (uint32_t)batch->n_rows > session->options.n_batch)
        return mtp_fail(error, MTP_ERR_INTERNAL, "a batch of %" PRId32 " rows in a session for %"
                        PRIu32, batch->n_rows, session->options.n_batch);
    enum mtp_status status = advance(session, batch, error);
    if (status != MTP_OK)
        return status;
    fp_control saved = fp_control_enter();
    status = qwen35_forward(session, batch, error);
    fp_control_leave(saved);
    if (status != MTP_OK)
        retreat(session, batch, batch->n_rows);
    session->rows += (uint64_t)batch->n_rows;
    session->passes++;
    return status;
}

static enum mtp_status append_chunk(mtp_session *s, const int32_t *ids, int32_t n, bool last,
                                    struct batch_row *rows, struct mtp_error *error)
{
    for (int32_t r = 0; r < n; r++)
        rows[r] = (struct batch_row){ids[r], (int32_t)s->lengths[0] + r, 0};
    int32_t want = n - 1;
    struct forward_batch batch = {rows, n, &want, last ? 1 : 0};
    return session_forward(s, &batch, error);
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
    for (size_t done = 0; done < n_ids && status == MTP_OK;) {
        session->have_logits = false;
        size_t left = n_ids - done, n = left < o->n_batch ? left : o->n_batch;
        status = append_chunk(session, ids + done, (int32_t)n, n == left, rows, error);
        done += n;
        if (status == MTP_OK && o->progress != NULL && done < n_ids &&
            !o->progress(o->user, "prefill", done, n_ids))
            status = mtp_fail(error, MTP_ERR_INTERRUPTED, "interrupted while reading the prompt");
    }
    free(rows);
    session->have_logits = status == MTP_OK;
    return status;
}
