/* cuda_fused_ops.c - operations that run as one, on the GPU and one by one by the definition. */
#include "tests/gpu/cuda_ops.h"

static bool is_large(const struct model_sizes *m, int32_t n_rows)
{
    return m->large && n_rows > 2;
}

static struct array blocks_of(struct two_backends *t, int32_t n_rows, size_t n)
{
    return unset(t, (size_t)n_rows * act_blocks(n) * sizeof(struct act_block));
}

static void compare_blocks(struct two_backends *t, const struct array *act, size_t n)
{
    compare(t, "super-blocks", act, 1, act_blocks(n) * sizeof(struct act_block));
}

/* ---- residual, norm, act -------------------------------------------------------------------- */

enum settle { ADDS = 1, COMBINES = 2, QUANTISES = 4, MISFIT = 8, N_SETTLES = 16 };

struct settle_arrays {
    struct array x, mixed, y, weights, shared, gate, w, normed, act;
};

static struct settle_arrays settle_inputs(struct two_backends *t, size_t n, uint32_t used, int32_t n_rows,
                                          enum kind_of_float kind)
{
    size_t rows = (size_t)n_rows;
    return (struct settle_arrays){
        .x = floats(t, rows * n, kind), .mixed = floats(t, rows * n, kind),
        .y = floats(t, rows * used * n, kind), .weights = floats(t, rows * used, ORDINARY),
        .shared = floats(t, rows * n, ORDINARY), .gate = floats(t, rows, ORDINARY),
        .w = floats(t, n, ORDINARY), .normed = unset(t, rows * n * 4), .act = blocks_of(t, n_rows, n),
    };
}

/* MISFIT: what is quantised is not what the norm has written, as no kernel expects. */
static void settle_once(struct two_backends *t, int s, const struct settle_arrays *a, size_t n, uint32_t used,
                        int32_t n_rows, int settle)
{
    const struct moe_combine_args combine = {a->y.at[s], a->weights.at[s], a->shared.at[s], a->gate.at[s],
                                             a->mixed.at[s], n, used, n_rows};
    const struct add_args add = {a->x.at[s], a->mixed.at[s], a->x.at[s], n, n_rows};
    const struct rms_norm_args norm = {a->x.at[s], a->normed.at[s], a->w.at[s], n, 1, n, 0, n, 0, 1e-6f,
                                       n_rows};
    const struct quantize_args quantize = {settle & MISFIT ? a->x.at[s] : a->normed.at[s], a->act.at[s], n,
                                           n_rows};
    const struct fused_args fused = {.combine = settle & COMBINES ? &combine : NULL,
                                     .add = settle & (ADDS | COMBINES) ? &add : NULL,
                                     .norm = &norm, .quantize = settle & QUANTISES ? &quantize : NULL};
    t->side[s]->ops->fused(t->side[s], &fused);
}

static void settle_rows(struct two_backends *t, const struct model_sizes *m, size_t n, int32_t n_rows,
                        uint64_t seed)
{
    uint32_t used = m->n_used > 0 ? m->n_used : 1;
    for (int settle = 0; settle < N_SETTLES; settle++) {
        if ((settle & MISFIT && !(settle & QUANTISES)) || (n_rows > 17 && settle != (ADDS | QUANTISES)))
            continue;
        begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %zu, settled %d", m->name, (int)n_rows, n,
                   settle);
        enum kind_of_float kind = seed == 1 ? ORDINARY : seed == 2 ? ODD : TIES;
        struct settle_arrays a = settle_inputs(t, n, settle & COMBINES ? used : 1, n_rows, kind);
        for (int s = 0; s < N_SIDES; s++)
            settle_once(t, s, &a, n, used, n_rows, settle);
        compare(t, "sums of experts", &a.mixed, 4, n);
        compare(t, "sums", &a.x, 4, n);
        compare(t, "norms", &a.normed, 4, n);
        compare_blocks(t, &a.act, n);
        end_case(t);
    }
}

/* ---- heads ---------------------------------------------------------------------------------- */

