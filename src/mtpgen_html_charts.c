/* The pictures of the page: acceptance, depths, sources, steps over time, and where the time went. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mtp/acceptance.h"
#include "mtpgen_html.h"
#include "mtpgen_markup.h"

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* Shares become parts of the longest. */
static void scale(struct markup_bar *bars, size_t n)
{
    double most = 0.0;
    for (size_t i = 0; i < n; i++)
        most = bars[i].share > most ? bars[i].share : most;
    for (size_t i = 0; i < n && most > 0.0; i++)
        bars[i].share /= most;
}

static void begin_card(FILE *out, const char *title)
{
    fprintf(out, "<section>\n<h2>%s</h2>\n", title);
}

static void end_card(FILE *out, const char *note)
{
    if (note[0] != '\0')
        fprintf(out, "<p class=\"note\">%s</p>\n", note);
    fputs("</section>\n", out);
}

/* ---- acceptance ------------------------------------------------------------------------------ */

static void put_histogram(FILE *out, const struct mtp_draft_stats *stats, const struct acceptance *acceptance)
{
    struct markup_bar bars[MTP_MAX_DRAFT + 1];
    size_t n = acceptance->n_positions + 1;
    for (size_t i = 0; i < n; i++) {
        struct markup_bar *bar = &bars[i];
        uint64_t steps = stats->histogram[i];
        *bar = (struct markup_bar){ .share = (double)steps };
        snprintf(bar->label, sizeof bar->label, "%zu", i);
        snprintf(bar->value, sizeof bar->value, "%" PRIu64 " step%s, %.0f %%", steps, plural(steps),
                 stats->steps > 0 ? 100.0 * (double)steps / (double)stats->steps : 0.0);
        snprintf(bar->field, sizeof bar->field, "histogram.%zu", i);
    }
    scale(bars, n);
    begin_card(out, "Accepted drafts per step");
    markup_bars(out, "Steps by the number of drafts they accepted", MARKUP_NARROW, bars, n);
    end_card(out, "A step gives its accepted drafts and one token more.");
}

static void put_positions(FILE *out, const struct mtp_draft_stats *stats, const struct acceptance *acceptance)
{
    struct markup_bar bars[MTP_MAX_DRAFT];
    for (uint32_t i = 0; i < acceptance->n_positions; i++) {
        struct markup_bar *bar = &bars[i];
        *bar = (struct markup_bar){ .share = acceptance->conditional[i] };
        snprintf(bar->label, sizeof bar->label, "%" PRIu32, i + 1);
        snprintf(bar->field, sizeof bar->field, "acceptance_by_position.conditional.%" PRIu32, i);
        if (isnan(bar->share))
            snprintf(bar->value, sizeof bar->value, "never came to it");
        else
            snprintf(bar->value, sizeof bar->value, "%.1f %% of %" PRIu64, 100.0 * bar->share,
                     stats->compared_at[i]);
    }
    begin_card(out, "Acceptance by position");
    markup_bars(out, "Share of accepted drafts by their position in the step", MARKUP_NARROW, bars,
                acceptance->n_positions);
    end_card(out, "Of the drafts at this depth whose predecessors in the step were all accepted.");
}

static void put_source_row(FILE *out, const char *name, const char *field,
                           const struct mtp_source_stats *source)
{
    fprintf(out, "<tr><th scope=\"row\">%s</th><td data-field=\"by_source.%s.steps\">%" PRIu64 "</td>"
            "<td data-field=\"by_source.%s.drafted\">%" PRIu64 "</td>"
            "<td data-field=\"by_source.%s.accepted\">%" PRIu64 "</td><td>", name, field, source->steps,
            field,
            source->drafted, field, source->accepted);
    if (source->drafted > 0)
        fprintf(out, "%.1f %%", 100.0 * (double)source->accepted / (double)source->drafted);
    else
        fputs("\xe2\x80\x93", out);
    fputs("</td></tr>\n", out);
}

