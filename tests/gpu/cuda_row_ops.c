/* cuda_row_ops.c - operations on rows by themselves, on the GPU and by the definition. */
#include <stdlib.h>

#include "kernels/noise.h"
#include "kernels/types.h"
#include "tests/gpu/cuda_ops.h"
#include "tests/op_inputs.h"

static bool is_large(const struct model_sizes *m, int32_t n_rows)
{
    return m->large && n_rows > 2;
}

void embed_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    enum { TOKENS = 37 };
    for (int i = 0; i < N_WEIGHT_TYPES; i++) {
        uint32_t type = weight_types[i], n = whole_blocks(type, m->n_embd);
        begin_case(t, is_large(m, n_rows), seed, "%s, %s, %d rows of %u", m->name,
                   type_info(type)->name, (int)n_rows, n);
        struct weight w = random_weight(&t->numbers, type, n, TOKENS, 1);
        if (seed == 3) /* any bits, infinite scales too, but NaN bits are not compared */
            memset((uint8_t *)(uintptr_t)w.data, 0, w.row_bytes);
        struct array table = copied(t, w.data, w.expert_bytes);
        struct array rows = batch(t, n_rows, 1, 0, TOKENS);
        struct array dst = unset(t, (size_t)n_rows * n * sizeof(float));
        free((void *)(uintptr_t)w.data);
        for (int s = 0; s < N_SIDES; s++) {
            w.data = table.at[s];
            t->side[s]->ops->embed(t->side[s],
                                   &(struct embed_args){w, rows.at[s], dst.at[s], n_rows});
        }
        compare(t, "rows", &dst, 4, n);
        end_case(t);
    }
}

static void quantize_rows(struct two_backends *t, const struct model_sizes *m, size_t n,
                          int32_t n_rows, uint64_t seed, enum kind_of_float kind)
{
    begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %zu, kind %d", m->name, (int)n_rows, n,
               (int)kind);
    struct array x = floats(t, (size_t)n_rows * n, kind);
    struct array act = unset(t, (size_t)n_rows * act_blocks(n) * sizeof(struct act_block));
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->quantize(t->side[s],
                                  &(struct quantize_args){x.at[s], act.at[s], n, n_rows});
    compare(t, "super-blocks", &act, 1, act_blocks(n) * sizeof(struct act_block));
    end_case(t);
}

void quantize_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows,
                    uint64_t seed)
{
    for (int kind = ORDINARY; kind < N_KINDS; kind++) {
        quantize_rows(t, m, m->n_embd, n_rows, seed, (enum kind_of_float)kind);
        quantize_rows(t, m, m->n_ff, n_rows, seed, (enum kind_of_float)kind);
    }
}

/* Groups of n with room between them, in place or not. */
static void norm_rows(struct two_backends *t, const struct model_sizes *m, size_t n, size_t groups,
                      int32_t n_rows, uint64_t seed, bool in_place)
{
    size_t gap = seed == 2 ? 3 : 0, stride = groups * (n + gap) + gap, all = (size_t)n_rows * stride;
    enum kind_of_float kind = seed == 1 ? ORDINARY : seed == 2 ? ODD : TIES;
    begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %zu groups of %zu%s", m->name,
               (int)n_rows, groups, n, in_place ? ", in place" : "");
    struct array src = floats(t, all, kind), w = floats(t, n, ORDINARY);
    struct array dst = in_place ? src : unset(t, all * sizeof(float));
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->rms_norm(
            t->side[s], &(struct rms_norm_args){src.at[s], dst.at[s], w.at[s], n, groups, stride,
                                                n + gap, stride, n + gap,
                                                seed == 3 ? 0x1p-140f : 1e-6f, n_rows});
    compare(t, "rows", &dst, 4, stride);
    end_case(t);
}

void rms_norm_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows,
                    uint64_t seed)
{
    for (int in_place = 0; in_place < 2; in_place++) {
        norm_rows(t, m, m->n_embd, 1, n_rows, seed, in_place);
        norm_rows(t, m, m->head_dim, m->n_heads, n_rows, seed, in_place);
        norm_rows(t, m, m->state_dim, m->n_v_heads, n_rows, seed, in_place);
    }
}

void add_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    size_t n = m->n_embd, all = (size_t)n_rows * n;
    for (int place = 0; place < 3; place++) {
        begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %zu, dst %d", m->name, (int)n_rows,
                   n, place);
        struct array a = floats(t, all, seed == 1 ? ORDINARY : WIDE), b = floats(t, all, WIDE);
        struct array dst = place == 1 ? a : place == 2 ? b : unset(t, all * sizeof(float));
        for (int s = 0; s < N_SIDES; s++)
            t->side[s]->ops->add(t->side[s],
                                 &(struct add_args){a.at[s], b.at[s], dst.at[s], n, n_rows});
        compare(t, "rows", &dst, 4, n);
        end_case(t);
    }
}

