/* How failures read: one sentence, nothing in it that could disturb a terminal. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

#include "error.h"

static void a_failure_returns_its_status_and_keeps_it(void **state)
{
    (void)state;
    struct mtp_error error;
    assert_int_equal(mtp_fail(&error, MTP_ERR_IO, "%s: no such file", "a.gguf"), MTP_ERR_IO);
    assert_int_equal(error.status, MTP_ERR_IO);
    assert_string_equal(error.message, "a.gguf: no such file");
}

static void a_failure_without_a_place_for_its_sentence_still_has_a_status(void **state)
{
    (void)state;
    assert_int_equal(mtp_fail(NULL, MTP_ERR_FORMAT, "ignored"), MTP_ERR_FORMAT);
    assert_int_equal(mtp_fail_memory(NULL, "weights", 1), MTP_ERR_MEMORY);
}

static void control_characters_and_malformed_utf8_are_escaped(void **state)
{
    (void)state;
    struct mtp_error error;
    mtp_fail(&error, MTP_ERR_FORMAT, "key %s", "a\x1b[31m\n\x7f\xff\xc3");
    assert_string_equal(error.message, "key a\\x1b[31m\\x0a\\x7f\\xff\\xc3");
}

static void whole_utf8_characters_pass_unchanged(void **state)
{
    (void)state;
    struct mtp_error error;
    mtp_fail(&error, MTP_ERR_FORMAT, "%s", "Modell f\xc3\xbcr \xe2\x82\xac \xf0\x9f\x98\x80");
    assert_string_equal(error.message, "Modell f\xc3\xbcr \xe2\x82\xac \xf0\x9f\x98\x80");
}

static void an_endless_name_is_cut_inside_the_buffer(void **state)
{
    (void)state;
    struct mtp_error error;
    char name[4096];
    memset(name, '\x01', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    mtp_fail(&error, MTP_ERR_FORMAT, "%s", name);
    size_t length = strlen(error.message);
    assert_true(length < sizeof error.message);
    assert_true(length > sizeof error.message - 16);
    assert_memory_equal(error.message, "\\x01\\x01", 8);
}

static void running_out_of_memory_names_what_was_wanted_and_how_much(void **state)
{
    (void)state;
    struct mtp_error error;
    assert_int_equal(mtp_fail_memory(&error, "the KV cache", UINT64_C(5000000000)),
                     MTP_ERR_MEMORY);
    assert_string_equal(error.message, "not enough memory for the KV cache (5000000000 bytes)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_returns_its_status_and_keeps_it),
        cmocka_unit_test(a_failure_without_a_place_for_its_sentence_still_has_a_status),
        cmocka_unit_test(control_characters_and_malformed_utf8_are_escaped),
        cmocka_unit_test(whole_utf8_characters_pass_unchanged),
        cmocka_unit_test(an_endless_name_is_cut_inside_the_buffer),
        cmocka_unit_test(running_out_of_memory_names_what_was_wanted_and_how_much),
    };
    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
