/* draft_policy.c - see draft_policy.h. */
#include "draft_policy.h"

#include <stdlib.h>
#include <string.h>

/* Where no pass was timed before the first step, plain steps are, the first of them in cold caches. Once a
 * way is known, one step in SELDOM replaces a sample: the index follows what changes meanwhile. */
enum { FIRST_PLAIN = 8, SAMPLES = 9, SELDOM = 8 };

/* While drafts win, a plain step and a draft more are timed in turn, after so many tokens; more seldom where
 * they win by far. */
enum { PROBE_TOKENS = 128, PROBE_SELDOM = 512 };

/* Times taken before the first step may have been taken in a bad moment, and where drafts seem to win nothing
 * would tell: the first plain steps come sooner, after so many tokens each. */
enum { PROBES_FIRST = 3, PROBE_FIRST_TOKENS = 10 };
static const double wins_by_far = 1.3;

/* Drafting must promise so much more than plain steps to begin, and to go on: estimates are noisy. */
static const double gain_to_begin = 1.015, gain_to_go_on = 1.0;

/* Drafts from the text need no trials, so nothing else bounds what they lose where they only seem to win:
 * for each plain step of debt they must promise more by this. */
static const double gain_a_debt = 0.1;

/* While plain steps win, a trial is paid from an account, counted in plain steps: what it begins with, what
 * every plain step adds, the most it holds of what drafts have gained, and how deep drafts that were thought
 * to win, and trials, may bring it into debt. A trial whose drafts were all right goes on for less, a draft
 * deeper. No trial is cheaper than least_cost: estimates near a tie are noise. tests/test_draft_policy.c has
 * what comes of these numbers: at most 1 % is lost. */
static const double account_first = 0.2, account_step = 0.003, account_most = 2.5,
                    account_least = -0.1, account_debt = -2.0;
static const double needed_to_go_on = 0.8, least_cost = 0.1;

/* A token outside the part ends the run of accepted drafts, which costs about as much as reading half of
 * a small model's head in three steps saves (docs/performance.md, "The draft head"). */
static const double outside_decay = 0.98, outside_most = 0.04;

/* The index of a table follows the time of what is well known by this share, and by no more than `jump` a
 * step: a step interrupted is no measure. */
static const double following = 0.1, jump = 0.25;

/* What a row more takes, of a pass of one row, before any other was timed. */
static const double assumed_slope = 0.1;

/* Passes of one number of rows, or of drafts. */
struct way {
    double seconds[SAMPLES]; /* by the index of their time; the median is taken */
    uint32_t n, seen;        /* samples taken, of so many steps */
    double median;
};

/* ways[0] of drafts takes no time. Ways not used for a while are kept in step by the index: a context that
 * grows or a busy machine slows all of them. */
enum { MOST_WAYS = AUTO_DRAFTS + 2 };
struct costs {
    struct way ways[MOST_WAYS];
    uint32_t least; /* the first way there is */
    double index;
};

struct draft_policy {
    struct costs passes, drafts;
    struct draft_chances chances;
    bool timed;            /* before the first step */
    bool drafting;         /* drafts win */
    bool tried;            /* the head has drafted */
    uint32_t since_probe;  /* tokens */
    uint32_t plain_steps;  /* so far */
    bool probing, probe_deeper; /* this step is a probe; the next is of a draft more, not of a plain step */
    uint32_t deeper;       /* drafts of the trial under way, all accepted so far */
    double account;        /* plain steps that trials of the head may cost */
    double text_account;   /* plain steps that drafts from the text have gained, or lost */
    double catch_up;       /* seconds of the last one */
    double outside;        /* decayed share of tokens given that lie outside the part */
};

enum mtp_status draft_policy_open(mtp_session *session, struct mtp_error *error)
{
    struct draft_policy *policy = calloc(1, sizeof *policy);
    session->policy = policy;
    if (policy == NULL)
        return mtp_fail_memory(error, "the draft policy", sizeof *policy);
    policy->passes.index = policy->drafts.index = 1.0;
    policy->passes.least = 1;
    policy->account = account_first;
    return MTP_OK;
}

/* ---- what passes take -------------------------------------------------------------------- */

static void add_sample(struct way *way, double seconds)
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
    way->median = sorted[(n - 1) / 2];
}

static bool is_known(const struct costs *costs, uint32_t n)
{
    return n == 0 || costs->ways[n].n > 0;
}

static double clamp(double value, double least, double most)
{
    return value < least ? least : value > most ? most : value;
}

/* A way that is known well moves the index more than itself. */
static void add_time(struct costs *costs, uint32_t n, double seconds)
{
    struct way *way = &costs->ways[n];
    if (way->n >= SAMPLES && way->median > 0.0) {
        double ratio = clamp(seconds / (way->median * costs->index), 1.0 - jump, 1.0 + jump);
        costs->index *= 1.0 + following * (ratio - 1.0);
    }
    if (way->n < SAMPLES || way->seen++ % SELDOM == 0)
        add_sample(way, seconds / costs->index);
}

