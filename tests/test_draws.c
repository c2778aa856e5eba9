/* test_draws.c - argmax with noise: a draft's draw is the sampler's, by every instruction set, and the noise
 * is what the seed, the position and the id say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "kernels/cpu/backend.h"
#include "kernels/noise.h"
#include "sampler.h"
#include "tests/op_inputs.h"

/* The definition, the variant, and the variant on three threads. */
enum { N_BACKENDS = 3, ROWS = 4, MOST = 1100 };
static struct backend *backends[N_BACKENDS];

static int open_backends(void **state)
{
    (void)state;
    for (int b = 0; b < N_BACKENDS; b++) {
        backends[b] = cpu_backend_open(b == 0 ? cpu_kernels_scalar() : cpu_kernels_best(), b == 2 ? 3 : 1);
        if (backends[b] == NULL)
            return 1;
    }
    return 0;
}

static int close_backends(void **state)
{
    (void)state;
    for (int b = 0; b < N_BACKENDS; b++)
        backends[b]->ops->close(backends[b]);
    return 0;
}

static const float temperatures[] = {0.001f, 0.1f, 0.3f, 0.7f, 1.0f, 3.5f, 1000.0f};
enum { TEMPERATURES = sizeof temperatures / sizeof *temperatures };

/* What all backends draw; they must agree, and in whether they report a fault. */
static void draw_rows(const float *x, size_t n, struct draw_noise noise, int32_t first, int32_t offset,
                      int32_t ids[ROWS])
{
    for (int b = 0; b < N_BACKENDS; b++) {
        int32_t got[ROWS];
        backends[b]->ops->argmax(backends[b],
                                 &(struct argmax_args){x, got, n, ROWS, &noise, &first, offset});
        if (b == 0)
            memcpy(ids, got, sizeof got);
        assert_memory_equal(ids, got, sizeof got);
    }
}

static void clear_faults(bool expected)
{
    for (int b = 0; b < N_BACKENDS; b++) {
        struct numeric_fault fault = backends[b]->ops->fault(backends[b]);
        assert_int_equal(fault.found, expected);
        if (expected) {
            assert_string_equal(fault.operation, "argmax");
            assert_int_equal(fault.row, 2);
        }
        backends[b]->ops->clear_fault(backends[b]);
    }
}

static float *logits(struct numbers *numbers, size_t n)
{
    float *x = need(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = next_float(numbers) * 8.0f;
    return x;
}

/* -log(-log u) and the sum in double. */
static double score_of(float logit, float temperature, uint64_t seed, uint64_t position, uint32_t id)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {id / 4, 0, (uint32_t)position, (uint32_t)(position >> 32)};
    uint32_t words[4];
    sampler_philox(words, counter, key);
    double u = 1.0 - ((double)words[id % 4] + 0.5) / 0x1p32;
    return (double)logit / (double)temperature - log(-log(u));
}

static void a_draw_takes_the_largest_logit_with_noise(void **state)
{
    (void)state;
    struct numbers numbers = {31};
    enum { N = 777 };
    float *x = logits(&numbers, ROWS * N);
    for (uint64_t seed = 1; seed < 1u << 20; seed = seed * 3 + (seed << 40))
        for (int t = 0; t < TEMPERATURES; t++) {
            int32_t got[ROWS], first = (int32_t)next_below(&numbers, 100000), offset = t - 2;
            draw_rows(x, N, (struct draw_noise){seed, temperatures[t]}, first + 2, offset, got);
            for (int r = 0; r < ROWS; r++) {
                uint64_t position = (uint64_t)(first + 2 + offset + r);
                double chosen = score_of(x[r * N + got[r]], temperatures[t], seed, position,
                                         (uint32_t)got[r]);
                for (uint32_t i = 0; i < N; i++)
                    assert_true(score_of(x[r * N + (int)i], temperatures[t], seed, position, i) <=
                                chosen + 1e-5 * (1.0 + fabs(chosen)));
            }
        }
    clear_faults(false);
    free(x);
}