static void gated_heads(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    size_t d = m->state_dim, n = m->n_v_heads * d, all = (size_t)n_rows * n;
    begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %u heads of %zu", m->name, (int)n_rows,
               m->n_v_heads, d);
    struct array x = floats(t, all, seed == 1 ? ORDINARY : seed == 2 ? ODD : TIES);
    struct array w = floats(t, d, ORDINARY);
    struct array z = floats(t, all, seed == 3 ? ODD : ORDINARY), act = blocks_of(t, n_rows, n);
    for (int s = 0; s < N_SIDES; s++) {
        const struct rms_norm_args norm = {x.at[s], x.at[s], w.at[s], d, m->n_v_heads, n, d, n, d, 1e-6f,
                                           n_rows};
        const struct mul_silu_args gate = {x.at[s], z.at[s], x.at[s], n, n, n, n, n_rows};
        const struct quantize_args quantize = {x.at[s], act.at[s], n, n_rows};
        const struct fused_args fused = {.norm = &norm, .gate = &gate, .quantize = &quantize};
        t->side[s]->ops->fused(t->side[s], &fused);
    }
    compare(t, "gated heads", &x, 4, n);
    compare_blocks(t, &act, n);
    end_case(t);
}

static void gated_rows(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    size_t n = m->n_ff, all = (size_t)n_rows * n;
    begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %zu gated", m->name, (int)n_rows, n);
    struct array a = floats(t, all, seed == 1 ? ORDINARY : TIES), act = blocks_of(t, n_rows, n);
    struct array b = floats(t, all, seed == 2 ? ODD : ORDINARY);
    for (int s = 0; s < N_SIDES; s++) {
        const struct mul_silu_args gate = {a.at[s], b.at[s], a.at[s], n, n, n, n, n_rows};
        const struct quantize_args quantize = {a.at[s], act.at[s], n, n_rows};
        const struct fused_args fused = {.gate = &gate, .quantize = &quantize};
        t->side[s]->ops->fused(t->side[s], &fused);
    }
    compare(t, "rows", &a, 4, n);
    compare_blocks(t, &act, n);
    end_case(t);
}

/* The middles of routed experts and of the shared one. */
static void two_gates(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    size_t n[2] = {m->n_ff, seed == 2 ? m->n_embd : m->n_ff};
    int32_t rows[2] = {n_rows * (int32_t)(m->n_used > 0 ? m->n_used : 1), n_rows};
    if (n_rows > 17)
        return;
    begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %zu gated beside %zu", m->name, (int)n_rows,
               n[0], n[1]);
    struct array a[2], b[2], act[2];
    for (int p = 0; p < 2; p++) {
        a[p] = floats(t, (size_t)rows[p] * n[p], seed == 1 ? ORDINARY : TIES);
        b[p] = floats(t, (size_t)rows[p] * n[p], seed == 2 ? ODD : ORDINARY);
        act[p] = blocks_of(t, rows[p], n[p]);
    }
    for (int s = 0; s < N_SIDES; s++) {
        struct mul_silu_args gate[2];
        struct quantize_args quantize[2];
        for (int p = 0; p < 2; p++) {
            gate[p] = (struct mul_silu_args){a[p].at[s], b[p].at[s], a[p].at[s], n[p], n[p], n[p], n[p],
                                             rows[p]};
            quantize[p] = (struct quantize_args){a[p].at[s], act[p].at[s], n[p], rows[p]};
        }
        const struct fused_args beside = {.gate = &gate[1], .quantize = &quantize[1]};
        const struct fused_args fused = {.gate = &gate[0], .quantize = &quantize[0], .beside = &beside};
        t->side[s]->ops->fused(t->side[s], &fused);
    }
    for (int p = 0; p < 2; p++) {
        compare(t, "rows", &a[p], 4, n[p]);
        compare_blocks(t, &act[p], n[p]);
    }
    end_case(t);
}

/* ---- the router ------------------------------------------------------------------------------ */

struct router_arrays {
    struct array w, x, logits, experts, weights, order, start;
};

static void route_once(struct two_backends *t, int s, const struct model_sizes *m,
                       const struct router_arrays *a, int32_t n_rows)
{
    uint32_t n = m->n_experts, n_in = (uint32_t)m->n_embd;
    const size_t row_bytes = 4 * (size_t)n_in;
    const struct weight w = {a->w.at[s], MTP_TYPE_F32, n_in, n, 1, row_bytes, row_bytes * n, NULL};
    const struct matmul_args product = {w, a->x.at[s], NULL, a->logits.at[s], n, n_rows};
    const struct route_args route = {a->logits.at[s], a->experts.at[s], a->weights.at[s], a->order.at[s],
                                     a->start.at[s], n, m->n_used, n_rows};
    t->side[s]->ops->fused(t->side[s], &(struct fused_args){.product = &product, .route = &route});
}

