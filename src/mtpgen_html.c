/* The report as one page of HTML. docs/report.md says what it shows. */
#include "mtpgen_html.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "mtp/acceptance.h"
#include "mtpgen_markup.h"

/* ---- the numbers one sees first -------------------------------------------------------------- */

static void put_figure(FILE *out, const char *field, double value, int decimals, const char *unit,
                       const char *label)
{
    fputs("<div class=\"figure\"><b", out);
    if (field[0] != '\0')
        fprintf(out, " data-field=\"%s\"", field);
    if (value >= 0.0)
        fprintf(out, ">%.*f</b>", decimals, value);
    else
        fputs(">\xe2\x80\x93</b>", out);
    fprintf(out, "<i>%s</i><span>%s</span></div>\n", unit, label);
}

static double per_second(uint64_t n, double seconds)
{
    return n > 0 && seconds > 0.0 ? (double)n / seconds : -1.0;
}

static void put_figures(FILE *out, const struct mtpgen_report *report)
{
    struct acceptance acceptance;
    acceptance_compute(&acceptance, &report->drafts);
    double tokens_a_step = report->drafts.steps > 0 ? acceptance.mean_length : -1.0;
    double accepted = report->drafts.drafted > 0 ? 100.0 * acceptance.rate : -1.0;
    fputs("<div class=\"figures\">\n", out);
    put_figure(out, "timing.decode_tok_s", per_second(report->n_decoded, report->decode_seconds), 1, "tok/s",
               "decode");
    put_figure(out, "timing.prefill_tok_s", per_second(report->n_prefill, report->prefill_seconds), 1,
               "tok/s",
               "prefill");
    put_figure(out, "mean_accepted_length", tokens_a_step, 2, "tokens", "of text per step");
    put_figure(out, "", accepted, 1, "%", "of drafts accepted");
    fputs("</div>\n", out);
}

/* ---- whether it was proved ------------------------------------------------------------------- */

/* A mark and a word that say without colour how it stands. */
static void begin_verdict(FILE *out, const char *class, const char *mark, const char *words)
{
    fprintf(out, "<p class=\"verdict %s\"><b>%s %s</b> <span>", class, mark, words);
}

static void put_strict(FILE *out, const struct mtpgen_run *run)
{
    const struct mtp_strict_report *strict = &run->report.strict;
    bool none = strict->prompt_rows_checked + strict->rows_checked == 0 || run->n_ids == 0;
    if (strict->mode == MTP_STRICT_OFF)
        begin_verdict(out, "open", "\xe2\x97\x8b", "Not checked");
    else if (strict->mismatches > 0)
        begin_verdict(out, "bad", "\xe2\x9c\x97", "Not equal to plain decoding");
    else if (none)
        begin_verdict(out, "bad", "\xe2\x9c\x97", "Nothing was compared");
    else if (strict->mode == MTP_STRICT_SAMPLE)
        begin_verdict(out, "open", "\xe2\x97\x90", "Spot check: no difference, no proof");
    else
        begin_verdict(out, "good", "\xe2\x9c\x93", "Proved equal to plain decoding");
    if (strict->mode == MTP_STRICT_OFF) {
        fputs("--strict compares each step with plain decoding; this run was without it.</span></p>\n", out);
        return;
    }
    fprintf(out, "Compared bit for bit: <span data-field=\"strict.prompt_rows_checked\">%" PRIu64 "</span> "
            "rows of the prompt, <span data-field=\"strict.rows_checked\">%" PRIu64 "</span> rows of logits "
            "behind it, the state after <span data-field=\"strict.steps_checked\">%" PRIu64 "</span> steps; "
            "<span data-field=\"strict.mismatches\">%" PRIu64 "</span> mismatches.",
            strict->prompt_rows_checked, strict->rows_checked, strict->steps_checked, strict->mismatches);
    if (strict->first_difference[0] != '\0') {
        fputs(" First difference: ", out);
        markup_string(out, strict->first_difference);
    }
    fputs("</span></p>\n", out);
}

