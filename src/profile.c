/* profile.c - see profile.h. Only the thread that uses the session comes here: the backend's own
 * threads work inside the calls that are measured. */
#include "profile.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The operations of kernels/ops.h in the order of the table. */
#define FIRST(X) X(embed) X(quantize) X(matmul)
#define MIDDLE(X) X(rms_norm) X(add) X(rope) X(kv_store)
#define STATE(X) X(conv) X(delta_net)
#define REPLAYS(X) X(conv_replay) X(delta_net_replay)
#define LAST(X) X(mul_silu) X(route) X(moe_combine) X(argmax) X(digest) X(gather)
#define OPERATIONS(X) FIRST(X) X(expert_matmul) MIDDLE(X) X(attention) STATE(X) REPLAYS(X) LAST(X)
/* But those whose bytes depend on what the backend's memory holds. */
#define OPERATIONS_BUT(X) FIRST(X) MIDDLE(X) STATE(X) LAST(X)

#define AS_INDEX(op) op##_index,
enum { OPERATIONS(AS_INDEX) N_OPERATIONS };
_Static_assert((int)N_OPERATIONS <= (int)MTP_PROFILE_MOST, "every operation has an entry");

#define AS_NAME(op) #op,
static const char *const names[] = {OPERATIONS(AS_NAME)};

struct tally {
    uint64_t calls, bytes;
    double seconds;
};

struct phase {
    double seconds;
    struct tally operations[N_OPERATIONS];
};

struct profile {
    struct backend base;
    struct ops ops;
    struct backend *inner;
    int phase;     /* of what is running */
    double since;  /* when it was entered */
    struct phase phases[MTP_PROFILE_PHASES + 1]; /* and PROFILE_NO_PHASE */
};

