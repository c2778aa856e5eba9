/* The tokenizer against an independent one (tests/golden/tokenizer, made by
 * tests/golden/scripts/make_tokenizer.py) and against the rules of docs/tokenizer.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zstd.h>

#include "mtp.h"
#include "tokenizer_fixture.h"
#include "tokenizer_internal.h"

#define GOLDEN TEST_SRCDIR "/tests/golden/tokenizer/encodings.bin.zst"

static const char *const pre_names[] = {"qwen35", "qwen2", "gpt-2", "default"};
enum { N_PRE = 4 };

/* One fixture for every pre-tokenizer, for all tests. */
static struct fixture reference[N_PRE];

static int open_references(void **state)
{
    (void)state;
    for (int i = 0; i < N_PRE; i++)
        reference[i] = fixture_reference(pre_names[i]);
    return 0;
}

static int close_references(void **state)
{
    (void)state;
    for (int i = 0; i < N_PRE; i++)
        fixture_close(&reference[i]);
    return 0;
}

/* ---- helpers --------------------------------------------------------------------------------- */

struct ids {
    int32_t *ids;
    size_t n;
};

static struct ids encode_bytes(const struct tokenizer *tokenizer, const char *text, size_t length,
                               unsigned flags)
{
    struct ids out;
    struct mtp_error error = {MTP_OK, ""};
    if (tokenizer_encode(tokenizer, text, length, flags, &out.ids, &out.n, &error) != MTP_OK)
        fail_msg("%s", error.message);
    return out;
}

static struct ids encode(const struct tokenizer *tokenizer, const char *text, unsigned flags)
{
    return encode_bytes(tokenizer, text, strlen(text), flags);
}

/* The bytes of all pieces, malloc'ed. */
static char *join(const struct tokenizer *tokenizer, struct ids ids, size_t *length)
{
    size_t allocated = 64;
    char *out = malloc(allocated);
    *length = 0;
    for (size_t i = 0; i < ids.n; i++) {
        size_t n;
        bool is_control;
        const char *piece = tokenizer_piece(tokenizer, ids.ids[i], &n, &is_control);
        assert_non_null(piece);
        if (*length + n > allocated) {
            allocated = 2 * allocated + n;
            out = realloc(out, allocated);
        }
        assert_non_null(out);
        memcpy(out + *length, piece, n);
        *length += n;
    }
    return out;
}

static void assert_round_trip(const struct tokenizer *tokenizer, const char *text, size_t length,
                              unsigned flags)
{
    struct ids ids = encode_bytes(tokenizer, text, length, flags);
    size_t n;
    char *joined = join(tokenizer, ids, &n);
    assert_int_equal(n, length);
    assert_true(length == 0 || memcmp(joined, text, length) == 0);
    free(joined);
    free(ids.ids);
}

static void assert_ids(struct ids got, const int32_t *wanted, size_t n)
{
    assert_int_equal(got.n, n);
    assert_memory_equal(got.ids, wanted, n * sizeof *wanted);
    free(got.ids);
}

/* ---- golden encodings ------------------------------------------------------------------------ */

struct golden {
    unsigned char *bytes;
    size_t size, at;
};

static struct golden read_golden(void)
{
    static unsigned char packed[2 << 20];
    FILE *file = fopen(GOLDEN, "rb");
    assert_non_null(file);
    size_t n = fread(packed, 1, sizeof packed, file);
    fclose(file);
    assert_in_range(n, 1, sizeof packed - 1);
    unsigned long long size = ZSTD_getFrameContentSize(packed, n);
    assert_in_range(size, 12, 64 << 20);
    struct golden golden = {.bytes = malloc((size_t)size), .size = (size_t)size};
    assert_non_null(golden.bytes);
    assert_int_equal(ZSTD_decompress(golden.bytes, golden.size, packed, n), golden.size);
    assert_memory_equal(golden.bytes, "MTPTOK1\n", 8);
    golden.at = 8;
    return golden;
}

static const void *take(struct golden *golden, size_t n)
{
    assert_true(n <= golden->size - golden->at);
    golden->at += n;
    return golden->bytes + golden->at - n;
}

