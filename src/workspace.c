/* workspace.c - see workspace.h. */
#include "workspace.h"

void *arena_take(struct arena *arena, size_t count, size_t element_bytes)
{
    size_t at = (arena->used + 63) / 64 * 64;
    arena->used = at + count * element_bytes;
    return arena->base == NULL ? NULL : arena->base + at;
}

static float *floats(struct arena *arena, size_t rows, size_t columns)
{
    return arena_take(arena, rows * columns, sizeof(float));
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void layout_moe(struct workspace *w, const struct hparams *h, size_t rows,
                       struct arena *arena)
{
    size_t pairs = rows * h->n_experts_used;
    w->router = floats(arena, rows, h->n_experts);
    w->experts = arena_take(arena, pairs, sizeof *w->experts);
    w->order = arena_take(arena, pairs, sizeof *w->order);
    w->start = arena_take(arena, h->n_experts + 1, sizeof *w->start);
    w->expert_weights = floats(arena, pairs, 1);
    w->expert_act = arena_take(arena, pairs * act_blocks(h->n_ff_expert), sizeof *w->expert_act);
    w->expert_out = floats(arena, pairs, h->n_embd);
    w->gate = floats(arena, pairs, h->n_ff_expert);
    w->up = floats(arena, pairs, h->n_ff_expert);
    w->shared_gate = floats(arena, rows, h->n_ff_shared);
    w->shared_up = floats(arena, rows, h->n_ff_shared);
    w->shared_out = floats(arena, rows, h->n_embd);
    w->shared_router = floats(arena, rows, 1);
}

static void layout_mixers(struct workspace *w, const struct hparams *h, size_t rows,
                          struct arena *arena)
{
    size_t inner = (size_t)h->n_v_heads * h->state_dim, heads = (size_t)h->n_heads * h->head_dim;
    size_t kv = (size_t)h->n_kv_heads * h->head_dim, channels = hparams_conv_channels(h);
    w->cos_sin = floats(arena, rows, h->n_rot);
    w->q = floats(arena, rows, 2 * heads);
    w->k = floats(arena, rows, kv);
    w->v = floats(arena, rows, kv);
    w->heads = floats(arena, rows, larger(heads, inner));
    w->qkv = floats(arena, rows, channels);
    w->conv = floats(arena, rows, channels);
    w->z = floats(arena, rows, inner);
    w->alpha = floats(arena, rows, h->n_v_heads);
    w->beta = floats(arena, rows, h->n_v_heads);
}

void workspace_layout(struct workspace *w, const struct hparams *h, uint32_t n_rows,
                      struct arena *arena)
{
    size_t rows = n_rows, heads = (size_t)h->n_heads * h->head_dim;
    size_t inner = (size_t)h->n_v_heads * h->state_dim;
    size_t widest = larger(larger(h->n_embd, heads), inner);
    widest = larger(widest, larger(h->n_ff, h->n_ff_shared));
    w->rows = arena_take(arena, rows, sizeof *w->rows);
    w->logit_rows = arena_take(arena, rows, sizeof *w->logit_rows);
    w->x = floats(arena, rows, h->n_embd);
    w->normed = floats(arena, rows, h->n_embd);
    w->mixed = floats(arena, rows, h->n_embd);
    w->act = arena_take(arena, rows * act_blocks(widest), sizeof *w->act);
    layout_mixers(w, h, rows, arena);
    if (h->arch == ARCH_QWEN35MOE) {
        layout_moe(w, h, rows, arena);
    } else {
        w->gate = floats(arena, rows, h->n_ff);
        w->up = floats(arena, rows, h->n_ff);
    }
    w->top = arena_take(arena, rows, sizeof *w->top);
    w->hidden = floats(arena, rows, h->n_embd);
    w->logits = floats(arena, rows, h->n_vocab);
}
