/* Opening a model when memory runs out, at any of its allocations. Linked with --wrap for the four
 * functions below. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gguf_internal.h"
#include "tests/gguf_sample.h"

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
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);

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

char *__wrap_strdup(const char *text)
{
    return refused() ? NULL : __real_strdup(text);
}

static void every_failed_allocation_while_opening_is_reported(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_sample(3);
    struct gguf *file = NULL;
    struct mtp_error error;
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    long n = 0;
    enum mtp_status status;
    do {
        allocations_left = n;
        status = gguf_open_memory(&file, bytes, size, "test.gguf", &error);
        allocations_left = -1;
        if (status != MTP_OK) {
            assert_int_equal(status, MTP_ERR_MEMORY);
            assert_memory_equal(error.message, "not enough memory for ", 22);
            assert_null(file);
        }
        n++;
    } while (status != MTP_OK);
    print_message("    %ld allocations, each refused once\n", n - 1);
    assert_true(n > 8);
    gguf_close(file);
    free(bytes);
    gguf_writer_free(w);
}

static void strings_that_do_not_fit_are_reported(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_sample(3);
    struct gguf *file = NULL;
    struct gguf_string *strings = NULL;
    struct mtp_error error;
    uint64_t n;
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    assert_int_equal(gguf_open_memory(&file, bytes, size, "test.gguf", &error), MTP_OK);
    allocations_left = 0;
    enum mtp_status status = gguf_find_strings(file, "strings", &strings, &n, NULL, &error);
    allocations_left = -1;
    assert_int_equal(status, MTP_ERR_MEMORY);
    assert_string_equal(error.message,
                        "not enough memory for the strings of an array (64 bytes)");
    assert_null(strings);
    gguf_close(file);
    free(bytes);
    gguf_writer_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failed_allocation_while_opening_is_reported),
        cmocka_unit_test(strings_that_do_not_fit_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
