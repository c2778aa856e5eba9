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

/* Drafted steps chosen among `steps`, when drafting gives `tokens` a step at `cost` plain steps. */
static uint32_t drafted_steps(struct draft_policy *policy, uint32_t steps, uint32_t tokens, double cost)
{
    uint32_t drafted = 0;
    for (uint32_t i = 0; i < steps; i++) {
        uint32_t n = draft_policy_choose(policy);
        assert_in_range(n, 0, AUTO_DRAFTS);
        drafted += n > 0;
        draft_policy_learn(policy, n, n > 0 ? tokens : 1, n > 0 ? cost : 1.0);
    }
    return drafted;
}

static void drafting_that_pays_goes_on_and_is_checked_now_and_then(void **state)
{
    (void)state;
    mtp_session session;
    struct draft_policy *policy = fresh(&session);
    uint32_t drafted = drafted_steps(policy, 640, 3, 2.0);
    assert_in_range(drafted, 600, 636);
    free(policy);
}

static void drafting_that_does_not_pay_stops_and_is_tried_again(void **state)
{
    (void)state;
    mtp_session session;
    struct draft_policy *policy = fresh(&session);
    uint32_t drafted = drafted_steps(policy, 640, 1, 2.0);
    assert_in_range(drafted, 9, 30);
    /* The text changes and drafts are accepted again: a few probes later drafting is back. */
    drafted = drafted_steps(policy, 1280, 4, 2.0);
    assert_true(drafted > 600);
    free(policy);
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
        cmocka_unit_test(drafting_that_pays_goes_on_and_is_checked_now_and_then),
        cmocka_unit_test(drafting_that_does_not_pay_stops_and_is_tried_again),
        cmocka_unit_test(part_of_the_head_is_read_while_tokens_lie_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
