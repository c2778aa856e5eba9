/* Elementary functions against the C library in double precision, and their bits pinned.
 * `test_fmath --measure` prints the errors that docs/arithmetic.md quotes, and the digests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "kernels/fmath.h"
#include "kernels/rope.h"
#include "tests/numbers.h"

static double sigmoid_reference(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static double silu_reference(double x)
{
    return x / (1.0 + exp(-x));
}

static double softplus_reference(double x)
{
    return x > 0.0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* Every `stride`-th float of [low, high] by magnitude of the bits; both signs where asked. */
struct range {
    const char *name;
    float (*function)(float);
    double (*reference)(double);
    float low, high; /* 0 <= low */
    float sign;
    double bound;  /* in ulp of the reference */
    double absolute; /* or this far, whichever is larger */
    uint64_t digest;
};

static const struct range ranges[] = {
    {"exp, x > 0", mtp_expf, exp, 0.0f, 88.7228f, 1.0f, 1.03, 0.0,
     0xd039064a747b8913u},
    {"exp, x < 0, normal results", mtp_expf, exp, 0.0f, 87.3f, -1.0f, 1.03, 0.0,
     0xca742dd03fd6368bu},
    {"exp, subnormal results", mtp_expf, exp, 87.3f, 120.0f, -1.0f, 1.0, 0.0,
     0xfd3bc988960fd188u},
    {"log, normal", mtp_logf, log, 0x1p-126f, 0x1.fffffep127f, 1.0f, 1.1, 0.0,
     0xbb3dd693084cf0e3u},
    {"log, subnormal", mtp_logf, log, 0x1p-149f, 0x1p-126f, 1.0f, 1.0, 0.0,
     0xe190484cfb10de92u},
    {"log near 1", mtp_logf, log, 0.5f, 2.0f, 1.0f, 2.0, 0.0,
     0xad92f026560a7678u},
    {"sigmoid, x > 0", mtp_sigmoidf, sigmoid_reference, 0.0f, 200.0f, 1.0f, 1.5, 0.0,
     0xc13d48fae6fbd630u},
    {"sigmoid, x < 0", mtp_sigmoidf, sigmoid_reference, 0.0f, 88.0f, -1.0f, 2.5, 0.0,
     0xb0c803616f6e74c2u},
    {"sigmoid, x < -88", mtp_sigmoidf, sigmoid_reference, 88.0f, 200.0f, -1.0f, 0.0, 0x1p-127,
     0x666fae1d66455f72u},
    {"silu, x > 0", mtp_siluf, silu_reference, 0.0f, 200.0f, 1.0f, 1.5, 0.0,
     0x252eb545b01dfaddu},
    {"silu, x < 0", mtp_siluf, silu_reference, 0.0f, 88.0f, -1.0f, 2.5, 0.0,
     0x25fbbd76dfa59a81u},
    {"silu, x < -88", mtp_siluf, silu_reference, 88.0f, 200.0f, -1.0f, 0.0, 0x1p-120,
     0xe8de595c184fb33eu},
    {"softplus, x > 0", mtp_softplusf, softplus_reference, 0.0f, 0x1p100f, 1.0f, 2.5, 0.0,
     0x758342957dc10231u},
    {"softplus, x < 0", mtp_softplusf, softplus_reference, 0.0f, 120.0f, -1.0f, 2.5, 0.0,
     0x4a6b95267ed9d86cu},
};
enum { N_RANGES = sizeof ranges / sizeof *ranges, SAMPLES = 200000 };

struct error {
    double ulp, absolute;
    bool outside;
    uint64_t digest;
};