static void put_sources(FILE *out, const struct mtp_draft_stats *stats)
{
    begin_card(out, "Where the drafts came from");
    fputs("<table><thead><tr><th>source</th><th>steps</th><th>drafted</th><th>accepted</th><th>share</th>"
          "</tr>"
          "</thead>\n<tbody>\n", out);
    put_source_row(out, "MTP block", "mtp", &stats->by_source[MTP_DRAFT_HEAD]);
    put_source_row(out, "n-gram", "ngram", &stats->by_source[MTP_DRAFT_NGRAM]);
    fputs("</tbody></table>\n", out);
    end_card(out, "n-gram: copied from what followed the last tokens earlier in the text.");
}

/* ---- depths ---------------------------------------------------------------------------------- */

static void put_widths(FILE *out, const struct mtp_draft_stats *stats)
{
    struct markup_bar bars[MTP_MAX_DRAFT + 1];
    size_t n = 0;
    for (size_t i = 0; i <= MTP_MAX_DRAFT; i++)
        n = stats->width_steps[i] > 0 ? i + 1 : n;
    for (size_t i = 0; i < n; i++) {
        uint64_t steps = stats->width_steps[i];
        bars[i] = (struct markup_bar){ .share = (double)steps };
        snprintf(bars[i].label, sizeof bars[i].label, "%zu", i);
        snprintf(bars[i].value, sizeof bars[i].value, "%" PRIu64 " step%s", steps, plural(steps));
        snprintf(bars[i].field, sizeof bars[i].field, "schedule.steps.%zu", i);
    }
    scale(bars, n);
    begin_card(out, "Drafts proposed per step");
    markup_bars(out, "Steps by the number of drafts they proposed", MARKUP_NARROW, bars, n);
    end_card(out, "");
}

/* What each number of drafts alone would have given, and what this run gave. */
static void put_fixed(FILE *out, const struct mtpgen_report *report)
{
    struct markup_bar bars[MTP_COSTS + 1];
    size_t n = 0, best = 0;
    for (uint32_t i = 0; i < MTP_COSTS; i++) {
        double rate = acceptance_fixed_rate(&report->drafts, &report->costs, i);
        if (isnan(rate))
            continue;
        struct markup_bar *bar = &bars[n++];
        *bar = (struct markup_bar){ .share = rate };
        snprintf(bar->label, sizeof bar->label, "%" PRIu32, i);
        snprintf(bar->field, sizeof bar->field, "schedule.fixed_tok_s.%" PRIu32, i);
        best = rate > bars[best].share ? n - 1 : best;
    }
    begin_card(out, "What a fixed number of drafts would give");
    if (n == 0) {
        end_card(out, "It cannot be told: this run timed no steps with drafts.");
        return;
    }
    for (size_t i = 0; i < n; i++)
        snprintf(bars[i].value, sizeof bars[i].value, "%.1f tok/s%s", bars[i].share,
                 i == best ? " \xe2\x97\x80 best" : "");
    bars[best].marked = true;
    if (report->n_decoded > 0 && report->decode_seconds > 0.0) {
        double rate = (double)report->n_decoded / report->decode_seconds;
        bars[n] = (struct markup_bar){ .label = "this run", .share = rate };
        snprintf(bars[n++].value, sizeof bars[0].value, "%.1f tok/s", rate);
    }
    scale(bars, n);
    markup_bars(out, "Estimated tokens a second by the number of drafts in every step", MARKUP_MIDDLE,
                bars, n);
    end_card(out, "Estimated from the times of this run\xe2\x80\x99s passes and drafts and the "
             "acceptance of the MTP "
             "block.");
}

/* ---- steps over time ------------------------------------------------------------------------- */

/* Means over the steps that share a column. */
struct column {
    double drafted, accepted, ngram; /* ngram: share of steps */
};

static size_t next_step(const struct mtpgen_history *h, size_t at)
{
    while (at < h->n_events && !h->events[at].counted)
        at++;
    return at;
}

static size_t count_steps(const struct mtpgen_history *h)
{
    size_t n = 0;
    for (size_t at = next_step(h, 0); at < h->n_events; at = next_step(h, at + 1))
        n++;
    return n;
}