static void put_warnings(FILE *out, const struct mtpgen_run *run, enum mtp_status exit_status)
{
    const struct mtpgen_report *report = &run->report;
    if (exit_status != MTP_OK) {
        begin_verdict(out, "bad", "!", "Exit status");
        fprintf(out, "%d: the run did not end well, and the text may not be whole.</span></p>\n",
                (int)exit_status);
    }
    if (report->synthetic) {
        begin_verdict(out, "open", "!", "Synthetic model");
        fputs("Weights made by mtpsynth.</span></p>\n", out);
    }
    if (report->inexact_products > 0) {
        begin_verdict(out, "open", "!", "Not exact");
        fprintf(out, "--fast: %" PRIu64 " products have other bits, the text may differ.</span></p>\n",
                report->inexact_products);
    }
}

/* ---- model and settings ---------------------------------------------------------------------- */

static void put_row(FILE *out, const char *name, const char *value)
{
    if (value == NULL || value[0] == '\0')
        return;
    fprintf(out, "<dt>%s</dt><dd>", name);
    markup_string(out, value);
    fputs("</dd>\n", out);
}

/* Across all columns: it may be long. */
static void put_long_row(FILE *out, const char *name, const char *value)
{
    if (value == NULL)
        return;
    fprintf(out, "<dt>%s</dt><dd class=\"full\">", name);
    markup_string(out, value);
    fputs("</dd>\n", out);
}

static void put_command(FILE *out, const struct mtpgen_options *options)
{
    fputs("<dt>Command</dt><dd class=\"full\"><code>", out);
    for (int i = 0; i < options->argc; i++) {
        fputs(i > 0 ? " " : "", out);
        markup_string(out, options->argv[i]);
    }
    fputs("</code></dd>\n", out);
}

static void put_count(FILE *out, const char *name, const char *field, uint64_t value)
{
    fprintf(out, "<dt>%s</dt><dd data-field=\"%s\">%" PRIu64 "</dd>\n", name, field, value);
}

static void put_drafting(FILE *out, const struct mtpgen_run *run)
{
    const struct mtp_generation *generation = &run->generation;
    fputs("<dt>Drafts</dt><dd>", out);
    if (generation->n_draft == 0) {
        fputs("none</dd>\n", out);
        return;
    }
    if (generation->n_draft == MTP_DRAFT_AUTO)
        fputs("as they pay, step by step", out);
    else
        fprintf(out, "%" PRId32 " a step", generation->n_draft);
    bool head = (generation->draft_sources & 1u << MTP_DRAFT_HEAD) != 0;
    bool text = (generation->draft_sources & 1u << MTP_DRAFT_NGRAM) != 0;
    fprintf(out, "%s%s%s</dd>\n", head || text ? ", from " : "",
            head ? text ? "the MTP block and the text so far" : "the MTP block" : text ? "the text so "
            "far" : "",
            generation->draft_likeliest ? ", the likeliest" : "");
}

static void put_settings(FILE *out, const struct mtpgen_run *run)
{
    const struct mtp_sampling *sampling = &run->generation.sampling;
    if (run->session != NULL) {
        fputs("<dt>Device</dt><dd>", out);
        markup_string(out, mtp_session_device_name(run->session));
        fputs(", ", out);
        markup_string(out, mtp_session_isa_name(run->session));
        uint32_t n_threads = mtp_session_n_threads(run->session);
        fprintf(out, ", %" PRIu32 " thread%s, context of %" PRIu32 " positions</dd>\n", n_threads,
                n_threads == 1 ? "" : "s", mtp_session_n_ctx(run->session));
    }
    put_drafting(out, run);
    if (sampling->temperature > 0.0f)
        fprintf(out, "<dt>Sampling</dt><dd>temperature %g, top_k %" PRIu32 ", top_p %g, min_p %g, seed "
                "%" PRIu64
                "</dd>\n", (double)sampling->temperature, sampling->top_k, (double)sampling->top_p,
                (double)sampling->min_p, sampling->seed);
    else
        fputs("<dt>Sampling</dt><dd>the likeliest token (temperature 0)</dd>\n", out);
}

