/* Steps that give several tokens: whatever is accepted, text, reason, ids held and counts are those of
 * plain decoding. The engine is a fake (fake_engine.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_engine.h"
#include "mtpgen.h"

static const char prompt[] = "prompt: ";
static struct mtpgen_options options;
static struct mtpgen_run run;
static struct mtp_error error;
static char shown[4096], said[4096];

static void forget(void)
{
    mtp_session_close(run.session);
    free(run.held);
    free(run.ids);
    memset(&run, 0, sizeof run);
    memset(&fake, 0, sizeof fake);
    memset(&options, 0, sizeof options);
    memset(&error, 0, sizeof error);
}

static void begin(const char *script, int32_t n_draft, const char *accepts)
{
    forget();
    fake.script = script;
    fake.accepts = accepts;
    options.n_predict = UINT64_MAX;
    options.n_draft = n_draft;
    options.quiet = true;
    run.options = &options;
}

static FILE *divert(int fd, int *old)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(NULL);
    *old = dup(fd);
    dup2(fileno(file), fd);
    return file;
}

static void bring_back(int fd, int old, FILE *file, char *text, size_t size)
{
    fflush(NULL);
    dup2(old, fd);
    close(old);
    rewind(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

/* Reads the prompt and generates; what came out is in shown and said. */
static enum mtp_status generate(void)
{
    int old_out, old_err;
    int32_t ids[sizeof prompt];
    for (size_t i = 0; i + 1 < sizeof prompt; i++)
        ids[i] = prompt[i];
    FILE *out = divert(STDOUT_FILENO, &old_out);
    FILE *err = divert(STDERR_FILENO, &old_err);
    mtpgen_choose_drafting(&run);
    mtp_session_open(&run.session, NULL, &run.session_options, &error);
    enum mtp_status status = mtpgen_prefill(&run, ids, sizeof prompt - 1, &error);
    if (status == MTP_OK)
        status = mtpgen_generate(&run, NULL, &error);
    mtpgen_warn_of_drafts(&run);
    mtpgen_gather(&run);
    bring_back(STDERR_FILENO, old_err, err, said, sizeof said);
    bring_back(STDOUT_FILENO, old_out, out, shown, sizeof shown);
    assert_int_equal(fake.prefix_errors, 0);
    return status;
}

struct expected {
    const char *script, *text;
    enum mtpgen_stop_reason stop;
    uint64_t n_predict; /* 0: no limit */
    uint32_t n_ctx;
    const char *stop_text;
    size_t n_held, n_ids; /* generated ids the session holds; all of them */
    bool ignore_eos;
};

static void check_run(const struct expected *e, int32_t n_draft, const char *accepts)
{
    begin(e->script, n_draft, accepts);
    options.n_predict = e->n_predict > 0 ? e->n_predict : UINT64_MAX;
    options.stops = (const char **)&e->stop_text;
    options.n_stops = e->stop_text != NULL;
    options.ignore_eos = e->ignore_eos;
    run.session_options.n_ctx = e->n_ctx;
    assert_int_equal(generate(), MTP_OK);
    assert_string_equal(shown, e->text);
    assert_int_equal(run.report.stop, e->stop);
    size_t n_prompt = sizeof prompt - 1;
    assert_int_equal(fake.n_held, n_prompt + e->n_held);
    assert_int_equal(run.n_held, fake.n_held);
    assert_memory_equal(run.held, fake.held, run.n_held * sizeof *run.held);
    assert_int_equal(run.n_ids, e->n_ids);
    assert_memory_equal(run.ids, fake.held + n_prompt, e->n_held * sizeof *run.ids);
    assert_int_equal(run.report.n_decoded, e->n_held);
    assert_int_equal(run.report.drafts.tokens, e->n_ids);
    assert_int_equal(run.report.n_generated, e->n_ids - (e->stop == STOP_END));
    assert_int_equal(run.report.n_prefill, n_prompt);
}

static void check_everywhere(const struct expected *e)
{
    static const char *const accepts[] = { NULL, "0", "1", "2", "08", "31207" };
    for (int32_t n_draft = 0; n_draft <= MTP_MAX_DRAFT; n_draft++) {
        for (size_t i = 0; i < sizeof accepts / sizeof accepts[0]; i++)
            check_run(e, n_draft, accepts[i]);
    }
}

