/* The closing report, on standard error and as a file. The engine is a fake (fake_engine.h). */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "fake_engine.h"
#include "mtpgen.h"

static struct mtpgen_options options;
static struct mtpgen_run run;
static struct mtp_error error;
static char folder[64], path[128];
static int32_t ids[] = { 5, 0, 257 };
static char *const arguments[] = { "mtpgen", "-p", "na\xc3\xafve \"quote\"", "-f", "caf\xe9", NULL };

/* A run of 4 steps with 3 drafts: 3, 1, 0 and 3 accepted. */
static void begin(void)
{
    memset(&fake, 0, sizeof fake);
    memset(&options, 0, sizeof options);
    memset(&run, 0, sizeof run);
    memset(&error, 0, sizeof error);
    options.argc = 5;
    options.argv = arguments;
    options.model_path = "model.gguf";
    options.n_predict = UINT64_MAX;
    options.report_path = path;
    run.options = &options;
    run.ids = ids;
    run.n_ids = 3;
    run.generation.n_draft = 3;
    run.generation.sampling = (struct mtp_sampling){ 0.7f, 40, 0.95f, 0.05f, UINT64_MAX };
    struct mtpgen_report *report = &run.report;
    report->load_seconds = 0.5;
    report->first_token_seconds = 0.25;
    report->n_prefill = 10, report->prefill_seconds = 0.125;
    report->n_generated = 12, report->n_decoded = 11, report->decode_seconds = 2.0;
    report->stop = STOP_LENGTH;
    report->drafts = (struct mtp_draft_stats){
        .steps = 4, .tokens = 12, .drafted = 12, .accepted = 7,
        .drafted_at = { 4, 4, 4 }, .accepted_at = { 3, 2, 2 }, .compared_at = { 4, 3, 2 },
        .histogram = { 1, 1, 0, 2 }, .width_steps = { 0, 0, 0, 4 },
        .draft_seconds = 0.25, .verify_seconds = 1.5, .commit_seconds = 0.125,
        .digest = 0x00ab00000000cdefu,
    };
    report->strict = (struct mtp_strict_report){ MTP_STRICT_FULL, 10, 12, 4, 0, 0, "" };
}

static char *printed(void)
{
    static char text[8192];
    memset(text, 0, sizeof text);
    FILE *out = fmemopen(text, sizeof text - 1, "w");
    assert_non_null(out);
    mtpgen_report_print(out, &run.report);
    fclose(out);
    return text;
}

static void has(const char *text, const char *wanted)
{
    if (strstr(text, wanted) == NULL)
        print_error("lacks: %s\n%s", wanted, text);
    assert_non_null(strstr(text, wanted));
}

static void the_report_shows_acceptance_by_position_and_as_bars(void **state)
{
    (void)state;
    begin();
    const char *text = printed();
    has(text, "  load         0.500 s\n");
    has(text, "  prefill      10 tokens, 80.0 tok/s\n");
    has(text, "  decode       12 tokens, 5.5 tok/s\n");
    has(text, "  drafts       12 drafted, 7 accepted (58.3 %) in 4 steps\n");
    has(text, "  mean length  2.75 tokens a step, the bonus token counted\n");
    has(text, "  position           1       2       3\n");
    has(text, "  conditional   75.0 %  66.7 % 100.0 %  of");
    has(text, "  cumulative    75.0 %  50.0 %  50.0 %  of");
    has(text, "  accepted     0 | #################### 1 step\n");
    has(text, "               1 | #################### 1 step\n");
    has(text, "               2 |  0 steps\n");
    has(text, "               3 | ######################################## 2 steps\n");
    has(text, "  time         draft 0.250 s, verify 1.500 s, commit 0.125 s\n");
    has(text, "  strict       full: 10 prompt rows, 12 rows, 4 steps checked, 0 mismatches\n");
    has(text, "  digest       00ab00000000cdef\n");
    has(text, "  stopped      length (-n)\n");
    assert_null(strstr(text, "difference"));
}

