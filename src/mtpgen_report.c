#include "mtpgen.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mtp/acceptance.h"

double mtpgen_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

uint64_t mtpgen_peak_memory(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    uint64_t kib = 0;
    char line[256];
    while (status != NULL && kib == 0 && fgets(line, sizeof line, status) != NULL) {
        if (sscanf(line, "VmHWM: %" SCNu64, &kib) != 1)
            kib = 0;
    }
    if (status != NULL)
        fclose(status);
    return kib;
}

const char *mtpgen_stop_reason(const struct mtpgen_report *report)
{
    switch (report->stop) {
    case STOP_END:
        return "end (an end token)";
    case STOP_TEXT:
        return "stop (a --stop text)";
    case STOP_LENGTH:
        return "length (-n)";
    case STOP_CONTEXT:
        return "context (it is full)";
    case STOP_INTERRUPTED:
        return "interrupted";
    default:
        return report->n_generated > 0 ? "by a failure" : "nothing generated";
    }
}

static void print_rate(FILE *out, const char *label, uint64_t tokens, double seconds)
{
    fprintf(out, "  %-12s %" PRIu64 " token%s", label, tokens, tokens == 1 ? "" : "s");
    if (tokens > 0 && seconds > 0.0)
        fprintf(out, ", %.1f tok/s", (double)tokens / seconds);
    fputc('\n', out);
}

static void print_percent(FILE *out, double value)
{
    if (isnan(value))
        fprintf(out, "       -");
    else
        fprintf(out, " %5.1f %%", 100.0 * value);
}

static void print_histogram(FILE *out, const struct mtp_draft_stats *drafts, uint32_t most)
{
    uint64_t highest = 0;
    for (uint32_t i = 0; i <= most; i++)
        highest = drafts->histogram[i] > highest ? drafts->histogram[i] : highest;
    for (uint32_t i = 0; i <= most; i++) {
        fprintf(out, "  %-12s %" PRIu32 " | ", i == 0 ? "accepted" : "", i);
        for (uint32_t n = acceptance_bar(drafts->histogram[i], highest, 40); n > 0; n--)
            fputc('#', out);
        fprintf(out, " %" PRIu64 " step%s\n", drafts->histogram[i],
                drafts->histogram[i] == 1 ? "" : "s");
    }
}

static void print_drafts(FILE *out, const struct mtp_draft_stats *drafts)
{
    struct acceptance acceptance;
    acceptance_compute(&acceptance, drafts);
    fprintf(out, "  %-12s %" PRIu64 " drafted, %" PRIu64 " accepted (%.1f %%) in %" PRIu64
            " steps\n", "drafts", drafts->drafted, drafts->accepted, 100.0 * acceptance.rate,
            drafts->steps);
    fprintf(out, "  %-12s %.2f tokens a step, the bonus token counted\n", "mean length",
            acceptance.mean_length);
    fprintf(out, "  %-12s", "position");
    for (uint32_t i = 0; i < acceptance.n_positions; i++)
        fprintf(out, " %7" PRIu32, i + 1);
    fprintf(out, "\n  %-12s", "conditional");
    for (uint32_t i = 0; i < acceptance.n_positions; i++)
        print_percent(out, acceptance.conditional[i]);
    fprintf(out, "  of drafts after accepted ones\n  %-12s", "cumulative");
    for (uint32_t i = 0; i < acceptance.n_positions; i++)
        print_percent(out, acceptance.cumulative[i]);
    fprintf(out, "  of drafts proposed\n");
    print_histogram(out, drafts, acceptance.n_positions);
    fprintf(out, "  %-12s draft %.3f s, verify %.3f s, commit %.3f s\n", "time",
            drafts->draft_seconds, drafts->verify_seconds, drafts->commit_seconds);
}

static void print_fast(FILE *out, uint64_t inexact_products)
{
    if (inexact_products == 0)
        fprintf(out, "  %-12s no product was inexact\n", "fast");
    else
        fprintf(out, "  %-12s %" PRIu64 " products were not exact: the text may differ\n", "fast",
                inexact_products);
}

static void print_sources(FILE *out, const struct mtp_draft_stats *drafts)
{
    static const char *const names[MTP_DRAFT_SOURCES] = { "mtp", "ngram" };
    if (drafts->by_source[MTP_DRAFT_NGRAM].steps == 0)
        return;
    for (int i = 0; i < MTP_DRAFT_SOURCES; i++)
        fprintf(out, "  %-12s %s: %" PRIu64 " drafted, %" PRIu64 " accepted in %" PRIu64 " steps\n",
                i == 0 ? "source" : "", names[i], drafts->by_source[i].drafted,
                drafts->by_source[i].accepted, drafts->by_source[i].steps);
}

