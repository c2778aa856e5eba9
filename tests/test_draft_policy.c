/* test_draft_policy.c - what `auto` chooses: depth by tokens a second, and how much of the head to read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mtp/draft_policy.h"

static struct draft_policy *fresh(mtp_session *session)
{
    struct mtp_error error;
    memset(session, 0, sizeof *session);
    assert_int_equal(draft_policy_open(session, &error), MTP_OK);
    return session->policy;
}

/* A machine and a text: seconds of a step with n drafts, and every `reject`-th draft is wrong (0: none). */
struct world {
    double seconds[AUTO_DRAFTS + 1];
    uint32_t reject, drafts_seen;
};

/* What the policy did there. */
struct outcome {
    uint32_t steps[AUTO_DRAFTS + 1];
    uint32_t tokens;
    double seconds;
};

static struct outcome live(struct draft_policy *policy, struct world *world, uint32_t tokens)
{
    struct outcome out = {{0}, 0, 0};
    while (out.tokens < tokens) {
        uint32_t n = draft_policy_choose(policy), given = 1;
        assert_in_range(n, 0, AUTO_DRAFTS);
        for (uint32_t i = 0; i < n; i++, given++)
            if (world->reject != 0 && ++world->drafts_seen % world->reject == 0)
                break;
        out.steps[n]++;
        out.tokens += given;
        out.seconds += world->seconds[n];
        draft_policy_learn(policy, n, given, world->seconds[n]);
    }
    return out;
}

/* Drafts are cheap and all right: the deepest is best. */
static void drafting_that_pays_goes_on_and_plain_steps_are_timed_now_and_then(void **state)
{
    (void)state;
    mtp_session session;
    struct draft_policy *policy = fresh(&session);
    struct world world = {{1.0, 1.3, 1.5, 1.7}, 0, 0};
    struct outcome out = live(policy, &world, 2000);
    assert_true(out.steps[3] > 400);
    assert_in_range(out.steps[0], 8, 32 + 2 * 2000 / 64);
    free(policy);
}

static void drafting_that_does_not_pay_costs_no_more_than_two_percent(void **state)
{
    (void)state;
    for (uint32_t reject = 1; reject <= 3; reject++) {
        mtp_session session;
        struct draft_policy *policy = fresh(&session);
        struct world world = {{1.0, 1.8, 2.6, 3.4}, reject, 0};
        struct outcome out = live(policy, &world, 1000);
        assert_true(out.seconds < 1.02 * out.tokens);
        uint32_t trials = out.steps[1] + out.steps[2] + out.steps[3];
        assert_in_range(trials, 3, 3 + 2 * 1000 / 64);
        free(policy);
    }
}

/* Costs of the bundled model on two cores: a trial is dear, and a short text has room for one. */
static void a_short_text_loses_no_more_than_two_percent(void **state)
{
    (void)state;
    for (uint32_t reject = 1; reject <= 4; reject++) {
        mtp_session session;
        struct draft_policy *policy = fresh(&session);
        struct world world = {{1.0, 2.05, 2.95, 3.7}, reject, 0};
        struct outcome out = live(policy, &world, 256);
        assert_true(out.seconds < 1.02 * out.tokens);
        assert_true(out.steps[1] >= 1);
        free(policy);
    }
}

static void a_short_text_gains_from_drafts_that_pay(void **state)
{
    (void)state;
    mtp_session session;
    struct draft_policy *policy = fresh(&session);
    struct world world = {{1.0, 1.3, 1.5, 1.7}, 0, 0};
    struct outcome out = live(policy, &world, 256);
    assert_true(out.seconds < 0.56 * out.tokens);
    free(policy);
}

/* The text changes and drafts are right again: a few trials later drafting is back. */
static void a_change_of_text_is_noticed(void **state)
{
    (void)state;
    mtp_session session;
    struct draft_policy *policy = fresh(&session);
    struct world world = {{1.0, 1.4, 1.8, 2.2}, 1, 0};
    live(policy, &world, 640);
    world.reject = 0;
    live(policy, &world, 2000);
    struct outcome out = live(policy, &world, 640);
    assert_true(out.steps[3] > 120);
    assert_true(out.seconds < 0.7 * out.tokens);
    world.reject = 1;
    live(policy, &world, 100);
    out = live(policy, &world, 640);
    assert_true(out.seconds < 1.02 * out.tokens);
    free(policy);
}

static void the_depth_follows_acceptance(void **state)
{
    (void)state;
    mtp_session session;
    struct draft_policy *policy = fresh(&session);
    /* Every second draft is wrong: one draft gives 1.5 tokens for 1.2, two 1.75 for 1.6. */
    struct world world = {{1.0, 1.2, 1.6, 2.0}, 2, 0};
    struct outcome out = live(policy, &world, 1000);
    assert_true(out.steps[1] > 10 * (out.steps[2] + out.steps[3]));
    assert_true(out.steps[1] > 5 * out.steps[0]);
    free(policy);
}

/* One step in ten takes a hundred times as long: the machine was busy. */
static void steps_interrupted_do_not_decide(void **state)
{
    (void)state;
    mtp_session session;
    struct draft_policy *policy = fresh(&session);
    uint32_t drafted = 0;
    for (uint32_t i = 0; i < 600; i++) {
        uint32_t n = draft_policy_choose(policy);
        drafted += n > 0;
        draft_policy_learn(policy, n, n + 1, (1.0 + 0.2 * n) * (i % 10 == 9 ? 100.0 : 1.0));
    }
    assert_true(drafted > 500);
    free(policy);
}

/* A caller may draft any number before it leaves the choice to us. */
static void steps_of_the_callers_own_depth_are_no_surprise(void **state)
{
    (void)state;
    for (uint32_t own = 0; own <= MTP_MAX_DRAFT; own++) {
        mtp_session session;
        struct draft_policy *policy = fresh(&session);
        for (int i = 0; i < 20; i++)
            draft_policy_learn(policy, own, 1 + own, 1.0);
        struct world world = {{1.0, 1.3, 1.5, 1.7}, 0, 0};
        struct outcome out = live(policy, &world, 600);
        assert_true(out.steps[3] > 100);
        free(policy);
    }
}

static void part_of_the_head_is_read_while_tokens_lie_in_it(void **state)
{
    (void)state;
    mtp_session session;
    struct draft_policy *policy = fresh(&session);
    assert_int_equal(draft_policy_head_rows(policy, 8192), 4096);
    assert_int_equal(draft_policy_head_rows(policy, 248320), PART_MOST);
    for (int i = 0; i < 200; i++)
        draft_policy_saw(policy, i % 10 == 0 ? 5000 : 100, 8192); /* one in ten lies outside */
    assert_int_equal(draft_policy_head_rows(policy, 8192), 8192);
    for (int i = 0; i < 200; i++)
        draft_policy_saw(policy, 100, 8192);
    assert_int_equal(draft_policy_head_rows(policy, 8192), 4096);
    free(policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafting_that_pays_goes_on_and_plain_steps_are_timed_now_and_then),
        cmocka_unit_test(drafting_that_does_not_pay_costs_no_more_than_two_percent),
        cmocka_unit_test(a_short_text_loses_no_more_than_two_percent),
        cmocka_unit_test(a_short_text_gains_from_drafts_that_pay),
        cmocka_unit_test(a_change_of_text_is_noticed),
        cmocka_unit_test(the_depth_follows_acceptance),
        cmocka_unit_test(steps_interrupted_do_not_decide),
        cmocka_unit_test(steps_of_the_callers_own_depth_are_no_surprise),
        cmocka_unit_test(part_of_the_head_is_read_while_tokens_lie_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
