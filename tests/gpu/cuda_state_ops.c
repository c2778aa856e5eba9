/* cuda_state_ops.c - operations with caches and state, on the GPU and by the definition. */
#include "tests/gpu/cuda_ops.h"

#include <stdlib.h>

#include "kernels/blocks.h"

enum { SEQUENCES = 3 };

/* Room for the rows of one sequence, were all of a batch its own. */
static uint32_t context_of(int32_t n_rows)
{
    return (uint32_t)n_rows + 5;
}

void kv_store_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows,
                    uint64_t seed)
{
    uint32_t n_ctx = context_of(n_rows);
    size_t n = (size_t)m->n_kv_heads * m->head_dim;
    for (int type = KV_F16; type <= KV_F32; type++) {
        size_t bytes = SEQUENCES * n_ctx * n * (type == KV_F16 ? 2 : 4);
        begin_case(t, m->large && n_rows > 2, seed, "%s, %d rows of %zu, %s", m->name, (int)n_rows,
                   n, type == KV_F16 ? "f16" : "f32");
        struct array rows = batch(t, n_rows, SEQUENCES, 3, 1);
        enum kind_of_float kind = type == KV_F32 ? WIDE : seed == 2 ? TIES : ORDINARY;
        struct array k = floats(t, (size_t)n_rows * n, kind), v = floats(t, (size_t)n_rows * n, kind);
        struct array kc = unset(t, bytes), vc = unset(t, bytes);
        for (int s = 0; s < N_SIDES; s++) {
            struct kv_cache cache = {kc.at[s], vc.at[s], (enum kv_type)type, m->n_kv_heads,
                                     m->head_dim, n_ctx};
            t->side[s]->ops->kv_store(
                t->side[s], &(struct kv_store_args){cache, rows.at[s], k.at[s], v.at[s], n_rows});
        }
        compare(t, "keys", &kc, type == KV_F16 ? 2 : 4, n);
        compare(t, "values", &vc, type == KV_F16 ? 2 : 4, n);
        end_case(t);
    }
}

struct array cache_of(struct two_backends *t, size_t n, enum kv_type type)
{
    if (type == KV_F32)
        return floats(t, n, ORDINARY);
    uint16_t *half = malloc(n * sizeof *half);
    if (half == NULL)
        abort();
    for (size_t i = 0; i < n; i++) {
        half[i] = f32_to_f16(next_float(&t->numbers));
        if (i % 11 == 0)
            half[i] = (uint16_t)(next_bits(&t->numbers) & 0x83ff);
    }
    struct array cache = copied(t, half, n * sizeof *half);
    free(half);
    return cache;
}

/* Where the rows of a batch stand; where n_sequences is 0, each in a sequence of its own, at half the
 * position of the row before. */
static struct array places(struct two_backends *t, int32_t n_rows, uint32_t n_sequences, int32_t first)
{
    struct batch_row apart[16];
    if (n_sequences > 0)
        return batch(t, n_rows, n_sequences, first, 1);
    for (int32_t r = 0; r < n_rows; r++)
        apart[r] = (struct batch_row){0, first >> r, n_rows - 1 - r};
    return copied(t, apart, (size_t)n_rows * sizeof *apart);
}

static void attend(struct two_backends *t, const struct model_sizes *m, int32_t n_rows,
                   uint32_t n_sequences, int32_t first, enum kv_type type, bool gated)
{
    uint32_t n_ctx = (uint32_t)(first + n_rows) + 1;
    size_t head = (gated ? 2 : 1) * m->head_dim, gap = gated ? 0 : n_sequences > 0 ? 5 : 4;
    size_t stride = m->n_heads * head + gap;
    size_t cached = (size_t)(n_sequences > 0 ? n_sequences : (uint32_t)n_rows) * n_ctx * m->n_kv_heads *
                    m->head_dim;
    struct array k = cache_of(t, cached, type), v = cache_of(t, cached, type);
    struct array rows = places(t, n_rows, n_sequences, first);
    struct array q = floats(t, (size_t)n_rows * stride, ORDINARY);
    size_t width = (size_t)m->n_heads * m->head_dim;
    struct array out = unset(t, (size_t)n_rows * width * sizeof(float));
    for (int s = 0; s < N_SIDES; s++) {
        const float *x = q.at[s];
        struct kv_cache cache = {k.at[s], v.at[s], type, m->n_kv_heads, m->head_dim, n_ctx};
        t->side[s]->ops->attention(
            t->side[s],
            &(struct attention_args){.cache = cache, .rows = rows.at[s], .q = x,
                                     .gate = gated ? x + m->head_dim : NULL, .q_stride = stride,
                                     .q_head_stride = head, .n_heads = m->n_heads,
                                     .scale = 0.0625f, .out = out.at[s], .n_rows = n_rows});
    }
    compare(t, "rows", &out, 4, width);
    end_case(t);
}