/* Which numbers of drafts the steps took, and what each alone would have given. */
static void print_schedule(FILE *out, const struct mtpgen_report *report)
{
    uint32_t most = 0;
    for (uint32_t n = 0; n < MTP_COSTS; n++)
        most = report->drafts.width_steps[n] > 0 ? n : most;
    fprintf(out, "  %-12s", "schedule");
    for (uint32_t n = 0; n <= most; n++)
        fprintf(out, "%s %" PRIu64 " of %" PRIu32, n > 0 ? "," : "", report->drafts.width_steps[n], n);
    fprintf(out, " (steps of drafts)\n  %-12s", "fixed");
    for (uint32_t n = 0; n < MTP_COSTS; n++) {
        double rate = acceptance_fixed_rate(&report->drafts, &report->costs, n);
        if (!isnan(rate))
            fprintf(out, "%s %" PRIu32 ": %.0f", n > 0 ? "," : "", n, rate);
    }
    fprintf(out, " tok/s estimated for a fixed number of drafts\n");
}

static void print_strict(FILE *out, const struct mtp_strict_report *strict)
{
    fprintf(out, "  %-12s %s: %" PRIu64 " prompt rows, %" PRIu64 " rows, %" PRIu64
            " steps checked, %" PRIu64 " mismatches\n", "strict",
            strict->mode == MTP_STRICT_FULL ? "full" : "sample, a spot check",
            strict->prompt_rows_checked, strict->rows_checked, strict->steps_checked,
            strict->mismatches);
    if (strict->mtp_mismatches > 0)
        fprintf(out, "  %-12s %" PRIu64 " mismatches in the draft head's cache, on which no text "
                "depends\n", "", strict->mtp_mismatches);
    if (strict->first_difference[0] != '\0')
        fprintf(out, "  %-12s %s\n", "difference", strict->first_difference);
}

void mtpgen_report_print(FILE *out, const struct mtpgen_report *report)
{
    fprintf(out, "mtpgen:\n");
    if (report->synthetic)
        fprintf(out, "  %-12s true (weights made by mtpsynth)\n", "synthetic");
    fprintf(out, "  %-12s %.3f s\n", "load", report->load_seconds);
    if (report->first_token_seconds > 0.0)
        fprintf(out, "  %-12s %.3f s\n", "first token", report->first_token_seconds);
    print_rate(out, "prefill", report->n_prefill, report->prefill_seconds);
    if (report->n_kept > 0)
        fprintf(out, "  %-12s %" PRIu64 " tokens of earlier turns\n", "not re-read",
                report->n_kept);
    /* The rate is that of tokens the model read; the first comes out of prefill. */
    fprintf(out, "  %-12s %" PRIu64 " token%s", "decode", report->n_generated,
            report->n_generated == 1 ? "" : "s");
    if (report->n_decoded > 0 && report->decode_seconds > 0.0)
        fprintf(out, ", %.1f tok/s", (double)report->n_decoded / report->decode_seconds);
    fputc('\n', out);
    if (report->drafts.drafted > 0)
        print_drafts(out, &report->drafts);
    if (report->fast)
        print_fast(out, report->inexact_products);
    print_sources(out, &report->drafts);
    if (report->automatic && report->drafts.steps > 0)
        print_schedule(out, report);
    if (report->strict.mode != MTP_STRICT_OFF)
        print_strict(out, &report->strict);
    fprintf(out, "  %-12s %016" PRIx64 "\n", "digest", report->drafts.digest);
    uint64_t kib = mtpgen_peak_memory();
    if (kib > 0)
        fprintf(out, "  %-12s %.1f MiB\n", "peak memory", (double)kib / 1024.0);
    fprintf(out, "  %-12s %s\n", "stopped", mtpgen_stop_reason(report));
}

/* ---- progress -------------------------------------------------------------------------------- */

bool mtpgen_progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
    struct mtpgen_progress *progress = user;
    double now = mtpgen_now();
    if (progress->enabled && total > 0 && now - progress->last >= 0.1) {
        progress->last = now;
        progress->shown = true;
        fprintf(stderr, "\r%s %3.0f %%", strcmp(stage, "load") == 0 ? "loading" : stage,
                100.0 * (double)done / (double)total);
        fflush(stderr);
    }
    return !mtpgen_interrupted();
}

void mtpgen_progress_clear(struct mtpgen_progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
    progress->last = 0.0;
}
