/* instrument.c - see instrument.h. */
#include "instrument.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum flip { FLIP_NONE, FLIP_MATMUL, FLIP_ATTENTION, FLIP_KV, FLIP_DELTA_STATE, FLIP_CONV_STATE,
            FLIP_EXPERT, FLIP_ROUTER, FLIP_HEAD };

static const struct {
    const char *name;
    enum flip flip;
} flips[] = {
    {"matmul", FLIP_MATMUL},           {"attention", FLIP_ATTENTION}, {"kv_store", FLIP_KV},
    {"delta_net_state", FLIP_DELTA_STATE}, {"conv_state", FLIP_CONV_STATE}, {"expert", FLIP_EXPERT},
    {"router", FLIP_ROUTER},           {"lm_head", FLIP_HEAD},
};

struct instrument {
    struct backend base;
    struct ops ops;
    struct backend *inner;
    struct tap_log *log;
    enum flip flip;
    uint64_t flip_step, n_flips;
    bool armed;             /* this pass is the one to flip in */
    bool spent;             /* it has been flipped in already */
    uint32_t head_outputs;  /* n_out of the output head */
};

static struct instrument *self(struct backend *backend)
{
    return (struct instrument *)(void *)backend;
}

/* ---- recording --------------------------------------------------------------------------- */

void tap_log_free(struct tap_log *log)
{
    free(log->taps);
    free(log->bytes);
    memset(log, 0, sizeof *log);
}

static bool grow(void **memory, size_t *capacity, size_t wanted, size_t element)
{
    if (wanted <= *capacity)
        return true;
    size_t larger = 2 * wanted + 64;
    void *grown = realloc(*memory, larger * element);
    if (grown == NULL)
        return false;
    *memory = grown;
    *capacity = larger;
    return true;
}

/* Adds a tap of n_bytes, all rows of the pass together; NULL when memory is short. */
static uint8_t *add_tap(struct instrument *t, const char *operation, size_t n_bytes)
{
    struct tap_log *log = t->log;
    void *taps = log->taps, *bytes = log->bytes;
    bool grown = grow(&taps, &log->capacity, log->n + 1, sizeof *log->taps);
    log->taps = taps;
    grown = grown && grow(&bytes, &log->size, log->used + n_bytes, 1);
    log->bytes = bytes;
    if (!grown) {
        log->short_of_memory = true;
        return NULL;
    }
    log->taps[log->n++] = (struct tap){operation, t->base.layer, n_bytes / (size_t)log->n_rows,
                                       log->used};
    log->used += n_bytes;
    return log->bytes + log->used - n_bytes;
}

static void record(struct instrument *t, const char *operation, const void *data, size_t n_bytes)
{
    uint8_t *room = t->log != NULL ? add_tap(t, operation, n_bytes) : NULL;
    if (room != NULL)
        t->inner->ops->download(t->inner, room, data, n_bytes);
}

static void record_floats(struct instrument *t, const char *operation, const float *data,
                          int32_t n_rows, size_t n)
{
    record(t, operation, data, (size_t)n_rows * n * sizeof *data);
}

/* ---- flipping ---------------------------------------------------------------------------- */

/* Whether to flip in this operation: the first of its kind in the armed pass. */
static bool strikes(struct instrument *t, enum flip flip)
{
    if (!t->armed || t->spent || t->flip != flip)
        return false;
    t->spent = true;
    t->n_flips++;
    return true;
}

/* The batch rows of an operation, for the host; to be freed. NULL when memory is short. */
static struct batch_row *rows_of(struct instrument *t, const struct batch_row *rows, int32_t n_rows)
{
    size_t bytes = (size_t)n_rows * sizeof *rows;
    struct batch_row *copy = malloc(bytes);
    if (copy != NULL)
        t->inner->ops->download(t->inner, copy, rows, bytes);
    return copy;
}

/* The highest bit of the mantissa of the largest element of row 0: a lower one may be swallowed by
 * rounding to int8 later in the pass, and then nothing is wrong with what the pass gives. */
static void flip_float(struct instrument *t, float *row, size_t n)
{
    size_t most = 0;
    float *copy = malloc(n * sizeof *copy);
    if (copy == NULL)
        return;
    t->inner->ops->download(t->inner, copy, row, n * sizeof *copy);
    for (size_t i = 1; i < n; i++)
        if (fabsf(copy[i]) > fabsf(copy[most]))
            most = i;
    uint32_t bits;
    memcpy(&bits, &copy[most], sizeof bits);
    bits ^= 1u << 22;
    t->inner->ops->upload(t->inner, &row[most], &bits, sizeof bits);
    free(copy);
}

