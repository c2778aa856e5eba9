/* Special values: ties, zeros of both signs, floors, limits of the activation format, the exact
 * steps of the delta rule, and the report of values that are not finite. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "kernels/activation.h"
#include "kernels/fmath.h"
#include "tests/op_fixture.h"
#include "tests/op_inputs.h"

static void assert_float(float got, float wanted)
{
    if (f32_bits(got) != f32_bits(wanted))
        fail_msg("%.9g, not %.9g", (double)got, (double)wanted);
}

/* ---- activations ----------------------------------------------------------------------------- */

static void check_act_block(const float *x, size_t n, const struct act_block *b)
{
    float amax = 0.0f;
    for (size_t i = 0; i < n; i++)
        amax = fmaxf(amax, fabsf(x[i]));
    assert_float(b->d, amax / 1905.0f);
    for (size_t j = 0; j < 8; j++) {
        float most = 0.0f;
        for (size_t i = 32 * j; i < 32 * j + 32 && i < n; i++)
            most = fmaxf(most, fabsf(x[i]));
        float wanted = most / (b->d * 127.0f);
        assert_in_range(b->mul[j], 1, 15);
        assert_true(b->mul[j] == 15 || (float)b->mul[j] >= wanted);
        assert_true(b->mul[j] == 1 || (float)(b->mul[j] - 1) < wanted);
        float inverse = 1.0f / (b->d * (float)b->mul[j]);
        for (size_t half = 0; half < 2; half++) {
            int sum = 0;
            for (size_t i = 32 * j + 16 * half; i < 32 * j + 16 * half + 16; i++) {
                float value = i < n ? rintf(x[i] * inverse) : 0.0f; /* ties to even */
                assert_true((float)b->q[i] == fmaxf(-127.0f, fminf(127.0f, value)));
                sum += b->q[i];
            }
            assert_int_equal(b->bsum[2 * j + half], sum * b->mul[j]);
        }
    }
    for (size_t i = 0; i < sizeof b->pad; i++)
        assert_int_equal(b->pad[i], 0);
}

static void activations_have_the_smallest_multipliers_that_reach(void **state)
{
    (void)state;
    struct numbers numbers = {40};
    for (int round = 0; round < 300; round++) {
        float x[256];
        size_t n = round < 256 ? (size_t)round + 1 : 256;
        float size = ldexpf(1.0f, (int)next_below(&numbers, 200) - 90);
        for (size_t i = 0; i < n; i++)
            x[i] = next_float(&numbers) * size * (float)(1 + next_below(&numbers, 9));
        struct act_block *act = quantised(x, n, 1);
        check_act_block(x, n, act);
        free(act);
    }
}

static void every_multiplier_occurs(void **state)
{
    (void)state;
    float x[256] = {0};
    for (int most = 1; most <= 15; most++) {
        x[0] = 1905.0f; /* d = 1 */
        x[32] = 127.0f * (float)most;
        x[64] = most < 15 ? nextafterf(x[32], 1e9f) : x[32];
        struct act_block *act = quantised(x, 256, 1);
        assert_float(act->d, 1.0f);
        assert_int_equal(act->mul[0], 15);
        assert_int_equal(act->mul[1], most);
        assert_int_equal(act->mul[2], most < 15 ? most + 1 : 15);
        assert_int_equal(act->mul[3], 1);
        assert_int_equal(act->q[0], 127);
        assert_int_equal(act->q[32], 127);
        free(act);
    }
}

static void halves_round_to_even(void **state)
{
    (void)state;
    float x[256] = {1905.0f};
    const float halves[] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -126.5f};
    const int wanted[] = {0, 2, 2, 0, -2, -2, 126, -126};
    memcpy(x + 40, halves, sizeof halves);
    struct act_block *act = quantised(x, 256, 1);
    assert_int_equal(act->mul[1], 1);
    for (int i = 0; i < 8; i++)
        assert_int_equal(act->q[40 + i], wanted[i]);
    free(act);
}

static void scales_start_at_2_to_the_minus_100(void **state)
{
    (void)state;
    float x[512] = {0};
    x[3] = -0x1p-100f;
    x[256 + 3] = nextafterf(0x1p-100f, 0.0f);
    struct act_block *act = quantised(x, 512, 1);
    assert_float(act[0].d, 0x1p-100f / 1905.0f);
    assert_int_equal(act[0].q[3], -127);
    const struct act_block zero = {.mul = {1, 1, 1, 1, 1, 1, 1, 1}};
    assert_memory_equal(&act[1], &zero, sizeof zero);
    free(act);
    x[3] = 0x1.fffffep127f; /* and end at the largest float */
    act = quantised(x, 512, 1);
    check_act_block(x, 256, act);
    free(act);
}