static void without_drafts_the_report_stays_short(void **state)
{
    (void)state;
    begin();
    run.report.drafts = (struct mtp_draft_stats){ .steps = 11, .tokens = 12, .histogram = { 11 },
                                                  .digest = 5 };
    run.report.strict.mode = MTP_STRICT_OFF;
    const char *text = printed();
    has(text, "  digest       0000000000000005\n");
    assert_null(strstr(text, "draft"));
    assert_null(strstr(text, "accepted"));
    assert_null(strstr(text, "strict"));
}

static void a_depth_that_was_never_reached_shows_no_number(void **state)
{
    (void)state;
    begin();
    run.report.drafts = (struct mtp_draft_stats){
        .steps = 2, .drafted = 4, .drafted_at = { 2, 2 }, .compared_at = { 2, 0 },
        .histogram = { 2 },
    };
    const char *text = printed();
    has(text, "  conditional    0.0 %       -  of");
    has(text, "  cumulative     0.0 %   0.0 %  of");
}

static void a_strict_report_names_its_mode_and_the_first_difference(void **state)
{
    (void)state;
    begin();
    run.report.strict = (struct mtp_strict_report){ MTP_STRICT_SAMPLE, 0, 8, 2, 1, 3,
                                                    "layer 2, attention, row 1, element 7" };
    const char *text = printed();
    has(text, "sample, a spot check: 0 prompt rows, 8 rows, 2 steps checked, 1 mismatches\n");
    has(text, "3 mismatches in the draft head's cache");
    has(text, "  difference   layer 2, attention, row 1, element 7\n");
}

static void a_run_that_asked_for_fast_says_what_came_of_it(void **state)
{
    (void)state;
    begin();
    assert_null(strstr(printed(), "fast"));
    options.session.fast = true;
    run.session = (mtp_session *)(void *)&fake; /* only its address is looked at */
    mtpgen_gather(&run);
    has(printed(), "  fast         no product was inexact\n");
    fake.inexact_products = 21;
    mtpgen_gather(&run);
    mtpgen_gather(&run); /* a second session of a chat */
    has(printed(), "  fast         42 products were not exact: the text may differ\n");
    run.session = NULL;
}

/* Attention took longer than matrix products; drafting has no time of its own, the prompt nothing. */
static void fill_profile(struct mtp_profile *profile)
{
    memset(profile, 0, MTP_PROFILE_PHASES * sizeof *profile);
    profile[MTP_PROFILE_STEPS] = (struct mtp_profile){
        .seconds = 0.010, .n_entries = 3,
        .entries = { { "matmul", 4, 0.002, 8000000 }, { "add", 0, 0.0, 0 },
                     { "attention", 2, 0.005, 1000000 } },
    };
    profile[MTP_PROFILE_DRAFT] = (struct mtp_profile){
        .n_entries = 3, .entries = { { "matmul", 1, 0.0, 16 }, { "add", 0, 0.0, 0 },
                                     { "attention", 0, 0.0, 0 } },
    };
}

static void the_profile_lists_operations_by_time_and_what_lies_outside(void **state)
{
    (void)state;
    begin();
    fill_profile(fake.profile);
    run.session = (mtp_session *)(void *)&fake; /* only its address is looked at */
    mtpgen_gather(&run);
    mtpgen_gather(&run); /* a second session of a chat */
    static char text[4096];
    memset(text, 0, sizeof text);
    FILE *out = fmemopen(text, sizeof text - 1, "w");
    assert_non_null(out);
    mtpgen_profile_print(out, &run.report);
    fclose(out);
    assert_string_equal(text,
        "mtpgen: profile of the steps (passes that check drafts, and plain ones): 20.00 ms\n"
        "  operation             calls         ms   share    us/call          MB     GB/s\n"
        "  attention                 4      10.00  50.0 %    2500.00        2.00     0.20\n"
        "  matmul                    8       4.00  20.0 %     500.00       16.00     4.00\n"
        "  outside operations                6.00  30.0 %\n"
        "mtpgen: profile of the draft head: 0.00 ms\n"
        "  operation             calls         ms   share    us/call          MB     GB/s\n"
        "  matmul                    2       0.00   0.0 %       0.00        0.00        -\n"
        "  outside operations                0.00   0.0 %\n");
    run.session = NULL;
}