static void flip_cache(struct instrument *t, const struct kv_store_args *args)
{
    const struct kv_cache *cache = &args->cache;
    struct batch_row *row = rows_of(t, args->rows, 1);
    if (row == NULL)
        return;
    size_t n = (size_t)cache->n_kv_heads * cache->head_dim;
    size_t at = ((size_t)row->sequence * cache->n_ctx + (size_t)row->position) * n;
    free(row);
    if (cache->type == KV_F32) {
        flip_float(t, (float *)cache->k + at, n);
        return;
    }
    uint16_t half, *place = (uint16_t *)cache->k + at;
    t->inner->ops->download(t->inner, &half, place, sizeof half);
    half ^= 1u << 6;
    t->inner->ops->upload(t->inner, place, &half, sizeof half);
}

/* ---- operations -------------------------------------------------------------------------- */

static void i_embed(struct backend *b, const struct embed_args *a)
{
    struct instrument *t = self(b);
    t->inner->ops->embed(t->inner, a);
    record_floats(t, "embed", a->dst, a->n_rows, a->table.n_in);
}

static void i_quantize(struct backend *b, const struct quantize_args *a)
{
    struct instrument *t = self(b);
    t->inner->ops->quantize(t->inner, a);
    record(t, "quantize", a->act, (size_t)a->n_rows * act_blocks(a->n) * sizeof *a->act);
}

static void i_matmul(struct backend *b, const struct matmul_args *a)
{
    struct instrument *t = self(b);
    t->inner->ops->matmul(t->inner, a);
    bool head = a->w.n_out == t->head_outputs;
    if (strikes(t, head ? FLIP_HEAD : FLIP_MATMUL))
        flip_float(t, a->y, a->w.n_out);
    record_floats(t, head ? "lm_head" : "matmul", a->y, a->n_rows, a->y_stride);
}

static void i_expert_matmul(struct backend *b, const struct expert_matmul_args *a)
{
    struct instrument *t = self(b);
    t->inner->ops->expert_matmul(t->inner, a);
    if (strikes(t, FLIP_EXPERT))
        flip_float(t, a->y, a->w.n_out);
    record_floats(t, "expert", a->y, a->n_pairs, a->y_stride);
}

static void i_rms_norm(struct backend *b, const struct rms_norm_args *a)
{
    struct instrument *t = self(b);
    t->inner->ops->rms_norm(t->inner, a);
    record_floats(t, "rms_norm", a->dst, a->n_rows, a->dst_stride);
}

static void i_add(struct backend *b, const struct add_args *a)
{
    struct instrument *t = self(b);
    t->inner->ops->add(t->inner, a);
    record_floats(t, "add", a->dst, a->n_rows, a->n);
}

static void i_rope(struct backend *b, const struct rope_args *a)
{
    struct instrument *t = self(b);
    t->inner->ops->rope(t->inner, a);
    record_floats(t, "rope", a->x, a->n_rows, a->stride);
}

static void record_cache(struct instrument *t, const struct kv_store_args *a)
{
    const struct kv_cache *cache = &a->cache;
    size_t element = cache->type == KV_F32 ? sizeof(float) : sizeof(uint16_t);
    size_t bytes = cache->n_kv_heads * cache->head_dim * element;
    uint8_t *room = t->log != NULL ? add_tap(t, "kv_store", 2 * bytes * (size_t)a->n_rows) : NULL;
    struct batch_row *rows = room != NULL ? rows_of(t, a->rows, a->n_rows) : NULL;
    for (int32_t r = 0; rows != NULL && r < a->n_rows; r++) {
        size_t position = (size_t)rows[r].sequence * cache->n_ctx + (size_t)rows[r].position;
        t->inner->ops->download(t->inner, room, (const uint8_t *)cache->k + position * bytes, bytes);
        t->inner->ops->download(t->inner, room + bytes, (const uint8_t *)cache->v + position * bytes,
                                bytes);
        room += 2 * bytes;
    }
    free(rows);
}

static void i_kv_store(struct backend *b, const struct kv_store_args *a)
{
    struct instrument *t = self(b);
    t->inner->ops->kv_store(t->inner, a);
    if (strikes(t, FLIP_KV))
        flip_cache(t, a);
    record_cache(t, a);
}

static void i_attention(struct backend *b, const struct attention_args *a)
{
    struct instrument *t = self(b);
    size_t n = (size_t)a->n_heads * a->cache.head_dim;
    t->inner->ops->attention(t->inner, a);
    if (strikes(t, FLIP_ATTENTION))
        flip_float(t, a->out, n);
    record_floats(t, "attention", a->out, a->n_rows, n);
}