/* ---- ties and zeros -------------------------------------------------------------------------- */

static void the_largest_of_equals_is_the_first(void **state)
{
    (void)state;
    const float x[3][6] = {{-1, 7, 3, 7, -3e38f, 7},
                           {-5, -0.0f, 0.0f, -0.0f, 0.0f, -1},
                           {2, 2, 2, 2, 2, 2}};
    int32_t best[3];
    ops->argmax(backend, &(struct argmax_args){x[0], best, 6, 3});
    assert_int_equal(best[0], 1);
    assert_int_equal(best[1], 1); /* -0 before 0, and equal to it */
    assert_int_equal(best[2], 0);
}

static void a_router_takes_the_first_of_equals(void **state)
{
    (void)state;
    const float logits[3][6] = {{1, 5, 5, 2, 5, 1}, {0, -0.0f, 0, -0.0f, 0, -0.0f},
                                {-300, -200, -200, -300, 0, -200}};
    const int32_t wanted[3][3] = {{1, 2, 4}, {0, 1, 2}, {4, 0, 1}};
    int32_t experts[9], order[9], start[7];
    float weights[9];
    ops->route(backend, &(struct route_args){logits[0], experts, weights, order, start, 6, 3, 3});
    assert_memory_equal(experts, wanted, sizeof wanted);
    for (int i = 0; i < 6; i++)
        assert_true(fabsf(weights[i] - 1.0f / 3.0f) < 1e-7f);
    assert_float(weights[6], 1.0f);
    assert_float(weights[7], 0.0f); /* probabilities that vanished are equal: lowest index */
}

static void router_weights_are_divided_by_their_sum_or_a_floor(void **state)
{
    (void)state;
    /* 1000 experts alike: one is chosen with 0.001, above the floor. */
    static float logits[1000];
    int32_t expert, order, start[1001];
    float weight;
    struct route_args args = {logits, &expert, &weight, &order, start, 1000, 1, 1};
    ops->route(backend, &args);
    assert_float(weight, 1.0f);
    /* The floor is for sums below 2^-14 or so, which 1024 experts cannot give: 1 / 1024 is more. */
    assert_true(1.0f / MAX_EXPERTS > 6.1e-5f);
    float huge[2] = {3e38f, -3e38f};
    args = (struct route_args){huge, &expert, &weight, &order, start, 2, 1, 1};
    ops->route(backend, &args);
    assert_int_equal(expert, 0);
    assert_float(weight, 1.0f);
}

/* ---- the delta rule -------------------------------------------------------------------------- */

enum { D = 24 };

struct step {
    float q[D], k[D], v[D], alpha, beta, a, dt;
};

static float fold8_by_distance(const float *p)
{
    float f[4] = {p[0] + p[4], p[1] + p[5], p[2] + p[6], p[3] + p[7]};
    return (f[0] + f[2]) + (f[1] + f[3]);
}

static void normalise_by_rule(const float *x, float scale, float *out)
{
    float partial[64] = {0};
    for (int i = 0; i < D; i++)
        partial[i] = fmaf(x[i], x[i], 0.0f);
    for (int distance = 32; distance > 0; distance /= 2)
        for (int i = 0; i < distance; i++)
            partial[i] = partial[i] + partial[i + distance];
    float norm = sqrtf(partial[0]);
    float inverse = 1.0f / fmaxf(norm, 1e-6f);
    for (int i = 0; i < D; i++)
        out[i] = (x[i] * inverse) * scale;
}

/* One head, one row, from the rules of kernels/ops.h; n_partials 8 is the rule. */
static void delta_by_rule(const struct step *t, float s[D][D], float *out, int n_partials)
{
    float q[D], k[D];
    normalise_by_rule(t->q, 1.0f / sqrtf(D), q);
    normalise_by_rule(t->k, 1.0f, k);
    float beta = mtp_sigmoidf(t->beta);
    float decay = mtp_expf(t->a * mtp_softplusf(t->alpha + t->dt));
    for (int j = 0; j < D; j++) {
        float r[8] = {0}, o[8] = {0};
        for (int i = 0; i < D; i++) {
            s[i][j] = s[i][j] * decay;
            r[i % n_partials] = fmaf(s[i][j], k[i], r[i % n_partials]);
        }
        float delta = (t->v[j] - fold8_by_distance(r)) * beta;
        for (int i = 0; i < D; i++) {
            s[i][j] = fmaf(k[i], delta, s[i][j]);
            o[i % n_partials] = fmaf(s[i][j], q[i], o[i % n_partials]);
        }
        out[j] = fold8_by_distance(o);
    }
}