void attention_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows,
                     uint64_t seed)
{
    enum kv_type type = seed == 2 ? KV_F32 : KV_F16;
    for (int gated = 0; gated < 2; gated++) {
        int32_t first = seed == 1 ? 0 : seed == 2 ? 61 : 150;
        uint32_t n_sequences = seed == 3 ? 1 : SEQUENCES;
        begin_case(t, m->large, seed, "%s, %d rows from %d on, %s%s", m->name, (int)n_rows,
                   (int)first, type == KV_F16 ? "f16" : "f32", gated ? ", gated" : "");
        attend(t, m, n_rows, n_sequences, first, type, gated);
    }
}

/* Few rows of real heads: one to four of them in a block, a chunk or several a block, from one position to
 * contexts whose chunks are folded in several goes. */
static void attention_real_heads(struct two_backends *t)
{
    static const struct model_sizes models[] = {
        {.name = "24 heads of 4", .n_heads = 24, .n_kv_heads = 4, .head_dim = 256},
        {.name = "16 heads of 2", .n_heads = 16, .n_kv_heads = 2, .head_dim = 256},
        {.name = "5 heads of 1", .n_heads = 5, .n_kv_heads = 1, .head_dim = 256},
    };
    static const int32_t lengths[] = {1, 2, 63, 64, 65, 128, 129, 500, 1000, 2048, 4097};
    static const int32_t rows[] = {1, 2, 3, 4, 8};
    enum { N_MODELS = sizeof models / sizeof *models, N_LENGTHS = sizeof lengths / sizeof *lengths };
    for (int i = 0; i < N_MODELS; i++)
        for (int l = 0; l < N_LENGTHS; l++)
            for (size_t r = 0; r < sizeof rows / sizeof *rows && rows[r] * lengths[l] <= 8200; r++) {
                bool gated = (l + rows[r]) % 2 == 0;
                begin_case(t, true, (uint64_t)(l + 1), "%s, %d rows, %d positions and fewer%s",
                           models[i].name, (int)rows[r], (int)lengths[l], gated ? ", gated" : "");
                attend(t, &models[i], rows[r], 0, lengths[l] - 1, KV_F16, gated);
            }
    begin_case(t, true, 98, "%s, 4 rows at %d", models[0].name, LONG_CONTEXT - 10);
    attend(t, &models[0], 4, 1, LONG_CONTEXT - 10, KV_F16, true);
}

void attention_contexts(struct two_backends *t)
{
    static const struct model_sizes m = {.name = "6 heads of 2", .n_heads = 6, .n_kv_heads = 2,
                                         .head_dim = 40};
    static const int32_t contexts[] = {0, 31, 32, 62, 63, 64, 65, 127, 128, 191, 192, 1000, 1087};
    for (size_t c = 0; c < sizeof contexts / sizeof *contexts; c++) {
        begin_case(t, false, c + 1, "%s, a row at %d", m.name, (int)contexts[c]);
        attend(t, &m, 1, 1, contexts[c], c % 2 == 0 ? KV_F16 : KV_F32, c % 3 == 0);
    }
    begin_case(t, true, 99, "%s, 5 rows at %d", m.name, LONG_CONTEXT - 10);
    attend(t, &m, 5, 1, LONG_CONTEXT - 10, KV_F16, true);
    attention_real_heads(t);
}

/* The state after the first `kept` rows of sequence 0 by conv_replay, from the same inputs. */
static void conv_again(struct two_backends *t, const struct model_sizes *m, uint32_t channels,
                       const struct array *x, const struct array *from, int32_t kept)
{
    struct array state = unset(t, (size_t)(m->n_taps - 1) * channels * sizeof(float));
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->conv_replay(t->side[s],
                                     &(struct conv_replay_args){x->at[s], from->at[s], state.at[s],
                                                                channels, m->n_taps, kept});
    compare(t, "replayed state", &state, 4, channels);
}

void conv_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    uint32_t channels = (2 * m->n_k_heads + m->n_v_heads) * m->state_dim;
    size_t rows_size = (size_t)n_rows * channels;
    size_t state_size = (size_t)SEQUENCES * (m->n_taps - 1) * channels;
    begin_case(t, m->large && n_rows > 2, seed, "%s, %d rows of %u channels, %u taps", m->name,
               (int)n_rows, channels, m->n_taps);
    struct array rows = batch(t, n_rows, seed == 1 ? 1 : SEQUENCES, 0, 1);
    struct array x = floats(t, rows_size, seed == 3 ? ODD : ORDINARY);
    struct array w = floats(t, (size_t)channels * m->n_taps, ORDINARY);
    struct array from = floats(t, state_size, ORDINARY), state = floats(t, state_size, ORDINARY);
    struct array out = unset(t, rows_size * sizeof(float));
    struct array again = unset(t, rows_size * sizeof(float));
    for (int s = 0; s < N_SIDES; s++) {
        struct conv_args args = {.rows = rows.at[s], .x = x.at[s], .w = w.at[s],
                                 .state = state.at[s], .out = out.at[s], .n_channels = channels,
                                 .n_taps = m->n_taps, .n_sequences = SEQUENCES, .n_rows = n_rows,
                                 .state_from = from.at[s]};
        t->side[s]->ops->conv(t->side[s], &args);
        args.state_from = NULL; /* a second batch goes on from the state, in place */
        args.out = again.at[s];
        t->side[s]->ops->conv(t->side[s], &args);
    }
    compare(t, "rows", &out, 4, channels);
    compare(t, "rows of the second batch", &again, 4, channels);
    compare(t, "state", &state, 4, channels);
    conv_again(t, m, channels, &x, &from, n_rows);
    conv_again(t, m, channels, &x, &from, n_rows / 2);
    conv_again(t, m, channels, &x, &from, 0);
    end_case(t);
}

