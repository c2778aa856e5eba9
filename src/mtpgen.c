/* mtpgen - continues a prompt, or answers a question, with the model in a GGUF file. */
#include "mtpgen.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Flushes standard output after stdio wrote to it: a full disk shows only then. */
static enum mtp_status flush_stdout(struct mtp_error *error)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return MTP_OK;
    return mtpgen_fail(error, MTP_ERR_IO, "cannot write to standard output: %s", strerror(errno));
}

static enum mtp_status print_version(struct mtp_error *error)
{
    printf("mtpgen %s\narithmetic version %d\n", mtp_version(), mtp_arithmetic_version());
    return flush_stdout(error);
}

static enum mtp_status open_model(struct mtpgen_run *run, struct mtp_error *error)
{
    const struct mtpgen_options *options = run->options;
    struct mtp_model_options model_options = { options->mtp_path, mtpgen_progress, &run->progress };
    enum mtp_status status =
        mtp_model_open(&run->model, options->model_path, &model_options, error);
    mtpgen_progress_clear(&run->progress);
    return status;
}

/* Described in memory first, so that a full disk is reported by write with its reason. */
static enum mtp_status print_info(struct mtpgen_run *run, struct mtp_error *error)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return mtpgen_fail(error, MTP_ERR_MEMORY, "not enough memory to describe the model");
    enum mtp_status status = mtp_model_print_info(run->model, &run->session_options, out, error);
    if (fclose(out) != 0 && status == MTP_OK)
        status = mtpgen_fail(error, MTP_ERR_MEMORY, "not enough memory to describe the model");
    if (status == MTP_OK)
        status = mtpgen_write(text, length, error);
    free(text);
    return status;
}

/* The model's own settings, greedy unless a chat, then what the command line says. */
static void choose_sampling(struct mtpgen_run *run)
{
    const struct mtpgen_options *options = run->options;
    struct mtp_sampling *sampling = &run->generation.sampling;
    mtp_sampling_defaults(run->model, sampling);
    sampling->seed = options->seed;
    if (!options->chat)
        sampling->temperature = 0.0f;
    if (!isnan(options->temperature))
        sampling->temperature = options->temperature;
    if (options->top_k != UINT32_MAX)
        sampling->top_k = options->top_k;
    if (!isnan(options->top_p))
        sampling->top_p = options->top_p;
    if (!isnan(options->min_p))
        sampling->min_p = options->min_p;
}

static void say_settings(const struct mtpgen_run *run)
{
    struct mtp_model_info info;
    mtp_model_get_info(run->model, &info);
    fprintf(stderr, "mtpgen: %s on %s, %" PRIu32 " threads, %s, context %" PRIu32 "\n",
            info.architecture, mtp_session_device_name(run->session),
            mtp_session_n_threads(run->session), mtp_session_isa_name(run->session),
            mtp_session_n_ctx(run->session));
    const struct mtp_sampling *sampling = &run->generation.sampling;
    if (sampling->temperature > 0.0f)
        fprintf(stderr, "mtpgen: temperature %g, top_k %" PRIu32 ", top_p %g, min_p %g, seed %"
                PRIu64 "\n", (double)sampling->temperature, sampling->top_k,
                (double)sampling->top_p, (double)sampling->min_p, sampling->seed);
    if (run->generation.n_draft == MTP_DRAFT_AUTO)
        fputs("mtpgen: drafts as they pay\n", stderr);
    else
        fprintf(stderr, "mtpgen: %" PRId32 " drafts a step\n", run->generation.n_draft);
}

/* Said in every run that asks for it: nobody should take its text for the exact one. */
static void say_fast(const struct mtpgen_run *run)
{
    if (!run->options->session.fast || run->options->quiet)
        return;
    const char *device = mtp_session_device_name(run->session);
    if (strcmp(device, "cpu") == 0)
        fputs("mtpgen: note: --fast changes nothing on the CPU, which computes exactly\n", stderr);
    else
        fprintf(stderr, "mtpgen: note: --fast: prompts are not read exactly on %s: digests do not count, and "
                "the text may differ from that of other options and machines\n", device);
}

static void say_counters(const struct mtpgen_run *run)
{
    struct mtp_counters counters;
    mtp_session_get_counters(run->session, &counters);
    fprintf(stderr, "mtpgen: %" PRIu64 " rows in %" PRIu64 " passes, %" PRIu64
            " expert reads for %" PRIu64 " expert rows, digest %016" PRIx64 "\n", counters.rows,
            counters.passes, counters.expert_reads, counters.expert_rows,
            mtp_session_logits_digest(run->session));
}

static enum mtp_status complete(struct mtpgen_run *run, const struct mtpgen_text *prompt,
                                struct mtp_error *error)
{
    int32_t *ids = NULL;
    size_t n = 0;
    run->turn_start = mtpgen_now();
    enum mtp_status status = mtp_tokenize(run->model, prompt->data == NULL ? "" : prompt->data,
                                          prompt->length, MTP_TEXT_SPECIAL, &ids, &n, error);
    if (status == MTP_OK && n == 0)
        status = mtpgen_fail(error, MTP_ERR_USAGE, "the prompt is empty: there is nothing to "
                             "continue");
    if (status == MTP_OK)
        status = mtpgen_check_length(run, n, error);
    if (status == MTP_OK)
        status = mtpgen_prefill(run, ids, n, error);
    if (status == MTP_OK)
        status = mtpgen_generate(run, NULL, error);
    mtpgen_warn_of_drafts(run);
    free(ids);
    return status;
}