static void i_conv(struct backend *b, const struct conv_args *a)
{
    struct instrument *t = self(b);
    t->inner->ops->conv(t->inner, a);
    /* The newest input kept; and, for a replay, the input it would take. */
    if (a->n_taps > 1 && strikes(t, FLIP_CONV_STATE)) {
        flip_float(t, a->state + (size_t)(a->n_taps - 2) * a->n_channels, a->n_channels);
        flip_float(t, (float *)(uintptr_t)a->x, a->n_channels);
    }
    record_floats(t, "conv", a->out, a->n_rows, a->n_channels);
}

static void i_delta_net(struct backend *b, const struct delta_net_args *a)
{
    struct instrument *t = self(b);
    size_t n = (size_t)a->n_v_heads * a->d;
    t->inner->ops->delta_net(t->inner, a);
    if (strikes(t, FLIP_DELTA_STATE)) {
        flip_float(t, a->state, (size_t)a->d * a->d);
        if (a->journal.delta != NULL)
            flip_float(t, a->journal.delta, a->d);
    }
    record_floats(t, "delta_net", a->out, a->n_rows, n);
}

static void i_conv_replay(struct backend *b, const struct conv_replay_args *a)
{
    self(b)->inner->ops->conv_replay(self(b)->inner, a);
}

static void i_delta_net_replay(struct backend *b, const struct delta_net_replay_args *a)
{
    self(b)->inner->ops->delta_net_replay(self(b)->inner, a);
}

static void i_mul_silu(struct backend *b, const struct mul_silu_args *a)
{
    struct instrument *t = self(b);
    t->inner->ops->mul_silu(t->inner, a);
    record_floats(t, "mul_silu", a->dst, a->n_rows, a->dst_stride);
}

static void i_route(struct backend *b, const struct route_args *a)
{
    struct instrument *t = self(b);
    t->inner->ops->route(t->inner, a);
    if (strikes(t, FLIP_ROUTER))
        flip_float(t, a->weights, a->n_used);
    record(t, "router", a->experts, (size_t)a->n_rows * a->n_used * sizeof *a->experts);
    record_floats(t, "router", a->weights, a->n_rows, a->n_used);
}

static void i_moe_combine(struct backend *b, const struct moe_combine_args *a)
{
    struct instrument *t = self(b);
    t->inner->ops->moe_combine(t->inner, a);
    record_floats(t, "moe_combine", a->dst, a->n_rows, a->n);
}

static void i_argmax(struct backend *b, const struct argmax_args *a)
{
    struct instrument *t = self(b);
    t->inner->ops->argmax(t->inner, a);
    record(t, "argmax", a->dst, (size_t)a->n_rows * sizeof *a->dst);
}

static void i_digest(struct backend *b, const struct digest_args *a)
{
    self(b)->inner->ops->digest(self(b)->inner, a);
}

static void i_gather(struct backend *b, const struct gather_args *a)
{
    self(b)->inner->ops->gather(self(b)->inner, a);
}

/* ---- the rest is the inner backend's ------------------------------------------------------- */

static void i_chain_rows(struct backend *b, const struct chain_rows_args *a)
{
    self(b)->inner->ops->chain_rows(self(b)->inner, a);
}

static void i_accept(struct backend *b, const struct accept_args *a)
{
    self(b)->inner->ops->accept(self(b)->inner, a);
}

static void i_mark(struct backend *b, int number)
{
    self(b)->inner->ops->mark(self(b)->inner, number);
}

static double i_between(struct backend *b, int from, int to)
{
    return self(b)->inner->ops->between(self(b)->inner, from, to);
}

/* A pass that is watched runs operation by operation. */
static bool i_pass_begin(struct backend *b, uint64_t key, uint32_t order)
{
    struct instrument *t = self(b);
    return t->log == NULL && !t->armed && t->inner->ops->pass_begin != NULL &&
           t->inner->ops->pass_begin(t->inner, key, order);
}

static bool i_pass_end(struct backend *b)
{
    struct instrument *t = self(b);
    return t->inner->ops->pass_end == NULL || t->inner->ops->pass_end(t->inner);
}

static bool i_reserve(struct backend *b, uint32_t n_ctx)
{
    return self(b)->inner->ops->reserve(self(b)->inner, n_ctx);
}

static void i_memory(struct backend *b, uint32_t n_ctx, struct backend_memory *memory)
{
    self(b)->inner->ops->memory(self(b)->inner, n_ctx, memory);
}

static void i_upload(struct backend *b, void *dst, const void *src, size_t bytes)
{
    self(b)->inner->ops->upload(self(b)->inner, dst, src, bytes);
}

static void i_download(struct backend *b, void *dst, const void *src, size_t bytes)
{
    self(b)->inner->ops->download(self(b)->inner, dst, src, bytes);
}

static void i_copy(struct backend *b, void *dst, const void *src, size_t bytes)
{
    self(b)->inner->ops->copy(self(b)->inner, dst, src, bytes);
}