/* ---- the file -------------------------------------------------------------------------------- */

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/mtp-report-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/report.json", folder);
    return 0;
}

static size_t n_files(void)
{
    size_t n = 0;
    DIR *files = opendir(folder);
    assert_non_null(files);
    for (struct dirent *file; (file = readdir(files)) != NULL;)
        n += file->d_name[0] != '.';
    closedir(files);
    return n;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static json_t *load(void)
{
    json_error_t problem;
    json_t *report = json_load_file(path, JSON_REJECT_DUPLICATES, &problem);
    if (report == NULL)
        print_error("%s\n", problem.text);
    assert_non_null(report);
    return report;
}

static void a_synthetic_model_is_named_as_one_and_no_other(void **state)
{
    (void)state;
    for (int synthetic = 0; synthetic < 2; synthetic++) {
        begin();
        fake.synthetic = run.report.synthetic = synthetic == 1;
        const char *line = strstr(printed(), "  synthetic    true");
        assert_true((line != NULL) == fake.synthetic);
        assert_int_equal(mtpgen_report_save(&run, MTP_OK, &error), MTP_OK);
        json_t *report = load();
        json_t *value = json_object_get(json_object_get(report, "model"), "synthetic");
        assert_true(fake.synthetic ? json_is_true(value) : json_is_false(value));
        json_decref(report);
    }
}

static void the_file_says_what_was_not_exact(void **state)
{
    (void)state;
    for (int fast = 0; fast < 2; fast++) {
        begin();
        options.session.fast = fast == 1;
        run.report.inexact_products = fast == 1 ? 42 : 0;
        assert_int_equal(mtpgen_report_save(&run, MTP_OK, &error), MTP_OK);
        json_t *report = load();
        json_t *asked = json_object_get(json_object_get(report, "options"), "fast");
        assert_true(fast == 1 ? json_is_true(asked) : json_is_false(asked));
        json_t *count = json_object_get(report, "inexact_products");
        assert_true(json_is_integer(count));
        assert_int_equal(json_integer_value(count), fast == 1 ? 42 : 0);
        json_decref(report);
    }
}

static void check_strict(json_t *strict)
{
    json_int_t rows, steps_checked, prompt_rows, mismatches, mtp;
    const char *mode;
    json_t *difference;
    assert_int_equal(json_unpack(strict, "{s:s, s:I, s:I, s:I, s:I, s:I, s:o !}", "mode", &mode,
        "rows_checked", &rows, "steps_checked", &steps_checked, "prompt_rows_checked",
        &prompt_rows, "mismatches", &mismatches, "mtp_mismatches", &mtp, "first_difference",
        &difference), 0);
    assert_string_equal(mode, "full");
    assert_int_equal(rows, 12);
    assert_int_equal(steps_checked, 4);
    assert_int_equal(prompt_rows, 10);
    assert_int_equal(mismatches + mtp, 0);
    assert_true(json_is_null(difference));
}

static void check_timing(json_t *timing)
{
    double load_ms, ttft, prefill, decode, draft, verify, commit;
    assert_int_equal(json_unpack(timing, "{s:F, s:F, s:F, s:F, s:F, s:F, s:F !}", "load_ms",
        &load_ms, "ttft_ms", &ttft, "prefill_tok_s", &prefill, "decode_tok_s", &decode, "draft_ms",
        &draft, "verify_ms", &verify, "commit_ms", &commit), 0);
    assert_true(load_ms == 500.0 && ttft == 250.0 && prefill == 80.0 && decode == 5.5);
    assert_true(draft == 250.0 && verify == 1500.0 && commit == 125.0);
}

static void check_options(json_t *chosen)
{
    json_int_t n_draft;
    double temperature, top_p;
    const char *seed;
    assert_int_equal(json_unpack(chosen, "{s:I, s:F, s:F, s:s}", "draft", &n_draft, "temperature",
                                 &temperature, "top_p", &top_p, "seed", &seed), 0);
    assert_int_equal(n_draft, 3);
    assert_true(temperature == 0.7 && top_p == 0.95); /* as typed */
    assert_string_equal(seed, "18446744073709551615");
}

static void check_positions(const json_t *positions)
{
    json_t *conditional = json_object_get(positions, "conditional");
    json_t *cumulative = json_object_get(positions, "cumulative");
    static const char *const counts[] = { "drafted", "compared", "accepted" };
    static const json_int_t expected[3][3] = { { 4, 4, 4 }, { 4, 3, 2 }, { 3, 2, 2 } };
    assert_int_equal(json_array_size(conditional), 3);
    assert_true(fabs(json_real_value(json_array_get(conditional, 1)) - 2.0 / 3.0) < 1e-8);
    assert_true(fabs(json_real_value(json_array_get(cumulative, 1)) - 0.5) < 1e-9);
    for (size_t c = 0; c < 3; c++) {
        const json_t *list = json_object_get(positions, counts[c]);
        assert_int_equal(json_array_size(list), 3);
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(json_integer_value(json_array_get(list, i)), expected[c][i]);
    }
}

static void every_field_is_there_with_its_unit(void **state)
{
    (void)state;
    begin();
    assert_int_equal(mtpgen_report_save(&run, MTP_OK, &error), MTP_OK);
    json_t *report = load();
    json_int_t steps, drafted, accepted, n_tokens, exit_status, arithmetic;
    double mean;
    const char *digest, *stop, *version;
    json_t *tokens, *histogram, *positions, *strict, *timing, *chosen;
    assert_int_equal(json_unpack(report,
        "{s:s, s:I, s:I, s:s, s:o, s:I, s:I, s:I, s:I, s:F, s:o, s:o, s:s, s:o, s:o, s:o}",
        "mtpgen", &version, "arithmetic_version", &arithmetic, "exit_status", &exit_status,
        "stop", &stop, "tokens", &tokens, "n_tokens", &n_tokens, "steps", &steps,
        "drafted", &drafted, "accepted", &accepted, "mean_accepted_length", &mean,
        "acceptance_by_position", &positions,
        "histogram", &histogram, "digest", &digest, "strict", &strict, "timing", &timing,
        "options", &chosen), 0);
    assert_string_equal(version, "0.0.1");
    assert_int_equal(arithmetic, 7);
    assert_int_equal(exit_status, 0);
    assert_string_equal(stop, "length");
    assert_int_equal(n_tokens, 3);
    assert_int_equal(json_array_size(tokens), 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(json_integer_value(json_array_get(tokens, i)), ids[i]);
    assert_int_equal(steps, 4);
    assert_int_equal(drafted, 12);
    assert_int_equal(accepted, 7);
    assert_true(fabs(mean - 2.75) < 1e-9);
    assert_string_equal(digest, "00ab00000000cdef");
    assert_int_equal(json_array_size(histogram), 4);
    assert_int_equal(json_integer_value(json_array_get(histogram, 3)), 2);
    check_positions(positions);
    check_strict(strict);
    check_timing(timing);
    check_options(chosen);
    json_decref(report);
    assert_int_equal(n_files(), 1);
}

static void command_and_model_are_told_whatever_bytes_they_have(void **state)
{
    (void)state;
    begin();
    assert_int_equal(mtpgen_report_save(&run, MTP_ERR_STRICT, &error), MTP_OK);
    json_t *report = load();
    json_t *command = json_object_get(report, "command");
    assert_int_equal(json_array_size(command), 5);
    assert_string_equal(json_string_value(json_array_get(command, 2)), "na\xc3\xafve \"quote\"");
    assert_string_equal(json_string_value(json_array_get(command, 4)), "caf?");
    json_t *model = json_object_get(report, "model");
    assert_string_equal(json_string_value(json_object_get(model, "digest")), "fedcba9876543210");
    assert_string_equal(json_string_value(json_object_get(model, "name")), "a \"fake\"");
    assert_string_equal(json_string_value(json_object_get(model, "path")), "model.gguf");
    assert_true(json_is_null(json_object_get(model, "mtp_path")));
    assert_int_equal(json_integer_value(json_object_get(report, "exit_status")), 9);
    json_decref(report);
}

static void each_field_has_a_line_of_its_own(void **state)
{
    (void)state;
    begin();
    assert_int_equal(mtpgen_report_save(&run, MTP_OK, &error), MTP_OK);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char line[4096];
    size_t n = 0;
    while (fgets(line, sizeof line, file) != NULL)
        n += strcmp(line, "  \"tokens\": [5, 0, 257],\n") == 0;
    fclose(file);
    assert_int_equal(n, 1);
}

static void the_profile_is_a_member_by_phase(void **state)
{
    (void)state;
    begin();
    fill_profile(run.report.profile);
    run.session_options.profile = true;
    assert_int_equal(mtpgen_report_save(&run, MTP_OK, &error), MTP_OK);
    json_t *report = load();
    json_t *profile = json_object_get(report, "profile");
    json_t *steps = json_object_get(profile, "steps");
    json_t *operations = json_object_get(steps, "operations");
    assert_int_equal(json_object_size(profile), 3);
    assert_true(json_real_value(json_object_get(steps, "ms")) == 10.0);
    assert_true(json_real_value(json_object_get(steps, "outside_ms")) == 3.0);
    assert_int_equal(json_array_size(operations), 2); /* add was not called */
    json_int_t calls, bytes;
    double milliseconds;
    const char *operation;
    assert_int_equal(json_unpack(json_array_get(operations, 1), "{s:s, s:I, s:F, s:I}",
                                 "operation", &operation, "calls", &calls, "ms", &milliseconds,
                                 "bytes", &bytes), 0);
    assert_string_equal(operation, "attention");
    assert_int_equal(calls, 2);
    assert_int_equal(bytes, 1000000);
    assert_true(milliseconds == 5.0);
    json_t *prompt = json_object_get(profile, "prompt");
    assert_int_equal(json_array_size(json_object_get(prompt, "operations")), 0);
    json_decref(report);
}

static void what_was_never_measured_is_null(void **state)
{
    (void)state;
    begin();
    memset(&run.report, 0, sizeof run.report);
    run.n_ids = 0;
    run.generation.n_draft = MTP_DRAFT_AUTO;
    assert_int_equal(mtpgen_report_save(&run, MTP_OK, &error), MTP_OK);
    json_t *report = load();
    json_t *timing = json_object_get(report, "timing");
    assert_true(json_is_null(json_object_get(report, "profile")));
    assert_true(json_is_null(json_object_get(timing, "ttft_ms")));
    assert_true(json_is_null(json_object_get(timing, "decode_tok_s")));
    assert_int_equal(json_array_size(json_object_get(report, "tokens")), 0);
    assert_int_equal(json_array_size(json_object_get(report, "histogram")), 1);
    assert_string_equal(json_string_value(json_object_get(report, "stop")), "none");
    json_t *chosen = json_object_get(report, "options");
    assert_string_equal(json_string_value(json_object_get(chosen, "draft")), "auto");
    assert_int_equal(json_integer_value(json_object_get(chosen, "n_predict")), -1);
    json_decref(report);
}

static void an_older_report_is_replaced_through_links_with_its_name(void **state)
{
    (void)state;
    char link_path[128];
    begin();
    snprintf(link_path, sizeof link_path, "%s/link", folder);
    assert_int_equal(mtpgen_report_save(&run, MTP_OK, &error), MTP_OK);
    assert_int_equal(symlink("report.json", link_path), 0);
    options.report_path = link_path;
    run.n_ids = 1;
    assert_int_equal(mtpgen_check_output(link_path, &error), MTP_OK);
    assert_int_equal(mtpgen_report_save(&run, MTP_OK, &error), MTP_OK);
    struct stat status;
    assert_int_equal(lstat(link_path, &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    json_t *report = load(); /* path itself */
    assert_int_equal(json_integer_value(json_object_get(report, "n_tokens")), 1);
    json_decref(report);
    assert_int_equal(n_files(), 2);
    unlink(link_path);
}

static void a_file_that_cannot_be_written_is_one_sentence_and_leaves_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = { "/dev/full", "/nowhere/report.json", "/", NULL };
    begin();
    for (size_t i = 0; i < 4; i++) {
        options.report_path = bad[i] != NULL ? bad[i] : folder;
        memset(&error, 0, sizeof error);
        assert_int_equal(mtpgen_report_save(&run, MTP_OK, &error), MTP_ERR_IO);
        assert_int_equal(error.status, MTP_ERR_IO);
        has(error.message, options.report_path);
        if (i > 0)
            assert_int_equal(mtpgen_check_output(options.report_path, &error), MTP_ERR_IO);
    }
    assert_int_equal(n_files(), 0);
    struct stat status;
    assert_int_equal(stat("/dev/full", &status), 0);
    assert_true(S_ISCHR(status.st_mode)); /* not replaced by a file */
}

static void trying_a_file_leaves_it_as_it_was(void **state)
{
    (void)state;
    begin();
    assert_int_equal(mtpgen_check_output(path, &error), MTP_OK);
    assert_int_equal(n_files(), 0);
    FILE *file = fopen(path, "w");
    fputs("GGUF and so on", file);
    fclose(file);
    assert_int_equal(mtpgen_check_output(path, &error), MTP_ERR_USAGE);
    has(error.message, "is a model");
    assert_int_equal(mtpgen_report_save(&run, MTP_OK, &error), MTP_ERR_USAGE);
    char text[32] = "";
    file = fopen(path, "r");
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_string_equal(text, "GGUF and so on");
    assert_int_equal(n_files(), 1);
}

#define file_test(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_report_shows_acceptance_by_position_and_as_bars),
        cmocka_unit_test(without_drafts_the_report_stays_short),
        cmocka_unit_test(a_depth_that_was_never_reached_shows_no_number),
        cmocka_unit_test(a_strict_report_names_its_mode_and_the_first_difference),
        cmocka_unit_test(a_run_that_asked_for_fast_says_what_came_of_it),
        cmocka_unit_test(the_profile_lists_operations_by_time_and_what_lies_outside),
        file_test(every_field_is_there_with_its_unit),
        file_test(a_synthetic_model_is_named_as_one_and_no_other),
        file_test(the_file_says_what_was_not_exact),
        file_test(command_and_model_are_told_whatever_bytes_they_have),
        file_test(each_field_has_a_line_of_its_own),
        file_test(the_profile_is_a_member_by_phase),
        file_test(what_was_never_measured_is_null),
        file_test(an_older_report_is_replaced_through_links_with_its_name),
        file_test(a_file_that_cannot_be_written_is_one_sentence_and_leaves_nothing),
        file_test(trying_a_file_leaves_it_as_it_was),
    };
    return cmocka_run_group_tests_name("mtpgen report", tests, NULL, NULL);
}