/* What closes a run: counters, the report, its file. The status of the run goes in, that of the
 * whole comes out; the first failure keeps its sentence. */
static enum mtp_status report_run(struct mtpgen_run *run, enum mtp_status status,
                                  struct mtp_error *error)
{
    const struct mtpgen_options *options = run->options;
    if (status == MTP_ERR_INTERRUPTED)
        run->report.stop = STOP_INTERRUPTED;
    bool interrupted = run->report.stop == STOP_INTERRUPTED &&
                       (status == MTP_OK || status == MTP_ERR_INTERRUPTED);
    if (options->verbose && run->session != NULL && (status == MTP_OK || interrupted))
        say_counters(run);
    mtpgen_gather(run);
    if (interrupted)
        status = MTP_ERR_INTERRUPTED;
    else if (status == MTP_OK)
        status = mtpgen_check_strict(run, error);
    bool complete = status == MTP_OK || interrupted || status == MTP_ERR_STRICT;
    if (complete && isatty(STDOUT_FILENO) && isatty(STDERR_FILENO))
        fputc('\n', stderr); /* the text need not end with a line break */
    if (complete && !options->quiet)
        mtpgen_report_print(stderr, &run->report);
    if (complete && options->session.profile)
        mtpgen_profile_print(stderr, &run->report);
    if (options->report_path == NULL)
        return status;
    bool failed = status != MTP_OK && status != MTP_ERR_INTERRUPTED;
    enum mtp_status saved = mtpgen_report_save(run, status, failed ? NULL : error);
    return saved == MTP_OK || failed ? status : saved;
}

/* What was decided where nothing was asked for: the CPU though there is a GPU, a shorter context. */
static void say_choices(const struct mtpgen_run *run)
{
    const struct mtpgen_options *options = run->options;
    struct mtp_model_info info;
    bool there;
    const char *why = mtp_session_why_cpu(run->session, &there);
    uint32_t n_ctx = mtp_session_n_ctx(run->session);
    mtp_model_get_info(run->model, &info);
    if (why[0] != '\0' && (options->verbose || (there && !options->quiet)))
        fprintf(stderr, "mtpgen: note: %s; going on on the CPU\n", why);
    if (options->session.n_ctx == 0 && n_ctx < info.n_ctx_train && !options->quiet)
        fprintf(stderr, "mtpgen: note: the context is %" PRIu32 " of the model's %" PRIu32
                " positions, as much as fits the device; see --info\n", n_ctx, info.n_ctx_train);
}

/* Loads, generates and reports. */
static enum mtp_status run_model(struct mtpgen_run *run, const struct mtpgen_text *prompt,
                                 bool given, struct mtp_error *error)
{
    double start = mtpgen_now();
    enum mtp_status status = open_model(run, error);
    if (status != MTP_OK)
        return status;
    mtpgen_choose_drafting(run);
    if (run->options->info)
        return print_info(run, error);
    status = mtp_session_open(&run->session, run->model, &run->session_options, error);
    if (status != MTP_OK)
        return status;
    run->report.load_seconds = mtpgen_now() - start;
    struct mtp_model_info info;
    mtp_model_get_info(run->model, &info);
    run->report.synthetic = info.synthetic;
    choose_sampling(run);
    say_choices(run);
    say_fast(run);
    if (run->options->verbose)
        say_settings(run);
    if (run->options->chat)
        status = mtpgen_chat(run, given ? prompt : NULL, error);
    else
        status = complete(run, prompt, error);
    return report_run(run, status, error);
}

static enum mtp_status run_options(const struct mtpgen_options *options, struct mtp_error *error)
{
    if (options->help) {
        mtpgen_print_help(stdout);
        return flush_stdout(error);
    }
    if (options->version)
        return print_version(error);
    struct mtpgen_text prompt = { 0 };
    struct mtpgen_run run = { .options = options, .session_options = options->session };
    bool given = false;
    enum mtp_status status = MTP_OK;
    run.progress.enabled = !options->quiet && isatty(STDERR_FILENO);
    run.history.wanted = mtpgen_report_is_page(options->report_path);
    run.session_options.progress = mtpgen_progress;
    run.session_options.user = &run.progress;
    if (options->report_path != NULL && !options->info)
        status = mtpgen_check_output(options->report_path, error);
    if (status == MTP_OK && options->trace_path != NULL && !options->info)
        status = mtpgen_check_output(options->trace_path, error);
    if (status == MTP_OK && !options->info)
        status = mtpgen_read_prompt(&prompt, &given, options, error);
    if (status == MTP_OK && !given && !options->chat && !options->info)
        status = mtpgen_fail(error, MTP_ERR_USAGE,
                             "no prompt given: -p TEXT, -f FILE, text from a pipe, or --chat");
    if (status == MTP_OK)
        status = run_model(&run, &prompt, given, error);
    mtp_session_close(run.session);
    mtp_model_close(run.model);
    mtpgen_text_free(&prompt);
    mtpgen_history_free(&run.history);
    free(run.held);
    free(run.ids);
    return status;
}

int main(int argc, char **argv)
{
    struct mtp_error error = { MTP_OK, "" };
    struct mtpgen_options options;
    mtpgen_signals_install();
    enum mtp_status status = mtpgen_check_streams(&error);
    if (status == MTP_OK) {
        status = mtpgen_options_parse(&options, argc, argv, stderr, &error);
        if (status == MTP_OK)
            status = run_options(&options, &error);
        mtpgen_options_free(&options);
    }
    if (status != MTP_OK && error.message[0] != '\0')
        fprintf(stderr, "mtpgen: %s\n", error.message);
    return (int)status;
}