/* Twice: what counts the blocks must be as it was. */
static void routed_rows(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    size_t n = m->n_experts, pairs = (size_t)n_rows * m->n_used * 4;
    if (n == 0 || n_rows > 17)
        return;
    for (int again = 0; again < 2; again++) {
        begin_case(t, false, seed, "%s, router of %d rows, %d", m->name, (int)n_rows, again);
        enum kind_of_float kind = seed == 3 ? TIES : ORDINARY;
        struct router_arrays a = {
            .w = floats(t, n * m->n_embd, seed == 2 ? ODD : kind),
            .x = floats(t, (size_t)n_rows * m->n_embd, kind),
            .logits = unset(t, (size_t)n_rows * n * 4),
            .experts = unset(t, pairs), .weights = unset(t, pairs),
            .order = unset(t, pairs), .start = unset(t, (n + 1) * 4)};
        for (int s = 0; s < N_SIDES; s++)
            route_once(t, s, m, &a, n_rows);
        compare(t, "logits", &a.logits, 4, n);
        compare(t, "experts", &a.experts, 4, m->n_used);
        compare(t, "weights", &a.weights, 4, m->n_used);
        compare(t, "order", &a.order, 4, m->n_used);
        compare(t, "start", &a.start, 4, n + 1);
        end_case(t);
    }
}

static void attended_rows(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    enum kv_type type = seed == 2 ? KV_F32 : KV_F16;
    bool gated = seed == 3;
    uint32_t n_ctx = (uint32_t)n_rows + 70;
    size_t kv = (size_t)n_ctx * m->n_kv_heads * m->head_dim, n = (size_t)m->n_heads * m->head_dim;
    size_t head = (gated ? 2 : 1) * m->head_dim, stride = m->n_heads * head;
    begin_case(t, m->large, seed, "%s, %d rows attended, %s%s", m->name, (int)n_rows,
               type == KV_F16 ? "f16" : "f32", gated ? ", gated" : "");
    struct array k = cache_of(t, kv, type), v = cache_of(t, kv, type);
    struct array rows = batch(t, n_rows, 1, 66, 1), q = floats(t, (size_t)n_rows * stride, ORDINARY);
    struct array out = unset(t, (size_t)n_rows * n * 4), act = blocks_of(t, n_rows, n);
    for (int s = 0; s < N_SIDES; s++) {
        const float *x = q.at[s];
        const struct kv_cache cache = {k.at[s], v.at[s], type, m->n_kv_heads, m->head_dim, n_ctx};
        const struct attention_args attention = {.cache = cache, .rows = rows.at[s], .q = x,
                                                 .gate = gated ? x + m->head_dim : NULL, .q_stride = stride,
                                                 .q_head_stride = head, .n_heads = m->n_heads,
                                                 .scale = 0.0625f, .out = out.at[s], .n_rows = n_rows};
        const struct quantize_args quantize = {out.at[s], act.at[s], n, n_rows};
        const struct fused_args fused = {.attention = &attention, .quantize = &quantize};
        t->side[s]->ops->fused(t->side[s], &fused);
    }
    compare(t, "rows", &out, 4, n);
    compare_blocks(t, &act, n);
    end_case(t);
}

void fused_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    settle_rows(t, m, m->n_embd, n_rows, seed);
    gated_heads(t, m, n_rows, seed);
    gated_rows(t, m, n_rows, seed);
    two_gates(t, m, n_rows, seed);
    routed_rows(t, m, n_rows, seed);
    attended_rows(t, m, n_rows, seed);
}

