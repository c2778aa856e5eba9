/* The start-up known-answer test passes for every set of kernels here, is quick, and names the
 * operation that computes otherwise. `test_selftest --print` prints the digests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "kernels/cpu/backend.h"
#include "kernels/fmath.h"
#include "kernels/selftest.h"

static void known_answers_of_the_definitions(void **state)
{
    (void)state;
    struct selftest_result results[SELFTEST_LIMIT];
    size_t n = kernels_selftest_results(cpu_kernels_scalar(), results);
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++)
        if (results[i].digest != results[i].pinned)
            fail_msg("%s: other bits", results[i].operation);
    const char *failed = "";
    assert_true(kernels_selftest(cpu_kernels_scalar(), &failed));
    assert_null(failed);
}

static void known_answers_of_the_best_kernels(void **state)
{
    (void)state;
    const char *failed;
    if (!kernels_selftest(cpu_kernels_best(), &failed))
        fail_msg("%s: %s differs", cpu_kernels_best()->name, failed);
}

static void every_usable_type_has_a_known_answer(void **state)
{
    (void)state;
    struct selftest_result results[SELFTEST_LIMIT];
    size_t n = kernels_selftest_results(cpu_kernels_scalar(), results);
    for (uint32_t type = 0; type < MTP_TYPE_LIMIT; type++) {
        const struct type_info *info = type_info(type);
        if (info == NULL || info->weight_class == WEIGHT_NONE)
            continue;
        bool found = false;
        for (size_t i = 0; i < n; i++)
            found = found || (strncmp(results[i].operation, "matmul ", 7) == 0 &&
                              strcmp(results[i].operation + 7, info->name) == 0);
        if (!found)
            fail_msg("%s has none", info->name);
    }
}

static void the_self_test_takes_less_than_2_ms(void **state)
{
    (void)state;
    double best = 1e9;
    for (int round = 0; round < 20; round++) { /* the quickest of many: the machine may be busy */
        struct timespec from, to;
        const char *failed;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
        assert_true(kernels_selftest(cpu_kernels_best(), &failed));
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
        double took = (double)(to.tv_sec - from.tv_sec) +
                      1e-9 * (double)(to.tv_nsec - from.tv_nsec);
        best = took < best ? took : best;
    }
    print_message("%s: %.2f ms\n", cpu_kernels_best()->name, best * 1e3);
    const char *sanitized = getenv("TEST_SANITIZED");
    assert_true(best < (sanitized != NULL && strcmp(sanitized, "yes") == 0 ? 0.1 : 0.002));
}

/* ---- broken kernels -------------------------------------------------------------------------- */

static void flip(float *x)
{
    *x = f32_from_bits(f32_bits(*x) ^ 1);
}

static void broken_dot(const struct dot_args *a)
{
    dot_scalar(a);
    if (a->type == MTP_TYPE_IQ3_S)
        flip(&a->y[a->n - 1][a->n_out - 1]);
}

/* Each computes rightly, then changes the last bit of one value. */
#define BREAK(op, what)                                                                            \
    static void broken_##op(const struct op##_args *a, int64_t begin, int64_t end,                 \
                            struct cpu_task *task)                                                 \
    {                                                                                              \
        op##_scalar(a, begin, end, task);                                                          \
        what;                                                                                      \
    }
BREAK(quantize, a->act[end - 1].bsum[1] ^= 1)
BREAK(embed, flip(&a->dst[a->table.n_in]))
BREAK(rms_norm, flip(&a->dst[3]))
BREAK(add, flip(&a->dst[end - 1]))
BREAK(rope, flip(&a->x[a->head_stride]))
BREAK(kv_store, ((uint16_t *)a->cache.v)[11] ^= 1)
BREAK(attention, flip(&a->out[17]))
BREAK(conv, flip(&a->state[0]))
BREAK(delta_net, flip(&a->state[100]))
BREAK(mul_silu, flip(&a->dst[202]))
BREAK(route, flip(&a->weights[2]))
BREAK(moe_combine, flip(&a->dst[1]))
BREAK(argmax, a->dst[0] ^= 1)
BREAK(digest, a->dst[1] ^= 1)

static void assert_found(const struct cpu_kernels *kernels, const char *operation)
{
    const char *failed;
    assert_false(kernels_selftest(kernels, &failed));
    assert_string_equal(failed, operation);
}

static void one_wrong_bit_in_any_operation_is_found(void **state)
{
    (void)state;
#define CHECK(op, name)                                                                            \
    do {                                                                                           \
        struct cpu_kernels kernels = *cpu_kernels_scalar();                                        \
        kernels.op = broken_##op;                                                                  \
        assert_found(&kernels, name);                                                              \
    } while (0)
    CHECK(dot, "matmul IQ3_S");
    CHECK(quantize, "quantize");
    CHECK(embed, "embed");
    CHECK(rms_norm, "rms_norm");
    CHECK(add, "add");
    CHECK(rope, "rope");
    CHECK(kv_store, "kv_store");
    CHECK(attention, "attention");
    CHECK(conv, "conv");
    CHECK(delta_net, "delta_net");
    CHECK(mul_silu, "mul_silu");
    CHECK(route, "route");
    CHECK(moe_combine, "moe_combine");
    CHECK(argmax, "argmax");
    CHECK(digest, "digest");
}

static int print_digests(void)
{
    struct selftest_result results[SELFTEST_LIMIT];
    size_t n = kernels_selftest_results(cpu_kernels_scalar(), results);
    for (size_t i = 0; i < n; i++)
        printf("%-16s 0x%016llxu\n", results[i].operation, (unsigned long long)results[i].digest);
    return n == 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--print") == 0)
        return print_digests();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers_of_the_definitions),
        cmocka_unit_test(known_answers_of_the_best_kernels),
        cmocka_unit_test(every_usable_type_has_a_known_answer),
        cmocka_unit_test(the_self_test_takes_less_than_2_ms),
        cmocka_unit_test(one_wrong_bit_in_any_operation_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