static uint32_t take_u32(struct golden *golden)
{
    uint32_t value;
    memcpy(&value, take(golden, sizeof value), sizeof value);
    return value;
}

/* Whether ids are those of the golden list. */
static bool same_ids(struct ids got, const unsigned char *list, uint32_t n)
{
    if (got.n != n)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (got.ids[i] != (list[2 * i] | list[2 * i + 1] << 8))
            return false;
    return true;
}

static void every_golden_string_gets_the_ids_of_the_independent_tokenizer(void **state)
{
    (void)state;
    struct golden golden = read_golden();
    uint32_t n_records = take_u32(&golden);
    assert_int_equal(n_records, 10000);
    size_t compared[N_PRE] = {0}, wrong = 0;
    for (uint32_t r = 0; r < n_records; r++) {
        uint32_t length = take_u32(&golden);
        const char *text = take(&golden, length);
        int n_lists = *(const unsigned char *)take(&golden, 1);
        assert_in_range(n_lists, 1, N_PRE);
        for (int i = 0; i < n_lists; i++) {
            uint32_t n = take_u32(&golden);
            const unsigned char *list = take(&golden, 2 * (size_t)n);
            struct ids got =
                encode_bytes(reference[i].tokenizer, text, length, MTP_TEXT_SPECIAL);
            compared[i]++;
            if (!same_ids(got, list, n) && wrong++ < 10)
                print_error("%s: record %u differs: \"%.*s\"\n", pre_names[i], r, (int)length,
                            text);
            free(got.ids);
        }
    }
    free(golden.bytes);
    assert_int_equal(golden.at, golden.size);
    assert_int_equal(wrong, 0);
    assert_int_equal(compared[0], 10000);
    assert_int_equal(compared[3], 2500);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static void random_bytes_come_back_as_they_were(void **state)
{
    (void)state;
    uint64_t random = 42;
    for (int round = 0; round < 3000; round++) {
        char text[400];
        size_t n = fixture_random(&random) % sizeof text;
        /* Some rounds stay among few bytes, so that lead and trail bytes meet. */
        uint64_t mask = round % 3 == 0 ? 0xff : round % 3 == 1 ? 0xc7 : 0x8f;
        for (size_t i = 0; i < n; i++)
            text[i] = (char)(fixture_random(&random) >> 32 & mask);
        assert_round_trip(reference[round % N_PRE].tokenizer, text, n, MTP_TEXT_SPECIAL);
        assert_round_trip(reference[round % N_PRE].tokenizer, text, n, MTP_TEXT_PLAIN);
    }
}

struct words {
    char text[64];
    size_t n;
};

static enum mtp_status note_word(void *user, const char *word, size_t length,
                                 struct mtp_error *error)
{
    (void)error;
    struct words *words = user;
    assert_true(words->n + length + 1 < sizeof words->text);
    memcpy(words->text + words->n, word, length);
    words->n += length;
    words->text[words->n++] = '|';
    return MTP_OK;
}

static void an_invalid_byte_is_a_character_that_is_no_letter(void **state)
{
    (void)state;
    struct words words = {.n = 0};
    /* 0xe2 0x82 is the beginning of a character: two such bytes. */
    static const char text[] = "the\xff the\xe2\x82the \xff\xff 1\xff.a";
    for (int i = 0; i < 2; i++) {
        words = (struct words){.n = 0};
        assert_int_equal(pretokenizer_split(reference[i].tokenizer->pretokenizer, text,
                                            strlen(text), note_word, &words, NULL),
                         MTP_OK);
        assert_string_equal(words.text,
                            "the|\xff| the|\xe2\x82|the| \xff\xff| |1|\xff.|a|");
    }
}

static void an_empty_text_has_no_tokens(void **state)
{
    (void)state;
    struct ids got = encode(reference[0].tokenizer, "", MTP_TEXT_SPECIAL);
    assert_non_null(got.ids);
    assert_int_equal(got.n, 0);
    free(got.ids);
}

static void every_byte_has_the_character_that_gpt2_gave_it(void **state)
{
    (void)state;
    assert_int_equal(token_byte_to_code_point(' '), 0x120);
    assert_int_equal(token_byte_to_code_point('\n'), 0x10a);
    assert_int_equal(token_byte_to_code_point('!'), '!');
    assert_int_equal(token_byte_to_code_point(0x7f), 0x121);
    assert_int_equal(token_byte_to_code_point(0xa0), 0x142);
    assert_int_equal(token_byte_to_code_point(0xad), 0x143);
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[2], back[2];
        size_t n = token_byte_to_text((unsigned char)byte, text);
        assert_int_equal(token_text_to_bytes(text, n, back), 1);
        assert_int_equal((unsigned char)back[0], byte);
    }
}