/* Seconds of way n: between those timed on a straight line, beyond them on the line of the last two. */
static double seconds_of(const struct costs *costs, uint32_t n)
{
    uint32_t at[2] = {MOST_WAYS, MOST_WAYS}; /* the two ways the line goes through */
    for (uint32_t i = costs->least; i < MOST_WAYS; i++) {
        if (!is_known(costs, i))
            continue;
        at[0] = at[1];
        at[1] = i;
        if (i >= n && (at[0] < MOST_WAYS || i == n))
            break;
    }
    if (at[1] == MOST_WAYS)
        return 0.0;
    double last = costs->ways[at[1]].median;
    if (at[1] == n)
        return costs->index * last;
    if (at[0] == MOST_WAYS) /* the first trial is not to be of the most there is */
        return costs->index * last * (1.0 + assumed_slope * ((double)n - (double)at[1]));
    double slope = (last - costs->ways[at[0]].median) / (double)(at[1] - at[0]);
    double seconds = last + (slope > 0.0 ? slope : 0.0) * ((double)n - (double)at[1]);
    return costs->index * (seconds > 0.0 ? seconds : last);
}

double draft_policy_pass_seconds(const struct draft_policy *policy, uint32_t n_drafts)
{
    return seconds_of(&policy->passes, n_drafts + 1);
}

double draft_policy_draft_seconds(const struct draft_policy *policy, uint32_t n_drafts)
{
    return n_drafts > 0 ? seconds_of(&policy->drafts, n_drafts) : 0.0;
}

void draft_policy_timed(struct draft_policy *policy, bool drafts, uint32_t n, double seconds)
{
    for (int i = 0; i < 3; i++) /* so that one step of the text, maybe interrupted, does not decide */
        add_sample(&(drafts ? &policy->drafts : &policy->passes)->ways[n], seconds);
    policy->timed = true;
}

/* Whether the time that all others are judged by is known. */
static bool is_ready(const struct draft_policy *policy)
{
    return policy->passes.ways[1].n >= (policy->timed ? 1 : FIRST_PLAIN);
}

/* ---- what drafts are worth --------------------------------------------------------------- */

static void improve(const struct draft_policy *policy, const double p[AUTO_DRAFTS],
                    enum mtp_draft_source source, uint32_t most, struct draft_choice *best, double *rate)
{
    double tokens = 1.0, all = 1.0;
    for (uint32_t n = 1; n <= most && n <= AUTO_DRAFTS; n++) {
        all *= p[n - 1];
        tokens += all;
        double drafts = source == MTP_DRAFT_HEAD ? draft_policy_draft_seconds(policy, n) : 0.0;
        double now = tokens / (draft_policy_pass_seconds(policy, n) + drafts);
        if (now > *rate) {
            *rate = now;
            *best = (struct draft_choice){n, source};
        }
    }
}

/* The drafts that promise most; *gain is their tokens a second by those of plain steps. */
static struct draft_choice best_drafts(const struct draft_policy *policy, const struct draft_offer *offer,
                                       double *gain)
{
    struct draft_choice best = {0, MTP_DRAFT_HEAD};
    double plain = 1.0 / draft_policy_pass_seconds(policy, 0), rate = 0.0, p[AUTO_DRAFTS];
    draft_chances_of_head(&policy->chances, p);
    if (offer->head)
        improve(policy, p, MTP_DRAFT_HEAD, offer->most, &best, &rate);
    draft_chances_of_match(&policy->chances, offer->matched, p);
    if (offer->matched >= NGRAM_SHORTEST)
        improve(policy, p, MTP_DRAFT_NGRAM, offer->most, &best, &rate);
    *gain = rate / plain;
    return best;
}

bool draft_policy_gave_up(const struct draft_policy *policy)
{
    return policy->tried && !policy->drafting;
}

/* What a trial of one draft is expected to cost, in plain steps. */
static double trial_cost(const struct draft_policy *policy)
{
    double plain = draft_policy_pass_seconds(policy, 0), p[AUTO_DRAFTS];
    double seconds = draft_policy_pass_seconds(policy, 1) + draft_policy_draft_seconds(policy, 1) +
                     policy->catch_up;
    draft_chances_of_head(&policy->chances, p);
    double cost = seconds / plain - 1.0 - p[0];
    return cost > least_cost ? cost : least_cost;
}

/* Whether one draft could be worth it if it were always right. */
static bool may_pay(const struct draft_policy *policy)
{
    double plain = draft_policy_pass_seconds(policy, 0);
    for (uint32_t n = 1; n <= AUTO_DRAFTS; n++)
        if ((n + 1) * plain > gain_to_begin * (draft_policy_pass_seconds(policy, n) +
                                               draft_policy_draft_seconds(policy, n)))
            return true;
    return false;
}

/* What drafts must promise. */
static double needed_gain(const struct draft_policy *policy, enum mtp_draft_source source)
{
    if (source == MTP_DRAFT_HEAD)
        return policy->drafting ? gain_to_go_on : gain_to_begin;
    return gain_to_begin + (policy->text_account < 0.0 ? gain_a_debt * -policy->text_account : 0.0);
}