static struct error measure(const struct range *r)
{
    struct error worst = {0.0, 0.0, false, FNV_START};
    uint32_t first = f32_bits(r->low), last = f32_bits(r->high);
    uint32_t stride = (last - first) / SAMPLES + 1;
    for (uint64_t bits = first; bits <= last; bits += stride) {
        float x = r->sign * f32_from_bits((uint32_t)bits);
        float got = r->function(x);
        double wanted = r->reference((double)x);
        double off = fabs((double)got - wanted), in_ulp = ulps(got, wanted);
        worst.ulp = in_ulp > worst.ulp ? in_ulp : worst.ulp;
        worst.absolute = off > worst.absolute ? off : worst.absolute;
        if (!(in_ulp <= r->bound || off <= r->absolute))
            worst.outside = true;
        worst.digest = fnv_floats(worst.digest, &got, 1);
    }
    return worst;
}

static void float_functions_stay_within_their_error_bounds(void **state)
{
    (void)state;
    for (int i = 0; i < N_RANGES; i++) {
        struct error worst = measure(&ranges[i]);
        if (worst.outside)
            fail_msg("%s: %.3f ulp, %g absolute", ranges[i].name, worst.ulp, worst.absolute);
    }
}

static void float_functions_give_the_pinned_bits(void **state)
{
    (void)state;
    for (int i = 0; i < N_RANGES; i++)
        if (measure(&ranges[i]).digest != ranges[i].digest)
            fail_msg("%s: other bits", ranges[i].name);
}

static void assert_bits(float got, uint32_t wanted)
{
    assert_int_equal(f32_bits(got), wanted);
}

static void limits_of_float_functions(void **state)
{
    (void)state;
    assert_bits(mtp_expf(0.0f), 0x3f800000u);
    assert_bits(mtp_expf(-0.0f), 0x3f800000u);
    assert_bits(mtp_expf(1.0f), 0x402df854u);
    assert_bits(mtp_expf(INFINITY), 0x7f800000u);
    assert_bits(mtp_expf(89.0f), 0x7f800000u);
    assert_bits(mtp_expf(NAN), 0x7f800000u);
    assert_bits(mtp_expf(-INFINITY), 0u);
    assert_bits(mtp_expf(-104.0f), 0u);
    assert_true(mtp_expf(88.72f) < INFINITY);
    assert_bits(mtp_expf(-103.9f), 1u);
    assert_bits(mtp_logf(1.0f), 0u);
    assert_bits(mtp_logf(2.0f), 0x3f317218u);
    assert_bits(mtp_sigmoidf(0.0f), 0x3f000000u);
    assert_bits(mtp_sigmoidf(100.0f), 0x3f800000u);
    assert_bits(mtp_sigmoidf(-100.0f), 0u);
    assert_bits(mtp_siluf(0.0f), 0u);
    assert_bits(mtp_siluf(-0.0f), 0x80000000u);
    assert_bits(mtp_siluf(100.0f), 0x42c80000u);
    assert_bits(mtp_siluf(-100.0f), 0x80000000u);
    assert_bits(mtp_softplusf(0.0f), 0x3f317218u);
    assert_bits(mtp_softplusf(100.0f), 0x42c80000u);
    assert_bits(mtp_softplusf(-104.5f), 0u);
}

static void a_gate_never_hides_a_non_finite_value(void **state)
{
    (void)state;
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_true(f32_not_finite(mtp_sigmoidf(bad[i])));
    assert_true(f32_not_finite(mtp_siluf(NAN)));
    assert_true(f32_not_finite(mtp_siluf(INFINITY)));
    assert_true(f32_not_finite(mtp_siluf(-INFINITY)));
    assert_true(f32_not_finite(mtp_softplusf(NAN)));
    assert_true(f32_not_finite(mtp_softplusf(INFINITY)));
}

static void helpers_of_the_bits(void **state)
{
    (void)state;
    assert_true(f32_round_even(0.5f) == 0.0f && f32_round_even(1.5f) == 2.0f);
    assert_true(f32_round_even(2.5f) == 2.0f && f32_round_even(-2.5f) == -2.0f);
    assert_true(f32_round_even(-126.5f) == -126.0f && f32_round_even(127.49999f) == 127.0f);
    for (int n = -126; n <= 127; n++)
        assert_true(f32_pow2(n) == (float)ldexp(1.0, n));
    assert_true(f32_not_finite(NAN) && f32_not_finite(-INFINITY));
    assert_false(f32_not_finite(0x1.fffffep127f) || f32_not_finite(0x1p-149f));
}

