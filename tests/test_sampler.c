/* Choosing the next token: filters, ties, noise and the frequencies of what is drawn. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sampler.h"

static const struct mtp_sampling off = { .temperature = 1.0f, .top_k = 0, .top_p = 1.0f,
                                         .min_p = 0.0f, .seed = 7 };

static int32_t draw(const float *logits, uint32_t n, struct mtp_sampling sampling,
                    uint64_t position)
{
    int32_t id = -1;
    struct mtp_error error;
    assert_int_equal(sampler_draw(logits, n, &sampling, position, &id, &error), MTP_OK);
    assert_in_range(id, 0, n - 1);
    return id;
}

/* Logits of some spread, the same in every run. */
static void fill(float *logits, uint32_t n, float spread)
{
    uint32_t x = 12345;
    for (uint32_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        logits[i] = ((float)(x >> 8) / 16777216.0f - 0.5f) * spread;
    }
}

static void temperature_zero_takes_the_largest_and_on_ties_the_lowest_id(void **state)
{
    (void)state;
    struct mtp_sampling greedy = off;
    greedy.temperature = 0.0f;
    const float ties[] = { 1.0f, 3.0f, 2.0f, 3.0f, 3.0f };
    assert_int_equal(draw(ties, 5, greedy, 0), 1);
    const float zeros[] = { -1.0f, -0.0f, 0.0f };
    assert_int_equal(draw(zeros, 3, greedy, 0), 1);
    const float negative[] = { -5.0f, -4.0f, -4.5f };
    assert_int_equal(draw(negative, 3, greedy, 0), 1);
}

static void philox_gives_the_published_known_answers(void **state)
{
    (void)state;
    static const uint32_t known[3][10] = {
        { 0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 },
        { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
          0x41c83b0e, 0xa20bc7c6, 0x6d5451fd },
        { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
          0x94fdcceb, 0x5001e420, 0x24126ea1 },
    };
    for (size_t i = 0; i < 3; i++) {
        uint32_t words[4];
        sampler_philox(words, known[i], known[i] + 4);
        assert_memory_equal(words, known[i] + 6, sizeof words);
    }
}

static void the_noise_is_the_gumbel_quantile_of_its_word(void **state)
{
    (void)state;
    float previous = INFINITY;
    for (uint64_t word = 0; word <= UINT32_MAX; word = word * 5 / 4 + 1) {
        double u = 1.0 - ((double)word + 0.5) / 4294967296.0;
        double expected = -log(-log1p(u - 1.0));
        float noise = sampler_gumbel((uint32_t)word);
        assert_true(fabs((double)noise - expected) < 2e-6 * (1.0 + fabs(expected)));
        assert_true(noise <= previous);
        previous = noise;
    }
    assert_true(sampler_gumbel(0) < 22.875f); /* the bound that drawing relies on */
    assert_true(sampler_gumbel(UINT32_MAX) > -3.2f);
    assert_true(sampler_gumbel((1u << 27) - 1) >= sampler_gumbel(1u << 27));
}

/* Chi-square of n draws at consecutive positions against probabilities; tokens with none must not
 * be drawn. */
static double chi_square(const float *logits, const double *probabilities, uint32_t n_vocab,
                         struct mtp_sampling sampling, uint32_t n)
{
    uint32_t *counts = calloc(n_vocab, sizeof *counts);
    assert_non_null(counts);
    for (uint32_t position = 0; position < n; position++)
        counts[draw(logits, n_vocab, sampling, position)]++;
    double sum = 0.0;
    for (uint32_t i = 0; i < n_vocab; i++) {
        double expected = probabilities[i] * n;
        if (probabilities[i] == 0.0)
            assert_int_equal(counts[i], 0);
        else
            sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    free(counts);
    return sum;
}

static void softmax(double *probabilities, const float *logits, uint32_t n, double temperature)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < n; i++)
        sum += probabilities[i] = exp((double)logits[i] / temperature);
    for (uint32_t i = 0; i < n; i++)
        probabilities[i] /= sum;
}