static size_t fill_columns(const struct mtpgen_history *h, size_t n_steps, struct column *columns)
{
    size_t n = n_steps < HTML_COLUMNS ? n_steps : HTML_COLUMNS, at = next_step(h, 0), step = 0;
    for (size_t c = 0; c < n; c++) {
        struct column sum = { 0 };
        size_t end = (c + 1) * n_steps / n, first = step;
        for (; step < end; step++, at = next_step(h, at + 1)) {
            const struct mtpgen_event *event = &h->events[at];
            sum.drafted += event->n_drafts;
            sum.accepted += event->n_accepted;
            sum.ngram += event->kind == EVENT_NGRAM_STEP && event->n_drafts > 0;
        }
        double width = (double)(end - first);
        columns[c] = (struct column){ sum.drafted / width, sum.accepted / width, sum.ngram / width };
    }
    return n;
}

static void put_columns(FILE *out, const struct column *columns, size_t n, uint32_t most)
{
    fprintf(out, "<svg class=\"steps\" role=\"img\" viewBox=\"0 0 %zu %" PRIu32 "\" "
            "preserveAspectRatio=\"none\" "
            "xmlns=\"http://www.w3.org/2000/svg\"><title>Drafts proposed and accepted, step by "
            "step</title>\n", n,
            most);
    for (uint32_t i = 0; i < most; i++)
        fprintf(out, "<path class=\"grid\" d=\"M0 %" PRIu32 "H%zu\"/>", i, n);
    for (size_t c = 0; c < n; c++) {
        const struct column *column = &columns[c];
        if (column->drafted > 0.0)
            fprintf(out, "<rect class=\"prop\" x=\"%.2f\" y=\"%.3f\" width=\"0.8\" height=\"%.3f\"/>",
                    (double)c + 0.1, most - column->drafted, column->drafted);
        if (column->accepted > 0.0)
            fprintf(out, "<rect class=\"acc\" x=\"%.2f\" y=\"%.3f\" width=\"0.8\" height=\"%.3f\"/>\n",
                    (double)c + 0.1, most - column->accepted, column->accepted);
    }
    fprintf(out, "</svg>\n<svg class=\"strip\" role=\"img\" viewBox=\"0 0 %zu 1\" "
            "preserveAspectRatio=\"none\" "
            "xmlns=\"http://www.w3.org/2000/svg\"><title>Share of steps with n-gram drafts</title>\n", n);
    for (size_t c = 0; c < n; c++)
        if (columns[c].ngram > 0.0)
            fprintf(out, "<rect class=\"ngram\" x=\"%zu\" y=\"%.3f\" width=\"1\" height=\"%.3f\"/>", c,
                    1.0 - columns[c].ngram, columns[c].ngram);
    fputs("</svg>\n", out);
}