static void rotate(struct two_backends *t, const struct model_sizes *m, uint32_t n_heads, int32_t n_rows,
                   uint64_t seed)
{
    uint32_t pairs = m->n_rot / 2;
    size_t head = seed == 1 ? m->head_dim : 2 * m->head_dim, stride = n_heads * head + seed - 1;
    begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %u heads, %u pairs", m->name,
               (int)n_rows, n_heads, pairs);
    struct array x = floats(t, (size_t)n_rows * stride, seed == 3 ? WIDE : ORDINARY);
    struct array table = floats(t, (size_t)n_rows * 2 * pairs, seed == 2 ? TIES : ORDINARY);
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->rope(t->side[s], &(struct rope_args){x.at[s], stride, head, n_heads, pairs,
                                                              table.at[s], n_rows});
    compare(t, "rows", &x, 4, stride);
    end_case(t);
}

void rope_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    rotate(t, m, m->n_heads, n_rows, seed);
    rotate(t, m, m->n_kv_heads, n_rows, seed);
}

static void gate_rows(struct two_backends *t, const struct model_sizes *m, size_t n, int32_t n_rows,
                      uint64_t seed, int place)
{
    size_t stride = n + (seed == 2 ? 5 : 0), all = (size_t)n_rows * stride;
    begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %zu, dst %d", m->name, (int)n_rows, n,
               place);
    struct array a = floats(t, all, seed == 1 ? ORDINARY : ODD);
    struct array b = floats(t, all, seed == 3 ? ODD : ORDINARY);
    struct array dst = place == 1 ? a : place == 2 ? b : unset(t, all * sizeof(float));
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->mul_silu(t->side[s],
                                  &(struct mul_silu_args){a.at[s], b.at[s], dst.at[s], n, stride,
                                                          stride, stride, n_rows});
    compare(t, "rows", &dst, 4, stride);
    end_case(t);
}

void mul_silu_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows,
                    uint64_t seed)
{
    gate_rows(t, m, m->n_ff, n_rows, seed, (int)(seed % 3));
    gate_rows(t, m, (size_t)m->n_v_heads * m->state_dim, n_rows, seed, (int)((seed + 1) % 3));
}

void route_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    uint32_t n = m->n_experts, used = m->n_used;
    size_t pairs = (size_t)n_rows * used * 4;
    if (n == 0)
        return;
    for (int kind = ORDINARY; kind <= TIES; kind++) {
        begin_case(t, false, seed, "%s, %d rows, %u of %u, kind %d", m->name, (int)n_rows, used, n,
                   kind);
        struct array logits = floats(t, (size_t)n_rows * n, (enum kind_of_float)kind);
        struct array experts = unset(t, pairs), weights = unset(t, pairs);
        struct array order = unset(t, pairs), start = unset(t, ((size_t)n + 1) * 4);
        for (int s = 0; s < N_SIDES; s++)
            t->side[s]->ops->route(t->side[s], &(struct route_args){logits.at[s], experts.at[s],
                                                                    weights.at[s], order.at[s],
                                                                    start.at[s], n, used, n_rows});
        compare(t, "experts", &experts, 4, used);
        compare(t, "weights", &weights, 4, used);
        compare(t, "order", &order, 4, used);
        compare(t, "start", &start, 4, n + 1);
        end_case(t);
    }
}

void moe_combine_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows,
                       uint64_t seed)
{
    size_t n = m->n_embd, rows = (size_t)n_rows;
    if (m->n_experts == 0)
        return;
    for (int shared = 0; shared < 2; shared++) {
        begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %u times %zu%s", m->name,
                   (int)n_rows, m->n_used, n, shared ? ", shared" : "");
        struct array y = floats(t, rows * m->n_used * n, seed == 1 ? ORDINARY : ODD);
        struct array weights = floats(t, rows * m->n_used, ORDINARY), own = floats(t, rows * n, ODD);
        struct array gate = floats(t, rows, seed == 2 ? ODD : ORDINARY);
        struct array dst = unset(t, rows * n * sizeof(float));
        for (int s = 0; s < N_SIDES; s++)
            t->side[s]->ops->moe_combine(
                t->side[s], &(struct moe_combine_args){y.at[s], weights.at[s],
                                                       shared ? own.at[s] : NULL, gate.at[s],
                                                       dst.at[s], n, m->n_used, n_rows});
        compare(t, "rows", &dst, 4, n);
        end_case(t);
    }
}