static void frequencies_match_the_softmax_at_every_temperature(void **state)
{
    (void)state;
    float logits[16];
    double probabilities[16];
    fill(logits, 16, 5.0f);
    static const float temperatures[] = { 0.5f, 1.0f, 2.0f };
    for (size_t t = 0; t < 3; t++) {
        struct mtp_sampling sampling = off;
        sampling.temperature = temperatures[t];
        softmax(probabilities, logits, 16, (double)temperatures[t]);
        /* 15 degrees of freedom: above 44 once in 10,000 seeds; this seed is fixed */
        assert_true(chi_square(logits, probabilities, 16, sampling, 40000) < 44.0);
    }
}

static void frequencies_match_after_the_filters_too(void **state)
{
    (void)state;
    /* 0.4 0.25 0.15 0.1 0.06 0.04, shuffled */
    static const double p[] = { 0.1, 0.4, 0.04, 0.25, 0.06, 0.15 };
    float logits[6];
    for (int i = 0; i < 6; i++)
        logits[i] = (float)log(p[i]);
    const double first_three[] = { 0, 0.4 / 0.8, 0, 0.25 / 0.8, 0, 0.15 / 0.8 };
    struct mtp_sampling sampling = off;
    sampling.top_k = 3;
    assert_true(chi_square(logits, first_three, 6, sampling, 20000) < 20.0);
    sampling = off;
    sampling.top_p = 0.7f; /* 0.4 + 0.25 falls short, + 0.15 reaches it */
    assert_true(chi_square(logits, first_three, 6, sampling, 20000) < 20.0);
    sampling = off;
    sampling.min_p = 0.3f; /* 0.3 * 0.4 = 0.12 */
    assert_true(chi_square(logits, first_three, 6, sampling, 20000) < 20.0);
    /* top_p counts among what top_k left: 0.4 / 0.65 = 0.615 */
    const double first[] = { 0, 1, 0, 0, 0, 0 };
    sampling = off;
    sampling.top_k = 2;
    sampling.top_p = 0.6f;
    assert_true(chi_square(logits, first, 6, sampling, 2000) < 1e-9);
    sampling.top_p = 0.63f;
    const double first_two[] = { 0, 0.4 / 0.65, 0, 0.25 / 0.65, 0, 0 };
    assert_true(chi_square(logits, first_two, 6, sampling, 20000) < 20.0);
}

static void filters_break_ties_by_the_lowest_id(void **state)
{
    (void)state;
    const float equal[] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    for (uint32_t position = 0; position < 300; position++) {
        struct mtp_sampling sampling = off;
        sampling.top_k = 3;
        assert_in_range(draw(equal, 10, sampling, position), 0, 2);
        sampling.top_k = 0;
        sampling.top_p = 0.35f; /* four of ten */
        assert_in_range(draw(equal, 10, sampling, position), 0, 3);
    }
}

static void a_draw_depends_on_seed_and_position_and_on_nothing_else(void **state)
{
    (void)state;
    float logits[1000];
    fill(logits, 1000, 3.0f);
    uint32_t same_seed = 0, same_position = 0;
    for (uint64_t position = 0; position < 500; position++) {
        struct mtp_sampling sampling = off;
        int32_t once = draw(logits, 1000, sampling, position);
        draw(logits, 1000, sampling, position + 17); /* leaves nothing behind */
        assert_int_equal(draw(logits, 1000, sampling, position), once);
        same_position += draw(logits, 1000, sampling, position + 1) == once;
        sampling.seed = 8;
        same_seed += draw(logits, 1000, sampling, position) == once;
    }
    assert_true(same_seed < 50 && same_position < 50);
    struct mtp_sampling high = off; /* all 64 bits of both count */
    high.seed = off.seed + (1ull << 40);
    uint32_t same_high = 0;
    for (uint64_t position = 0; position < 200; position++) {
        same_high += draw(logits, 1000, high, position) == draw(logits, 1000, off, position);
        same_high += draw(logits, 1000, off, position) ==
                     draw(logits, 1000, off, position + (1ull << 40));
    }
    assert_true(same_high < 50);
}