static uint32_t tokens_to_probe(const struct draft_policy *policy, double gain)
{
    if (gain > wins_by_far)
        return PROBE_SELDOM;
    return policy->plain_steps < PROBES_FIRST ? PROBE_FIRST_TOKENS : PROBE_TOKENS;
}

struct draft_choice draft_policy_choose(struct draft_policy *policy, const struct draft_offer *offer)
{
    const struct draft_choice none = {0, MTP_DRAFT_HEAD};
    if (!is_ready(policy) || offer->most == 0)
        return none;
    double gain;
    struct draft_choice best = best_drafts(policy, offer, &gain);
    policy->probing = false;
    if (best.n > 0 && gain >= needed_gain(policy, best.source)) {
        policy->probing = policy->since_probe >= tokens_to_probe(policy, gain);
        bool deeper = policy->probe_deeper && policy->plain_steps >= PROBES_FIRST;
        if (policy->probing && deeper && best.n < offer->most && best.n < AUTO_DRAFTS)
            best.n++;
        else if (policy->probing)
            best.n = 0;
        return best;
    }
    uint32_t trial = policy->deeper + 1 < offer->most ? policy->deeper + 1 : offer->most;
    double needed = policy->deeper > 0 ? needed_to_go_on : 1.0;
    if (!offer->head || policy->account < needed * trial_cost(policy) || !may_pay(policy))
        return none;
    return (struct draft_choice){trial, MTP_DRAFT_HEAD};
}

/* ---- what was seen ----------------------------------------------------------------------- */

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
    draft_chances_saw(&policy->chances, id);
}

void draft_policy_foretold(struct draft_policy *policy, uint32_t matched, const int32_t *drafts, uint32_t n)
{
    draft_chances_foretold(&policy->chances, matched, drafts, n);
}

static void add_to_account(double *account, double gained, double least)
{
    double sum = *account + gained;
    if (sum < least && gained < 0.0)
        sum = *account < least ? *account : least;
    *account = sum < account_most ? sum : account_most;
}

/* What the step has gained over plain ones goes to the account of its source, or comes from it: by what such
 * steps take, not by what this one took, which may have been interrupted. What the text foretells pays no
 * trials of the head: it would be spent as long as it comes. */
static void book(struct draft_policy *policy, const struct draft_outcome *outcome)
{
    double plain = draft_policy_pass_seconds(policy, 0);
    double seconds = draft_policy_pass_seconds(policy, outcome->n_drafts) + outcome->catch_up_seconds;
    if (outcome->source == MTP_DRAFT_HEAD)
        seconds += draft_policy_draft_seconds(policy, outcome->n_drafts);
    double gained = plain > 0.0 ? outcome->n_tokens - seconds / plain : 0.0;
    if (outcome->n_drafts == 0)
        add_to_account(&policy->account, account_step, account_debt);
    else if (outcome->source == MTP_DRAFT_NGRAM)
        add_to_account(&policy->text_account, gained, account_debt);
    else
        add_to_account(&policy->account, gained, policy->drafting ? account_least : account_debt);
}

static void learn_head(struct draft_policy *policy, const struct draft_outcome *outcome)
{
    uint32_t n_accepted = outcome->n_tokens - 1;
    policy->tried = true;
    bool all = n_accepted == outcome->n_drafts && outcome->n_drafts < AUTO_DRAFTS;
    policy->deeper = policy->drafting ? 0 : all ? outcome->n_drafts : 0;
    add_time(&policy->drafts, outcome->n_drafts, outcome->draft_seconds);
    policy->catch_up = outcome->catch_up_seconds > 0.0 ? outcome->catch_up_seconds : policy->catch_up;
}

void draft_policy_learn(struct draft_policy *policy, const struct draft_outcome *outcome)
{
    if (outcome->n_drafts > AUTO_DRAFTS)
        return; /* the caller's own number */
    add_time(&policy->passes, outcome->n_drafts + 1, outcome->pass_seconds);
    policy->plain_steps += outcome->n_drafts == 0;
    bool by_head = outcome->n_drafts > 0 && outcome->source == MTP_DRAFT_HEAD;
    draft_chances_step(&policy->chances, by_head ? outcome->n_drafts : 0, outcome->n_tokens);
    if (by_head)
        learn_head(policy, outcome);
    book(policy, outcome);
    policy->since_probe = policy->probing ? 0 : policy->since_probe + outcome->n_tokens;
    policy->probe_deeper = policy->probing ? !policy->probe_deeper : policy->probe_deeper;
    if (is_ready(policy) && (outcome->n_drafts == 0 || outcome->source == MTP_DRAFT_HEAD)) {
        const struct draft_offer head = {AUTO_DRAFTS, true, 0};
        double gain;
        best_drafts(policy, &head, &gain);
        policy->drafting = gain >= needed_gain(policy, MTP_DRAFT_HEAD);
    }
}
