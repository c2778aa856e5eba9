/* session_memory.c - what a session takes of the backend's memory: caches, states, workspace; its plan. */
#include <stdlib.h>

#include "kernels/rope.h"
#include "memory_plan.h"
#include "mtp/draft_policy.h"
#include "mtp/mtp_head.h"
#include "mtp/ngram.h"
#include "session.h"
#include "verify/strict.h"

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

/* Copy `which` of the recurrent state. */
static void layout_state(struct mtp_session *s, int which, struct arena *arena)
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
            s->layers[i].conv[which] = conv_state;
            s->layers[i].delta[which] = delta_state;
        }
    }
}

static void layout_journal(struct mtp_session *s, struct arena *arena)
{
    const struct hparams *h = &s->model->hparams;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        if (!h->recurrent[i])
            continue;
        size_t rows = MAX_STEP_ROWS, d = h->state_dim;
        float *conv = arena_take(arena, rows * hparams_conv_channels(h), sizeof(float));
        struct delta_net_journal journal = {
            .k = arena_take(arena, rows * h->n_k_heads * d, sizeof(float)),
            .delta = arena_take(arena, rows * h->n_v_heads * d, sizeof(float)),
            .decay = arena_take(arena, rows * h->n_v_heads, sizeof(float)),
        };
        if (s->layers != NULL) {
            s->layers[i].conv_rows = conv;
            s->layers[i].journal = journal;
        }
    }
}

/* What is asked for where an arena of so many bytes is laid out. */
static size_t arena_bytes(size_t used)
{
    return used > 0 ? used : 1;
}

/* Without the strict check; the bytes of one copy of the state. */
static uint64_t plan_session(const mtp_model *model, const struct mtp_session_options *options,
                             uint32_t n_sequences, struct memory_plan *plan)
{
    struct mtp_session s = {.model = (mtp_model *)model, .options = *options,
                            .n_sequences = n_sequences};
    struct arena kv = {0}, state = {0}, journal = {0}, work = {0};
    layout_kv(&s, &kv);
    layout_state(&s, 0, &state);
    layout_journal(&s, &journal);
    workspace_layout(&s.work, &model->hparams, options->n_batch, &work);
    *plan = (struct memory_plan){
        .weights = model->weight_bytes,
        .kv = arena_bytes(kv.used) + mtp_state_kv_bytes(model, options, n_sequences),
        .state = arena_bytes(state.used),
        .workspace = arena_bytes(work.used) + exchange_rotary_bytes(&model->hparams, options->n_ctx),
    };
    if (options->draft) {
        plan->state += arena_bytes(state.used) + arena_bytes(journal.used);
        plan->workspace += mtp_state_row_bytes(model);
    }
    return state.used;
}

void session_plan(const mtp_model *model, const struct mtp_session_options *options,
                  uint32_t n_sequences, struct memory_plan *plan)
{
    struct memory_plan shadow;
    uint64_t state_bytes = plan_session(model, options, n_sequences, plan);
    if (options->strict == MTP_STRICT_OFF)
        return;
    struct mtp_session_options of_shadow = *options;
    strict_shadow_options(&of_shadow);
    plan_session(model, &of_shadow, 1, &shadow);
    plan->strict = shadow.kv + shadow.state + shadow.workspace + strict_copies_bytes(state_bytes);
}

static enum mtp_status arena_open(struct mtp_session *s, struct arena *arena, size_t bytes,
                                  enum memory_use use, const char *what, struct mtp_error *error)
{
    arena->size = arena_bytes(bytes);
    arena->base = s->backend->ops->alloc(s->backend, arena->size, use);
    return arena->base != NULL ? MTP_OK : backend_fail_memory(s->backend, error, what, bytes);
}