static struct step random_step(struct numbers *numbers)
{
    struct step t;
    fill_floats(numbers, t.q, D);
    fill_floats(numbers, t.k, D);
    fill_floats(numbers, t.v, D);
    t.alpha = next_float(numbers);
    t.beta = next_float(numbers);
    t.a = -fabsf(next_float(numbers));
    t.dt = next_float(numbers);
    return t;
}

static void run_step(const struct step *t, float *s, float *out)
{
    const struct batch_row row = {0, 0, 0};
    float x[3 * D];
    memcpy(x, t->q, sizeof t->q);
    memcpy(x + D, t->k, sizeof t->k);
    memcpy(x + 2 * D, t->v, sizeof t->v);
    ops->delta_net(backend, &(struct delta_net_args){&row, x, &t->alpha, &t->beta, &t->a, &t->dt, s,
                                                     out, 1, 1, D, 1, 1});
}

static void delta_rule_uses_8_partials_folded_by_distance(void **state)
{
    (void)state;
    struct numbers numbers = {41};
    float s[D * D] = {0}, by_rule[D][D] = {{0}}, other[D][D], out[D], wanted[D], unwanted[D];
    int differing = 0;
    for (int step = 0; step < 20; step++) {
        struct step t = random_step(&numbers);
        memcpy(other, by_rule, sizeof other);
        run_step(&t, s, out);
        delta_by_rule(&t, by_rule, wanted, 8);
        delta_by_rule(&t, other, unwanted, 4);
        assert_memory_equal(out, wanted, sizeof out);
        assert_memory_equal(s, by_rule, sizeof s);
        differing += memcmp(out, unwanted, sizeof out) != 0;
    }
    assert_true(differing >= 19); /* the comparison can tell */
}

static void keys_and_queries_of_length_zero_divide_by_the_floor(void **state)
{
    (void)state;
    struct numbers numbers = {42};
    struct step t = random_step(&numbers);
    memset(t.k, 0, sizeof t.k);
    for (int i = 0; i < D; i++)
        t.q[i] *= 1e-9f;
    float s[D * D], by_rule[D][D], out[D], wanted[D];
    fill_floats(&numbers, s, D * D);
    memcpy(by_rule, s, sizeof s);
    run_step(&t, s, out);
    delta_by_rule(&t, by_rule, wanted, 8);
    assert_memory_equal(out, wanted, sizeof out);
    assert_memory_equal(s, by_rule, sizeof s);
    for (int i = 0; i < D; i++)
        assert_true(fabsf(out[i]) < 1.0f);
}

/* ---- values that are not finite -------------------------------------------------------------- */

static void assert_fault(const char *operation, int32_t row)
{
    struct numeric_fault fault = ops->fault(backend);
    if (!fault.found)
        fail_msg("%s reports nothing", operation);
    assert_string_equal(fault.operation, operation);
    assert_int_equal(fault.row, row);
    ops->clear_fault(backend);
    assert_false(ops->fault(backend).found);
}

static void open_kernels(const struct cpu_kernels *kernels)
{
    ops->close(backend);
    backend = cpu_backend_open(kernels, 1);
    assert_non_null(backend);
    ops = backend->ops;
}

enum { BAD_N = 300, BAD_ROWS = 3 };
static const float bad_values[] = {NAN, -NAN, INFINITY, -INFINITY};

static void reported_by_vector_operations(float bad, size_t at)
{
    float x[BAD_ROWS * BAD_N], y[BAD_ROWS * BAD_N], weights[BAD_ROWS], w[BAD_N] = {0};
    for (size_t i = 0; i < BAD_ROWS * BAD_N; i++)
        x[i] = 1.0f;
    x[BAD_N + at] = bad;
    static struct act_block act[BAD_ROWS * 2];
    ops->quantize(backend, &(struct quantize_args){x, act, BAD_N, BAD_ROWS});
    assert_fault("quantize", 1);
    ops->rms_norm(backend, &(struct rms_norm_args){x, y, w, BAD_N, 1, BAD_N, BAD_N, BAD_N, BAD_N,
                                                   1e-6f, BAD_ROWS});
    assert_fault("rms_norm", 1);
    int32_t best[BAD_ROWS], order[BAD_ROWS], start[BAD_N + 1];
    ops->argmax(backend, &(struct argmax_args){x, best, BAD_N, BAD_ROWS});
    assert_fault("argmax", 1);
    ops->route(backend, &(struct route_args){x, best, weights, order, start, BAD_N, 1, BAD_ROWS});
    assert_fault("route", 1);
    for (int r = 0; r < BAD_ROWS; r++)
        assert_in_range(best[r], 0, BAD_N - 1);
}

