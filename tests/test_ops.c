/* Every operation's scalar definition against a naive reference in double precision, written from
 * the meaning of the operation and not from its order. tests/test_order.c pins the order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "kernels/blocks.h"
#include "kernels/cpu/backend.h"
#include "kernels/fmath.h"
#include "kernels/rope.h"
#include "tests/op_fixture.h"
#include "tests/op_inputs.h"

/* ---- products -------------------------------------------------------------------------------- */

static double act_value(const struct act_block *act, size_t i)
{
    const struct act_block *b = &act[i / SUPER_BLOCK];
    return (double)b->d * b->mul[i % SUPER_BLOCK / 32] * b->q[i % SUPER_BLOCK];
}

/* One output with the activations as they entered; a magnitude for the tolerance goes to *size. */
static double product(const struct weight *w, size_t row, const float *x,
                      const struct act_block *act, double *size)
{
    float *weights = need(w->n_in * sizeof *weights);
    dequantize_row(w->type, (const uint8_t *)w->data + row * w->row_bytes, weights, w->n_in);
    double sum = 0.0;
    *size = 0.0;
    double largest = 0.0;
    for (size_t i = 0; i < w->n_in; i++) {
        double a = act != NULL ? act_value(act, i) : (double)x[i];
        sum += (double)weights[i] * a;
        *size += fabs((double)weights[i] * a);
        largest = fabs((double)weights[i]) > largest ? fabs((double)weights[i]) : largest;
    }
    /* Blocks with minima sum two larger parts of opposite signs. */
    if (type_info(w->type)->has_min)
        for (size_t i = 0; i < w->n_in; i++)
            *size += largest * fabs(act_value(act, i));
    free(weights);
    return sum;
}

static void check_product(uint32_t type, uint32_t n_in, int32_t n_rows)
{
    struct numbers numbers = {type * 1000 + n_in};
    enum { N_OUT = 5 };
    struct weight w = random_weight(&numbers, type, n_in, N_OUT, 1);
    float *x = random_floats(&numbers, (size_t)n_rows * n_in);
    bool quantise = type_info(type)->weight_class != WEIGHT_FLOAT;
    struct act_block *act = quantise ? quantised(x, n_in, n_rows) : NULL;
    float *y = need((size_t)n_rows * (N_OUT + 2) * sizeof *y);
    ops->matmul(backend, &(struct matmul_args){w, x, act, y, N_OUT + 2, n_rows});
    /* Roundings met by one term: its own few, a chain's, the folds'. */
    double terms = quantise ? (double)n_in / 1024 + 16 : (double)n_in / 64 + 8;
    for (int32_t r = 0; r < n_rows; r++)
        for (size_t o = 0; o < N_OUT; o++) {
            double size;
            const struct act_block *a = quantise ? act + (size_t)r * act_blocks(n_in) : NULL;
            double wanted = product(&w, o, x + (size_t)r * n_in, a, &size);
            assert_near((double)y[(size_t)r * (N_OUT + 2) + o], wanted, size * terms * EPS,
                        type_info(type)->name, o);
        }
    assert_true(y[N_OUT] == 0.0f); /* the gap of the stride */
    free(y);
    free(act);
    free(x);
    free((void *)w.data);
}

static void products_of_every_type_equal_double_sums(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 40, 100, 256, 500, 1000, 2048, 2300, 3100, 9000};
    for (int t = 0; t < N_WEIGHT_TYPES; t++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            check_product(weight_types[t], whole_blocks(weight_types[t], sizes[s]),
                          s % 3 == 0 ? 17 : 2);
}

static void quantised_rows_stand_for_their_floats(void **state)
{
    (void)state;
    struct numbers numbers = {5};
    for (uint32_t n = 1; n < 900; n += 37) {
        float *x = random_floats(&numbers, n);
        struct act_block *act = quantised(x, n, 1);
        for (size_t i = 0; i < n; i++) {
            const struct act_block *b = &act[i / SUPER_BLOCK];
            double step = (double)b->d * b->mul[i % SUPER_BLOCK / 32];
            assert_near(act_value(act, i), (double)x[i], step * (0.5 + 200 * EPS), "quantize", i);
        }
        free(act);
        free(x);
    }
}