static void draw(struct two_backends *t, const float *logits, size_t n, int32_t n_rows,
                 struct draw_noise noise, int32_t first)
{
    enum { OFFSET = 3 };
    first -= OFFSET;
    struct array x = copied(t, logits, (size_t)n_rows * n * sizeof *logits);
    struct array by = copied(t, &noise, sizeof noise), at = copied(t, &first, sizeof first);
    struct array dst = unset(t, (size_t)n_rows * 4);
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->argmax(t->side[s], &(struct argmax_args){x.at[s], dst.at[s], n, n_rows, by.at[s],
                                                                  at.at[s], OFFSET});
    compare(t, "draws", &dst, 4, 1);
    end_case(t);
}

/* Draws by noise: any logits at some temperature, and logits that undo the noise but for its last bits. */
static void draw_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed,
                       enum kind_of_float kind)
{
    static const float temperatures[] = {1.0f, 0.3f, 1000.0f, 0.001f, 0.7f};
    size_t n = m->n_vocabulary, which = (seed + (uint64_t)kind) % 5;
    struct draw_noise noise = {seed << 33 | seed, temperatures[which], seed % 2 == 0 ? 0.0f : 0.05f};
    int32_t first = (int32_t)(seed * 40009 % 262144) + 3;
    begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %zu, kind %d, temperature %g, min_p %g", m->name,
               (int)n_rows, n, (int)kind, (double)noise.temperature, (double)noise.min_p);
    struct array x = floats(t, (size_t)n_rows * n, kind);
    draw(t, x.at[CPU], n, n_rows, noise, first);
    begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %zu, noise undone", m->name, (int)n_rows, n);
    float *undone = need((size_t)n_rows * n * sizeof *undone);
    noise.temperature = 1.0f, noise.min_p = 0.0f;
    for (size_t i = 0; i < (size_t)n_rows * n; i++) {
        uint32_t words[4];
        noise_words(words, noise.seed, (uint64_t)first + i / n, (uint32_t)(i % n / 4));
        uint32_t near = f32_bits(-noise_gumbel(words[i % n % 4])) - 1 + next_below(&t->numbers, 3);
        undone[i] = f32_from_bits(near);
    }
    draw(t, undone, n, n_rows, noise, first);
    free(undone);
}

void argmax_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    size_t n = m->n_vocabulary;
    if (n_rows > 17 && m->large && n_rows != 64)
        return; /* logits are wanted of a few rows at a time */
    for (int kind = ORDINARY; kind < N_KINDS; kind++) {
        if (m->large && kind != (int)(seed + (uint64_t)n_rows) % N_KINDS)
            continue;
        begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %zu, kind %d", m->name,
                   (int)n_rows, n, kind);
        struct array x = floats(t, (size_t)n_rows * n, (enum kind_of_float)kind);
        struct array dst = unset(t, (size_t)n_rows * 4);
        for (int s = 0; s < N_SIDES; s++)
            t->side[s]->ops->argmax(t->side[s],
                                    &(struct argmax_args){x.at[s], dst.at[s], n, n_rows});
        compare(t, "indices", &dst, 4, 1);
        end_case(t);
        draw_cases(t, m, n_rows, seed, (enum kind_of_float)kind);
    }
}

void digest_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    size_t n = m->n_vocabulary;
    if (n_rows > 17 && m->large && n_rows != 64)
        return;
    begin_case(t, is_large(m, n_rows), seed, "%s, %d rows of %zu", m->name, (int)n_rows, n);
    struct array x = floats(t, (size_t)n_rows * n, ORDINARY);
    struct array dst = unset(t, (size_t)n_rows * sizeof(uint64_t));
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->digest(t->side[s], &(struct digest_args){x.at[s], dst.at[s], n, n_rows});
    compare(t, "digests", &dst, 4, 2);
    end_case(t);
}

void gather_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    enum { SOURCES = 9 };
    size_t n = m->n_embd;
    begin_case(t, false, seed, "%s, %d rows of %zu", m->name, (int)n_rows, n);
    int32_t *chosen = need((size_t)n_rows * sizeof *chosen);
    for (int32_t r = 0; r < n_rows; r++)
        chosen[r] = (int32_t)next_below(&t->numbers, SOURCES);
    struct array src = floats(t, SOURCES * n, WIDE), index = copied(t, chosen, (size_t)n_rows * 4);
    struct array dst = unset(t, (size_t)n_rows * n * sizeof(float));
    free(chosen);
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->gather(t->side[s], &(struct gather_args){src.at[s], index.at[s], dst.at[s],
                                                                  n, n_rows});
    compare(t, "rows", &dst, 4, n);
    end_case(t);
}