static void put_steps(FILE *out, const struct mtpgen_history *history)
{
    struct column columns[HTML_COLUMNS];
    size_t n_steps = count_steps(history);
    size_t n = fill_columns(history, n_steps, columns);
    uint32_t most = 1;
    for (size_t c = 0; c < n; c++)
        while (most < columns[c].drafted)
            most++;
    fputs("<section class=\"wide\">\n<h2>Drafts step by step</h2>\n<ul class=\"legend\">"
          "<li><i class=\"key acc\"></i> accepted</li>"
          "<li><i class=\"key prop\"></i> proposed, not accepted</li>"
          "<li><i class=\"key ngram\"></i> strip below: steps whose drafts were n-grams; elsewhere the "
          "MTP block</li></ul>\n<div class=\"plot\"><div class=\"axis\">", out);
    fprintf(out, "<span>%" PRIu32 "</span><span>0</span></div><div class=\"area\">\n", most);
    put_columns(out, columns, n, most);
    fprintf(out, "</div></div>\n<div class=\"ends\"><span>step 1</span><span>step <span%s>%zu</span>"
            "</span></div>\n",
            history->n_left_out == 0 ? " data-field=\"steps\"" : "", n_steps);
    if (n < n_steps)
        fprintf(out, "<p class=\"note\">A column is a mean: %.1f steps on average.</p>\n",
                (double)n_steps / (double)n);
    if (history->n_left_out > 0)
        fprintf(out, "<p class=\"note\">%" PRIu64 " further steps and prompts were not kept.</p>\n",
                history->n_left_out);
    fputs("</section>\n", out);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void set_time(struct markup_bar *bar, const char *label, const char *field, double seconds,
                     double whole)
{
    *bar = (struct markup_bar){ .share = seconds };
    snprintf(bar->label, sizeof bar->label, "%s", label);
    snprintf(bar->field, sizeof bar->field, "%s", field);
    snprintf(bar->value, sizeof bar->value, "%.2f ms, %.1f %%", 1e3 * seconds,
             whole > 0.0 ? 100.0 * seconds / whole : 0.0);
}

static void put_time(FILE *out, const struct mtpgen_report *report)
{
    const struct mtp_draft_stats *stats = &report->drafts;
    struct markup_bar bars[5];
    double whole = report->prefill_seconds + report->decode_seconds;
    double steps = stats->draft_seconds + stats->verify_seconds + stats->commit_seconds;
    double other = report->decode_seconds > steps ? report->decode_seconds - steps : 0.0;
    set_time(&bars[0], "prompt", "", report->prefill_seconds, whole);
    set_time(&bars[1], "draft", "timing.draft_ms", stats->draft_seconds, whole);
    set_time(&bars[2], "verify", "timing.verify_ms", stats->verify_seconds, whole);
    set_time(&bars[3], "commit", "timing.commit_ms", stats->commit_seconds, whole);
    set_time(&bars[4], "other", "", other, whole);
    scale(bars, 5);
    begin_card(out, "Where the time went");
    markup_bars(out, "Milliseconds by what was done", MARKUP_MIDDLE, bars, 5);
    end_card(out, "Commit keeps the accepted drafts, takes the rest back and, in a strict run, compares. "
             "Other: "
             "what generation took beside steps, printing for one.");
}

static void put_phase(FILE *out, const char *title, const struct mtp_profile *profile)
{
    const struct mtp_profile_entry *order[MTP_PROFILE_MOST];
    struct markup_bar bars[MTP_PROFILE_MOST + 1];
    size_t n = mtpgen_profile_order(profile, order);
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++)
        set_time(&bars[i], order[i]->operation, "", order[i]->seconds, profile->seconds);
    set_time(&bars[n++], "outside operations", "", mtpgen_profile_outside(profile), profile->seconds);
    scale(bars, n);
    begin_card(out, title);
    markup_bars(out, title, MARKUP_WIDE, bars, n);
    end_card(out, "");
}

void mtpgen_html_profile(FILE *out, const struct mtpgen_run *run)
{
    const struct mtp_profile *profile = run->report.profile;
    if (!run->session_options.profile)
        return;
    fputs("<div class=\"cards\">\n", out);
    put_phase(out, "Operations of the prompt", &profile[MTP_PROFILE_PROMPT]);
    put_phase(out, "Operations of the steps", &profile[MTP_PROFILE_STEPS]);
    put_phase(out, "Operations of the MTP block", &profile[MTP_PROFILE_DRAFT]);
    fputs("</div>\n", out);
}

void mtpgen_html_charts(FILE *out, const struct mtpgen_run *run)
{
    const struct mtpgen_report *report = &run->report;
    const struct mtp_draft_stats *stats = &report->drafts;
    struct acceptance acceptance;
    acceptance_compute(&acceptance, stats);
    if (stats->drafted > 0)
        put_steps(out, &run->history);
    fputs("<div class=\"cards\">\n", out);
    if (stats->drafted > 0) {
        put_histogram(out, stats, &acceptance);
        put_positions(out, stats, &acceptance);
        put_widths(out, stats);
        put_fixed(out, report);
        put_sources(out, stats);
    }
    put_time(out, report);
    fputs("</div>\n", out);
}
