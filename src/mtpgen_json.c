/* The report as JSON. docs/report.md says what every field means and its unit. */
#include "mtpgen.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "mtp/acceptance.h"

/* ---- values ---------------------------------------------------------------------------------- */

/* Arguments and paths are any bytes, JSON is UTF-8: other texts lose what is not ASCII. */
static json_t *text(const char *value)
{
    if (value == NULL)
        return json_null();
    json_t *json = json_string(value);
    if (json != NULL)
        return json;
    char *copy = strdup(value);
    for (char *c = copy; c != NULL && *c != '\0'; c++) {
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    }
    json = copy != NULL ? json_string(copy) : NULL;
    free(copy);
    return json;
}

static json_t *whole(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* 64 bits do not fit the numbers of most readers. */
static json_t *hexadecimal(uint64_t value)
{
    return json_sprintf("%016" PRIx64, value);
}

static json_t *real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* A value from 0 on, rounded to whole parts of 1. */
static json_t *rounded(double value, double parts)
{
    bool fits = value >= 0.0 && value * parts < 1e15;
    return real(fits ? (double)(uint64_t)(value * parts + 0.5) / parts : value);
}

/* A float as it was typed, not as binary has it. */
static json_t *decimal(float value)
{
    return rounded((double)value, 1e6);
}

static json_t *milliseconds(double seconds)
{
    return rounded(1e3 * seconds, 1e3);
}

static json_t *rate(uint64_t n, double seconds)
{
    return n > 0 && seconds > 0.0 ? rounded((double)n / seconds, 1e3) : json_null();
}

static json_t *ids(const int32_t *values, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(array, json_integer(values[i])) != 0)
            break;
    }
    if (json_array_size(array) == n)
        return array;
    json_decref(array);
    return NULL;
}

static json_t *reals(const double *values, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, real(values[i]));
    return array;
}

static json_t *counts(const uint64_t *values, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, whole(values[i]));
    return array;
}

/* ---- parts ----------------------------------------------------------------------------------- */

static json_t *command(const struct mtpgen_options *options)
{
    json_t *array = json_array();
    for (int i = 0; i < options->argc; i++)
        json_array_append_new(array, text(options->argv[i]));
    return array;
}

static json_t *model(const struct mtpgen_run *run)
{
    struct mtp_model_info info;
    mtp_model_get_info(run->model, &info);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}",
                     "path", text(run->options->model_path),
                     "mtp_path", text(run->options->mtp_path),
                     "architecture", text(info.architecture), "name", text(info.name),
                     "digest", hexadecimal(mtp_model_digest(run->model)),
                     "n_vocab", whole(info.n_vocab), "n_layers", whole(info.n_layers),
                     "n_mtp_layers", whole(info.n_mtp_layers),
                     "weight_bytes", whole(info.weight_bytes),
                     "file_bytes", whole(info.file_bytes),
                     "bytes_per_token", whole(info.bytes_per_token),
                     "synthetic", (int)info.synthetic);
}

static json_t *drafts(const struct mtp_generation *generation)
{
    return generation->n_draft == MTP_DRAFT_AUTO ? json_string("auto")
                                                 : json_integer(generation->n_draft);
}

static const char *strict_word(enum mtp_strict_mode mode)
{
    return mode == MTP_STRICT_FULL ? "full" : mode == MTP_STRICT_SAMPLE ? "sample" : "off";
}