static void embedding_rows_are_the_rows_of_the_table(void **state)
{
    (void)state;
    struct numbers numbers = {6};
    const struct batch_row rows[] = {{6, 0, 0}, {0, 1, 0}, {2, 0, 1}, {6, 9, 2}};
    for (int t = 0; t < N_WEIGHT_TYPES; t++) {
        uint32_t n = whole_blocks(weight_types[t], 300);
        struct weight w = random_weight(&numbers, weight_types[t], n, 7, 1);
        float *dst = need(4 * n * sizeof *dst), *wanted = need(n * sizeof *wanted);
        ops->embed(backend, &(struct embed_args){w, rows, dst, 4});
        for (size_t r = 0; r < 4; r++) {
            dequantize_row(w.type,
                           (const uint8_t *)w.data + (size_t)rows[r].token * w.row_bytes, wanted,
                           n);
            assert_memory_equal(dst + r * n, wanted, n * sizeof *dst);
        }
        free(dst);
        free(wanted);
        free((void *)w.data);
    }
}

/* ---- norms, sums, rotation, cache ------------------------------------------------------------ */

static void norms_of_groups_equal_double_norms(void **state)
{
    (void)state;
    struct numbers numbers = {7};
    for (size_t n = 1; n < 700; n = n * 2 + 3) {
        size_t groups = 3, stride = groups * n + 5;
        float *src = random_floats(&numbers, 2 * stride), *w = random_floats(&numbers, n);
        float *dst = need(2 * stride * sizeof *dst);
        struct rms_norm_args args = {src, dst, w, n, groups, stride, n, stride, n, 1e-6f, 2};
        ops->rms_norm(backend, &args);
        for (size_t g = 0; g < 2 * groups; g++) {
            const float *in = src + g / groups * stride + g % groups * n;
            double squares = 0.0;
            for (size_t i = 0; i < n; i++)
                squares += (double)in[i] * (double)in[i];
            double scale = 1.0 / sqrt(squares / (double)n + 1e-6);
            for (size_t i = 0; i < n; i++) {
                double wanted = (double)in[i] * scale * (double)w[i];
                double got = (double)dst[(size_t)(in - src) + i];
                assert_near(got, wanted, fabs(wanted) * ((double)n / 128 + 12) * EPS, "norm", i);
            }
        }
        args.dst = src; /* in place */
        ops->rms_norm(backend, &args);
        for (size_t g = 0; g < 2 * groups; g++) {
            size_t at = g / groups * stride + g % groups * n;
            assert_memory_equal(src + at, dst + at, n * sizeof *src);
        }
        free(src);
        free(w);
        free(dst);
    }
}

static void sums_and_gates_equal_double_ones(void **state)
{
    (void)state;
    enum { N = 77, ROWS = 3, STRIDE = N + 3 };
    struct numbers numbers = {8};
    float a[ROWS * STRIDE], b[ROWS * STRIDE], sum[ROWS * STRIDE], gated[ROWS * STRIDE];
    fill_floats(&numbers, a, ROWS * STRIDE);
    fill_floats(&numbers, b, ROWS * STRIDE);
    ops->add(backend, &(struct add_args){a, b, sum, STRIDE, ROWS});
    ops->mul_silu(backend,
                  &(struct mul_silu_args){a, b, gated, N, STRIDE, STRIDE, STRIDE, ROWS});
    for (size_t i = 0; i < ROWS * STRIDE; i++) {
        assert_near((double)sum[i], (double)a[i] + (double)b[i], fabs((double)sum[i]) * EPS, "add",
                    i);
        double x = (double)b[i], wanted = (double)a[i] * x / (1.0 + exp(-x));
        if (i % STRIDE < N)
            assert_near((double)gated[i], wanted, fabs(wanted) * 6 * EPS, "mul_silu", i);
    }
    float *into[] = {a, b};
    for (int k = 0; k < 2; k++) { /* in place on either operand */
        float a2[ROWS * STRIDE], b2[ROWS * STRIDE];
        memcpy(a2, a, sizeof a);
        memcpy(b2, b, sizeof b);
        into[0] = a2;
        into[1] = b2;
        ops->mul_silu(backend,
                      &(struct mul_silu_args){a2, b2, into[k], N, STRIDE, STRIDE, STRIDE, ROWS});
        for (size_t r = 0; r < ROWS; r++)
            assert_memory_equal(into[k] + r * STRIDE, gated + r * STRIDE, N * sizeof *gated);
    }
}

