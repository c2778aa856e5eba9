/* Tokens in, whole characters out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tokenizer_fixture.h"
#include "tokenizer_internal.h"
#include "utf8.h"

static struct fixture fixture;
static struct text_decoder *decoder;

static int open_decoder(void **state)
{
    (void)state;
    fixture = fixture_reference("qwen35");
    struct mtp_error error;
    return text_decoder_open(&decoder, fixture.tokenizer, &error) == MTP_OK ? 0 : -1;
}

static int close_decoder(void **state)
{
    (void)state;
    text_decoder_close(decoder);
    fixture_close(&fixture);
    return 0;
}

/* Pushes the token of one byte and demands this text. */
static void push_byte(unsigned char byte, const char *wanted)
{
    size_t n;
    const char *text =
        text_decoder_push(decoder, fixture.tokenizer->vocabulary.byte_tokens[byte], &n);
    assert_int_equal(n, strlen(wanted));
    if (n > 0)
        assert_memory_equal(text, wanted, n);
}

static void flush(const char *wanted)
{
    size_t n;
    const char *text = text_decoder_flush(decoder, &n);
    assert_int_equal(n, strlen(wanted));
    if (n > 0)
        assert_memory_equal(text, wanted, n);
}

static void a_character_comes_out_whole_with_its_last_byte(void **state)
{
    (void)state;
    push_byte('a', "a");
    push_byte(0xc3, "");
    push_byte(0xa9, "\xc3\xa9");
    push_byte(0xe4, "");
    push_byte(0xb8, "");
    push_byte(0xad, "\xe4\xb8\xad");
    push_byte(0xf0, "");
    push_byte(0x9f, "");
    push_byte(0x98, "");
    push_byte(0x80, "\xf0\x9f\x98\x80");
    flush("");
}

static void bytes_that_cannot_become_a_character_come_out_at_once(void **state)
{
    (void)state;
    push_byte(0xff, "\xff");
    push_byte(0x80, "\x80");
    push_byte(0xc0, "\xc0");
    push_byte(0xed, "");
    push_byte(0xa0, "\xed\xa0"); /* would be a surrogate */
    push_byte(0x80, "\x80");
    push_byte(0xe2, "");
    push_byte(0x82, "");
    push_byte('x', "\xe2\x82x");
    push_byte(0xf0, "");
    push_byte(0x9f, "");
    push_byte(0xc3, "\xf0\x9f"); /* another character begins */
    push_byte(0xa9, "\xc3\xa9");
    flush("");
}

static void what_is_held_back_comes_out_with_the_flush(void **state)
{
    (void)state;
    push_byte(0xf0, "");
    push_byte(0x9f, "");
    push_byte(0x98, "");
    flush("\xf0\x9f\x98");
    flush("");
    push_byte('b', "b");
}

static void control_tokens_are_silent_and_do_not_disturb(void **state)
{
    (void)state;
    size_t n;
    push_byte(0xc3, "");
    text_decoder_push(decoder, tokenizer_find(fixture.tokenizer, "<|im_start|>"), &n);
    assert_int_equal(n, 0);
    push_byte(0xa9, "\xc3\xa9");
}

static void ids_that_are_no_tokens_are_silent(void **state)
{
    (void)state;
    size_t n = 1;
    text_decoder_push(decoder, -1, &n);
    assert_int_equal(n, 0);
    n = 1;
    assert_non_null(text_decoder_push(decoder, 8192, &n));
    assert_int_equal(n, 0);
    flush("");
}

/* A random character, short ones as often as long ones. */
static size_t random_character(uint64_t *random, char out[4])
{
    for (;;) {
        uint64_t bits = fixture_random(random);
        uint32_t c = (uint32_t)(bits >> 32) & (0x1fffffu >> (bits % 4 * 5));
        if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) || c < 0x20)
            continue;
        size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        if (n == 1) {
            out[0] = (char)c;
            return 1;
        }
        for (size_t i = n; i-- > 1; c >>= 6)
            out[i] = (char)(0x80 | (c & 0x3f));
        out[0] = (char)((0xf00u >> n & 0xf0) | c);
        return n;
    }
}

static void any_text_comes_back_in_whole_characters(void **state)
{
    (void)state;
    uint64_t random = 11;
    for (int round = 0; round < 500; round++) {
        char text[256];
        size_t length = 0;
        while (length + 4 <= sizeof text)
            length += random_character(&random, text + length);
        int32_t *ids;
        size_t n_ids, at = 0;
        assert_int_equal(tokenizer_encode(fixture.tokenizer, text, length, MTP_TEXT_PLAIN, &ids,
                                          &n_ids, NULL),
                         MTP_OK);
        for (size_t i = 0; i < n_ids; i++) {
            size_t n;
            const char *out = text_decoder_push(decoder, ids[i], &n);
            assert_true(n <= length - at);
            assert_true(n == 0 || memcmp(out, text + at, n) == 0);
            for (size_t k = 0; k < n;) {
                size_t one = utf8_sequence_length(out + k, n - k);
                assert_true(one > 0);
                k += one;
            }
            at += n;
        }
        assert_int_equal(at, length);
        flush("");
        free(ids);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_character_comes_out_whole_with_its_last_byte),
        cmocka_unit_test(bytes_that_cannot_become_a_character_come_out_at_once),
        cmocka_unit_test(what_is_held_back_comes_out_with_the_flush),
        cmocka_unit_test(control_tokens_are_silent_and_do_not_disturb),
        cmocka_unit_test(ids_that_are_no_tokens_are_silent),
        cmocka_unit_test(any_text_comes_back_in_whole_characters),
    };
    return cmocka_run_group_tests_name("text_decoder", tests, open_decoder, close_decoder);
}
