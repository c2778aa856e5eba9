/* draft_policy.c - see draft_policy.h. */
#include "draft_policy.h"

#include <stdlib.h>

/* Plain steps are timed first, then drafting ones; after that the worse way is tried again for one
 * step in PROBE_EVERY. Averages decay so that a change of text shows within a few dozen steps. */
enum { FIRST_PLAIN = 2, FIRST_DRAFTING = 8, PROBE_EVERY = 64 };
static const double decay = 0.95;

/* A token outside the part ends the run of accepted drafts, which costs about as much as reading half of
 * a small model's head in three steps saves (docs/performance.md, "The draft head"). */
static const double outside_decay = 0.98, outside_most = 0.04;

struct way {
    double tokens, seconds; /* decayed sums */
    uint64_t steps;
};

struct draft_policy {
    struct way plain, drafting;
    uint64_t steps;
    double outside; /* decayed share of tokens given that lie outside the part */
};

enum mtp_status draft_policy_open(mtp_session *session, struct mtp_error *error)
{
    session->policy = calloc(1, sizeof *session->policy);
    if (session->policy == NULL)
        return mtp_fail_memory(error, "the draft policy", sizeof *session->policy);
    return MTP_OK;
}

static double rate(const struct way *way)
{
    return way->seconds > 0.0 ? way->tokens / way->seconds : 0.0;
}

uint32_t draft_policy_choose(const struct draft_policy *policy)
{
    if (policy->plain.steps < FIRST_PLAIN)
        return 0;
    if (policy->drafting.steps < FIRST_DRAFTING)
        return AUTO_DRAFTS;
    bool pays = rate(&policy->drafting) > rate(&policy->plain);
    if (policy->steps % PROBE_EVERY == 0)
        pays = !pays;
    return pays ? AUTO_DRAFTS : 0;
}

static uint32_t part_rows(uint32_t n_vocab)
{
    uint32_t half = n_vocab / 2;
    return half < PART_MOST ? half : PART_MOST;
}

uint32_t draft_policy_head_rows(const struct draft_policy *policy, uint32_t n_vocab)
{
    return policy->outside > outside_most || n_vocab < 2 ? n_vocab : part_rows(n_vocab);
}

void draft_policy_saw(struct draft_policy *policy, int32_t id, uint32_t n_vocab)
{
    double outside = (uint32_t)id >= part_rows(n_vocab) ? 1.0 : 0.0;
    policy->outside = policy->outside * outside_decay + outside * (1.0 - outside_decay);
}

void draft_policy_learn(struct draft_policy *policy, uint32_t n_drafts, uint32_t n_tokens,
                        double seconds)
{
    struct way *way = n_drafts == 0 ? &policy->plain : &policy->drafting;
    way->tokens = way->tokens * decay + (double)n_tokens;
    way->seconds = way->seconds * decay + seconds;
    way->steps++;
    policy->steps++;
}