static void leaving_out_other_tokens_does_not_change_a_draw(void **state)
{
    (void)state;
    float logits[512], fewer[512];
    fill(logits, 512, 6.0f);
    for (uint64_t position = 0; position < 300; position++) {
        int32_t all = draw(logits, 512, off, position);
        for (int32_t i = 0; i < 512; i++)
            fewer[i] = i == all || i % 3 == 0 ? logits[i] : -1e30f;
        assert_int_equal(draw(fewer, 512, off, position), all);
        struct mtp_sampling ranked = off; /* the ranked path scores alike */
        ranked.top_k = 511;
        if (logits[all] > -2.9f)
            assert_int_equal(draw(logits, 512, ranked, position), all);
    }
}

static void the_ranked_paths_agree_with_each_other(void **state)
{
    (void)state;
    float logits[2048];
    fill(logits, 2048, 12.0f);
    for (uint32_t i = 0; i < 2048; i += 7)
        logits[i] = logits[(i * 31 + 5) % 2048]; /* ties */
    for (uint64_t position = 0; position < 100; position++) {
        struct mtp_sampling whole = off;
        whole.top_p = 0.9f;
        struct mtp_sampling ranked = whole;
        ranked.top_k = 2047;
        assert_int_equal(draw(logits, 2048, whole, position),
                         draw(logits, 2048, ranked, position));
    }
}

static void settings_out_of_range_are_refused(void **state)
{
    (void)state;
    const float logits[] = { 0, 1 };
    const struct mtp_sampling bad[] = {
        { .temperature = -1.0f, .top_p = 1.0f },  { .temperature = NAN, .top_p = 1.0f },
        { .temperature = 1e-9f, .top_p = 1.0f },  { .temperature = 1.0f, .top_p = 1.5f },
        { .temperature = 1.0f, .top_p = -0.5f },  { .temperature = 1.0f, .top_p = NAN },
        { .temperature = 1.0f, .top_p = 1.0f, .min_p = 2.0f },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int32_t id;
        struct mtp_error error;
        assert_int_equal(sampler_draw(logits, 2, &bad[i], 0, &id, &error), MTP_ERR_USAGE);
        assert_true(strlen(error.message) > 0);
    }
}

static void a_logit_that_is_no_number_ends_the_run_naming_the_token(void **state)
{
    (void)state;
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    for (size_t i = 0; i < 3; i++) {
        float logits[4] = { 0, 1, 2, 3 };
        logits[2] = bad[i];
        struct mtp_sampling greedy = off;
        greedy.temperature = 0.0f;
        int32_t id;
        struct mtp_error error;
        assert_int_equal(sampler_draw(logits, 4, &greedy, 0, &id, &error), MTP_ERR_NUMERIC);
        assert_non_null(strstr(error.message, "token 2"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(temperature_zero_takes_the_largest_and_on_ties_the_lowest_id),
        cmocka_unit_test(philox_gives_the_published_known_answers),
        cmocka_unit_test(the_noise_is_the_gumbel_quantile_of_its_word),
        cmocka_unit_test(frequencies_match_the_softmax_at_every_temperature),
        cmocka_unit_test(frequencies_match_after_the_filters_too),
        cmocka_unit_test(filters_break_ties_by_the_lowest_id),
        cmocka_unit_test(a_draw_depends_on_seed_and_position_and_on_nothing_else),
        cmocka_unit_test(leaving_out_other_tokens_does_not_change_a_draw),
        cmocka_unit_test(the_ranked_paths_agree_with_each_other),
        cmocka_unit_test(settings_out_of_range_are_refused),
        cmocka_unit_test(a_logit_that_is_no_number_ends_the_run_naming_the_token),
    };
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
