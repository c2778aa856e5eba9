/* What counts of drafts say: by hand, where the numbers are small, and against a step-by-step count
 * where they are not. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mtp/acceptance.h"

/* One step as the engine counts it: n_drafts proposed, n_accepted given. ended: the text ended at
 * the last token given, so the next draft was looked at by nobody. */
static void count_step(struct mtp_draft_stats *stats, uint32_t n_drafts, uint32_t n_accepted,
                       bool ended)
{
    stats->steps++;
    stats->tokens += n_accepted + 1;
    stats->drafted += n_drafts;
    stats->accepted += n_accepted;
    stats->histogram[n_accepted]++;
    stats->width_steps[n_drafts]++;
    for (uint32_t i = 0; i < n_drafts; i++) {
        stats->drafted_at[i]++;
        stats->accepted_at[i] += i < n_accepted;
        stats->compared_at[i] += i < n_accepted + !ended;
    }
}

static void near(double value, double wanted)
{
    assert_true(fabs(value - wanted) < 1e-12);
}

static void no_drafts_give_one_token_a_step_and_no_positions(void **state)
{
    (void)state;
    struct mtp_draft_stats stats = { 0 };
    struct acceptance acceptance;
    acceptance_compute(&acceptance, &stats);
    near(acceptance.rate, 0.0);
    near(acceptance.mean_length, 0.0);
    assert_int_equal(acceptance.n_positions, 0);
    for (int i = 0; i < 5; i++)
        count_step(&stats, 0, 0, false);
    acceptance_compute(&acceptance, &stats);
    near(acceptance.mean_length, 1.0);
    near(acceptance.rate, 0.0);
    assert_int_equal(acceptance.n_positions, 0);
    assert_true(isnan(acceptance.conditional[0]) && isnan(acceptance.cumulative[0]));
}

static void rates_by_position_are_conditional_and_cumulative(void **state)
{
    (void)state;
    struct mtp_draft_stats stats = { 0 };
    struct acceptance acceptance;
    /* 10 steps of 3 drafts: 4 accept none, 3 one, 1 two, 2 all. */
    static const uint32_t accepted[10] = { 0, 1, 3, 0, 1, 0, 2, 3, 0, 1 };
    for (int i = 0; i < 10; i++)
        count_step(&stats, 3, accepted[i], false);
    acceptance_compute(&acceptance, &stats);
    assert_int_equal(acceptance.n_positions, 3);
    near(acceptance.rate, 11.0 / 30.0);
    near(acceptance.mean_length, 2.1); /* 11 drafts and 10 tokens beside them */
    near(acceptance.conditional[0], 0.6);
    near(acceptance.conditional[1], 3.0 / 6.0);
    near(acceptance.conditional[2], 2.0 / 3.0);
    near(acceptance.cumulative[0], 0.6);
    near(acceptance.cumulative[1], 0.3);
    near(acceptance.cumulative[2], 0.2);
    double product = 1.0; /* with one width the conditional rates multiply to the cumulative ones */
    for (int i = 0; i < 3; i++) {
        product *= acceptance.conditional[i];
        near(acceptance.cumulative[i], product);
    }
}

static void steps_of_different_widths_count_only_drafts_that_were_there(void **state)
{
    (void)state;
    struct mtp_draft_stats stats = { 0 };
    struct acceptance acceptance;
    count_step(&stats, 1, 1, false); /* no second draft: says nothing about depth 2 */
    count_step(&stats, 1, 1, false);
    count_step(&stats, 2, 1, false);
    count_step(&stats, 2, 2, false);
    count_step(&stats, 0, 0, false);
    acceptance_compute(&acceptance, &stats);
    assert_int_equal(acceptance.n_positions, 2);
    near(acceptance.conditional[0], 1.0);
    near(acceptance.conditional[1], 0.5);
    near(acceptance.cumulative[1], 0.5);
    near(acceptance.mean_length, 2.0);
    assert_int_equal(stats.width_steps[1], 2);
}

static void a_text_that_ends_inside_a_run_says_nothing_about_the_drafts_behind(void **state)
{
    (void)state;
    struct mtp_draft_stats stats = { 0 };
    struct acceptance acceptance;
    count_step(&stats, 3, 3, false);
    count_step(&stats, 3, 1, true);
    acceptance_compute(&acceptance, &stats);
    near(acceptance.conditional[0], 1.0);
    near(acceptance.conditional[1], 1.0);
    near(acceptance.cumulative[1], 0.5); /* of drafts proposed, one was given */
}