static void an_end_token_inside_a_run_ends_text_and_state(void **state)
{
    (void)state;
    check_everywhere(&(struct expected){ "some text<|im_end|>never seen", "some text", STOP_END, 0,
                                         0, NULL, 9, 10, false });
    check_everywhere(&(struct expected){ "<|im_end|>x", "", STOP_END, 0, 0, NULL, 0, 1, false });
}

static void an_end_token_to_be_ignored_is_held_and_not_shown(void **state)
{
    (void)state;
    check_everywhere(&(struct expected){ "a<|im_end|>bcdefgh", "abcdef", STOP_LENGTH, 7, 0, NULL, 6,
                                         7, true });
}

static void a_stop_text_inside_a_run_ends_text_and_state(void **state)
{
    (void)state;
    check_everywhere(&(struct expected){ "so far and no further", "so far and ", STOP_TEXT, 0, 0,
                                         "no f", 14, 15, false });
    check_everywhere(&(struct expected){ "xyz", "", STOP_TEXT, 0, 0, "x", 0, 1, false });
}

static void the_length_is_reached_exactly(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 20; n++) {
        char text[32];
        snprintf(text, sizeof text, "%.*s", (int)n, "abcdefghijklmnopqrstuvwxyz");
        check_everywhere(&(struct expected){ "abcdefghijklmnopqrstuvwxyz", text, STOP_LENGTH, n, 0,
                                             NULL, n - 1, n, false });
    }
}

static void the_context_is_filled_exactly_and_one_token_more_is_drawn(void **state)
{
    (void)state;
    for (uint32_t room = 0; room <= 10; room++) {
        char text[32];
        snprintf(text, sizeof text, "%.*s", (int)room + 1, "abcdefghijklmnopqrstuvwxyz");
        check_everywhere(&(struct expected){ "abcdefghijklmnopqrstuvwxyz", text, STOP_CONTEXT, 0,
                                             (uint32_t)sizeof prompt - 1 + room, NULL, room,
                                             room + 1, false });
    }
}

static void no_tokens_wanted_take_no_step(void **state)
{
    (void)state;
    begin("abc", 3, NULL);
    options.n_predict = 0;
    assert_int_equal(generate(), MTP_OK);
    assert_string_equal(shown, "");
    assert_int_equal(run.report.stop, STOP_LENGTH);
    assert_int_equal(run.n_ids, 0);
    assert_int_equal(fake.stats.steps, 0);
}

static void a_step_that_fails_keeps_what_was_shown_and_held(void **state)
{
    (void)state;
    const char *stops[] = { "abd" };
    begin("abc", 3, NULL);
    options.stops = stops;
    options.n_stops = 1;
    fake.fail_after = MTP_ERR_NUMERIC;
    assert_int_equal(generate(), MTP_ERR_NUMERIC);
    assert_string_equal(error.message, "the step failed");
    assert_string_equal(shown, "a"); /* held back as a beginning of the stop text, then shown */
    assert_int_equal(run.n_held, sizeof prompt - 1);
    begin("abc", 3, NULL);
    fake.fail_after = MTP_ERR_STRICT;
    assert_int_equal(generate(), MTP_ERR_STRICT);
    begin("abc", 3, NULL);
    fake.fail_after = MTP_ERR_INTERRUPTED;
    assert_int_equal(generate(), MTP_OK);
    assert_int_equal(run.report.stop, STOP_INTERRUPTED);
}

static void a_trace_covers_the_answer_and_knows_the_prompt(void **state)
{
    (void)state;
    begin("abc", 3, NULL);
    options.trace_path = "somewhere";
    assert_int_equal(generate(), MTP_OK);
    assert_int_equal(fake.n_traces, 1);
    assert_int_equal(fake.n_traces_open, 0);
    assert_int_equal(fake.n_traced_prompt, sizeof prompt - 1);
}

/* ---- how many drafts ------------------------------------------------------------------------- */

static void drafts_are_as_many_as_pay_when_nobody_says(void **state)
{
    (void)state;
    begin("abc", MTPGEN_DRAFT_DEFAULT, NULL);
    options.quiet = false;
    assert_int_equal(generate(), MTP_OK);
    assert_int_equal(run.generation.n_draft, MTP_DRAFT_AUTO);
    assert_int_equal(run.generation.draft_sources, 1 << MTP_DRAFT_HEAD | 1 << MTP_DRAFT_NGRAM);
    assert_true(run.session_options.draft && run.session_options.measure_passes);
    assert_string_equal(said, "");

    begin("abc", MTPGEN_DRAFT_DEFAULT, NULL);
    options.quiet = false;
    fake.cannot_draft = true;
    assert_int_equal(generate(), MTP_OK);
    assert_int_equal(run.generation.n_draft, MTP_DRAFT_AUTO);
    assert_int_equal(run.generation.draft_sources, 1 << MTP_DRAFT_NGRAM);
    assert_true(run.session_options.draft && run.session_options.measure_passes);
    assert_string_equal(said, ""); /* nobody asked */
}