/* Routers at the sizes where another way is taken, and experts that tie throughout. */
void router_sizes(struct two_backends *t)
{
    static const struct model_sizes sizes[] = {
        {.name = "one expert", .n_embd = 64, .n_experts = 1, .n_used = 1},
        {.name = "few experts", .n_embd = 128, .n_experts = 5, .n_used = 5},
        {.name = "read ahead", .n_embd = 2048, .n_experts = 31, .n_used = 4},
        {.name = "not read ahead", .n_embd = 2112, .n_experts = 33, .n_used = 8},
        {.name = "a row at a time", .n_embd = 4096, .n_experts = 64, .n_used = 6},
        {.name = "the widest", .n_embd = 11776, .n_experts = 9, .n_used = 3},
        {.name = "wider", .n_embd = 11840, .n_experts = 9, .n_used = 3},
        {.name = "all experts", .n_embd = 192, .n_experts = 256, .n_used = 32},
        {.name = "more experts", .n_embd = 192, .n_experts = 257, .n_used = 33},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int32_t n_rows = 1; n_rows <= 9; n_rows++)
            for (uint64_t seed = 1; seed <= 3; seed++)
                routed_rows(t, &sizes[i], n_rows, seed);
}

/* The widest rows that are taken as one, and wider ones. */
void fused_widths(struct two_backends *t)
{
    static const size_t widths[] = {1, 7, 8, 255, 256, 264, 4096, 6144, 8191, 8192, 8193, 12288};
    static const struct model_sizes m = {.name = "widths", .n_used = 3};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (uint64_t seed = 1; seed <= 3; seed++)
            settle_rows(t, &m, widths[i], (int32_t)seed, seed);
}

/* ---- keys and queries ------------------------------------------------------------------------ */

struct place_arrays {
    struct array rows, k, q, v, k_w, q_w, table, kc, vc;
};

static struct place_arrays place_inputs(struct two_backends *t, const struct model_sizes *m, int32_t n_rows,
                                        uint32_t n_ctx, enum kv_type type, enum kind_of_float kind)
{
    enum { SEQUENCES = 3 };
    size_t dim = m->head_dim, k = m->n_kv_heads * dim, q = 2 * m->n_heads * dim, rows = (size_t)n_rows;
    size_t bytes = SEQUENCES * n_ctx * k * (type == KV_F16 ? 2 : 4);
    return (struct place_arrays){
        .rows = batch(t, n_rows, SEQUENCES, 3, 1), .k = floats(t, rows * k, kind == ODD ? ORDINARY : kind),
        .q = floats(t, rows * q, kind), .v = floats(t, rows * k, kind == ODD ? ORDINARY : kind),
        .k_w = floats(t, dim, ORDINARY), .q_w = floats(t, dim, ORDINARY),
        .table = floats(t, n_ctx * m->n_rot, ORDINARY), .kc = unset(t, bytes), .vc = unset(t, bytes)};
}

/* by_position: rows of the table are those of positions, not of the batch. */
static void place(struct two_backends *t, int s, const struct model_sizes *m, const struct place_arrays *a,
                  int32_t n_rows, uint32_t n_ctx, enum kv_type type, bool queries, bool by_position)
{
    const struct batch_row *rows = by_position ? a->rows.at[s] : NULL;
    size_t dim = m->head_dim, k = m->n_kv_heads * dim, q = 2 * m->n_heads * dim;
    const struct rms_norm_args k_norm = {a->k.at[s], a->k.at[s], a->k_w.at[s], dim, m->n_kv_heads, k, dim, k,
                                         dim, 1e-6f, n_rows};
    const struct rms_norm_args q_norm = {a->q.at[s], a->q.at[s], a->q_w.at[s], dim, m->n_heads, q, 2 * dim, q,
                                         2 * dim, 1e-6f, n_rows};
    const struct rope_args k_rope = {a->k.at[s], k, dim, m->n_kv_heads, m->n_rot / 2, a->table.at[s], n_rows,
                                     rows};
    const struct rope_args q_rope = {a->q.at[s], q, 2 * dim, m->n_heads, m->n_rot / 2, a->table.at[s], n_rows,
                                     rows};
    const struct kv_cache cache = {a->kc.at[s], a->vc.at[s], type, m->n_kv_heads, m->head_dim, n_ctx};
    const struct kv_store_args store = {cache, a->rows.at[s], a->k.at[s], a->v.at[s], n_rows};
    const struct place_heads_args args = {&k_norm, queries ? &q_norm : NULL, &k_rope,
                                          queries ? &q_rope : NULL, &store};
    t->side[s]->ops->place_heads(t->side[s], &args);
}