/* ---- special tokens -------------------------------------------------------------------------- */

static void control_tokens_are_cut_out_only_when_asked_for(void **state)
{
    (void)state;
    const struct tokenizer *t = reference[0].tokenizer;
    assert_ids(encode(t, "<|im_end|>", MTP_TEXT_SPECIAL),
               (int32_t[]){tokenizer_find(t, "<|im_end|>")}, 1);
    struct ids plain = encode(t, "<|im_end|>", MTP_TEXT_PLAIN);
    assert_true(plain.n > 1);
    for (size_t i = 0; i < plain.n; i++) {
        size_t n;
        bool is_control;
        tokenizer_piece(t, plain.ids[i], &n, &is_control);
        assert_false(is_control);
    }
    free(plain.ids);
}

static void the_longest_special_token_at_a_place_wins(void **state)
{
    (void)state;
    struct token_list list = token_list_bytes();
    int32_t shorter = token_list_add(&list, "<|x", TOKEN_CONTROL);
    int32_t longer = token_list_add(&list, "<|x|>", TOKEN_CONTROL);
    int32_t later = token_list_add(&list, "|><|x|>!", TOKEN_CONTROL);
    int32_t own = token_list_add(&list, "<|own|>", TOKEN_USER_DEFINED);
    struct fixture f;
    struct mtp_error error = {MTP_OK, ""};
    assert_int_equal(
        fixture_from_writer(&f, token_list_writer(&list, "qwen35", NULL, 0), &error), MTP_OK);
    int32_t a = tokenizer_find(f.tokenizer, "a");
    assert_ids(encode(f.tokenizer, "a<|x|><|x<|x|>!", MTP_TEXT_SPECIAL),
               (int32_t[]){a, longer, shorter, longer, tokenizer_find(f.tokenizer, "!")}, 5);
    assert_ids(encode(f.tokenizer, "<|x|><|own|>a", MTP_TEXT_SPECIAL),
               (int32_t[]){longer, own, a}, 3);
    assert_ids(encode(f.tokenizer, "a|><|x|>!", MTP_TEXT_SPECIAL), (int32_t[]){a, later}, 2);
    /* Without control tokens those of the user stay. */
    struct ids plain = encode(f.tokenizer, "<|x|><|own|>a", MTP_TEXT_PLAIN);
    assert_int_equal(plain.n, 5 + 1 + 1);
    assert_int_equal(plain.ids[5], own);
    free(plain.ids);
    fixture_close(&f);
    token_list_free(&list);
}

static void plain_text_never_becomes_a_control_token_through_merges(void **state)
{
    (void)state;
    struct token_list list = token_list_bytes();
    int32_t control = token_list_add(&list, "ab", TOKEN_CONTROL);
    const char *merges[] = {"a b"};
    struct fixture f;
    struct mtp_error error = {MTP_OK, ""};
    assert_int_equal(
        fixture_from_writer(&f, token_list_writer(&list, "qwen2", merges, 1), &error), MTP_OK);
    assert_ids(encode(f.tokenizer, "ab", MTP_TEXT_SPECIAL), &control, 1);
    assert_ids(encode(f.tokenizer, "ab", MTP_TEXT_PLAIN), (int32_t[]){'a', 'b'}, 2);
    fixture_close(&f);
    token_list_free(&list);
}

/* ---- merging --------------------------------------------------------------------------------- */

