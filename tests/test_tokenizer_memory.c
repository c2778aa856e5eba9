/* The tokenizer when memory runs out, at any of its allocations (PCRE2's own apart). Linked with
 * --wrap for the three functions below. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tokenizer_fixture.h"
#include "tokenizer_internal.h"

static long allocations_left = -1; /* -1: as many as wanted */

static bool refused(void)
{
    if (allocations_left > 0)
        allocations_left--;
    else if (allocations_left == 0)
        return true;
    return false;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size)
{
    return refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return refused() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return refused() ? NULL : __real_realloc(old, size);
}

static void assert_reported(enum mtp_status status, const struct mtp_error *error)
{
    assert_int_equal(status, MTP_ERR_MEMORY);
    assert_memory_equal(error->message, "not enough memory for ", 22);
}

static void every_failed_allocation_while_opening_is_reported(void **state)
{
    (void)state;
    struct fixture f = fixture_reference("default");
    struct mtp_error error;
    struct tokenizer *tokenizer;
    enum mtp_status status;
    long n = 0;
    do {
        allocations_left = n;
        status = tokenizer_open(&tokenizer, f.file, &error);
        allocations_left = -1;
        if (status != MTP_OK) {
            assert_reported(status, &error);
            assert_null(tokenizer);
        }
        n++;
    } while (status != MTP_OK);
    assert_in_range(n, 10, 1000);
    struct text_decoder *decoder;
    allocations_left = 0;
    status = text_decoder_open(&decoder, tokenizer, &error);
    allocations_left = -1;
    assert_reported(status, &error);
    tokenizer_close(tokenizer);
    fixture_close(&f);
}

static void every_failed_allocation_while_encoding_is_reported(void **state)
{
    (void)state;
    struct fixture f = fixture_reference("qwen35");
    /* A long word, an invalid byte and more ids than fit at first. */
    char text[3000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "<|im_end|> the\xff"[i * 7 % (i < 1500 ? 15 : 14)];
    memset(text, 'e', 900);
    struct mtp_error error;
    enum mtp_status status;
    int32_t *ids;
    size_t n_ids;
    long n = 0;
    do {
        allocations_left = n;
        status = tokenizer_encode(f.tokenizer, text, sizeof text, MTP_TEXT_SPECIAL, &ids, &n_ids,
                                  &error);
        allocations_left = -1;
        if (status != MTP_OK) {
            assert_reported(status, &error);
            assert_null(ids);
        }
        n++;
    } while (status != MTP_OK);
    assert_in_range(n, 8, 1000);
    free(ids);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failed_allocation_while_opening_is_reported),
        cmocka_unit_test(every_failed_allocation_while_encoding_is_reported),
    };
    return cmocka_run_group_tests_name("tokenizer_memory", tests, NULL, NULL);
}
