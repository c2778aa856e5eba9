#include "mtpgen.h"

#include <inttypes.h>
#include <string.h>

#include "mtp/acceptance.h"

void mtpgen_choose_drafting(struct mtpgen_run *run)
{
    const struct mtpgen_options *options = run->options;
    struct mtp_generation *generation = &run->generation;
    struct mtp_error why_not = { MTP_OK, "" };
    const unsigned head = 1u << MTP_DRAFT_HEAD, ngrams = 1u << MTP_DRAFT_NGRAM;
    bool can = mtp_model_can_draft(run->model, &why_not), given = options->draft_sources != 0;
    bool asked = options->n_draft != MTPGEN_DRAFT_DEFAULT && options->n_draft != 0;
    bool automatic = options->n_draft == MTPGEN_DRAFT_DEFAULT || options->n_draft == MTP_DRAFT_AUTO;
    unsigned sources = given ? options->draft_sources : !can ? ngrams : automatic ? head | ngrams : head;
    bool in_vain = !can && (given ? (sources & head) != 0 : asked);
    sources = can ? sources : sources & ngrams;
    if (in_vain && options->n_draft != 0 && !options->quiet)
        fprintf(stderr, "mtpgen: note: %s; going on %s\n", why_not.message,
                sources != 0 ? "with drafts from the text so far" : "without drafts");
    generation->draft_sources = sources;
    generation->n_draft = sources == 0 ? 0 : automatic ? MTP_DRAFT_AUTO : options->n_draft;
    struct mtp_model_info info;
    mtp_model_get_info(run->model, &info);
    generation->draft_head_rows =
        options->draft_head_rows < info.n_vocab ? options->draft_head_rows : info.n_vocab;
    generation->draft_likeliest = options->draft_likeliest;
    run->session_options.draft = generation->n_draft != 0;
    run->session_options.measure_passes = generation->n_draft == MTP_DRAFT_AUTO;
}

void mtpgen_gather(struct mtpgen_run *run)
{
    if (run->session == NULL)
        return;
    struct mtp_draft_stats stats;
    mtp_session_get_draft_stats(run->session, &stats);
    acceptance_add(&run->report.drafts, &stats);
    mtp_session_get_draft_costs(run->session, &run->report.costs);
    run->report.automatic = run->generation.n_draft == MTP_DRAFT_AUTO;

    struct mtp_strict_report more;
    struct mtp_strict_report *sum = &run->report.strict;
    mtp_session_get_strict_report(run->session, &more);
    sum->mode = more.mode;
    sum->prompt_rows_checked += more.prompt_rows_checked;
    sum->rows_checked += more.rows_checked;
    sum->steps_checked += more.steps_checked;
    sum->mismatches += more.mismatches;
    sum->mtp_mismatches += more.mtp_mismatches;
    if (sum->first_difference[0] == '\0')
        memcpy(sum->first_difference, more.first_difference, sizeof sum->first_difference);

    struct mtp_counters counters;
    mtp_session_get_counters(run->session, &counters);
    run->report.fast = run->options->session.fast;
    run->report.inexact_products += counters.inexact_products;

    for (int phase = 0; phase < MTP_PROFILE_PHASES; phase++) {
        struct mtp_profile profile;
        mtp_session_get_profile(run->session, (enum mtp_profile_phase)phase, &profile);
        mtpgen_profile_add(&run->report.profile[phase], &profile);
    }
}

void mtpgen_warn_of_drafts(struct mtpgen_run *run)
{
    struct mtp_draft_stats stats;
    if (run->warned || run->options->quiet || run->session == NULL)
        return;
    mtp_session_get_draft_stats(run->session, &stats);
    if (!acceptance_looks_broken(&stats))
        return;
    run->warned = true;
    fprintf(stderr, "mtpgen: warning: only %" PRIu64 " of %" PRIu64 " drafts were accepted: the "
            "draft head looks damaged or made for another model; --draft 0 does without it\n",
            stats.accepted, stats.drafted);
}

enum mtp_status mtpgen_check_strict(const struct mtpgen_run *run, struct mtp_error *error)
{
    const struct mtp_strict_report *strict = &run->report.strict;
    if (run->options->session.strict == MTP_STRICT_OFF)
        return MTP_OK;
    if (strict->mismatches > 0)
        return mtpgen_fail(error, MTP_ERR_STRICT,
                           "--strict found %" PRIu64 " mismatches with plain decoding: %s",
                           strict->mismatches, strict->first_difference);
    /* The first token is drawn from the prompt's last row. */
    if (strict->prompt_rows_checked + strict->rows_checked == 0 || run->n_ids == 0)
        return mtpgen_fail(error, MTP_ERR_STRICT,
                           "--strict compared no row that a token was drawn from: the run was too "
                           "short to prove anything");
    return MTP_OK;
}
