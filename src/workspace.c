/* workspace.c - see workspace.h. */
#include "workspace.h"

void *arena_take(struct arena *arena, size_t count, size_t element_bytes)
{
    size_t at = (arena->used + 63) / 64 * 64;
    arena->used = at + count * element_bytes;
    return arena->base == NULL ? NULL : arena->base + at;
}

/* A buffer of w->n_rows rows. */
static void *rows_of(struct workspace *w, struct arena *arena, size_t elements, size_t bytes)
{
    void *base = arena_take(arena, w->n_rows * elements, bytes);
    w->buffers[w->n_buffers].base = base;
    w->buffers[w->n_buffers].row_bytes = elements * bytes;
    w->n_buffers++;
    return base;
}

static float *floats(struct workspace *w, struct arena *arena, size_t columns)
{
    return rows_of(w, arena, columns, sizeof(float));
}

void workspace_poison(const struct workspace *work, struct backend *backend, size_t n_rows)
{
    for (uint32_t i = 0; i < work->n_buffers; i++)
        backend->ops->fill(backend, work->buffers[i].base, 0xff, n_rows * work->buffers[i].row_bytes);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void layout_moe(struct workspace *w, const struct hparams *h, struct arena *arena)
{
    size_t used = h->n_experts_used;
    w->router = floats(w, arena, h->n_experts);
    w->experts = rows_of(w, arena, used, sizeof *w->experts);
    w->order = rows_of(w, arena, used, sizeof *w->order);
    w->start = arena_take(arena, h->n_experts + 1, sizeof *w->start);
    w->expert_weights = floats(w, arena, used);
    w->expert_act = rows_of(w, arena, used * act_blocks(h->n_ff_expert), sizeof *w->expert_act);
    w->expert_out = floats(w, arena, used * h->n_embd);
    w->gate = floats(w, arena, used * h->n_ff_expert);
    w->up = floats(w, arena, used * h->n_ff_expert);
    w->shared_gate = floats(w, arena, h->n_ff_shared);
    w->shared_up = floats(w, arena, h->n_ff_shared);
    w->shared_out = floats(w, arena, h->n_embd);
    w->shared_router = floats(w, arena, 1);
}

static void layout_mixers(struct workspace *w, const struct hparams *h, struct arena *arena)
{
    size_t inner = (size_t)h->n_v_heads * h->state_dim, heads = (size_t)h->n_heads * h->head_dim;
    size_t kv = (size_t)h->n_kv_heads * h->head_dim, channels = hparams_conv_channels(h);
    w->pairs = floats(w, arena, 2 * (size_t)h->n_embd);
    w->q = floats(w, arena, 2 * heads);
    w->k = floats(w, arena, kv);
    w->v = floats(w, arena, kv);
    w->heads = floats(w, arena, larger(heads, inner));
    w->qkv = floats(w, arena, channels);
    w->conv = floats(w, arena, channels);
    w->z = floats(w, arena, inner);
    w->alpha = floats(w, arena, h->n_v_heads);
    w->beta = floats(w, arena, h->n_v_heads);
}

void workspace_layout(struct workspace *w, const struct hparams *h, uint32_t n_rows,
                      struct arena *arena)
{
    size_t heads = (size_t)h->n_heads * h->head_dim;
    size_t inner = (size_t)h->n_v_heads * h->state_dim;
    size_t widest = larger(larger(2 * (size_t)h->n_embd, heads), inner);
    widest = larger(widest, larger(h->n_ff, h->n_ff_shared));
    w->n_rows = n_rows;
    w->n_buffers = 0;
    w->board = arena_take(arena, 1, BOARD_BYTES);
    w->rows = rows_of(w, arena, 1, sizeof *w->rows);
    w->logit_rows = rows_of(w, arena, 1, sizeof *w->logit_rows);
    w->x = floats(w, arena, h->n_embd);
    w->normed = floats(w, arena, h->n_embd);
    w->mixed = floats(w, arena, h->n_embd);
    w->act = rows_of(w, arena, act_blocks(widest), sizeof *w->act);
    layout_mixers(w, h, arena);
    if (h->arch == ARCH_QWEN35MOE) {
        layout_moe(w, h, arena);
    } else {
        w->gate = floats(w, arena, h->n_ff);
        w->up = floats(w, arena, h->n_ff);
    }
    w->results = rows_of(w, arena, 1, RESULT_BYTES);
    w->hidden = floats(w, arena, h->n_embd);
    w->logits = floats(w, arena, h->n_vocab);
}
