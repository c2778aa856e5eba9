/* Convolution, gated DeltaNet, routing and experts against naive references in double precision, as
 * tests/test_ops.c does for the other operations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/op_fixture.h"
#include "tests/op_inputs.h"

/* ---- recurrences ----------------------------------------------------------------------------- */

enum { STEPS = 24, SEQUENCES = 2 };

/* Steps of two sequences, taking turns unevenly; *before* counts a sequence's earlier rows. */
static void interleaved_rows(struct batch_row *rows)
{
    int32_t next[SEQUENCES] = {0};
    for (int r = 0; r < STEPS; r++) {
        int32_t sequence = r % 3 == 1;
        rows[r] = (struct batch_row){0, next[sequence]++, sequence};
    }
}

static void convolution_equals_a_double_one(void **state)
{
    (void)state;
    enum { N = 9, TAPS = 4 };
    struct numbers numbers = {12};
    struct batch_row rows[STEPS];
    interleaved_rows(rows);
    float *x = random_floats(&numbers, STEPS * N), *w = random_floats(&numbers, N * TAPS);
    float carried[SEQUENCES * (TAPS - 1) * N] = {0}, out[STEPS * N];
    ops->conv(backend, &(struct conv_args){rows, x, w, carried, out, N, TAPS, SEQUENCES, STEPS});
    for (int r = 0; r < STEPS; r++)
        for (int c = 0; c < N; c++) {
            double sum = 0.0, size = 0.0;
            int tap = TAPS - 1;
            for (int past = r; past >= 0 && tap >= 0; past--)
                if (rows[past].sequence == rows[r].sequence) {
                    double term = (double)w[c * TAPS + tap--] * (double)x[past * N + c];
                    sum += term;
                    size += fabs(term);
                }
            double wanted = sum / (1.0 + exp(-sum));
            assert_near((double)out[r * N + c], wanted, (size * 6 + 6 * fabs(wanted)) * EPS,
                        "conv", (size_t)(r * N + c));
        }
    free(x);
    free(w);
}

/* The delta rule of one head over the rows of one sequence, in double. */
struct delta_reference {
    double s[16][16];
};
/* Values reach 120 and a step's sums have 16 terms, which keys of length 1 let fade. */
static const double DELTA_TOLERANCE = 120 * 32 * 0x1p-24;
enum { D = 16, K_HEADS = 2, V_HEADS = 4, X = (2 * K_HEADS + V_HEADS) * D };

static double norm_of(const float *x)
{
    double sum = 0.0;
    for (int i = 0; i < D; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum) > 1e-6 ? sqrt(sum) : 1e-6;
}

static void delta_step(struct delta_reference *ref, const float *x, int head, double decay,
                       double beta, double *out)
{
    const float *q = x + head % K_HEADS * D, *k = q + K_HEADS * D;
    const float *v = x + (2 * K_HEADS + head) * D;
    double q_scale = 1.0 / norm_of(q) / sqrt(D), k_scale = 1.0 / norm_of(k);
    for (int j = 0; j < D; j++) {
        double predicted = 0.0;
        out[j] = 0.0;
        for (int i = 0; i < D; i++) {
            ref->s[i][j] *= decay;
            predicted += ref->s[i][j] * (double)k[i] * k_scale;
        }
        for (int i = 0; i < D; i++) {
            ref->s[i][j] += (double)k[i] * k_scale * ((double)v[j] - predicted) * beta;
            out[j] += ref->s[i][j] * (double)q[i] * q_scale;
        }
    }
}

static void gated_delta_rule_equals_a_double_one(void **state)
{
    (void)state;
    struct numbers numbers = {13};
    struct batch_row rows[STEPS];
    interleaved_rows(rows);
    float *x = random_floats(&numbers, STEPS * X), *b = random_floats(&numbers, STEPS * V_HEADS);
    float *alpha = random_floats(&numbers, STEPS * V_HEADS);
    const float a[V_HEADS] = {-0.1f, -1.0f, -4.0f, -0.01f}, dt[V_HEADS] = {0.5f, -2.0f, 1.0f, 0.0f};
    float *s = need(SEQUENCES * V_HEADS * D * D * sizeof *s), out[STEPS * V_HEADS * D];
    struct delta_reference ref[SEQUENCES][V_HEADS];
    memset(ref, 0, sizeof ref);
    ops->delta_net(backend, &(struct delta_net_args){rows, x, alpha, b, a, dt, s, out, K_HEADS,
                                                     V_HEADS, D, SEQUENCES, STEPS});
    for (int r = 0; r < STEPS; r++)
        for (int h = 0; h < V_HEADS; h++) {
            double at = (double)(alpha[r * V_HEADS + h] + dt[h]), wanted[D];
            double decay = exp((double)a[h] * (log1p(exp(-fabs(at))) + (at > 0 ? at : 0)));
            double beta = 1.0 / (1.0 + exp(-(double)b[r * V_HEADS + h]));
            delta_step(&ref[rows[r].sequence][h], x + r * X, h, decay, beta, wanted);
            for (int j = 0; j < D; j++)
                assert_near((double)out[(r * V_HEADS + h) * D + j], wanted[j], DELTA_TOLERANCE,
                            "delta_net", (size_t)j);
        }
    for (int i = 0; i < SEQUENCES * V_HEADS * D * D; i++)
        assert_near((double)s[i], ref[i / (V_HEADS * D * D)][i / (D * D) % V_HEADS]
                                      .s[i / D % D][i % D], DELTA_TOLERANCE, "state", (size_t)i);
    free(x);
    free(b);
    free(alpha);
    free(s);
}