static void nothing_is_said_of_a_depth_that_no_step_reached(void **state)
{
    (void)state;
    struct mtp_draft_stats stats = { 0 };
    struct acceptance acceptance;
    for (int i = 0; i < 4; i++)
        count_step(&stats, 3, 0, false);
    acceptance_compute(&acceptance, &stats);
    assert_int_equal(acceptance.n_positions, 3);
    near(acceptance.conditional[0], 0.0);
    assert_true(isnan(acceptance.conditional[1]));
    near(acceptance.cumulative[2], 0.0);
    near(acceptance.mean_length, 1.0);
}

static void counts_of_sessions_add_up_and_their_digests_chain(void **state)
{
    (void)state;
    struct mtp_draft_stats first = { 0 }, second = { 0 }, whole = { 0 }, sum = { 0 };
    for (uint32_t i = 0; i < 50; i++) {
        count_step(i < 20 ? &first : &second, i % 9, i % 9 / 2, i == 49);
        count_step(&whole, i % 9, i % 9 / 2, i == 49);
    }
    first.draft_seconds = 0.25, first.verify_seconds = 1.0, first.commit_seconds = 0.5;
    second.draft_seconds = 0.5, second.verify_seconds = 2.0, second.commit_seconds = 0.125;
    first.digest = 0x1234;
    second.digest = 0x99;
    acceptance_add(&sum, &first);
    assert_true(sum.digest == 0x1234);
    assert_memory_equal(&sum, &first, sizeof sum);
    acceptance_add(&sum, &second);
    near(sum.draft_seconds, 0.75);
    near(sum.verify_seconds, 3.0);
    near(sum.commit_seconds, 0.625);
    uint64_t digest = sum.digest;
    whole.draft_seconds = 0.75, whole.verify_seconds = 3.0, whole.commit_seconds = 0.625;
    whole.digest = digest;
    assert_memory_equal(&sum, &whole, sizeof sum);

    struct mtp_draft_stats other = { 0 }; /* the order matters */
    acceptance_add(&other, &second);
    acceptance_add(&other, &first);
    assert_true(other.digest != digest);
}

static void a_head_looks_broken_below_a_tenth_of_a_hundred_drafts(void **state)
{
    (void)state;
    static const struct {
        uint64_t drafted, accepted;
        bool broken;
    } cases[] = {
        { 0, 0, false },      { 99, 0, false },    { 100, 0, true },      { 100, 9, true },
        { 100, 10, false },   { 101, 10, true },   { 1000000, 99999, true },
        { 1000000, 100000, false },                { 200, 190, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mtp_draft_stats stats = { .drafted = cases[i].drafted,
                                         .accepted = cases[i].accepted };
        assert_int_equal(acceptance_looks_broken(&stats), cases[i].broken);
    }
}

static void bars_are_in_proportion_and_never_hide_a_count(void **state)
{
    (void)state;
    assert_int_equal(acceptance_bar(0, 0, 40), 0);
    assert_int_equal(acceptance_bar(0, 7, 40), 0);
    assert_int_equal(acceptance_bar(7, 7, 40), 40);
    assert_int_equal(acceptance_bar(1, 2, 40), 20);
    assert_int_equal(acceptance_bar(1, 1000000, 40), 1);
    assert_int_equal(acceptance_bar(999999, 1000000, 40), 40);
    assert_int_equal(acceptance_bar(UINT64_MAX, UINT64_MAX, 40), 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_drafts_give_one_token_a_step_and_no_positions),
        cmocka_unit_test(rates_by_position_are_conditional_and_cumulative),
        cmocka_unit_test(steps_of_different_widths_count_only_drafts_that_were_there),
        cmocka_unit_test(a_text_that_ends_inside_a_run_says_nothing_about_the_drafts_behind),
        cmocka_unit_test(nothing_is_said_of_a_depth_that_no_step_reached),
        cmocka_unit_test(counts_of_sessions_add_up_and_their_digests_chain),
        cmocka_unit_test(a_head_looks_broken_below_a_tenth_of_a_hundred_drafts),
        cmocka_unit_test(bars_are_in_proportion_and_never_hide_a_count),
    };
    return cmocka_run_group_tests_name("acceptance", tests, NULL, NULL);
}