/* What was in force, defaults resolved. */
static json_t *options(const struct mtpgen_run *run)
{
    const struct mtp_session_options *session = &run->session_options;
    const struct mtp_sampling *sampling = &run->generation.sampling;
    const mtp_session *open = run->session;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
                     "s:o, s:b, s:b, s:b, s:b}",
                     "draft", drafts(&run->generation),
                     "draft_head_rows", whole(run->generation.draft_head_rows),
                     "strict", text(strict_word(session->strict)),
                     "n_predict", run->options->n_predict == UINT64_MAX
                                      ? json_integer(-1) : whole(run->options->n_predict),
                     "temperature", decimal(sampling->temperature),
                     "top_k", whole(sampling->top_k), "top_p", decimal(sampling->top_p),
                     "min_p", decimal(sampling->min_p),
                     "seed", json_sprintf("%" PRIu64, sampling->seed),
                     "n_ctx", whole(open != NULL ? mtp_session_n_ctx(open) : session->n_ctx),
                     "threads",
                     whole(open != NULL ? mtp_session_n_threads(open) : session->n_threads),
                     "batch", whole(session->n_batch > 0 ? session->n_batch : 512),
                     "kv", text(session->kv_type == MTP_KV_F32 ? "f32" : "f16"),
                     "moe",
                     text(session->moe_mode == MTP_MOE_PER_TOKEN ? "per-token" : "grouped"),
                     "device", text(open != NULL ? mtp_session_device_name(open) : NULL),
                     "isa", text(open != NULL ? mtp_session_isa_name(open) : NULL),
                     "ignore_eos", run->options->ignore_eos, "chat", run->options->chat,
                     "fast", run->options->session.fast,
                     "draft_likeliest", run->generation.draft_likeliest);
}

static const char *stop_word(enum mtpgen_stop_reason stop)
{
    static const char *const words[] = { "none", "end", "stop", "length", "context",
                                         "interrupted" };
    return words[stop];
}

static json_t *strict(const struct mtp_strict_report *report)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "mode", text(strict_word(report->mode)),
                     "rows_checked", whole(report->rows_checked),
                     "steps_checked", whole(report->steps_checked),
                     "prompt_rows_checked", whole(report->prompt_rows_checked),
                     "mismatches", whole(report->mismatches),
                     "mtp_mismatches", whole(report->mtp_mismatches),
                     "first_difference", report->first_difference[0] != '\0'
                                             ? text(report->first_difference) : json_null());
}

static json_t *timing(const struct mtpgen_report *report)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "load_ms", milliseconds(report->load_seconds),
                     "ttft_ms", report->first_token_seconds > 0.0
                                    ? milliseconds(report->first_token_seconds) : json_null(),
                     "prefill_tok_s", rate(report->n_prefill, report->prefill_seconds),
                     "decode_tok_s", rate(report->n_decoded, report->decode_seconds),
                     "draft_ms", milliseconds(report->drafts.draft_seconds),
                     "verify_ms", milliseconds(report->drafts.verify_seconds),
                     "commit_ms", milliseconds(report->drafts.commit_seconds));
}

static json_t *profiled_phase(const struct mtp_profile *profile)
{
    json_t *operations = json_array();
    for (size_t i = 0; i < profile->n_entries; i++) {
        const struct mtp_profile_entry *entry = &profile->entries[i];
        if (entry->calls > 0)
            json_array_append_new(operations,
                                  json_pack("{s:s, s:o, s:o, s:o}", "operation", entry->operation,
                                            "calls", whole(entry->calls),
                                            "ms", milliseconds(entry->seconds),
                                            "bytes", whole(entry->bytes)));
    }
    return json_pack("{s:o, s:o, s:o}", "ms", milliseconds(profile->seconds),
                     "outside_ms", milliseconds(mtpgen_profile_outside(profile)),
                     "operations", operations);
}

static json_t *profile(const struct mtpgen_run *run)
{
    if (!run->session_options.profile)
        return json_null();
    json_t *phases = json_object();
    for (int phase = 0; phase < MTP_PROFILE_PHASES; phase++)
        json_object_set_new(phases, mtpgen_profile_phase((enum mtp_profile_phase)phase),
                            profiled_phase(&run->report.profile[phase]));
    return phases;
}

static json_t *by_position(const struct mtp_draft_stats *stats, const struct acceptance *acceptance)
{
    size_t n = acceptance->n_positions;
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "conditional", reals(acceptance->conditional, n),
                     "cumulative", reals(acceptance->cumulative, n), "drafted",
                     counts(stats->drafted_at, n), "compared", counts(stats->compared_at, n),
                     "accepted", counts(stats->accepted_at, n));
}