static void put_details(FILE *out, const struct mtpgen_run *run)
{
    const struct mtpgen_report *report = &run->report;
    struct mtp_model_info info;
    mtp_model_get_info(run->model, &info);
    fputs("<dl>\n", out);
    put_long_row(out, "File", run->options->model_path);
    put_long_row(out, "MTP block from", run->options->mtp_path);
    put_command(out, run->options);
    put_row(out, "Architecture", info.architecture);
    put_settings(out, run);
    put_count(out, "Prompt tokens", "prompt_tokens", report->n_prefill);
    if (report->n_kept > 0)
        put_count(out, "Kept of earlier turns", "kept_tokens", report->n_kept);
    put_count(out, "Generated tokens", "n_tokens", run->n_ids);
    put_count(out, "Steps", "steps", report->drafts.steps);
    put_count(out, "Drafts proposed", "drafted", report->drafts.drafted);
    put_count(out, "Drafts accepted", "accepted", report->drafts.accepted);
    put_row(out, "Stopped", mtpgen_stop_reason(report));
    fprintf(out, "<dt>First token</dt><dd>%.1f ms after the prompt came, loading %.2f s</dd>\n",
            1e3 * report->first_token_seconds, report->load_seconds);
    uint64_t kib = mtpgen_peak_memory();
    if (kib > 0)
        fprintf(out, "<dt>Peak memory</dt><dd>%.1f MiB</dd>\n", (double)kib / 1024.0);
    fprintf(out, "<dt>Digest</dt><dd><code data-field=\"digest\">%016" PRIx64 "</code></dd>\n</dl>\n",
            report->drafts.digest);
}

static void put_head(FILE *out, const struct mtpgen_run *run, enum mtp_status exit_status)
{
    struct mtp_model_info info;
    mtp_model_get_info(run->model, &info);
    const char *name = info.name[0] != '\0' ? info.name : run->options->model_path;
    fputs("<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n"
          "<meta charset=\"utf-8\"/>\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
          "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\"/>\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
          "<meta name=\"color-scheme\" content=\"light dark\"/>\n<title>mtpgen: ", out);
    markup_string(out, name);
    fprintf(out, "</title>\n<style>%s</style>\n</head>\n<body>\n<header>\n<h1>", mtpgen_html_style);
    markup_string(out, name);
    fputs("</h1>\n<p class=\"by\">Report of a run of mtpgen ", out);
    markup_string(out, mtp_version());
    fprintf(out, ", arithmetic version %d</p>\n", mtp_arithmetic_version());
    put_warnings(out, run, exit_status);
    put_strict(out, run);
    put_figures(out, &run->report);
    put_details(out, run);
    fputs("</header>\n<main>\n", out);
}

/* ---- all numbers ----------------------------------------------------------------------------- */

static bool put_json(FILE *out, const struct mtpgen_run *run, enum mtp_status exit_status)
{
    char *text = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&text, &length);
    bool printed = memory != NULL && mtpgen_json_print(memory, run, exit_status, true);
    if (memory != NULL && fclose(memory) != 0)
        printed = false;
    if (printed) {
        fputs("<section class=\"wide\">\n<h2>All numbers</h2>\n<details><summary>The report as "
              "JSON</summary>\n"
              "<pre id=\"json\">", out);
        for (size_t at = 0; at < length;) { /* the line breaks between its fields stay */
            const char *end = memchr(text + at, '\n', length - at);
            size_t n = end != NULL ? (size_t)(end - text) - at : length - at;
            markup_text(out, text + at, n);
            fputs("\n", out);
            at += n + 1;
        }
        fputs("</pre></details>\n</section>\n", out);
    }
    free(text);
    if (!printed)
        errno = ENOMEM;
    return printed;
}

bool mtpgen_html_print(FILE *out, const struct mtpgen_run *run, enum mtp_status exit_status)
{
    put_head(out, run, exit_status);
    if (ferror(out))
        return false;
    mtpgen_html_charts(out, run);
    mtpgen_html_profile(out, run);
    if (ferror(out))
        return false;
    mtpgen_html_text(out, run);
    if (ferror(out) || !put_json(out, run, exit_status))
        return false;
    fputs("</main>\n</body>\n</html>\n", out);
    return fflush(out) == 0 && !ferror(out);
}
