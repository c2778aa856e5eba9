/* draft_policy.c - see draft_policy.h. */
#include "draft_policy.h"

#include <stdlib.h>

/* At the start plain steps are timed, the first of them in cold caches. Depths not timed yet are taken to
 * cost what the step before added. */
enum { FIRST_PLAIN = 8, SAMPLES = 9 };

/* While plain steps win, drafts are tried after FIRST_TRIAL tokens, then ever less often: a trial that
 * fails costs two or three plain steps, and a short text has few. While drafts win, plain steps are timed
 * as often as once in PROBE_TOKENS, in turn with a draft more. A trial of drafts goes on, deeper with every
 * step, while they are all accepted, so that a change of text shows within some steps and no depth is
 * judged untried. */
enum {
    FIRST_TRIAL = 32,
    PROBE_TOKENS = 64,
    PROBE_SELDOM = 256,
    PROBE_LEAST_OFTEN = 512,
    PROBE_STEPS = 8,
    PROBE_PLAIN = 2
};

/* Weight of the newest draft in the acceptance of its depth, and what is assumed before any. */
static const double newest = 0.1, assumed_acceptance = 0.7;

/* Drafting must promise so much more than plain steps: estimates are noisy, and a tie is not worth it. */
static const double least_gain = 1.05;

/* A token outside the part ends the run of accepted drafts, which costs about as much as reading half of
 * a small model's head in three steps saves (docs/performance.md, "The draft head"). */
static const double outside_decay = 0.98, outside_most = 0.04;

/* Steps with one number of drafts. */
struct way {
    double seconds[SAMPLES]; /* of the latest; the median is taken, a step interrupted is no measure */
    uint32_t n;              /* timed, SAMPLES at most are kept */
    double median;
};

struct draft_policy {
    struct way ways[AUTO_DRAFTS + 1]; /* by drafts */
    double acceptance[AUTO_DRAFTS];   /* of the draft at this depth, those before it accepted */
    uint32_t tokens;                  /* since the way not preferred was tried */
    uint32_t interval;                /* tokens between trials of drafts */
    uint32_t trial;                   /* steps of the trial under way */
    bool deeper;                      /* the next trial is of a draft more, not of plain steps */
    bool tried;                       /* drafts were tried */
    uint32_t best;                    /* depth that promises most; 0 until is_ready */
    double outside; /* decayed share of tokens given that lie outside the part */
};

enum mtp_status draft_policy_open(mtp_session *session, struct mtp_error *error)
{
    struct draft_policy *policy = calloc(1, sizeof *policy);
    session->policy = policy;
    if (policy == NULL)
        return mtp_fail_memory(error, "the draft policy", sizeof *policy);
    for (int i = 0; i < AUTO_DRAFTS; i++)
        policy->acceptance[i] = assumed_acceptance;
    policy->interval = FIRST_TRIAL;
    return MTP_OK;
}

static void time_way(struct way *way, double seconds)
{
    double sorted[SAMPLES];
    way->seconds[way->n++ % SAMPLES] = seconds;
    uint32_t n = way->n < SAMPLES ? way->n : SAMPLES;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] > way->seconds[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = way->seconds[i];
    }
    way->median = sorted[n / 2];
}

/* Whether the time that all others are judged by is known. */
static bool is_ready(const struct draft_policy *policy)
{
    return policy->ways[0].n >= FIRST_PLAIN;
}

/* Seconds of a step with n drafts, when is_ready. */
static double cost(const struct draft_policy *policy, uint32_t n)
{
    double seconds = policy->ways[0].median, added = seconds;
    for (uint32_t i = 1; i <= n; i++) {
        if (policy->ways[i].n > 0)
            added = policy->ways[i].median - seconds;
        seconds += added;
    }
    return seconds;
}

/* Expected tokens a second of steps with n drafts. */
static double rate(const struct draft_policy *policy, uint32_t n)
{
    double tokens = 1.0, all = 1.0;
    for (uint32_t i = 0; i < n; i++) {
        all *= policy->acceptance[i];
        tokens += all;
    }
    double seconds = cost(policy, n);
    return seconds > 0.0 ? tokens / seconds : 0.0;
}

static uint32_t choose_best(const struct draft_policy *policy)
{
    uint32_t chosen = 0;
    if (!is_ready(policy))
        return 0;
    double wanted = least_gain * rate(policy, 0);
    for (uint32_t n = 1; n <= AUTO_DRAFTS; n++)
        if (rate(policy, n) > wanted) {
            chosen = n;
            wanted = rate(policy, n);
        }
    return chosen;
}

bool draft_policy_gave_up(const struct draft_policy *policy)
{
    return policy->tried && policy->best == 0;
}

uint32_t draft_policy_choose(const struct draft_policy *policy)
{
    if (!is_ready(policy))
        return 0;
    uint32_t chosen = policy->best;
    if (chosen > 0 && policy->trial == 0 && policy->tokens < PROBE_TOKENS)
        return chosen;
    if (chosen > 0)
        return policy->deeper && chosen < AUTO_DRAFTS ? chosen + 1 : 0;
    if (policy->trial > 0)
        return policy->trial < AUTO_DRAFTS ? policy->trial + 1 : AUTO_DRAFTS;
    return policy->tokens >= policy->interval;
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

static void learn_acceptance(struct draft_policy *policy, uint32_t n_drafts, uint32_t n_accepted)
{
    for (uint32_t i = 0; i < n_drafts && i <= n_accepted; i++) {
        double *acceptance = &policy->acceptance[i];
        *acceptance += newest * ((i < n_accepted ? 1.0 : 0.0) - *acceptance);
        /* Depths never reached know no better than those before them. */
        for (uint32_t deeper = i + 1; deeper < AUTO_DRAFTS; deeper++)
            if (policy->ways[deeper + 1].n == 0)
                policy->acceptance[deeper] = *acceptance;
    }
}

/* A way other than the preferred one was tried. */
static void learn_trial(struct draft_policy *policy, uint32_t preferred, uint32_t n_drafts,
                        uint32_t n_tokens)
{
    bool all_accepted = n_drafts > 0 && n_tokens > n_drafts;
    uint32_t now_preferred = policy->best;
    bool goes_on = n_drafts == 0 ? policy->trial + 1 < PROBE_PLAIN
                                 : all_accepted && policy->trial < PROBE_STEPS;
    bool succeeded = all_accepted && !goes_on;
    goes_on = goes_on && now_preferred == preferred;
    policy->tried = policy->tried || (n_drafts > 0 && !goes_on);
    policy->trial = goes_on ? policy->trial + 1 : 0;
    policy->tokens = 0;
    policy->deeper = goes_on ? policy->deeper : n_drafts == 0;
    if (now_preferred > 0 || preferred > 0 || succeeded)
        policy->interval = PROBE_TOKENS;
    else if (!goes_on)
        policy->interval = policy->interval < PROBE_SELDOM ? PROBE_SELDOM : PROBE_LEAST_OFTEN;
}

void draft_policy_learn(struct draft_policy *policy, uint32_t n_drafts, uint32_t n_tokens,
                        double seconds)
{
    if (n_drafts > AUTO_DRAFTS)
        return; /* the caller's own number */
    uint32_t preferred = policy->best;
    time_way(&policy->ways[n_drafts], seconds);
    learn_acceptance(policy, n_drafts, n_tokens - 1);
    policy->best = choose_best(policy);
    policy->tokens += n_tokens;
    if (n_drafts > preferred || (n_drafts == 0 && preferred > 0))
        learn_trial(policy, preferred, n_drafts, n_tokens);
}
