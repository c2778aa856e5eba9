/* acceptance.h - what the counts of mtp_draft_stats say: rates, means, whether a head looks broken.
 * Pure functions of those counts; docs/report.md defines every number.
 */
#ifndef MTP_ACCEPTANCE_H
#define MTP_ACCEPTANCE_H

#include "mtp.h"

enum { ACCEPTANCE_ENOUGH_DRAFTS = 100, ACCEPTANCE_LEAST_PERCENT = 10 };

struct acceptance {
    double rate;          /* accepted drafts of all drafted; 0 when there are none */
    double mean_length;   /* tokens a step gives: its accepted drafts and one more; 0 without steps */
    uint32_t n_positions; /* depths at which drafts were proposed: 1 .. n_positions */
    /* At depth i + 1. NaN where nothing was counted. */
    double conditional[MTP_MAX_DRAFT]; /* of drafts whose predecessors all held, those that held */
    double cumulative[MTP_MAX_DRAFT];  /* of drafts proposed, those that held with all before them */
};
void acceptance_compute(struct acceptance *out, const struct mtp_draft_stats *stats);

/* Adds the counts of a later session to sum, whose digest goes on with the later one's. A sum of one
 * session has that session's digest. */
void acceptance_add(struct mtp_draft_stats *sum, const struct mtp_draft_stats *later);

/* Tokens a second that steps with n drafts of the MTP block each would have given: by the acceptance counted
 * (deeper than any draft, that of the deepest) and by what passes and drafts take. NaN: cannot be told. */
double acceptance_fixed_rate(const struct mtp_draft_stats *stats, const struct mtp_draft_costs *costs,
                             uint32_t n);

/* Enough drafts to judge, and so few accepted that the head cannot belong to the model. */
bool acceptance_looks_broken(const struct mtp_draft_stats *stats);

/* How long the bar of a count is when the longest has most characters: rounded to nearest, at least
 * one for a count above 0. */
uint32_t acceptance_bar(uint64_t count, uint64_t highest, uint32_t most);

#endif
