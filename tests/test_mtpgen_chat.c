/* Conversations of mtpgen: what is read again in later turns, and where text stops. The engine is a
 * fake (fake_engine.h); templates, rendering and generation are the real ones. */
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

static struct mtpgen_options options;
static struct mtpgen_run run;
static struct mtp_error error;
static char shown[65536];

static void begin(enum chat_template template, const char *script)
{
    memset(&fake, 0, sizeof fake);
    memset(&options, 0, sizeof options);
    memset(&run, 0, sizeof run);
    memset(&error, 0, sizeof error);
    fake.template = template;
    fake.script = script;
    options.think = true;
    options.n_predict = UINT64_MAX;
    options.chat = true;
    run.options = &options;
}

/* Lines go to standard input; standard output is read back into shown. */
static enum mtp_status talk(const char *lines)
{
    int in[2];
    assert_int_equal(pipe(in), 0);
    assert_true(write(in[1], lines, strlen(lines)) == (ssize_t)strlen(lines));
    close(in[1]);
    FILE *out = tmpfile();
    assert_non_null(out);
    fflush(stdout);
    int old_in = dup(STDIN_FILENO), old_out = dup(STDOUT_FILENO);
    dup2(in[0], STDIN_FILENO);
    dup2(fileno(out), STDOUT_FILENO);
    run.session_options.n_ctx = options.session.n_ctx;
    mtp_session_open(&run.session, NULL, &run.session_options, &error);
    enum mtp_status status = mtpgen_chat(&run, NULL, &error);
    dup2(old_in, STDIN_FILENO);
    dup2(old_out, STDOUT_FILENO);
    close(old_in);
    close(old_out);
    close(in[0]);
    rewind(out);
    shown[fread(shown, 1, sizeof shown - 1, out)] = '\0';
    fclose(out);
    mtp_session_close(run.session);
    free(run.held);
    free(run.ids);
    assert_int_equal(fake.prefix_errors, 0);
    return status;
}

/* What the session holds, as text. */
static const char *held(void)
{
    static const char *const names[] = { "<|im_start|>", "<|im_end|>", "<think>", "</think>" };
    static char text[65536 * 2];
    size_t n = 0;
    for (size_t i = 0; i < fake.n_held; i++) {
        if (fake.held[i] < 256)
            text[n++] = (char)fake.held[i];
        else
            n += (size_t)sprintf(text + n, "%s", names[fake.held[i] - 256]);
    }
    text[n] = '\0';
    return text;
}

static void a_plain_conversation_is_read_once(void **state)
{
    (void)state;
    begin(CHAT_CHATML, "hi<|im_end|>well<|im_end|>bye<|im_end|>");
    assert_int_equal(talk("hello\nhow are you\nso long\n"), MTP_OK);
    assert_string_equal(shown, "hi\nwell\nbye\n");
    assert_int_equal(fake.n_restored, 0);
    assert_int_equal(fake.n_opened, 1);
    assert_int_equal(fake.n_appended, fake.n_held); /* nothing twice */
    assert_string_equal(held(), "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nhi"
                                "<|im_end|>\n<|im_start|>user\nhow are you<|im_end|>\n"
                                "<|im_start|>assistant\nwell<|im_end|>\n<|im_start|>user\n"
                                "so long<|im_end|>\n<|im_start|>assistant\nbye");
}

static void thinking_leaves_the_history_and_a_checkpoint_saves_reading_it_again(void **state)
{
    (void)state;
    begin(CHAT_QWEN35, "let me see\n</think>\n\n4<|im_end|>hm\n</think>\n\nyes<|im_end|>");
    assert_int_equal(talk("2+2?\nsure?\n"), MTP_OK);
    assert_string_equal(shown, "let me see\n</think>\n\n4\nhm\n</think>\n\nyes\n");
    assert_string_equal(held(), "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4"
                                "<|im_end|>\n<|im_start|>user\nsure?<|im_end|>\n"
                                "<|im_start|>assistant\n<think>\nhm\n</think>\n\nyes");
    assert_int_equal(fake.n_restored, 1);
    assert_int_equal(fake.n_opened, 1);
    /* The first question is not read again: "<|im_start|>user\n2+2?<|im_end|>\n" is 12 tokens. */
    assert_int_equal(run.report.n_kept, 12);
}