static void drafts_asked_for_in_vain_are_one_line_and_other_drafts_or_none(void **state)
{
    (void)state;
    static const int32_t asked[] = { 1, 8, MTP_DRAFT_AUTO };
    for (size_t i = 0; i < 3; i++) {
        begin("abc", asked[i], NULL);
        options.quiet = false;
        fake.cannot_draft = true;
        assert_int_equal(generate(), MTP_OK);
        assert_string_equal(shown, "abc");
        assert_int_equal(run.generation.n_draft, asked[i]);
        assert_int_equal(run.generation.draft_sources, 1 << MTP_DRAFT_NGRAM);
        assert_non_null(strstr(said, "drafts from the text so far"));
        assert_non_null(strstr(said, "blk.6.nextn.eh_proj.weight"));
        assert_non_null(strstr(said, "--mtp-model"));
        assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    }
    begin("abc", 3, NULL);
    options.quiet = false;
    options.draft_sources = 1 << MTP_DRAFT_HEAD;
    fake.cannot_draft = true;
    assert_int_equal(generate(), MTP_OK);
    assert_int_equal(run.generation.n_draft, 0);
    assert_false(run.session_options.draft);
    assert_non_null(strstr(said, "going on without drafts"));
    begin("abc", 0, NULL);
    options.quiet = false;
    fake.cannot_draft = true;
    assert_int_equal(generate(), MTP_OK);
    assert_string_equal(said, "");
}

static void sources_are_those_asked_for(void **state)
{
    (void)state;
    static const unsigned head = 1 << MTP_DRAFT_HEAD, ngrams = 1 << MTP_DRAFT_NGRAM;
    /* Asked for, then what `auto` drafts from and what a fixed number does. */
    static const unsigned asked[][3] = { { 0, head | ngrams, head },
                                         { head, head, head },
                                         { ngrams, ngrams, ngrams },
                                         { head | ngrams, head | ngrams, head | ngrams } };
    static const int32_t numbers[] = { MTPGEN_DRAFT_DEFAULT, MTP_DRAFT_AUTO, 2 };
    for (size_t i = 0; i < 12; i++) {
        begin("abc", numbers[i % 3], NULL);
        options.draft_sources = asked[i / 3][0];
        mtpgen_choose_drafting(&run);
        assert_int_equal(run.generation.draft_sources, asked[i / 3][i % 3 < 2 ? 1 : 2]);
        assert_int_equal(run.generation.n_draft, i % 3 < 2 ? MTP_DRAFT_AUTO : 2);
    }
}

static void the_draft_head_is_no_larger_than_the_vocabulary(void **state)
{
    (void)state;
    static const uint32_t rows[][2] = { { 0, 0 }, { 1, 1 }, { 100, 100 }, { 4000, FAKE_N_VOCAB },
                                        { UINT32_MAX, FAKE_N_VOCAB } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin("abc", 2, NULL);
        options.draft_head_rows = rows[i][0];
        mtpgen_choose_drafting(&run);
        assert_int_equal(run.generation.draft_head_rows, rows[i][1]);
    }
}

static void hardly_any_accepted_draft_is_one_warning(void **state)
{
    (void)state;
    char script[201];
    memset(script, 'x', 200);
    script[200] = '\0';
    begin(script, 2, "0");
    options.quiet = false;
    assert_int_equal(generate(), MTP_OK);
    assert_int_equal(run.report.drafts.drafted, 400);
    assert_non_null(strstr(said, "draft head looks damaged"));
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    mtpgen_warn_of_drafts(&run); /* would show in the test's output */
    assert_true(run.warned);

    begin(script, 2, "1000000000"); /* one draft in twenty steps of two: a twentieth */
    options.quiet = false;
    assert_int_equal(generate(), MTP_OK);
    assert_non_null(strstr(said, "warning"));
    begin(script, 2, "10000"); /* a tenth */
    options.quiet = false;
    assert_int_equal(generate(), MTP_OK);
    assert_string_equal(said, "");
    begin(script + 151, 2, "0"); /* 49 steps */
    options.quiet = false;
    assert_int_equal(generate(), MTP_OK);
    assert_int_equal(run.report.drafts.drafted, 98);
    assert_string_equal(said, "");
}