static void i_fill(struct backend *b, void *dst, int byte, size_t bytes)
{
    self(b)->inner->ops->fill(self(b)->inner, dst, byte, bytes);
}

static void i_synchronize(struct backend *b)
{
    self(b)->inner->ops->synchronize(self(b)->inner);
}

static const char *i_error(struct backend *b)
{
    return self(b)->inner->ops->error(self(b)->inner);
}

static void *i_alloc(struct backend *b, size_t bytes, enum memory_use use)
{
    return self(b)->inner->ops->alloc(self(b)->inner, bytes, use);
}

static void i_free(struct backend *b, void *memory, size_t bytes)
{
    self(b)->inner->ops->free(self(b)->inner, memory, bytes);
}

static struct numeric_fault i_fault(struct backend *b)
{
    return self(b)->inner->ops->fault(self(b)->inner);
}

static void i_clear_fault(struct backend *b)
{
    self(b)->inner->ops->clear_fault(self(b)->inner);
}

static void i_counters(struct backend *b, struct backend_counters *counters)
{
    self(b)->inner->ops->counters(self(b)->inner, counters);
}

static void i_close(struct backend *b)
{
    self(b)->inner->ops->close(self(b)->inner);
    free(self(b));
}

static const struct ops instrument_ops = {
    .embed = i_embed,
    .quantize = i_quantize,
    .matmul = i_matmul,
    .expert_matmul = i_expert_matmul,
    .products = products_one_by_one,
    .fused = fused_one_by_one,
    .place_heads = place_heads_one_by_one,
    .rms_norm = i_rms_norm,
    .add = i_add,
    .rope = i_rope,
    .kv_store = i_kv_store,
    .attention = i_attention,
    .conv = i_conv,
    .conv_replay = i_conv_replay,
    .delta_net = i_delta_net,
    .delta_net_replay = i_delta_net_replay,
    .mul_silu = i_mul_silu,
    .route = i_route,
    .moe_combine = i_moe_combine,
    .argmax = i_argmax,
    .digest = i_digest,
    .gather = i_gather,
    .chain_rows = i_chain_rows,
    .accept = i_accept,
    .pass_begin = i_pass_begin,
    .pass_end = i_pass_end,
    .reserve = i_reserve,
    .memory = i_memory,
    .upload = i_upload,
    .download = i_download,
    .copy = i_copy,
    .fill = i_fill,
    .synchronize = i_synchronize,
    .error = i_error,
    .alloc = i_alloc,
    .free = i_free,
    .fault = i_fault,
    .clear_fault = i_clear_fault,
    .counters = i_counters,
    .close = i_close,
};

struct backend *instrument_open(struct backend *inner, uint32_t head_outputs)
{
    struct instrument *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->ops = instrument_ops;
    t->ops.name = inner->ops->name;
    t->ops.host_memory = inner->ops->host_memory;
    t->ops.mark = inner->ops->mark != NULL ? i_mark : NULL;
    t->ops.between = inner->ops->between != NULL ? i_between : NULL;
    t->base.ops = &t->ops;
    t->inner = inner;
    t->head_outputs = head_outputs;
    return &t->base;
}

void instrument_record(struct backend *instrument, struct tap_log *log, int32_t n_rows)
{
    self(instrument)->log = log;
    if (log != NULL)
        log->n_rows = n_rows;
}

const char *instrument_flip_names(void)
{
    return "matmul, attention, kv_store, delta_net_state, conv_state, expert, router, lm_head";
}

enum mtp_status instrument_plan_flip(struct backend *instrument, const char *text,
                                     struct mtp_error *error)
{
    struct instrument *t = self(instrument);
    const char *colon = strchr(text, ':');
    size_t length = colon != NULL ? (size_t)(colon - text) : 0;
    for (size_t i = 0; colon != NULL && i < sizeof flips / sizeof flips[0]; i++)
        if (strlen(flips[i].name) == length && memcmp(flips[i].name, text, length) == 0) {
            t->flip = flips[i].flip;
            char *end;
            t->flip_step = strtoull(colon + 1, &end, 10);
            if (end != colon + 1 && *end == '\0')
                return MTP_OK;
        }
    return mtp_fail(error, MTP_ERR_USAGE, "'%s' is no OPERATION:STEP to flip a bit in (one of %s)",
                    text, instrument_flip_names());
}

void instrument_arm(struct backend *instrument, uint64_t step)
{
    struct instrument *t = self(instrument);
    t->armed = t->flip != FLIP_NONE && step == t->flip_step;
    t->spent = false;
}

void instrument_disarm(struct backend *instrument)
{
    self(instrument)->armed = false;
}

uint64_t instrument_flips(const struct backend *instrument)
{
    return ((const struct instrument *)(const void *)instrument)->n_flips;
}