/* The rule as a program that cannot be wrong: look at all pairs, merge the first of lowest rank. */
static size_t merge_slowly(const struct vocabulary *v, int32_t *ids, size_t n)
{
    for (;;) {
        uint32_t lowest = MERGE_NONE;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t rank = vocabulary_merge_rank(v, (uint32_t)ids[i], (uint32_t)ids[i + 1]);
            if (rank < lowest) {
                lowest = rank;
                at = i;
            }
        }
        if (lowest == MERGE_NONE)
            return n;
        ids[at] = (int32_t)v->products[lowest];
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void assert_merged_as_defined(const struct tokenizer *t, struct bpe_workspace *workspace,
                                     const char *word, size_t n)
{
    int32_t wanted[512];
    for (size_t i = 0; i < n; i++)
        wanted[i] = t->vocabulary.byte_tokens[(unsigned char)word[i]];
    size_t n_wanted = merge_slowly(&t->vocabulary, wanted, n);
    struct id_list got = {0};
    struct mtp_error error;
    assert_int_equal(bpe_encode_word(t, workspace, word, n, &got, &error), MTP_OK);
    assert_ids((struct ids){got.ids, got.n}, wanted, n_wanted);
}

static void short_and_long_words_are_merged_as_the_rule_says(void **state)
{
    (void)state;
    struct bpe_workspace workspace = {0};
    uint64_t random = 7;
    for (int round = 0; round < 1500; round++) {
        char word[512];
        size_t n = 1 + fixture_random(&random) % (round % 10 == 0 ? 500 : 90);
        const char *letters = round % 2 ? "aabeinrst " : "the quick brown";
        for (size_t i = 0; i < n; i++)
            word[i] = letters[(fixture_random(&random) >> 32) % strlen(letters)];
        assert_merged_as_defined(reference[0].tokenizer, &workspace, word, n);
    }
    bpe_workspace_free(&workspace);
}

enum { N_RANDOM_MERGES = 20 };

/* Merges of random tokens in random order. In trained vocabularies a product comes after what it is
 * made of, and hardly any arises in two ways; here neither holds. */
static struct fixture random_merges(uint64_t *random, char texts[2 + N_RANDOM_MERGES][16])
{
    struct token_list list = token_list_bytes();
    char lines[N_RANDOM_MERGES][32];
    const char *merges[N_RANDOM_MERGES];
    strcpy(texts[0], "a");
    strcpy(texts[1], "b");
    for (size_t i = 0; i < N_RANDOM_MERGES; i++) {
        const char *left = texts[fixture_random(random) % (2 + i)];
        const char *right = texts[fixture_random(random) % (2 + i)];
        if (strlen(left) + strlen(right) > 8)
            left = right = "a";
        snprintf(texts[2 + i], 16, "%.7s%.7s", left, right);
        snprintf(lines[i], sizeof lines[0], "%.7s %.7s", left, right);
        token_list_add(&list, texts[2 + i], TOKEN_NORMAL);
        merges[i] = lines[i];
    }
    for (size_t i = N_RANDOM_MERGES; i-- > 1;) {
        size_t other = fixture_random(random) % (i + 1);
        const char *kept = merges[i];
        merges[i] = merges[other];
        merges[other] = kept;
    }
    struct fixture f;
    struct mtp_error error = {MTP_OK, ""};
    if (fixture_from_writer(&f, token_list_writer(&list, "qwen2", merges, N_RANDOM_MERGES),
                            &error) != MTP_OK)
        fail_msg("%s", error.message);
    token_list_free(&list);
    return f;
}

static void merges_in_any_order_of_rank_are_applied_as_the_rule_says(void **state)
{
    (void)state;
    uint64_t random = 99;
    for (int round = 0; round < 400; round++) {
        char texts[2 + N_RANDOM_MERGES][16];
        struct fixture f = random_merges(&random, texts);
        struct bpe_workspace workspace = {0};
        for (int i = 0; i < 10; i++) {
            /* Words of two tokens' texts, so that products meet their like. */
            const char *parts[2] = {texts[fixture_random(&random) % (2 + N_RANDOM_MERGES)],
                                    texts[fixture_random(&random) % (2 + N_RANDOM_MERGES)]};
            char word[512] = "";
            size_t n = 0, wanted = 1 + fixture_random(&random) % 300;
            while (n < wanted)
                n += (size_t)snprintf(word + n, sizeof word - n, "%s",
                                      parts[fixture_random(&random) >> 40 & 1]);
            assert_merged_as_defined(f.tokenizer, &workspace, word, n);
        }
        bpe_workspace_free(&workspace);
        fixture_close(&f);
    }
}

/* ---- size ------------------------------------------------------------------------------------ */

static void ten_megabytes_of_one_character_are_encoded(void **state)
{
    (void)state;
    size_t n = 10u << 20;
    char *text = malloc(n);
    assert_non_null(text);
    for (size_t i = 0; i < 3; i++) {
        memset(text, "a \n"[i], n);
        assert_round_trip(reference[0].tokenizer, text, n, MTP_TEXT_SPECIAL);
    }
    memset(text, ' ', n);
    text[n - 1] = 'x';
    for (int i = 1; i < N_PRE; i++)
        assert_round_trip(reference[i].tokenizer, text, n, MTP_TEXT_PLAIN);
    free(text);
}

static void without_machine_code_the_words_are_the_same(void **state)
{
    (void)state;
    struct fixture f = fixture_reference("qwen35");
    struct pretokenizer *interpreted;
    struct mtp_error error;
    assert_int_equal(pretokenizer_open(&interpreted, "qwen35", false, &error), MTP_OK);
    pretokenizer_close(f.tokenizer->pretokenizer);
    f.tokenizer->pretokenizer = interpreted;
    struct golden golden = read_golden();
    take_u32(&golden);
    for (int r = 0; r < 4000; r++) {
        uint32_t length = take_u32(&golden);
        const char *text = take(&golden, length);
        int n_lists = *(const unsigned char *)take(&golden, 1);
        for (int i = 0; i < n_lists; i++) {
            uint32_t n = take_u32(&golden);
            const unsigned char *list = take(&golden, 2 * (size_t)n);
            if (i > 0)
                continue;
            struct ids got = encode_bytes(f.tokenizer, text, length, MTP_TEXT_SPECIAL);
            assert_true(same_ids(got, list, n));
            free(got.ids);
        }
    }
    free(golden.bytes);
    size_t n = 2u << 20;
    char *spaces = malloc(n);
    assert_non_null(spaces);
    memset(spaces, ' ', n);
    assert_round_trip(f.tokenizer, spaces, n, MTP_TEXT_PLAIN);
    free(spaces);
    fixture_close(&f);
}

static void a_text_too_long_to_index_is_refused(void **state)
{
    (void)state;
    int32_t *ids;
    size_t n;
    struct mtp_error error = {MTP_OK, ""};
    assert_int_equal(tokenizer_encode(reference[0].tokenizer, "", (size_t)INT32_MAX + 1, 0, &ids,
                                      &n, &error),
                     MTP_ERR_USAGE);
    assert_string_equal(error.message, "the text has 2147483648 bytes, and at most 2147483647 can "
                                       "be tokenized at once");
    assert_null(ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_golden_string_gets_the_ids_of_the_independent_tokenizer),
        cmocka_unit_test(random_bytes_come_back_as_they_were),
        cmocka_unit_test(an_invalid_byte_is_a_character_that_is_no_letter),
        cmocka_unit_test(an_empty_text_has_no_tokens),
        cmocka_unit_test(every_byte_has_the_character_that_gpt2_gave_it),
        cmocka_unit_test(control_tokens_are_cut_out_only_when_asked_for),
        cmocka_unit_test(the_longest_special_token_at_a_place_wins),
        cmocka_unit_test(plain_text_never_becomes_a_control_token_through_merges),
        cmocka_unit_test(short_and_long_words_are_merged_as_the_rule_says),
        cmocka_unit_test(merges_in_any_order_of_rank_are_applied_as_the_rule_says),
        cmocka_unit_test(ten_megabytes_of_one_character_are_encoded),
        cmocka_unit_test(without_machine_code_the_words_are_the_same),
        cmocka_unit_test(a_text_too_long_to_index_is_refused),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, open_references, close_references);
}
