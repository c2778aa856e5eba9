#include "mtp/acceptance.h"

#include <math.h>
#include <string.h>

static double ratio(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : (double)NAN;
}

void acceptance_compute(struct acceptance *out, const struct mtp_draft_stats *stats)
{
    memset(out, 0, sizeof *out);
    if (stats->drafted > 0)
        out->rate = ratio(stats->accepted, stats->drafted);
    if (stats->steps > 0)
        out->mean_length = ratio(stats->accepted + stats->steps, stats->steps);
    for (uint32_t i = 0; i < MTP_MAX_DRAFT; i++) {
        out->conditional[i] = ratio(stats->accepted_at[i], stats->compared_at[i]);
        out->cumulative[i] = ratio(stats->accepted_at[i], stats->drafted_at[i]);
        if (stats->drafted_at[i] > 0)
            out->n_positions = i + 1;
    }
}

static uint64_t chain(uint64_t before, uint64_t digest)
{
    return before * 0x9e3779b97f4a7c15u + digest;
}

static void add_source(struct mtp_source_stats *sum, const struct mtp_source_stats *later)
{
    sum->steps += later->steps;
    sum->drafted += later->drafted;
    sum->accepted += later->accepted;
    for (int i = 0; i < MTP_MAX_DRAFT; i++) {
        sum->compared_at[i] += later->compared_at[i];
        sum->accepted_at[i] += later->accepted_at[i];
    }
}

double acceptance_fixed_rate(const struct mtp_draft_stats *stats, const struct mtp_draft_costs *costs,
                             uint32_t n)
{
    const struct mtp_source_stats *head = &stats->by_source[MTP_DRAFT_HEAD];
    double tokens = 1.0, all = 1.0, share = (double)NAN;
    for (uint32_t i = 0; i < n; i++) {
        if (head->compared_at[i] > 0)
            share = ratio(head->accepted_at[i], head->compared_at[i]);
        all *= share;
        tokens += all;
    }
    double seconds = n < MTP_COSTS ? costs->pass_seconds[n] + costs->draft_seconds[n] : 0.0;
    return seconds > 0.0 ? tokens / seconds : (double)NAN;
}

void acceptance_add(struct mtp_draft_stats *sum, const struct mtp_draft_stats *later)
{
    sum->steps += later->steps;
    sum->tokens += later->tokens;
    sum->drafted += later->drafted;
    sum->accepted += later->accepted;
    for (int i = 0; i < MTP_MAX_DRAFT; i++) {
        sum->drafted_at[i] += later->drafted_at[i];
        sum->accepted_at[i] += later->accepted_at[i];
        sum->compared_at[i] += later->compared_at[i];
    }
    for (int i = 0; i <= MTP_MAX_DRAFT; i++) {
        sum->histogram[i] += later->histogram[i];
        sum->width_steps[i] += later->width_steps[i];
    }
    for (int i = 0; i < MTP_DRAFT_SOURCES; i++)
        add_source(&sum->by_source[i], &later->by_source[i]);
    sum->draft_seconds += later->draft_seconds;
    sum->verify_seconds += later->verify_seconds;
    sum->commit_seconds += later->commit_seconds;
    sum->digest = chain(sum->digest, later->digest);
}

bool acceptance_looks_broken(const struct mtp_draft_stats *stats)
{
    const struct mtp_source_stats *others = &stats->by_source[MTP_DRAFT_NGRAM];
    uint64_t drafted = stats->drafted - others->drafted, accepted = stats->accepted - others->accepted;
    return drafted >= ACCEPTANCE_ENOUGH_DRAFTS && accepted * 100 < drafted * ACCEPTANCE_LEAST_PERCENT;
}

uint32_t acceptance_bar(uint64_t count, uint64_t highest, uint32_t most)
{
    if (count == 0 || highest == 0)
        return 0;
    double length = (double)count / (double)highest * most + 0.5;
    return length < 1.0 ? 1 : length > most ? most : (uint32_t)length;
}