struct delta_arrays {
    struct array rows, x, alpha, beta, a, dt, from, state, out, again, k, delta, decay;
};

static struct delta_arrays delta_inputs(struct two_backends *t, const struct model_sizes *m,
                                        int32_t n_rows, uint64_t seed)
{
    size_t d = m->state_dim, n = (size_t)n_rows, v = m->n_v_heads, heads = n * v;
    size_t state_size = SEQUENCES * v * d * d;
    struct delta_arrays arrays = {
        .rows = batch(t, n_rows, seed == 1 ? 1 : SEQUENCES, 0, 1),
        .x = floats(t, n * (2 * m->n_k_heads + v) * d, seed == 3 ? ODD : ORDINARY),
        .alpha = floats(t, heads, ORDINARY), .beta = floats(t, heads, ORDINARY),
        .dt = floats(t, v, ORDINARY), .from = floats(t, state_size, ORDINARY),
        .state = floats(t, state_size, ORDINARY), .out = unset(t, heads * d * 4),
        .again = unset(t, heads * d * 4), .k = unset(t, n * m->n_k_heads * d * 4),
        .delta = unset(t, heads * d * 4), .decay = unset(t, heads * 4),
    };
    float *a = malloc(v * sizeof *a);
    if (a == NULL)
        abort();
    for (size_t h = 0; h < v; h++) /* -exp(A_log) is negative */
        a[h] = -0.5f - 0.4f * next_unit(&t->numbers);
    arrays.a = copied(t, a, v * sizeof *a);
    free(a);
    return arrays;
}

static void replay_delta(struct two_backends *t, const struct model_sizes *m,
                         const struct delta_arrays *arrays, int32_t kept)
{
    size_t d = m->state_dim;
    struct array state = unset(t, m->n_v_heads * d * d * sizeof(float));
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->delta_net_replay(
            t->side[s], &(struct delta_net_replay_args){
                            {arrays->k.at[s], arrays->delta.at[s], arrays->decay.at[s]},
                            arrays->from.at[s], state.at[s], m->n_k_heads, m->n_v_heads,
                            m->state_dim, kept});
    compare(t, "replayed state", &state, 4, d);
}

void delta_net_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows,
                     uint64_t seed)
{
    size_t d = m->state_dim;
    begin_case(t, m->large, seed, "%s, %d rows, %u/%u heads of %zu", m->name, (int)n_rows,
               m->n_v_heads, m->n_k_heads, d);
    struct delta_arrays arrays = delta_inputs(t, m, n_rows, seed);
    for (int s = 0; s < N_SIDES; s++) {
        struct delta_net_args args = {
            .rows = arrays.rows.at[s], .x = arrays.x.at[s], .alpha = arrays.alpha.at[s],
            .beta = arrays.beta.at[s], .a = arrays.a.at[s], .dt = arrays.dt.at[s],
            .state = arrays.state.at[s], .out = arrays.out.at[s], .n_k_heads = m->n_k_heads,
            .n_v_heads = m->n_v_heads, .d = m->state_dim, .n_sequences = SEQUENCES,
            .n_rows = n_rows, .state_from = arrays.from.at[s],
            .journal = {arrays.k.at[s], arrays.delta.at[s], arrays.decay.at[s]}};
        t->side[s]->ops->delta_net(t->side[s], &args);
        args.state_from = NULL; /* a second batch goes on from the state, without a journal */
        args.journal = (struct delta_net_journal){NULL, NULL, NULL};
        args.out = arrays.again.at[s];
        t->side[s]->ops->delta_net(t->side[s], &args);
    }
    compare(t, "rows", &arrays.out, 4, m->n_v_heads * d);
    compare(t, "rows of the second batch", &arrays.again, 4, m->n_v_heads * d);
    compare(t, "state", &arrays.state, 4, d);
    compare(t, "journal: keys", &arrays.k, 4, m->n_k_heads * d);
    compare(t, "journal: deltas", &arrays.delta, 4, m->n_v_heads * d);
    compare(t, "journal: decays", &arrays.decay, 4, m->n_v_heads);
    replay_delta(t, m, &arrays, n_rows);
    replay_delta(t, m, &arrays, (n_rows + 1) / 2);
    end_case(t);
}