static json_t *by_source(const struct mtp_draft_stats *stats)
{
    static const char *const names[MTP_DRAFT_SOURCES] = { "mtp", "ngram" };
    json_t *sources = json_object();
    for (int i = 0; i < MTP_DRAFT_SOURCES; i++) {
        const struct mtp_source_stats *source = &stats->by_source[i];
        json_object_set_new(sources, names[i],
                            json_pack("{s:o, s:o, s:o, s:o, s:o}", "steps", whole(source->steps), "drafted",
                                      whole(source->drafted), "accepted", whole(source->accepted),
                                      "compared_at", counts(source->compared_at, MTP_MAX_DRAFT),
                                      "accepted_at", counts(source->accepted_at, MTP_MAX_DRAFT)));
    }
    return sources;
}

/* Steps by number of drafts, what passes and drafts take, and tokens a second of each number alone. */
static json_t *schedule(const struct mtpgen_report *report)
{
    double fixed[MTP_COSTS], pass[MTP_COSTS], drafts[MTP_COSTS];
    for (uint32_t n = 0; n < MTP_COSTS; n++) {
        fixed[n] = acceptance_fixed_rate(&report->drafts, &report->costs, n);
        pass[n] = 1e3 * report->costs.pass_seconds[n];
        drafts[n] = 1e3 * report->costs.draft_seconds[n];
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "steps",
                     counts(report->drafts.width_steps, MTP_MAX_DRAFT + 1), "pass_ms",
                     reals(pass, MTP_COSTS), "draft_ms", reals(drafts, MTP_COSTS), "fixed_tok_s",
                     reals(fixed, MTP_COSTS));
}

static json_t *whole_report(const struct mtpgen_run *run, enum mtp_status exit_status)
{
    const struct mtpgen_report *report = &run->report;
    const struct mtp_draft_stats *stats = &report->drafts;
    struct acceptance acceptance;
    acceptance_compute(&acceptance, stats);
    uint64_t kib = mtpgen_peak_memory();
    return json_pack("{s:o, s:i, s:o, s:o, s:o, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
                     "s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "mtpgen", text(mtp_version()),
                     "arithmetic_version", mtp_arithmetic_version(),
                     "command", command(run->options), "model", model(run),
                     "options", options(run),
                     "exit_status", (int)exit_status, "stop", stop_word(report->stop),
                     "prompt_tokens", whole(report->n_prefill),
                     "kept_tokens", whole(report->n_kept),
                     "tokens", ids(run->ids, run->n_ids), "n_tokens", whole(run->n_ids),
                     "steps", whole(stats->steps), "drafted", whole(stats->drafted),
                     "accepted", whole(stats->accepted),
                     "mean_accepted_length", real(acceptance.mean_length),
                     "acceptance_by_position", by_position(stats, &acceptance),
                     "histogram", counts(stats->histogram, acceptance.n_positions + 1),
                     "by_source", by_source(stats), "schedule", schedule(report),
                     "digest", hexadecimal(stats->digest),
                     "inexact_products", whole(report->inexact_products), "strict", strict(&report->strict),
                     "timing", timing(report), "profile", profile(run),
                     "peak_memory_bytes", kib > 0 ? whole(1024 * kib) : json_null());
}

/* ---- the file -------------------------------------------------------------------------------- */

/* One line a field: easy to read, and to take apart with line tools. */
static bool print_fields(FILE *out, json_t *report, size_t flags)
{
    const char *key, *before = "{\n";
    json_t *value;
    json_object_foreach(report, key, value) {
        fprintf(out, "%s  \"%s\": ", before, key);
        before = ",\n";
        if (json_dumpf(value, out, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9) | flags) != 0)
            return false;
    }
    fputs("\n}\n", out);
    return fflush(out) == 0 && !ferror(out);
}

bool mtpgen_json_print(FILE *out, const struct mtpgen_run *run, enum mtp_status exit_status, bool ascii)
{
    json_t *report = whole_report(run, exit_status);
    if (report == NULL) {
        errno = ENOMEM;
        return false;
    }
    bool printed = print_fields(out, report, ascii ? JSON_ENSURE_ASCII : 0);
    json_decref(report);
    return printed;
}