/* ---- strict ---------------------------------------------------------------------------------- */

static void a_strict_run_fails_when_it_found_a_difference_or_compared_nothing(void **state)
{
    (void)state;
    begin("abc", 2, NULL); /* run.n_ids alone is set below: there are no ids to free */
    assert_int_equal(mtpgen_check_strict(&run, &error), MTP_OK); /* not strict at all */
    options.session.strict = MTP_STRICT_FULL;
    assert_int_equal(mtpgen_check_strict(&run, &error), MTP_ERR_STRICT);
    assert_non_null(strstr(error.message, "compared no row"));
    run.n_ids = 1;
    assert_int_equal(mtpgen_check_strict(&run, &error), MTP_ERR_STRICT);
    run.report.strict.prompt_rows_checked = 7; /* the first token comes from the last of them */
    assert_int_equal(mtpgen_check_strict(&run, &error), MTP_OK);
    run.n_ids = 0; /* and without one they prove nothing about a text */
    assert_int_equal(mtpgen_check_strict(&run, &error), MTP_ERR_STRICT);
    run.n_ids = 2;
    run.report.strict.prompt_rows_checked = 0;
    run.report.strict.rows_checked = 1;
    assert_int_equal(mtpgen_check_strict(&run, &error), MTP_OK);
    run.report.strict.mtp_mismatches = 4; /* no text depends on them */
    assert_int_equal(mtpgen_check_strict(&run, &error), MTP_OK);
    run.report.strict.mismatches = 1;
    strcpy(run.report.strict.first_difference, "layer 3, router");
    assert_int_equal(mtpgen_check_strict(&run, &error), MTP_ERR_STRICT);
    assert_non_null(strstr(error.message, "layer 3, router"));
}

static void strict_reports_of_sessions_add_up(void **state)
{
    (void)state;
    begin("abc", 2, NULL);
    fake.strict = (struct mtp_strict_report){ MTP_STRICT_FULL, 10, 20, 5, 0, 1, "" };
    mtp_session_open(&run.session, NULL, &run.session_options, &error);
    mtpgen_gather(&run);
    fake.strict = (struct mtp_strict_report){ MTP_STRICT_FULL, 1, 2, 3, 4, 0, "first" };
    mtpgen_gather(&run);
    strcpy(fake.strict.first_difference, "second");
    mtpgen_gather(&run);
    const struct mtp_strict_report *sum = &run.report.strict;
    assert_int_equal(sum->mode, MTP_STRICT_FULL);
    assert_int_equal(sum->prompt_rows_checked, 12);
    assert_int_equal(sum->rows_checked, 24);
    assert_int_equal(sum->steps_checked, 11);
    assert_int_equal(sum->mismatches, 8);
    assert_int_equal(sum->mtp_mismatches, 1);
    assert_string_equal(sum->first_difference, "first");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_end_token_inside_a_run_ends_text_and_state),
        cmocka_unit_test(an_end_token_to_be_ignored_is_held_and_not_shown),
        cmocka_unit_test(a_stop_text_inside_a_run_ends_text_and_state),
        cmocka_unit_test(the_length_is_reached_exactly),
        cmocka_unit_test(the_context_is_filled_exactly_and_one_token_more_is_drawn),
        cmocka_unit_test(no_tokens_wanted_take_no_step),
        cmocka_unit_test(a_step_that_fails_keeps_what_was_shown_and_held),
        cmocka_unit_test(a_trace_covers_the_answer_and_knows_the_prompt),
        cmocka_unit_test(drafts_are_as_many_as_pay_when_nobody_says),
        cmocka_unit_test(drafts_asked_for_in_vain_are_one_line_and_other_drafts_or_none),
        cmocka_unit_test(sources_are_those_asked_for),
        cmocka_unit_test(the_draft_head_is_no_larger_than_the_vocabulary),
        cmocka_unit_test(hardly_any_accepted_draft_is_one_warning),
        cmocka_unit_test(a_strict_run_fails_when_it_found_a_difference_or_compared_nothing),
        cmocka_unit_test(strict_reports_of_sessions_add_up),
    };
    int failed = cmocka_run_group_tests_name("mtpgen steps", tests, NULL, NULL);
    forget();
    return failed;
}