static struct profile *self(struct backend *backend)
{
    return (struct profile *)(void *)backend;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- bytes -------------------------------------------------------------------------------- */

static uint64_t floats(uint64_t n)
{
    return n * sizeof(float);
}

static uint64_t kv_row_bytes(const struct kv_cache *cache)
{
    uint64_t element = cache->type == KV_F32 ? sizeof(float) : sizeof(uint16_t);
    return 2 * element * cache->n_kv_heads * cache->head_dim; /* a key and a value */
}

static uint64_t embed_bytes(const struct embed_args *a)
{
    return (uint64_t)a->n_rows * (a->table.row_bytes + floats(a->table.n_in));
}

static uint64_t quantize_bytes(const struct quantize_args *a)
{
    return (uint64_t)a->n_rows * (floats(a->n) + act_blocks(a->n) * sizeof *a->act);
}

static uint64_t matmul_bytes(const struct matmul_args *a)
{
    return (uint64_t)a->w.n_out * a->w.row_bytes;
}

/* Not expert_bytes: where gate and up are fused, that is the way past both. start: args->start for the
 * host to read. */
static uint64_t expert_matmul_bytes(const struct expert_matmul_args *a, const int32_t *start)
{
    uint64_t reads = 0;
    for (uint32_t e = 0; e < a->w.n_experts; e++) {
        int32_t pairs = start[e + 1] - start[e];
        reads += a->grouped ? pairs > 0 : (uint64_t)pairs;
    }
    return reads * a->w.n_out * a->w.row_bytes;
}

static uint64_t rms_norm_bytes(const struct rms_norm_args *a)
{
    return floats(a->n * (2 * (uint64_t)a->n_rows * a->n_groups + 1));
}

static uint64_t add_bytes(const struct add_args *a)
{
    return floats(3 * (uint64_t)a->n_rows * a->n);
}

static uint64_t rope_bytes(const struct rope_args *a)
{
    uint64_t rotated = 2 * (uint64_t)a->n_pairs;
    return floats((uint64_t)a->n_rows * rotated * (2 * a->n_heads + 1));
}

static uint64_t kv_store_bytes(const struct kv_store_args *a)
{
    uint64_t read = floats(2 * (uint64_t)a->cache.n_kv_heads * a->cache.head_dim);
    return (uint64_t)a->n_rows * (read + kv_row_bytes(&a->cache));
}

static uint64_t attention_bytes(const struct attention_args *a, uint64_t positions)
{
    return positions * kv_row_bytes(&a->cache);
}

static uint64_t conv_state_bytes(uint32_t n_channels, uint32_t n_taps)
{
    return 2 * floats((uint64_t)n_channels * (n_taps - 1));
}

static uint64_t conv_bytes(const struct conv_args *a)
{
    return floats((uint64_t)a->n_channels * a->n_taps) +
           a->n_sequences * conv_state_bytes(a->n_channels, a->n_taps);
}

static uint64_t conv_replay_bytes(const struct conv_replay_args *a)
{
    return conv_state_bytes(a->n_channels, a->n_taps);
}

static uint64_t delta_state_bytes(uint32_t n_v_heads, uint32_t d)
{
    return 2 * floats((uint64_t)n_v_heads * d * d);
}

static uint64_t delta_net_bytes(const struct delta_net_args *a)
{
    return a->n_sequences * delta_state_bytes(a->n_v_heads, a->d);
}

static uint64_t delta_net_replay_bytes(const struct delta_net_replay_args *a)
{
    return delta_state_bytes(a->n_v_heads, a->d);
}

static uint64_t mul_silu_bytes(const struct mul_silu_args *a)
{
    return floats(3 * (uint64_t)a->n_rows * a->n);
}

static uint64_t route_bytes(const struct route_args *a)
{
    uint64_t chosen = sizeof *a->experts + sizeof *a->weights + sizeof *a->order;
    return (uint64_t)a->n_rows * (floats(a->n_experts) + a->n_used * chosen);
}

static uint64_t moe_combine_bytes(const struct moe_combine_args *a)
{
    uint64_t rows = (uint64_t)a->n_used + 1 + (a->shared != NULL);
    return floats((uint64_t)a->n_rows * (rows * a->n + a->n_used));
}

static uint64_t argmax_bytes(const struct argmax_args *a)
{
    return (uint64_t)a->n_rows * (floats(a->n) + sizeof *a->dst);
}

static uint64_t digest_bytes(const struct digest_args *a)
{
    return (uint64_t)a->n_rows * (floats(a->n) + sizeof *a->dst);
}

static uint64_t gather_bytes(const struct gather_args *a)
{
    return floats(2 * (uint64_t)a->n_rows * a->n);
}

/* ---- operations ---------------------------------------------------------------------------- */

static void note(struct profile *p, int operation, double seconds, uint64_t bytes)
{
    struct tally *tally = &p->phases[p->phase].operations[operation];
    tally->calls++;
    tally->seconds += seconds;
    tally->bytes += bytes;
}

/* Operations of a device are under way when they return. */
static double seconds_since(struct profile *p, double start)
{
    p->inner->ops->synchronize(p->inner);
    return now() - start;
}

/* Defines p_op: the inner backend's op, measured. */
#define DEFINE_OPERATION(op)                                                                       \
    static void p_##op(struct backend *backend, const struct op##_args *args)                      \
    {                                                                                              \
        struct profile *p = self(backend);                                                         \
        double start = now();                                                                      \
        p->inner->ops->op(p->inner, args);                                                         \
        note(p, op##_index, seconds_since(p, start), op##_bytes(args));                            \
    }
OPERATIONS_BUT(DEFINE_OPERATION)

static void p_expert_matmul(struct backend *backend, const struct expert_matmul_args *args)
{
    struct profile *p = self(backend);
    int32_t pairs[MAX_EXPERTS + 1];
    double start = now();
    p->inner->ops->expert_matmul(p->inner, args);
    double seconds = seconds_since(p, start);
    p->inner->ops->download(p->inner, pairs, args->start, (args->w.n_experts + 1) * sizeof *pairs);
    note(p, expert_matmul_index, seconds, expert_matmul_bytes(args, pairs));
}

/* Positions that the rows see, themselves among them. */
static uint64_t positions_seen(struct profile *p, const struct attention_args *args)
{
    enum { TOGETHER = 64 };
    struct batch_row rows[TOGETHER];
    uint64_t positions = 0;
    for (int32_t done = 0; done < args->n_rows; done += TOGETHER) {
        int32_t left = args->n_rows - done, n = left < TOGETHER ? left : TOGETHER;
        p->inner->ops->download(p->inner, rows, args->rows + done, (size_t)n * sizeof *rows);
        for (int32_t r = 0; r < n; r++)
            positions += (uint64_t)rows[r].position + 1;
    }
    return positions;
}

static void p_attention(struct backend *backend, const struct attention_args *args)
{
    struct profile *p = self(backend);
    double start = now();
    p->inner->ops->attention(p->inner, args);
    double seconds = seconds_since(p, start);
    note(p, attention_index, seconds, attention_bytes(args, positions_seen(p, args)));
}

/* Layers that a replay writes. */
static uint64_t layers_replayed(struct profile *p, const struct replay_more *more, int32_t n_rows)
{
    int32_t kept = -1;
    if (more->n_kept != NULL)
        p->inner->ops->download(p->inner, &kept, more->n_kept, sizeof kept);
    return kept == n_rows ? 0 : 1 + (uint64_t)more->n_layers;
}

/* Defines p_op of a replay. */
#define DEFINE_REPLAY(op)                                                                          \
    static void p_##op(struct backend *backend, const struct op##_args *args)                      \
    {                                                                                              \
        struct profile *p = self(backend);                                                         \
        uint64_t layers = layers_replayed(p, &args->more, args->n_rows);                           \
        double start = now();                                                                      \
        p->inner->ops->op(p->inner, args);                                                         \
        note(p, op##_index, seconds_since(p, start), layers * op##_bytes(args));                   \
    }
REPLAYS(DEFINE_REPLAY)

/* ---- the rest is the inner backend's ------------------------------------------------------- */

static void p_chain_rows(struct backend *b, const struct chain_rows_args *a)
{
    self(b)->inner->ops->chain_rows(self(b)->inner, a);
}

static void p_accept(struct backend *b, const struct accept_args *a)
{
    self(b)->inner->ops->accept(self(b)->inner, a);
}

static size_t p_packed_bytes(struct backend *b, const struct weight *w)
{
    return self(b)->inner->ops->packed_bytes(self(b)->inner, w);
}

static void p_pack(struct backend *b, const struct pack_args *a)
{
    self(b)->inner->ops->pack(self(b)->inner, a);
}

static bool p_reserve(struct backend *b, uint32_t n_ctx)
{
    return self(b)->inner->ops->reserve(self(b)->inner, n_ctx);
}

static void p_memory(struct backend *b, uint32_t n_ctx, struct backend_memory *memory)
{
    self(b)->inner->ops->memory(self(b)->inner, n_ctx, memory);
}

static void p_upload(struct backend *b, void *dst, const void *src, size_t bytes)
{
    self(b)->inner->ops->upload(self(b)->inner, dst, src, bytes);
}

static void p_download(struct backend *b, void *dst, const void *src, size_t bytes)
{
    self(b)->inner->ops->download(self(b)->inner, dst, src, bytes);
}

static void p_copy(struct backend *b, void *dst, const void *src, size_t bytes)
{
    self(b)->inner->ops->copy(self(b)->inner, dst, src, bytes);
}

static void p_fill(struct backend *b, void *dst, int byte, size_t bytes)
{
    self(b)->inner->ops->fill(self(b)->inner, dst, byte, bytes);
}

static void p_synchronize(struct backend *b)
{
    self(b)->inner->ops->synchronize(self(b)->inner);
}

static const char *p_error(struct backend *b)
{
    return self(b)->inner->ops->error(self(b)->inner);
}

static void *p_alloc(struct backend *b, size_t bytes, enum memory_use use)
{
    return self(b)->inner->ops->alloc(self(b)->inner, bytes, use);
}

static void p_free(struct backend *b, void *memory, size_t bytes)
{
    self(b)->inner->ops->free(self(b)->inner, memory, bytes);
}

static struct numeric_fault p_fault(struct backend *b)
{
    return self(b)->inner->ops->fault(self(b)->inner);
}

static void p_clear_fault(struct backend *b)
{
    self(b)->inner->ops->clear_fault(self(b)->inner);
}

static void p_counters(struct backend *b, struct backend_counters *counters)
{
    self(b)->inner->ops->counters(self(b)->inner, counters);
}

static void p_close(struct backend *b)
{
    self(b)->inner->ops->close(self(b)->inner);
    free(self(b));
}

#define AS_FUNCTION(op) .op = p_##op,
static const struct ops profile_ops = {
    OPERATIONS(AS_FUNCTION)
    .products = products_one_by_one,
    .chain_rows = p_chain_rows,
    .accept = p_accept,
    .fused = fused_one_by_one,
    .place_heads = place_heads_one_by_one,
    .packed_bytes = p_packed_bytes,
    .pack = p_pack,
    .reserve = p_reserve,
    .memory = p_memory,
    .upload = p_upload,
    .download = p_download,
    .copy = p_copy,
    .fill = p_fill,
    .synchronize = p_synchronize,
    .error = p_error,
    .alloc = p_alloc,
    .free = p_free,
    .fault = p_fault,
    .clear_fault = p_clear_fault,
    .counters = p_counters,
    .close = p_close,
};

struct profile *profile_open(struct backend *inner)
{
    struct profile *p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    p->ops = profile_ops;
    p->ops.name = inner->ops->name;
    p->ops.host_memory = inner->ops->host_memory;
    p->base.ops = &p->ops;
    p->inner = inner;
    p->phase = PROFILE_NO_PHASE;
    p->since = now();
    return p;
}

struct backend *profile_backend(struct profile *profile)
{
    return &profile->base;
}

int profile_enter(struct profile *profile, int phase)
{
    if (profile == NULL)
        return PROFILE_NO_PHASE;
    int before = profile->phase;
    double time = now();
    profile->phases[before].seconds += time - profile->since;
    profile->phase = phase;
    profile->since = time;
    return before;
}

void profile_get(const struct profile *profile, enum mtp_profile_phase phase,
                 struct mtp_profile *out)
{
    memset(out, 0, sizeof *out);
    if (profile == NULL)
        return;
    const struct phase *from = &profile->phases[phase];
    out->seconds = from->seconds;
    out->n_entries = N_OPERATIONS;
    for (size_t i = 0; i < N_OPERATIONS; i++) {
        const struct tally *tally = &from->operations[i];
        out->entries[i] = (struct mtp_profile_entry){names[i], tally->calls, tally->seconds,
                                                     tally->bytes};
    }
}