/* ---- double precision ------------------------------------------------------------------------ */

struct double_error {
    double exp, log, sin, cos;
};

static double larger(double a, long double b)
{
    return (double)fabsl(b) > a ? (double)fabsl(b) : a;
}

static struct double_error measure_double(void)
{
    struct double_error worst = {0};
    struct numbers numbers = {1};
    for (int i = 0; i < 100000; i++) {
        double unit = (double)(next_bits(&numbers) >> 11) * 0x1p-53;
        double x = -40.0 + 60.0 * unit;
        worst.exp = larger(worst.exp, (mtp_exp(x) - expl(x)) / expl(x));
        x = exp(40.0 * unit - 10.0);
        worst.log = larger(worst.log, (mtp_log(x) - logl(x)) / (x > 0.9 && x < 1.1 ? 1 : logl(x)));
        x = ldexp(unit, (int)next_below(&numbers, 50) - 25) * (i % 2 ? 1.0 : -1.0);
        double sine, cosine;
        mtp_sincos(x, &sine, &cosine);
        worst.sin = larger(worst.sin, sine - sinl(x));
        worst.cos = larger(worst.cos, cosine - cosl(x));
    }
    return worst;
}

static void double_functions_are_exact_to_1e_15(void **state)
{
    (void)state;
    struct double_error worst = measure_double();
    assert_true(worst.exp < 1e-15);
    assert_true(worst.log < 1e-15);
    assert_true(worst.sin < 1e-15);
    assert_true(worst.cos < 1e-15);
    assert_true(mtp_exp(0.0) == 1.0 && mtp_log(1.0) == 0.0);
    assert_true(mtp_exp(-1000.0) > 0.0 && mtp_exp(1000.0) < (double)INFINITY);
}

/* ---- RoPE tables ----------------------------------------------------------------------------- */

struct rope_case {
    double base;
    uint32_t n_rot;
    uint64_t digest;
};
static const struct rope_case rope_cases[] = {
    {1e7, 32, 0xedaddb0dc6c420a1u}, {1e7, 64, 0x378ea1523e704ab9u},
    {1e7, 128, 0x00d45602b256cd28u}, {1e6, 32, 0xd9913aaa4c5c3fedu},
    {1e6, 64, 0x584175a0b85d73f9u}, {1e6, 128, 0xeebcbcb4dcf02d93u},
    {1e5, 32, 0xe9df32b69e71a584u}, {1e5, 64, 0x333d36a6d7805d2du},
    {1e5, 128, 0x42b17a153fa26b1du}, {1e4, 32, 0xba1f76c7c919b3ecu},
    {1e4, 64, 0x8f1beb4f4be992dau}, {1e4, 128, 0x0cddc68effcdd3bcu},
};
enum { N_ROPE = sizeof rope_cases / sizeof *rope_cases, N_LOW = 5001, N_FAR = 64 };

/* Positions 0..5000, then 64 spread up to 262143. */
static int32_t rope_position(int i)
{
    return i < N_LOW ? i : 262143 - 4016 * (N_LOW + N_FAR - 1 - i);
}

static uint64_t rope_digest(const struct rope_case *c)
{
    double frequencies[64];
    float table[128];
    rope_frequencies(frequencies, c->n_rot, c->base);
    uint64_t digest = FNV_START;
    for (int i = 0; i < N_LOW + N_FAR; i++) {
        struct batch_row row = {0, rope_position(i), 0};
        rope_table(table, &row, 1, frequencies, c->n_rot / 2);
        digest = fnv_floats(digest, table, c->n_rot);
    }
    return digest;
}