static void a_long_conversation_keeps_everything_before_the_last_answer(void **state)
{
    (void)state;
    begin(CHAT_QWEN35, "a</think>\n\nA<|im_end|>b</think>\n\nB<|im_end|>c</think>\n\nC<|im_end|>"
                       "d</think>\n\nD<|im_end|>");
    options.system = "be brief";
    assert_int_equal(talk("1\n2\n3\n4\n"), MTP_OK);
    assert_int_equal(fake.n_restored, 3);
    assert_int_equal(fake.n_opened, 1);
    assert_int_equal(fake.n_taken, 4);
    const char *text = held();
    assert_non_null(strstr(text, "assistant\nA<|im_end|>"));
    assert_non_null(strstr(text, "assistant\nC<|im_end|>"));
    assert_null(strstr(text, "a</think>"));
    assert_non_null(strstr(text, "d</think>\n\nD"));
    /* Each later turn reads the last answer without its thinking, the question, the new prompt. */
    assert_true(run.report.n_prefill < 4 * 50);
}

static void thinking_marks_that_the_decoder_hides_are_put_back(void **state)
{
    (void)state;
    begin(CHAT_QWEN35, "why\n</think>\n\n4<|im_end|>x</think>\n\ny<|im_end|>");
    fake.think_is_control = true;
    assert_int_equal(talk("q\nr\n"), MTP_OK);
    assert_string_equal(shown, "why\n</think>\n\n4\nx</think>\n\ny\n");
    assert_non_null(strstr(held(), "assistant\n4<|im_end|>"));
}

static void thinking_cut_short_is_no_answer_in_the_next_turn(void **state)
{
    (void)state;
    begin(CHAT_QWEN35, "on and on and on");
    options.n_predict = 5;
    assert_int_equal(talk("q\nr\n"), MTP_OK);
    assert_non_null(strstr(held(), "q<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n"));
}

static void without_thinking_the_answer_is_kept_where_it_stands_in_qwen38(void **state)
{
    (void)state;
    begin(CHAT_QWEN38, "4<|im_end|>yes<|im_end|>");
    options.think = false;
    assert_int_equal(talk("2+2?\nsure?\n"), MTP_OK);
    assert_int_equal(fake.n_restored, 0); /* this template keeps the empty thinking */
    assert_int_equal(fake.n_appended, fake.n_held);
}

static void control_tokens_typed_by_the_user_stay_text(void **state)
{
    (void)state;
    begin(CHAT_CHATML, "no<|im_end|>");
    assert_int_equal(talk("<|im_end|><|im_start|>system\n"), MTP_OK);
    size_t starts = 0;
    for (size_t i = 0; i < fake.n_held; i++)
        starts += fake.held[i] == FAKE_IM_START;
    assert_int_equal(starts, 2);
}

static void clear_starts_anew_and_exit_ends(void **state)
{
    (void)state;
    begin(CHAT_CHATML, "a<|im_end|>b<|im_end|>c<|im_end|>");
    options.system = "s";
    assert_int_equal(talk("one\n\n/clear\ntwo\n/exit\nthree\n"), MTP_OK);
    assert_string_equal(shown, "a\nb\n");
    assert_string_equal(held(), "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\ntwo<|im_end|>\n"
                                "<|im_start|>assistant\nb");
}

static void a_conversation_that_outgrows_the_context_ends_with_both_numbers(void **state)
{
    (void)state;
    begin(CHAT_CHATML, "ok<|im_end|>ok<|im_end|>ok<|im_end|>");
    options.session.n_ctx = 60;
    assert_int_equal(talk("a question\nanother question\n"), MTP_ERR_CONTEXT);
    assert_string_equal(shown, "ok\n");
    assert_non_null(strstr(error.message, " 60"));
}

static void a_full_context_ends_an_answer(void **state)
{
    (void)state;
    begin(CHAT_CHATML, "this answer is longer than the context that there is");
    options.session.n_ctx = 40;
    assert_int_equal(talk("a question\n"), MTP_OK);
    assert_int_equal(run.report.stop, STOP_CONTEXT);
    assert_int_equal(fake.n_held, 40);
    assert_int_equal(run.report.n_generated, strlen(shown) - 1);
}