static void rotation_turns_pairs_and_leaves_the_rest(void **state)
{
    (void)state;
    enum { PAIRS = 8, DIM = 24, HEADS = 3, ROWS = 2, STRIDE = HEADS * DIM + 4 };
    struct numbers numbers = {9};
    float x[ROWS * STRIDE], before[ROWS * STRIDE], table[ROWS * 2 * PAIRS];
    double frequencies[PAIRS];
    const struct batch_row rows[ROWS] = {{0, 4000, 0}, {0, 3, 1}};
    fill_floats(&numbers, x, ROWS * STRIDE);
    memcpy(before, x, sizeof x);
    rope_frequencies(frequencies, 2 * PAIRS, 1e6);
    rope_table(table, rows, ROWS, frequencies, PAIRS);
    ops->rope(backend, &(struct rope_args){x, STRIDE, DIM, HEADS, PAIRS, table, ROWS});
    for (size_t r = 0; r < ROWS; r++)
        for (size_t i = 0; i < STRIDE; i++) {
            size_t at = r * STRIDE + i, d = i % DIM;
            if (i >= HEADS * DIM || d >= 2 * PAIRS) {
                assert_true(x[at] == before[at]);
                continue;
            }
            double angle = rows[r].position * pow(1e6, -(double)(d % PAIRS) / PAIRS);
            double c = cos(angle), s = sin(angle);
            double x0 = (double)before[at - d + d % PAIRS];
            double x1 = (double)before[at - d + d % PAIRS + PAIRS];
            double wanted = d < PAIRS ? x0 * c - x1 * s : x0 * s + x1 * c;
            assert_near((double)x[at], wanted, (fabs(x0) + fabs(x1)) * 4 * EPS, "rope", at);
        }
}

static void the_cache_keeps_rows_at_their_sequence_and_position(void **state)
{
    (void)state;
    enum { N = 12, CTX = 5, SEQUENCES = 3, ROWS = 4 };
    const struct batch_row rows[ROWS] = {{0, 0, 2}, {0, 4, 0}, {0, 1, 2}, {0, 2, 1}};
    struct numbers numbers = {10};
    float k[ROWS * N], v[ROWS * N];
    fill_floats(&numbers, k, ROWS * N);
    fill_floats(&numbers, v, ROWS * N);
    float k32[SEQUENCES * CTX * N] = {0}, v32[SEQUENCES * CTX * N] = {0};
    uint16_t k16[SEQUENCES * CTX * N] = {0}, v16[SEQUENCES * CTX * N] = {0};
    struct kv_cache f32 = {k32, v32, KV_F32, 2, N / 2, CTX};
    struct kv_cache f16 = {k16, v16, KV_F16, 2, N / 2, CTX};
    ops->kv_store(backend, &(struct kv_store_args){f32, rows, k, v, ROWS});
    ops->kv_store(backend, &(struct kv_store_args){f16, rows, k, v, ROWS});
    int written = 0;
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < N; i++) {
            size_t at = (size_t)((rows[r].sequence * CTX + rows[r].position) * N + i);
            assert_true(k32[at] == k[r * N + i] && v32[at] == v[r * N + i]);
            assert_int_equal(k16[at], f32_to_f16(k[r * N + i]));
            assert_int_equal(v16[at], f32_to_f16(v[r * N + i]));
        }
    for (int i = 0; i < SEQUENCES * CTX * N; i++)
        written += v32[i] != 0.0f;
    assert_int_equal(written, ROWS * N);
}

/* ---- attention ------------------------------------------------------------------------------- */

enum { HEADS = 4, KV_HEADS = 2, DIM = 40, CONTEXT = 300 };

static float cached_value(enum kv_type type, const void *values, size_t at)
{
    return type == KV_F32 ? ((const float *)values)[at]
                          : f16_to_f32(((const uint16_t *)values)[at]);
}

/* One output of one head in double. A score is off by a few roundings of the products it sums, its
 * weight by as much relatively, and the output by that share of the values' weighted magnitude. */
