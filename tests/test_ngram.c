/* test_ngram.c - drafts copied from the text: against a search through all of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mtp/ngram.h"

enum { MOST = 2000, DRAFTS = 7 };

/* The latest place before the end where the last `length` tokens of text (next included) stood. */
static int32_t search(const int32_t *text, uint32_t n, uint32_t length)
{
    for (uint32_t at = n - 1; n >= length && at >= length; at--)
        if (memcmp(text + at - length, text + n - length, length * sizeof *text) == 0)
            return (int32_t)at;
    return -1;
}

/* text has n tokens, the last of them `next`. */
static void check(const struct ngram *ngram, const int32_t *text, uint32_t n)
{
    int32_t drafts[DRAFTS];
    uint32_t matched, got = ngram_draft(ngram, text[n - 1], DRAFTS, drafts, &matched);
    for (uint32_t length = NGRAM_LONGEST; length >= NGRAM_SHORTEST; length--) {
        int32_t at = search(text, n, length);
        if (at < 0)
            continue;
        while (length < NGRAM_COMPARED && length < (uint32_t)at && text[(uint32_t)at - length - 1] ==
                                                                        text[n - length - 1])
            length++;
        assert_int_equal(matched, length);
        assert_int_equal(got, DRAFTS);
        for (uint32_t i = 0; i < DRAFTS; i++) {
            uint32_t from = (uint32_t)at + i;
            assert_int_equal(drafts[i], from < n ? text[from] : drafts[from - n]);
        }
        return;
    }
    assert_int_equal(matched, 0);
    assert_int_equal(got, 0);
}

static int32_t *random_text(uint32_t seed, uint32_t n_ids)
{
    int32_t *text = malloc(MOST * sizeof *text);
    assert_non_null(text);
    for (uint32_t i = 0; i < MOST; i++) {
        seed = seed * 1664525u + 1013904223u;
        text[i] = (int32_t)((seed >> 8) % n_ids);
    }
    return text;
}

static void drafts_are_what_followed_the_latest_match(void **state)
{
    (void)state;
    static const uint32_t ids[] = {1, 2, 5, 20, 300};
    for (size_t k = 0; k < sizeof ids / sizeof ids[0]; k++) {
        int32_t *text = random_text(7 + (uint32_t)k, ids[k]);
        struct ngram *ngram = ngram_open(MOST);
        assert_non_null(ngram);
        for (uint32_t n = 1; n < MOST; n++) {
            check(ngram, text, n);
            ngram_add(ngram, text + n - 1, 1);
            assert_int_equal(ngram_length(ngram), n);
        }
        ngram_close(ngram);
        free(text);
    }
}

static void a_text_cut_is_as_it_was(void **state)
{
    (void)state;
    int32_t *text = random_text(3, 4), *other = random_text(4, 4);
    struct ngram *ngram = ngram_open(MOST);
    assert_non_null(ngram);
    ngram_add(ngram, text, 500);
    for (uint32_t round = 0; round < 50; round++) {
        ngram_add(ngram, other + 10 * round, 13 + round);
        ngram_cut(ngram, 500);
        check(ngram, text, 501);
        ngram_cut(ngram, 480);
        check(ngram, text, 481);
        ngram_add(ngram, text + 480, 20);
    }
    ngram_cut(ngram, 0);
    check(ngram, text, 1);
    ngram_close(ngram);
    free(text);
    free(other);
}

static void a_full_index_takes_no_more(void **state)
{
    (void)state;
    int32_t *text = random_text(5, 3);
    struct ngram *ngram = ngram_open(100);
    assert_non_null(ngram);
    ngram_add(ngram, text, MOST);
    assert_int_equal(ngram_length(ngram), 100);
    check(ngram, text, 101);
    ngram_close(ngram);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafts_are_what_followed_the_latest_match),
        cmocka_unit_test(a_text_cut_is_as_it_was),
        cmocka_unit_test(a_full_index_takes_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