/* ---- experts --------------------------------------------------------------------------------- */

enum { ROUTED = 5, EXPERTS = 19, USED = 4 };

static void routing_takes_the_largest_of_a_double_softmax(void **state)
{
    (void)state;
    struct numbers numbers = {14};
    float *logits = random_floats(&numbers, ROUTED * EXPERTS), weights[ROUTED * USED];
    int32_t experts[ROUTED * USED], order[ROUTED * USED], start[EXPERTS + 1];
    ops->route(backend, &(struct route_args){logits, experts, weights, order, start, EXPERTS, USED,
                                             ROUTED});
    for (int r = 0; r < ROUTED; r++) {
        const float *x = logits + r * EXPERTS;
        double total = 0.0;
        for (int k = 0; k < USED; k++) {
            int larger = 0;
            for (int e = 0; e < EXPERTS; e++)
                larger += x[e] > x[experts[r * USED + k]];
            assert_int_equal(larger, k);
            total += exp((double)x[experts[r * USED + k]]);
        }
        for (int k = 0; k < USED; k++) {
            double wanted = exp((double)x[experts[r * USED + k]]) / total;
            assert_near((double)weights[r * USED + k], wanted, wanted * 150 * EPS, "route", 0);
        }
    }
    for (int e = 0; e < EXPERTS; e++)
        for (int32_t i = start[e]; i < start[e + 1]; i++) {
            assert_int_equal(experts[order[i]], e);
            assert_true(i == start[e] || order[i - 1] < order[i]);
        }
    assert_int_equal(start[0], 0);
    assert_int_equal(start[EXPERTS], ROUTED * USED);
    free(logits);
}

static void experts_are_combined_as_a_double_sum(void **state)
{
    (void)state;
    enum { N = 33 };
    struct numbers numbers = {15};
    float *y = random_floats(&numbers, ROUTED * USED * N);
    float *w = random_floats(&numbers, ROUTED * USED);
    float *shared = random_floats(&numbers, ROUTED * N), *gate = random_floats(&numbers, ROUTED);
    float dst[ROUTED * N];
    for (int with = 0; with < 2; with++) {
        ops->moe_combine(backend, &(struct moe_combine_args){y, w, with ? shared : NULL, gate, dst,
                                                             N, USED, ROUTED});
        for (int i = 0; i < ROUTED * N; i++) {
            int r = i / N;
            double sum = with ? (double)shared[i] / (1.0 + exp(-(double)gate[r])) : 0.0;
            double size = fabs(sum);
            for (int k = 0; k < USED; k++) {
                double term = (double)w[r * USED + k] * (double)y[(r * USED + k) * N + i % N];
                sum += term;
                size += fabs(term);
            }
            assert_near((double)dst[i], sum, size * 8 * EPS, "moe_combine", (size_t)i);
        }
    }
    free(y);
    free(w);
    free(shared);
    free(gate);
}

static void an_expert_product_is_the_product_with_its_matrix(void **state)
{
    (void)state;
    enum { N_IN = 512, N_OUT = 70, PAIRS = ROUTED * USED };
    struct numbers numbers = {16};
    struct weight w = random_weight(&numbers, MTP_TYPE_Q4_K, N_IN, N_OUT, EXPERTS);
    float *x = random_floats(&numbers, PAIRS * N_IN), *y = need(PAIRS * N_OUT * sizeof *y);
    float *logits = random_floats(&numbers, ROUTED * EXPERTS), weights[PAIRS], one[N_OUT];
    int32_t experts[PAIRS], order[PAIRS], start[EXPERTS + 1];
    struct act_block *act = quantised(x, N_IN, PAIRS);
    ops->route(backend, &(struct route_args){logits, experts, weights, order, start, EXPERTS, USED,
                                             ROUTED});
    for (int32_t per = 1; per <= USED; per += USED - 1) {
        ops->expert_matmul(backend, &(struct expert_matmul_args){w, NULL, act, y, N_OUT, PAIRS, per,
                                                                 order, start, true});
        for (int32_t p = 0; p < PAIRS; p++) {
            struct weight only = w;
            only.data = (const uint8_t *)w.data + (size_t)experts[p] * w.expert_bytes;
            only.n_experts = 1;
            ops->matmul(backend,
                        &(struct matmul_args){only, NULL, act + p / per * 2, one, N_OUT, 1});
            assert_memory_equal(one, y + p * N_OUT, sizeof one);
        }
    }
    free(x);
    free(y);
    free(logits);
    free(act);
    free((void *)w.data);
}

static void argmax_finds_the_largest(void **state)
{
    (void)state;
    struct numbers numbers = {17};
    enum { N = 1001, ROWS = 6 };
    float *x = random_floats(&numbers, N * ROWS);
    int32_t got[ROWS];
    ops->argmax(backend, &(struct argmax_args){x, got, N, ROWS});
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < N; i++)
            assert_true(x[r * N + i] <= x[r * N + got[r]]);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolution_equals_a_double_one),
        cmocka_unit_test(gated_delta_rule_equals_a_double_one),
        cmocka_unit_test(routing_takes_the_largest_of_a_double_softmax),
        cmocka_unit_test(experts_are_combined_as_a_double_sum),
        cmocka_unit_test(an_expert_product_is_the_product_with_its_matrix),
        cmocka_unit_test(argmax_finds_the_largest),
    };
    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