static enum mtp_status open_state(struct mtp_session *s, struct mtp_error *error)
{
    struct arena measure[3] = {{0}};
    struct arena *arenas[] = {&s->state_arenas[0], &s->state_arenas[1], &s->journal_arena};
    int n = s->options.draft ? 3 : 1;
    struct layer_state *layers = s->layers;
    s->layers = NULL; /* measure first */
    layout_state(s, 0, &measure[0]);
    layout_state(s, 1, &measure[1]);
    layout_journal(s, &measure[2]);
    s->layers = layers;
    for (int i = 0; i < n; i++) {
        enum mtp_status status = arena_open(s, arenas[i], measure[i].used, MEMORY_WHOLE,
                                            "recurrent state", error);
        if (status != MTP_OK)
            return status;
    }
    for (int i = 0; i < 2 && i < n; i++)
        layout_state(s, i, arenas[i]);
    if (n == 3)
        layout_journal(s, arenas[2]);
    return MTP_OK;
}

static enum mtp_status open_kv_and_workspace(struct mtp_session *s, struct mtp_error *error)
{
    struct arena kv = {0}, work = {0};
    struct layer_state *layers = s->layers;
    s->layers = NULL;
    layout_kv(s, &kv);
    s->layers = layers;
    workspace_layout(&s->work, &s->model->hparams, s->options.n_batch, &work);
    enum mtp_status status = arena_open(s, &s->kv_arena, kv.used, MEMORY_STREAM, "the KV cache", error);
    if (status == MTP_OK)
        status = arena_open(s, &s->work_arena, work.used, MEMORY_PARTS, "the workspace",
                            error);
    if (status != MTP_OK)
        return status;
    layout_kv(s, &s->kv_arena);
    workspace_layout(&s->work, &s->model->hparams, s->options.n_batch, &s->work_arena);
    return MTP_OK;
}

static enum mtp_status open_drafting(struct mtp_session *s, struct mtp_error *error)
{
    enum mtp_status status = MTP_OK;
    if (s->model->weights.mtp.present)
        status = mtp_state_open(s, error);
    if (status == MTP_OK)
        status = draft_policy_open(s, error);
    if (status != MTP_OK)
        return status;
    s->ngram = ngram_open(s->options.n_ctx);
    if (s->ngram == NULL)
        return mtp_fail_memory(error, "the index of the text", ngram_bytes(s->options.n_ctx));
    return MTP_OK;
}

enum mtp_status session_allocate(mtp_session *s, struct mtp_error *error)
{
    const struct hparams *h = &s->model->hparams;
    s->layers = calloc(h->n_layers, sizeof *s->layers);
    s->lengths = calloc(s->n_sequences, sizeof *s->lengths);
    s->rope_frequencies = calloc(h->n_rot / 2, sizeof *s->rope_frequencies);
    if (s->layers == NULL || s->lengths == NULL || s->rope_frequencies == NULL)
        return mtp_fail_memory(error, "a session", h->n_layers * sizeof *s->layers);
    rope_frequencies(s->rope_frequencies, h->n_rot, h->rope_base);
    enum mtp_status status = open_kv_and_workspace(s, error);
    if (status == MTP_OK)
        status = exchange_open(s, error);
    if (status == MTP_OK)
        status = open_state(s, error);
    if (status == MTP_OK && !s->backend->ops->reserve(s->backend, s->options.n_ctx))
        status = backend_fail_memory(s->backend, error, "attention scores",
                                     s->options.n_ctx * sizeof(float));
    if (status == MTP_OK && s->options.draft)
        status = open_drafting(s, error);
    if (status == MTP_OK && s->options.strict != MTP_STRICT_OFF)
        status = strict_open(s, error);
    return status;
}

static void arena_close(mtp_session *s, struct arena *arena)
{
    if (arena->base != NULL)
        s->backend->ops->free(s->backend, arena->base, arena->size);
}

void session_free_arenas(mtp_session *session)
{
    arena_close(session, &session->kv_arena);
    arena_close(session, &session->state_arenas[0]);
    arena_close(session, &session->state_arenas[1]);
    arena_close(session, &session->journal_arena);
    arena_close(session, &session->work_arena);
}