static void compare_places(struct two_backends *t, const struct model_sizes *m, const struct place_arrays *a,
                           enum kv_type type)
{
    size_t k = m->n_kv_heads * m->head_dim;
    compare(t, "keys", &a->k, 4, k);
    compare(t, "queries and what is beside them", &a->q, 4, 2 * m->n_heads * m->head_dim);
    compare(t, "cached keys", &a->kc, type == KV_F16 ? 2 : 4, k);
    compare(t, "cached values", &a->vc, type == KV_F16 ? 2 : 4, k);
}

void place_heads_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    uint32_t n_ctx = (uint32_t)n_rows + 5;
    enum kv_type type = seed == 2 ? KV_F32 : KV_F16;
    enum kind_of_float kind = seed == 1 ? ORDINARY : seed == 2 ? ODD : TIES;
    for (int queries = 0; queries < 2; queries++) {
        begin_case(t, is_large(m, n_rows), seed, "%s, %d rows, %s%s", m->name, (int)n_rows,
                   type == KV_F16 ? "f16" : "f32", queries ? ", queries" : "");
        struct place_arrays a = place_inputs(t, m, n_rows, n_ctx, type, kind);
        for (int s = 0; s < N_SIDES; s++)
            place(t, s, m, &a, n_rows, n_ctx, type, queries, seed != 2);
        compare_places(t, m, &a, type);
        end_case(t);
    }
}

/* ---- faults ---------------------------------------------------------------------------------- */

/* Of a fused the first operation that faults is named: a value that the sum makes infinite is the norm's, one
 * that the norm's weight makes so is quantize's. */
void fused_faults(struct two_backends *t)
{
    enum { N = 300, ROWS = 5, BAD_ROW = 3 };
    for (int of_norm = 0; of_norm < 2; of_norm++) {
        begin_case(t, false, 1, "a fault of the %s", of_norm ? "norm" : "quantisation");
        struct settle_arrays a = settle_inputs(t, N, 1, ROWS, ORDINARY);
        const float huge = 3e38f, large = 1e6f, weight = 3e37f;
        for (int s = 0; s < N_SIDES; s++) {
            const struct ops *ops = t->side[s]->ops;
            float *x = (float *)a.x.at[s] + BAD_ROW * N + 17, *b = (float *)a.mixed.at[s] + BAD_ROW * N + 17;
            ops->upload(t->side[s], x, of_norm ? &huge : &large, sizeof *x);
            ops->upload(t->side[s], b, of_norm ? &huge : &large, sizeof *b);
            if (!of_norm)
                ops->upload(t->side[s], (float *)a.w.at[s] + 17, &weight, sizeof weight);
            settle_once(t, s, &a, N, 1, ROWS, ADDS | QUANTISES);
        }
        compare_faults(t, of_norm ? "rms_norm" : "quantize", BAD_ROW);
        end_case(t);
    }
}

/* A head whose norm faults stays as it was, but is rotated and stored; values that a half cannot hold are the
 * cache's fault. */
void place_heads_faults(struct two_backends *t)
{
    enum { ROWS = 3, BAD_ROW = 1, N_CTX = ROWS + 5, ELEMENT = 100 };
    static const struct model_sizes sizes[] = {
        {.name = "real heads", .n_heads = 6, .n_kv_heads = 2, .head_dim = 256, .n_rot = 64},
        {.name = "odd heads", .n_heads = 6, .n_kv_heads = 2, .head_dim = 136, .n_rot = 64},
    };
    const float huge = 3e38f, large = 1e5f;
    for (int i = 0; i < 4; i++) {
        const struct model_sizes *m = &sizes[i / 2];
        bool of_norm = i % 2 == 0;
        begin_case(t, false, 1, "%s, a fault of the %s", m->name, of_norm ? "norm" : "cache");
        struct place_arrays a = place_inputs(t, m, ROWS, N_CTX, KV_F16, ORDINARY);
        size_t at = (size_t)BAD_ROW * m->n_kv_heads * m->head_dim + ELEMENT;
        for (int s = 0; s < N_SIDES; s++) {
            float *x = (float *)(of_norm ? a.k.at[s] : a.v.at[s]) + at;
            t->side[s]->ops->upload(t->side[s], x, of_norm ? &huge : &large, sizeof *x);
            place(t, s, m, &a, ROWS, N_CTX, KV_F16, true, true);
        }
        compare_places(t, m, &a, KV_F16);
        compare_faults(t, of_norm ? "rms_norm" : "kv_store", BAD_ROW);
        end_case(t);
    }
}