static void a_draw_is_the_sampler_s(void **state)
{
    (void)state;
    struct numbers numbers = {32};
    struct mtp_error error;
    for (size_t n = 1; n <= MOST; n += n < 70 ? 1 : 103) {
        float *x = logits(&numbers, ROWS * n);
        for (int t = 0; t < TEMPERATURES; t++) {
            int32_t got[ROWS], first = (int32_t)next_below(&numbers, 1u << 30);
            uint64_t seed = (uint64_t)next_below(&numbers, UINT32_MAX) << 32 | (uint32_t)t;
            const struct mtp_sampling sampling = {.temperature = temperatures[t], .top_p = 1.0f,
                                                  .min_p = (float)(t % 3) * 0.01f, .seed = seed};
            draw_rows(x, n, (struct draw_noise){seed, temperatures[t], sampling.min_p}, first, 3, got);
            for (int32_t r = 0; r < ROWS; r++) {
                int32_t id;
                assert_int_equal(sampler_draw(x + (size_t)r * n, (uint32_t)n, &sampling,
                                              (uint64_t)first + 3 + (uint64_t)r, &id, &error), MTP_OK);
                assert_int_equal(got[r], id);
            }
        }
        free(x);
    }
    clear_faults(false);
}

static uint32_t word_at(uint64_t seed, uint64_t position, uint32_t id)
{
    uint32_t words[4];
    noise_words(words, seed, position, id / 4);
    return words[id % 4];
}

/* Logits that undo the noise but for its last bits leave these to decide: a twin that rounds differently
 * anywhere draws another id. */
static void the_last_bit_of_the_noise_decides(void **state)
{
    (void)state;
    struct numbers numbers = {33};
    static float x[ROWS * MOST];
    for (uint64_t seed = 0; seed < 300; seed++) {
        size_t n = 900 + next_below(&numbers, MOST - 900);
        int32_t got[ROWS], first = (int32_t)seed * 7;
        for (uint32_t r = 0; r < ROWS; r++)
            for (uint32_t i = 0; i < n; i++) {
                float noise = noise_gumbel(word_at(seed, (uint64_t)first + r, i));
                x[r * n + i] = f32_from_bits(f32_bits(-noise) - 1 + next_below(&numbers, 3));
            }
        draw_rows(x, n, (struct draw_noise){seed, 1.0f}, first, 0, got);
    }
    clear_faults(false);
}

/* Over 0.001 all elements here but zero are infinite: 1 is drawn before 0 before -1. */
static void ties_go_to_the_lowest_id_and_scores_may_overflow(void **state)
{
    (void)state;
    struct numbers numbers = {34};
    static float x[ROWS * MOST];
    for (uint32_t round = 0; round < 60; round++) {
        size_t n = 1 + next_below(&numbers, MOST);
        for (size_t i = 0; i < ROWS * n; i++)
            x[i] = 3e38f * (float)((int)next_below(&numbers, 3 - round % 3) - 1);
        int32_t got[ROWS];
        draw_rows(x, n, (struct draw_noise){round, 0.001f, round % 5 == 4 ? 1.0f : 0.0f}, 5, 0, got);
        for (size_t r = 0; r < ROWS; r++) {
            const float *row = x + r * n;
            size_t first = 0;
            for (size_t i = 1; i < n; i++)
                first = row[i] > row[first] ? i : first;
            assert_true(row[got[r]] == row[first]);
            assert_true(row[first] == 0.0f || (size_t)got[r] == first);
        }
    }
    clear_faults(false);
}

static void values_that_are_not_finite_are_reported(void **state)
{
    (void)state;
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    struct numbers numbers = {35};
    for (size_t n = 1; n < 200; n += 13)
        for (int b = 0; b < 4; b++)
            for (int place = 0; place < 3; place++) {
                float *x = logits(&numbers, ROWS * n);
                int32_t got[ROWS];
                x[2 * n + (place == 0 ? 0 : next_below(&numbers, (uint32_t)n))] = bad[b];
                draw_rows(x, n, (struct draw_noise){n, 0.7f, n % 2 == 0 ? 0.0f : 0.1f}, 9, 1, got);
                clear_faults(true);
                free(x);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_draw_takes_the_largest_logit_with_noise),
        cmocka_unit_test(a_draw_is_the_sampler_s),
        cmocka_unit_test(the_last_bit_of_the_noise_decides),
        cmocka_unit_test(ties_go_to_the_lowest_id_and_scores_may_overflow),
        cmocka_unit_test(values_that_are_not_finite_are_reported),
    };
    return cmocka_run_group_tests(tests, open_backends, close_backends);
}