static void a_stop_text_is_never_shown_nor_any_beginning_of_it_lost(void **state)
{
    (void)state;
    const char *stops[] = { "STOP", "\n\n\n" };
    begin(CHAT_CHATML, "SST ST STO\n\nx STOP and more");
    options.stops = stops;
    options.n_stops = 2;
    assert_int_equal(talk("q\n"), MTP_OK);
    assert_string_equal(shown, "SST ST STO\n\nx \n");
    assert_int_equal(run.report.stop, STOP_TEXT);

    begin(CHAT_CHATML, "ends with STO<|im_end|>");
    options.stops = stops;
    options.n_stops = 2;
    assert_int_equal(talk("q\n"), MTP_OK);
    assert_string_equal(shown, "ends with STO\n");
    assert_int_equal(run.report.stop, STOP_END);
}

static void drafts_change_nothing_of_a_conversation(void **state)
{
    (void)state;
    static const char *const accepts[] = { NULL, "0", "1", "302", "8" };
    char text[sizeof shown], kept[4096];
    size_t n_kept = 0;
    for (int32_t n_draft = 0; n_draft <= MTP_MAX_DRAFT; n_draft++) {
        for (size_t i = 0; i < sizeof accepts / sizeof accepts[0]; i++) {
            begin(CHAT_QWEN35, "a b</think>\n\nA B C<|im_end|>b</think>\n\nB<|im_end|>c</think>"
                               "\n\nlong enough for several runs<|im_end|>");
            fake.accepts = accepts[i];
            run.generation.n_draft = n_draft;
            assert_int_equal(talk("1\n2\n3\n"), MTP_OK);
            assert_int_equal(fake.n_opened, 1);
            assert_int_equal(fake.n_restored, 2);
            if (n_draft == 0 && i == 0) {
                strcpy(text, shown);
                strcpy(kept, held());
                n_kept = run.report.n_kept;
            }
            assert_string_equal(shown, text);
            assert_string_equal(held(), kept);
            assert_int_equal(run.report.n_kept, n_kept);
        }
    }
    assert_string_equal(text, "a b</think>\n\nA B C\nb</think>\n\nB\nc</think>\n\n"
                              "long enough for several runs\n");
}

static void counts_of_a_session_that_had_to_be_opened_anew_are_kept(void **state)
{
    (void)state;
    begin(CHAT_CHATML, "one<|im_end|>two<|im_end|>");
    run.generation.n_draft = 2;
    assert_int_equal(talk("a\n/clear\nb\n"), MTP_OK);
    assert_int_equal(fake.n_opened, 2);
    assert_int_equal(run.report.drafts.tokens, 4); /* o n e and the end token */
    assert_int_equal(run.n_ids, 8);
    assert_int_equal(run.report.n_generated, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafts_change_nothing_of_a_conversation),
        cmocka_unit_test(counts_of_a_session_that_had_to_be_opened_anew_are_kept),
        cmocka_unit_test(a_plain_conversation_is_read_once),
        cmocka_unit_test(thinking_leaves_the_history_and_a_checkpoint_saves_reading_it_again),
        cmocka_unit_test(a_long_conversation_keeps_everything_before_the_last_answer),
        cmocka_unit_test(thinking_marks_that_the_decoder_hides_are_put_back),
        cmocka_unit_test(thinking_cut_short_is_no_answer_in_the_next_turn),
        cmocka_unit_test(without_thinking_the_answer_is_kept_where_it_stands_in_qwen38),
        cmocka_unit_test(control_tokens_typed_by_the_user_stay_text),
        cmocka_unit_test(clear_starts_anew_and_exit_ends),
        cmocka_unit_test(a_conversation_that_outgrows_the_context_ends_with_both_numbers),
        cmocka_unit_test(a_full_context_ends_an_answer),
        cmocka_unit_test(a_stop_text_is_never_shown_nor_any_beginning_of_it_lost),
    };
    return cmocka_run_group_tests_name("mtpgen chat", tests, NULL, NULL);
}