static void reported_by_cache_and_recurrence(float bad, size_t at)
{
    const struct batch_row rows[BAD_ROWS] = {{0, 0, 0}, {0, 1, 0}, {0, 2, 0}};
    float x[BAD_ROWS * BAD_N], y[BAD_ROWS * BAD_N], zeros[BAD_ROWS] = {0};
    static float k[BAD_ROWS * BAD_N], v[BAD_ROWS * BAD_N], s[100 * 100];
    for (size_t i = 0; i < BAD_ROWS * BAD_N; i++)
        x[i] = y[i] = 1.0f;
    x[2 * BAD_N + at] = bad;
    for (int type = KV_F16; type <= KV_F32; type++) {
        struct kv_cache cache = {k, v, (enum kv_type)type, 1, BAD_N, BAD_ROWS};
        ops->kv_store(backend, &(struct kv_store_args){cache, rows, x, y, BAD_ROWS});
        assert_fault("kv_store", 2);
        ops->kv_store(backend, &(struct kv_store_args){cache, rows, y, x, BAD_ROWS});
        assert_fault("kv_store", 2);
    }
    if (at >= 200) /* v does not enter a norm; its infinity shows in the output */
        return;
    ops->delta_net(backend, &(struct delta_net_args){rows, x, zeros, zeros, zeros, zeros, s, y, 1,
                                                     1, 100, 1, BAD_ROWS});
    assert_fault("delta_net", 2);
    memset(s, 0, sizeof s);
}

static void report_everywhere(void)
{
    static const size_t places[] = {0, 1, 31, 99, 255, 256, 299};
    for (size_t b = 0; b < sizeof bad_values / sizeof *bad_values; b++)
        for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
            reported_by_vector_operations(bad_values[b], places[p]);
            reported_by_cache_and_recurrence(bad_values[b], places[p]);
        }
}

static void values_that_overflow_are_reported(void **state)
{
    (void)state;
    const struct batch_row row = {0, 0, 0};
    float big[2] = {0.0f, 65520.0f}, out[2], w[2] = {1, 1};
    uint16_t k[2], v[2];
    struct kv_store_args store = {{k, v, KV_F16, 1, 2, 1}, &row, big, w, 1};
    ops->kv_store(backend, &store); /* rounds to infinity */
    assert_fault("kv_store", 0);
    big[1] = 65519.0f;
    ops->kv_store(backend, &store);
    assert_false(ops->fault(backend).found);
    big[1] = 1e25f; /* squares overflow */
    ops->rms_norm(backend, &(struct rms_norm_args){big, out, w, 2, 1, 2, 2, 2, 2, 1e-6f, 1});
    assert_fault("rms_norm", 0);
}

static void infinities_and_nans_are_reported_with_operation_and_row(void **state)
{
    (void)state;
    report_everywhere();
}

static void variants_report_what_the_definitions_do(void **state)
{
    open_kernels(cpu_kernels_best());
    report_everywhere();
    values_that_overflow_are_reported(state);
    open_kernels(cpu_kernels_scalar());
}

static void only_the_first_report_is_kept_until_cleared(void **state)
{
    (void)state;
    float x[4] = {1, NAN, INFINITY, 1};
    int32_t best[4];
    ops->argmax(backend, &(struct argmax_args){x, best, 1, 4});
    struct act_block act[4];
    ops->quantize(backend, &(struct quantize_args){x, act, 1, 4});
    assert_fault("argmax", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_have_the_smallest_multipliers_that_reach),
        cmocka_unit_test(every_multiplier_occurs),
        cmocka_unit_test(halves_round_to_even),
        cmocka_unit_test(scales_start_at_2_to_the_minus_100),
        cmocka_unit_test(the_largest_of_equals_is_the_first),
        cmocka_unit_test(a_router_takes_the_first_of_equals),
        cmocka_unit_test(router_weights_are_divided_by_their_sum_or_a_floor),
        cmocka_unit_test(delta_rule_uses_8_partials_folded_by_distance),
        cmocka_unit_test(keys_and_queries_of_length_zero_divide_by_the_floor),
        cmocka_unit_test(infinities_and_nans_are_reported_with_operation_and_row),
        cmocka_unit_test(values_that_overflow_are_reported),
        cmocka_unit_test(variants_report_what_the_definitions_do),
        cmocka_unit_test(only_the_first_report_is_kept_until_cleared),
    };
    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