static double attended(const struct attention_args *a, size_t row, size_t head, size_t d,
                       double *tolerance)
{
    const struct kv_cache *c = &a->cache;
    size_t stride = KV_HEADS * DIM, n = (size_t)a->rows[row].position + 1;
    size_t base = (size_t)a->rows[row].sequence * CONTEXT * stride + head / 2 * DIM;
    const float *q = a->q + row * a->q_stride + head * a->q_head_stride;
    double scores[CONTEXT], most = -1e300, total = 0.0, sum = 0.0, size = 0.0, sizes = 0.0;
    for (size_t p = 0; p < n; p++) {
        double part = 0.0;
        scores[p] = 0.0;
        for (size_t i = 0; i < DIM; i++) {
            double product = (double)q[i] *
                             (double)cached_value(c->type, c->k, base + p * stride + i);
            scores[p] += product * (double)a->scale;
            part += fabs(product) * (double)a->scale;
        }
        most = scores[p] > most ? scores[p] : most;
        size = part > size ? part : size;
    }
    for (size_t p = 0; p < n; p++) {
        double weight = exp(scores[p] - most);
        double value = (double)cached_value(c->type, c->v, base + p * stride + d);
        total += weight;
        sum += weight * value;
        sizes += weight * fabs(value);
    }
    *tolerance = sizes / total * (2.0 * size * 3.0 + 20.0) * EPS;
    if (a->gate == NULL)
        return sum / total;
    double gate = (double)a->gate[row * a->q_stride + head * a->q_head_stride + d];
    return sum / total / (1.0 + exp(-gate));
}

static void check_attention(enum kv_type type, bool gated)
{
    const struct batch_row rows[] = {{0, 0, 1}, {0, 63, 0}, {0, 64, 1}, {0, 299, 0}, {0, 130, 1}};
    struct numbers numbers = {(uint64_t)type + 11};
    enum { ROWS = 5, CACHED = 2 * CONTEXT * KV_HEADS * DIM, HEAD_STRIDE = 2 * DIM };
    float *k = random_floats(&numbers, CACHED), *v = random_floats(&numbers, CACHED);
    float *q = random_floats(&numbers, ROWS * HEADS * HEAD_STRIDE);
    float *out = need(ROWS * HEADS * DIM * sizeof *out);
    if (type == KV_F16)
        for (size_t i = 0; i < CACHED; i++) { /* halves in the first half of the same memory */
            ((uint16_t *)k)[i] = f32_to_f16(k[i]);
            ((uint16_t *)v)[i] = f32_to_f16(v[i]);
        }
    struct attention_args args = {
        .cache = {k, v, type, KV_HEADS, DIM, CONTEXT}, .rows = rows, .q = q,
        .gate = gated ? q + DIM : NULL, .q_stride = HEADS * HEAD_STRIDE,
        .q_head_stride = HEAD_STRIDE, .n_heads = HEADS, .scale = 0.158f, .out = out, .n_rows = ROWS,
    };
    assert_true(ops->reserve(backend, CONTEXT));
    ops->attention(backend, &args);
    for (size_t i = 0; i < ROWS * HEADS * DIM; i++) {
        double tolerance;
        double wanted = attended(&args, i / DIM / HEADS, i / DIM % HEADS, i % DIM, &tolerance);
        assert_near((double)out[i], wanted, tolerance, "attention", i);
    }
    free(k);
    free(v);
    free(q);
    free(out);
}

static void attention_equals_a_double_softmax(void **state)
{
    (void)state;
    check_attention(KV_F32, false);
    check_attention(KV_F32, true);
    check_attention(KV_F16, true);
}

static void attention_takes_scores_of_any_size(void **state)
{
    (void)state;
    const struct batch_row row = {0, 2, 0};
    float k[3] = {1e4f, -1e4f, 1e4f}, v[3] = {1.0f, 100.0f, 3.0f}, q = 1e4f, out = 0.0f;
    assert_true(ops->reserve(backend, 3));
    struct attention_args args = {
        .cache = {k, v, KV_F32, 1, 1, 3}, .rows = &row, .q = &q, .q_stride = 1, .q_head_stride = 1,
        .n_heads = 1, .scale = 1.0f, .out = &out, .n_rows = 1,
    };
    ops->attention(backend, &args);
    assert_true(out == 2.0f);
    q = -1e4f;
    ops->attention(backend, &args);
    assert_true(out == 100.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_every_type_equal_double_sums),
        cmocka_unit_test(quantised_rows_stand_for_their_floats),
        cmocka_unit_test(embedding_rows_are_the_rows_of_the_table),
        cmocka_unit_test(norms_of_groups_equal_double_norms),
        cmocka_unit_test(sums_and_gates_equal_double_ones),
        cmocka_unit_test(rotation_turns_pairs_and_leaves_the_rest),
        cmocka_unit_test(the_cache_keeps_rows_at_their_sequence_and_position),
        cmocka_unit_test(attention_equals_a_double_softmax),
        cmocka_unit_test(attention_takes_scores_of_any_size),
    };
    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
