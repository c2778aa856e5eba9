/* draft_chances.c - see draft_chances.h. */
#include "draft_chances.h"

#include <string.h>

/* Before any observation a draft of the block is right so often, and that counts for so many observations,
 * fewer when there are many. Trained blocks begin at 0.6 to 0.9; with less weight an unlucky start ends the
 * drafting of short texts. */
static const double assumed_of_head = 0.7, assumed_weight = 12.0, assumed_least = 6.0;

/* A draft not reached lately is believed to be like the one before it; a number of tokens since the last
 * wrong draft, like its draft's number. */
static const double before_weight = 6.0, number_weight = 6.0;

/* Matches of so many tokens and more, and how often what followed them comes again: counted over the 60 texts
 * of docs/performance.md, "The rule of `--draft auto`", a little less where those went in circles. */
static const uint32_t match_from[MATCH_KINDS] = {2, 3, 4, 6, 9, 17, 33};
static const double assumed_of_match[MATCH_KINDS] = {0.35, 0.5, 0.65, 0.75, 0.85, 0.92, 0.97};
static const double match_weight = 6.0;

/* Observations remembered at most, and what every step leaves of them down to the least. */
static const double number_most = 40.0, since_most = 30.0, match_most = 20.0, least = 4.0, forgetting = 0.98;

/* What was seen, and `weight` observations more of the share `assumed`. */
static double chance(const struct draft_share *share, double assumed, double weight)
{
    return (share->right + weight * assumed) / (share->seen + weight);
}

static void scale(struct draft_share *share, double factor)
{
    share->right *= factor;
    share->seen *= factor;
}

static void observe(struct draft_share *share, bool right, double most)
{
    share->right += right ? 1.0 : 0.0;
    share->seen += 1.0;
    if (share->seen > most)
        scale(share, most / share->seen);
}

static uint32_t since_of(const struct draft_chances *chances, uint32_t draft)
{
    uint32_t since = chances->since_wrong + draft;
    return since < SINCE_MOST ? since : SINCE_MOST;
}

void draft_chances_of_head(const struct draft_chances *chances, double p[AUTO_DRAFTS])
{
    double before = assumed_of_head;
    double start_weight = assumed_weight -
                          (assumed_weight - assumed_least) * chances->by_number[0].seen / number_most;
    for (uint32_t i = 0; i < AUTO_DRAFTS; i++) {
        before = chance(&chances->by_number[i], before, i == 0 ? start_weight : before_weight);
        p[i] = chance(&chances->by_since[since_of(chances, i)], before, number_weight);
    }
}

static uint32_t kind_of_match(uint32_t matched)
{
    uint32_t kind = MATCH_KINDS - 1;
    while (kind > 0 && matched < match_from[kind])
        kind--;
    return kind;
}

/* Every draft that comes true makes the match one longer. */
void draft_chances_of_match(const struct draft_chances *chances, uint32_t matched, double p[AUTO_DRAFTS])
{
    for (uint32_t i = 0; i < AUTO_DRAFTS; i++) {
        uint32_t kind = kind_of_match(matched + i);
        p[i] = chance(&chances->by_match[kind], assumed_of_match[kind], match_weight);
    }
}

void draft_chances_step(struct draft_chances *chances, uint32_t n_head_drafts, uint32_t n_tokens)
{
    for (int i = 0; i < AUTO_DRAFTS && n_head_drafts > 0; i++)
        if (chances->by_number[i].seen > least)
            scale(&chances->by_number[i], forgetting);
    for (uint32_t i = 0; i < n_head_drafts && i < n_tokens; i++) {
        bool right = i + 1 < n_tokens;
        observe(&chances->by_number[i], right, number_most);
        observe(&chances->by_since[since_of(chances, i)], right, since_most);
    }
    bool wrong = n_tokens <= n_head_drafts;
    chances->since_wrong = wrong ? 0 : chances->since_wrong + n_tokens;
    if (chances->since_wrong > SINCE_MOST)
        chances->since_wrong = SINCE_MOST;
}

void draft_chances_foretold(struct draft_chances *chances, uint32_t matched, const int32_t *drafts,
                            uint32_t n)
{
    struct foretold *f = &chances->foretold;
    if (f->next < f->n || n == 0)
        return;
    f->n = n < AUTO_DRAFTS ? n : AUTO_DRAFTS;
    f->next = 0;
    f->matched = matched;
    memcpy(f->drafts, drafts, f->n * sizeof *drafts);
}

void draft_chances_saw(struct draft_chances *chances, int32_t id)
{
    struct foretold *f = &chances->foretold;
    if (f->next >= f->n)
        return;
    bool right = f->drafts[f->next] == id;
    observe(&chances->by_match[kind_of_match(f->matched + f->next)], right, match_most);
    f->next = right ? f->next + 1 : f->n;
}