/* How far beyond the half ulp of correct rounding the table goes, at most. */
static double rope_excess(const struct rope_case *c, int step)
{
    double frequencies[64], worst = -1.0;
    float table[128];
    uint32_t n = c->n_rot / 2;
    rope_frequencies(frequencies, c->n_rot, c->base);
    for (int i = 0; i < N_LOW + N_FAR; i += i < N_LOW - step ? step : 1) {
        struct batch_row row = {0, rope_position(i), 0};
        rope_table(table, &row, 1, frequencies, n);
        for (uint32_t k = 0; k < n; k++) {
            long double angle = (long double)row.position *
                                expl(-2.0L * k / c->n_rot * logl((long double)c->base));
            long double wanted[2] = {cosl(angle), sinl(angle)};
            for (int j = 0; j < 2; j++) {
                double off = (double)fabsl((long double)table[(uint32_t)j * n + k] - wanted[j]);
                double over = off - 0.5 * float_ulp((double)wanted[j]);
                worst = over > worst ? over : worst;
            }
        }
    }
    return worst;
}

static void rope_tables_have_the_pinned_bits(void **state)
{
    (void)state;
    for (int i = 0; i < N_ROPE; i++)
        if (rope_digest(&rope_cases[i]) != rope_cases[i].digest)
            fail_msg("base %g, %u dimensions", rope_cases[i].base, rope_cases[i].n_rot);
}

static void rope_tables_are_correctly_rounded_but_for_the_angle(void **state)
{
    (void)state;
    /* An angle of 262143 radians is rounded to 2^-35 in double; a few such errors add up. */
    for (int i = 0; i < N_ROPE; i++) {
        double over = rope_excess(&rope_cases[i], 13);
        if (!(over < 0x1p-33))
            fail_msg("base %g: %g beyond half an ulp", rope_cases[i].base, over);
    }
}

static void rope_rows_depend_on_their_position_only(void **state)
{
    (void)state;
    double frequencies[32];
    float many[4 * 64], one[64];
    struct batch_row rows[4] = {{1, 77, 0}, {2, 5, 3}, {3, 262143, 1}, {9, 77, 2}};
    rope_frequencies(frequencies, 64, 1e7);
    rope_table(many, rows, 4, frequencies, 32);
    for (int r = 0; r < 4; r++) {
        rope_table(one, &rows[r], 1, frequencies, 32);
        assert_memory_equal(one, many + r * 64, sizeof one);
    }
    assert_memory_equal(many, many + 3 * 64, sizeof one);
}

static int print_measurements(void)
{
    for (int i = 0; i < N_RANGES; i++) {
        struct error worst = measure(&ranges[i]);
        printf("%-28s %7.3f ulp  %9.3g absolute  0x%016llxu\n", ranges[i].name, worst.ulp,
               worst.absolute, (unsigned long long)worst.digest);
    }
    struct double_error d = measure_double();
    printf("double: exp %.3g log %.3g sin %.3g cos %.3g\n", d.exp, d.log, d.sin, d.cos);
    for (int i = 0; i < N_ROPE; i++)
        printf("rope %g %u: 0x%016llxu, %.3g beyond half an ulp\n", rope_cases[i].base,
               rope_cases[i].n_rot, (unsigned long long)rope_digest(&rope_cases[i]),
               rope_excess(&rope_cases[i], 1));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--measure") == 0)
        return print_measurements();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_functions_stay_within_their_error_bounds),
        cmocka_unit_test(float_functions_give_the_pinned_bits),
        cmocka_unit_test(limits_of_float_functions),
        cmocka_unit_test(a_gate_never_hides_a_non_finite_value),
        cmocka_unit_test(helpers_of_the_bits),
        cmocka_unit_test(double_functions_are_exact_to_1e_15),
        cmocka_unit_test(rope_tables_have_the_pinned_bits),
        cmocka_unit_test(rope_tables_are_correctly_rounded_but_for_the_angle),
        cmocka_unit_test(rope_rows_depend_on_their_position_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
