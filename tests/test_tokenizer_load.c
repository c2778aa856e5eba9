/* What of a file's tokenizer keys is read, repaired, passed over or refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "mtp.h"
#include "tokenizer_fixture.h"
#include "tokenizer_internal.h"

/* A whole tokenizer of 256 byte tokens, "ab" (256), "<s>" (257, control) and one merge; tests
 * change it before the keys are written. */
struct recipe {
    struct token_list list;
    const char *model, *pre;
    const char *merges[4];
    size_t n_merges;
};

static struct recipe usual(void)
{
    struct recipe r = {token_list_bytes(), "gpt2", "qwen35", {"a b"}, 1};
    token_list_add(&r.list, "ab", TOKEN_NORMAL);
    token_list_add(&r.list, "<s>", TOKEN_CONTROL);
    return r;
}

static struct gguf_writer *keys(struct recipe *r)
{
    struct gguf_writer *w = token_list_writer(&r->list, r->pre, r->merges, r->n_merges);
    token_list_free(&r->list);
    return w;
}

static struct fixture open_or_fail(struct gguf_writer *w)
{
    struct fixture fixture;
    struct mtp_error error = {MTP_OK, ""};
    if (fixture_from_writer(&fixture, w, &error) != MTP_OK)
        fail_msg("%s", error.message);
    return fixture;
}

static void assert_refused(struct gguf_writer *w, enum mtp_status status, const char *sentence)
{
    struct fixture fixture;
    struct mtp_error error = {MTP_OK, ""};
    assert_int_equal(fixture_from_writer(&fixture, w, &error), status);
    assert_string_equal(error.message, sentence);
    assert_int_equal(error.status, status);
}

/* A writer with the keys of a tokenizer all but those of the tokens. */
static struct gguf_writer *bare(const char *model, const char *pre)
{
    struct gguf_writer *w = gguf_writer_new(3);
    if (model != NULL)
        gguf_writer_string(w, "tokenizer.ggml.model", model);
    if (pre != NULL)
        gguf_writer_string(w, "tokenizer.ggml.pre", pre);
    return w;
}

static void assert_encodes(const struct fixture *f, const char *text, unsigned flags,
                           const int32_t *wanted, size_t n)
{
    int32_t *ids;
    size_t n_ids;
    struct mtp_error error = {MTP_OK, ""};
    if (tokenizer_encode(f->tokenizer, text, strlen(text), flags, &ids, &n_ids, &error) != MTP_OK)
        fail_msg("%s", error.message);
    assert_int_equal(n_ids, n);
    assert_memory_equal(ids, wanted, n * sizeof *wanted);
    free(ids);
}

/* ---- what is supported ----------------------------------------------------------------------- */

static void the_reference_model_has_its_tokens_and_ends(void **state)
{
    (void)state;
    struct fixture f = fixture_reference("qwen35");
    assert_int_equal(tokenizer_n_vocab(f.tokenizer), 8192);
    assert_int_equal(tokenizer_find(f.tokenizer, "<|im_start|>"), 1);
    assert_int_equal(tokenizer_find(f.tokenizer, "no such token"), -1);
    size_t n;
    const int32_t *ends = tokenizer_end_ids(f.tokenizer, &n);
    assert_int_equal(n, 2);
    assert_int_equal(ends[0], 0);
    assert_int_equal(ends[1], 2);
    assert_true(tokenizer_is_end(f.tokenizer, 2));
    assert_false(tokenizer_is_end(f.tokenizer, 1));
    fixture_close(&f);
}

static void another_tokenizer_model_is_refused_with_the_supported_ones(void **state)
{
    (void)state;
    assert_refused(bare("llama", "default"), MTP_ERR_UNSUPPORTED,
                   "made.gguf: tokenizer.ggml.model is \"llama\", which is not supported "
                   "(supported: gpt2)");
    assert_refused(bare(NULL, NULL), MTP_ERR_FORMAT,
                   "made.gguf: no tokenizer (key tokenizer.ggml.model is missing)");
}

static void another_pretokenizer_is_refused_with_the_supported_ones(void **state)
{
    (void)state;
    assert_refused(bare("gpt2", "deepseek-v3"), MTP_ERR_UNSUPPORTED,
                   "made.gguf: tokenizer.ggml.pre is \"deepseek-v3\", which is not supported "
                   "(supported: qwen35, qwen2, gpt-2, default)");
}

static void a_file_that_names_no_pretokenizer_gets_the_default_one(void **state)
{
    (void)state;
    struct recipe r = usual();
    r.pre = NULL;
    r.merges[1] = "' s"; /* the default one parts punctuation from letters */
    r.n_merges = 2;
    token_list_add(&r.list, "'s", TOKEN_NORMAL);
    struct fixture f = open_or_fail(keys(&r));
    int32_t quote = tokenizer_find(f.tokenizer, "'"), s = tokenizer_find(f.tokenizer, "s");
    assert_encodes(&f, "'s", 0, (int32_t[]){quote, s}, 2);
    fixture_close(&f);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static void a_file_without_tokens_is_refused(void **state)
{
    (void)state;
    assert_refused(bare("gpt2", "qwen2"), MTP_ERR_FORMAT,
                   "made.gguf: no vocabulary (key tokenizer.ggml.tokens is missing)");
    struct gguf_writer *w = bare("gpt2", "qwen2");
    gguf_writer_strings(w, "tokenizer.ggml.tokens", NULL, 0);
    assert_refused(w, MTP_ERR_FORMAT, "made.gguf: tokenizer.ggml.tokens is empty");
}

static void tokens_that_are_no_strings_are_refused(void **state)
{
    (void)state;
    struct gguf_writer *w = bare("gpt2", "qwen2");
    gguf_writer_array(w, "tokenizer.ggml.tokens", GGUF_INT32, (int32_t[]){1, 2}, 2, 4);
    struct fixture f;
    struct mtp_error error = {MTP_OK, ""};
    assert_int_equal(fixture_from_writer(&f, w, &error), MTP_ERR_FORMAT);
    assert_non_null(strstr(error.message, "tokenizer.ggml.tokens"));
}

static void more_tokens_than_the_file_can_hold_are_refused(void **state)
{
    (void)state;
    struct gguf_writer *w = bare("gpt2", "qwen2");
    unsigned char claim[12] = {8, 0, 0, 0, 0, 0, 0, 0, 1}; /* 2^32 strings */
    gguf_writer_raw(w, "tokenizer.ggml.tokens", 9, claim, sizeof claim);
    struct fixture f;
    struct mtp_error error = {MTP_OK, ""};
    assert_int_equal(fixture_from_writer(&f, w, &error), MTP_ERR_FORMAT);
    assert_non_null(strstr(error.message, "tokenizer.ggml.tokens"));
}

static struct gguf_writer *with_types(uint32_t type, const void *types, uint64_t n)
{
    struct gguf_writer *w = bare("gpt2", "qwen2");
    gguf_writer_strings(w, "tokenizer.ggml.tokens", (const char *[]){"a", "b", "ab"}, 3);
    gguf_writer_array(w, "tokenizer.ggml.token_type", type, types, n, 4);
    return w;
}

static void types_that_do_not_fit_the_tokens_are_refused(void **state)
{
    (void)state;
    assert_refused(with_types(GGUF_INT32, (int32_t[]){1, 1}, 2), MTP_ERR_FORMAT,
                   "made.gguf: tokenizer.ggml.token_type has 2 elements for 3 tokens");
    assert_refused(with_types(GGUF_INT32, (int32_t[]){1, 1, 1, 1}, 4), MTP_ERR_FORMAT,
                   "made.gguf: tokenizer.ggml.token_type has 4 elements for 3 tokens");
    assert_refused(with_types(GGUF_FLOAT32, (float[]){1, 1, 1}, 3), MTP_ERR_FORMAT,
                   "made.gguf: tokenizer.ggml.token_type is not an array of int32");
}

static void without_types_all_tokens_are_normal(void **state)
{
    (void)state;
    struct gguf_writer *w = bare("gpt2", "qwen2");
    gguf_writer_strings(w, "tokenizer.ggml.tokens", (const char *[]){"a", "b", "ab"}, 3);
    gguf_writer_strings(w, "tokenizer.ggml.merges", (const char *[]){"a b"}, 1);
    struct fixture f = open_or_fail(w);
    assert_encodes(&f, "ab", MTP_TEXT_SPECIAL, (int32_t[]){2}, 1);
    fixture_close(&f);
}

static void of_tokens_with_one_text_the_lowest_is_used(void **state)
{
    (void)state;
    struct recipe r = usual();
    token_list_add(&r.list, "ab", TOKEN_NORMAL);
    token_list_add(&r.list, "<s>", TOKEN_CONTROL);
    struct fixture f = open_or_fail(keys(&r));
    assert_encodes(&f, "ab<s>", MTP_TEXT_SPECIAL, (int32_t[]){256, 257}, 2);
    size_t n;
    bool is_control;
    assert_memory_equal(tokenizer_piece(f.tokenizer, 258, &n, &is_control), "ab", 2);
    assert_int_equal(n, 2);
    fixture_close(&f);
}

static void pieces_are_bytes_except_where_a_token_is_literal(void **state)
{
    (void)state;
    struct recipe r = usual();
    int32_t space = token_list_add(&r.list, "\xc4\xa0x\xc3\xa9", TOKEN_NORMAL);
    int32_t literal = token_list_add(&r.list, "\xc4\xa0x", TOKEN_USER_DEFINED);
    int32_t unused = token_list_add(&r.list, "[PAD]", TOKEN_UNUSED);
    int32_t outside = token_list_add(&r.list, "\xe4\xb8\xad\xff", TOKEN_NORMAL);
    struct fixture f = open_or_fail(keys(&r));
    size_t n;
    bool is_control;
    assert_memory_equal(tokenizer_piece(f.tokenizer, space, &n, &is_control), " x\xe9", 3);
    assert_int_equal(n, 3);
    assert_memory_equal(tokenizer_piece(f.tokenizer, literal, &n, &is_control), "\xc4\xa0x", 3);
    assert_false(is_control);
    tokenizer_piece(f.tokenizer, unused, &n, &is_control);
    assert_int_equal(n, 0);
    assert_memory_equal(tokenizer_piece(f.tokenizer, outside, &n, &is_control), "\xe4\xb8\xad\xff",
                        4);
    assert_memory_equal(tokenizer_piece(f.tokenizer, 257, &n, &is_control), "<s>", 3);
    assert_true(is_control);
    assert_null(tokenizer_piece(f.tokenizer, -1, &n, &is_control));
    assert_null(tokenizer_piece(f.tokenizer, outside + 1, &n, &is_control));
    assert_int_equal(n, 0);
    fixture_close(&f);
}

static void a_byte_without_a_token_is_named_when_a_text_needs_it(void **state)
{
    (void)state;
    struct gguf_writer *w = bare("gpt2", "qwen2");
    gguf_writer_strings(w, "tokenizer.ggml.tokens", (const char *[]){"a"}, 1);
    gguf_writer_strings(w, "tokenizer.ggml.merges", NULL, 0);
    struct fixture f = open_or_fail(w);
    assert_encodes(&f, "aa", 0, (int32_t[]){0, 0}, 2);
    int32_t *ids;
    size_t n;
    struct mtp_error error = {MTP_OK, ""};
    assert_int_equal(tokenizer_encode(f.tokenizer, "a\x01", 2, 0, &ids, &n, &error),
                     MTP_ERR_UNSUPPORTED);
    assert_string_equal(error.message,
                        "made.gguf: the vocabulary has no token for byte 0x01 of the text");
    assert_null(ids);
    fixture_close(&f);
}

/* ---- merges ---------------------------------------------------------------------------------- */

static void a_file_without_merges_is_refused(void **state)
{
    (void)state;
    struct gguf_writer *w = bare("gpt2", "qwen2");
    gguf_writer_strings(w, "tokenizer.ggml.tokens", (const char *[]){"a"}, 1);
    assert_refused(w, MTP_ERR_FORMAT, "made.gguf: key tokenizer.ggml.merges is missing");
}

static void a_merge_without_halves_is_refused(void **state)
{
    (void)state;
    struct recipe r = usual();
    r.merges[1] = "ab";
    r.n_merges = 2;
    assert_refused(keys(&r), MTP_ERR_FORMAT,
                   "made.gguf: merge 1 of tokenizer.ggml.merges (\"ab\") has no space between its "
                   "halves");
    r = usual();
    r.merges[0] = "";
    assert_refused(keys(&r), MTP_ERR_FORMAT,
                   "made.gguf: merge 0 of tokenizer.ggml.merges (\"\") has no space between its "
                   "halves");
}

static void a_merge_that_names_an_absent_token_is_passed_over(void **state)
{
    (void)state;
    struct recipe r = usual();
    r.merges[0] = "x yz";
    r.merges[1] = "a c"; /* both halves are there, "ac" is not */
    r.merges[2] = "a b";
    r.merges[3] = "a ";
    r.n_merges = 4;
    struct fixture f = open_or_fail(keys(&r));
    assert_encodes(&f, "ab", 0, (int32_t[]){256}, 1);
    int32_t a = tokenizer_find(f.tokenizer, "a");
    assert_encodes(&f, "ac", 0, (int32_t[]){a, a + 2}, 2);
    fixture_close(&f);
}

/* ---- ids in the metadata --------------------------------------------------------------------- */

static void an_id_beyond_the_vocabulary_is_refused(void **state)
{
    (void)state;
    struct recipe r = usual();
    struct gguf_writer *w = keys(&r);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", 258);
    assert_refused(w, MTP_ERR_FORMAT, "made.gguf: tokenizer.ggml.eos_token_id is 258, but the "
                                      "vocabulary has 258 tokens");
    r = usual();
    w = keys(&r);
    gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", 0x80000000u);
    assert_refused(w, MTP_ERR_FORMAT, "made.gguf: tokenizer.ggml.bos_token_id is 2147483648, but "
                                      "the vocabulary has 258 tokens");
}

static void an_id_of_the_wrong_kind_is_refused_by_its_key(void **state)
{
    (void)state;
    struct recipe r = usual();
    struct gguf_writer *w = keys(&r);
    gguf_writer_string(w, "tokenizer.ggml.eot_token_id", "two");
    struct fixture f;
    struct mtp_error error = {MTP_OK, ""};
    assert_int_equal(fixture_from_writer(&f, w, &error), MTP_ERR_FORMAT);
    assert_non_null(strstr(error.message, "made.gguf"));
    assert_non_null(strstr(error.message, "tokenizer.ggml.eot_token_id"));
}

static void all_ones_means_no_such_token(void **state)
{
    (void)state;
    struct recipe r = usual();
    struct gguf_writer *w = keys(&r);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", UINT32_MAX);
    struct fixture f = open_or_fail(w);
    size_t n;
    tokenizer_end_ids(f.tokenizer, &n);
    assert_int_equal(n, 0);
    fixture_close(&f);
}

static void the_first_token_is_added_when_file_and_caller_want_it(void **state)
{
    (void)state;
    struct recipe r = usual();
    struct gguf_writer *w = keys(&r);
    gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", 257);
    gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", true);
    struct fixture f = open_or_fail(w);
    assert_encodes(&f, "ab", TOKENIZER_ADD_BOS, (int32_t[]){257, 256}, 2);
    assert_encodes(&f, "ab", 0, (int32_t[]){256}, 1);
    fixture_close(&f);
    r = usual();
    w = keys(&r);
    gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", 257);
    f = open_or_fail(w);
    assert_encodes(&f, "ab", TOKENIZER_ADD_BOS, (int32_t[]){256}, 1);
    fixture_close(&f);
}

static void a_first_token_that_is_wanted_and_not_named_is_refused(void **state)
{
    (void)state;
    struct recipe r = usual();
    struct gguf_writer *w = keys(&r);
    gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", true);
    assert_refused(w, MTP_ERR_FORMAT, "made.gguf: tokenizer.ggml.add_bos_token is true, but "
                                      "tokenizer.ggml.bos_token_id is missing");
}

/* ---- end tokens ------------------------------------------------------------------------------ */

static void end_tokens_are_known_by_text_and_by_key(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "<|im_end|>",    "<|endoftext|>", "<|eot_id|>", "<eos>",  "</s>",
        "<|end|>",       "<|eom_id|>",    "<turn|>",    "<end_of_turn>",
        "<|return|>",    "<|end_of_text|>", "<|fim_pad|>",
    };
    size_t n_texts = sizeof texts / sizeof texts[0];
    struct recipe r = usual();
    for (size_t i = 0; i < n_texts; i++)
        token_list_add(&r.list, texts[i], TOKEN_CONTROL);
    struct gguf_writer *w = keys(&r);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", 10);
    gguf_writer_u32(w, "tokenizer.ggml.eot_token_id", 5);
    gguf_writer_u32(w, "tokenizer.ggml.eom_token_id", 258);
    struct fixture f = open_or_fail(w);
    size_t n;
    const int32_t *ends = tokenizer_end_ids(f.tokenizer, &n);
    assert_int_equal(n, n_texts + 2); /* 258 is there by its text as well */
    assert_int_equal(ends[0], 5);
    assert_int_equal(ends[1], 10);
    for (size_t i = 0; i < n_texts; i++)
        assert_int_equal(ends[2 + i], 258 + (int32_t)i);
    assert_false(tokenizer_is_end(f.tokenizer, 257));
    fixture_close(&f);
}

static void an_end_token_called_normal_is_a_control_token_all_the_same(void **state)
{
    (void)state;
    struct recipe r = usual();
    int32_t end = token_list_add(&r.list, "<|im_end|>", TOKEN_NORMAL);
    struct fixture f = open_or_fail(keys(&r));
    assert_true(tokenizer_is_end(f.tokenizer, end));
    assert_encodes(&f, "ab<|im_end|>", MTP_TEXT_SPECIAL, (int32_t[]){256, end}, 2);
    size_t n;
    bool is_control;
    tokenizer_piece(f.tokenizer, end, &n, &is_control);
    assert_true(is_control);
    fixture_close(&f);
}

static void markup_that_merges_make_ends_nothing(void **state)
{
    (void)state;
    struct recipe r = usual();
    token_list_add(&r.list, "</", TOKEN_NORMAL);
    token_list_add(&r.list, "s>", TOKEN_NORMAL);
    int32_t markup = token_list_add(&r.list, "</s>", TOKEN_NORMAL);
    r.merges[1] = "< /";
    r.merges[2] = "s >";
    r.merges[3] = "</ s>";
    r.n_merges = 4;
    r.pre = "gpt-2";
    struct fixture f = open_or_fail(keys(&r));
    assert_false(tokenizer_is_end(f.tokenizer, markup));
    fixture_close(&f);
}

static void where_messages_have_parts_the_end_of_a_part_ends_nothing(void **state)
{
    (void)state;
    struct recipe r = usual();
    int32_t part = token_list_add(&r.list, "<|end|>", TOKEN_CONTROL);
    int32_t end = token_list_add(&r.list, "<|return|>", TOKEN_CONTROL);
    int32_t call = token_list_add(&r.list, "<|call|>", TOKEN_CONTROL);
    struct fixture f = open_or_fail(keys(&r));
    assert_false(tokenizer_is_end(f.tokenizer, part));
    assert_true(tokenizer_is_end(f.tokenizer, end));
    assert_true(tokenizer_is_end(f.tokenizer, call));
    fixture_close(&f);
}

/* ---- size and threads ------------------------------------------------------------------------ */

static void a_vocabulary_as_large_as_those_of_today_is_read_right(void **state)
{
    (void)state;
    enum { N_TOKENS = 248320, N_MERGES = 247587 };
    char **merges;
    struct token_list list = token_list_grown(N_MERGES, N_TOKENS - 256 - N_MERGES, &merges);
    assert_int_equal(list.n, N_TOKENS);
    struct fixture f = open_or_fail(
        token_list_writer(&list, "qwen35", (const char *const *)merges, N_MERGES));
    assert_int_equal(tokenizer_n_vocab(f.tokenizer), N_TOKENS);
    for (size_t id = 256; id < N_TOKENS; id += 101) {
        assert_int_equal(tokenizer_find(f.tokenizer, list.texts[id]), id);
        if (id < 256 + N_MERGES)
            assert_int_equal(f.tokenizer->vocabulary.products[id - 256], id);
    }
    assert_encodes(&f, "<|special_476|>", MTP_TEXT_SPECIAL, (int32_t[]){N_TOKENS - 1}, 1);
    fixture_close(&f);
    for (size_t i = 0; i < N_MERGES; i++)
        free(merges[i]);
    free(merges);
    token_list_free(&list);
}

static void *encode_often(void *argument)
{
    const struct tokenizer *tokenizer = argument;
    static const char text[] = "Two threads say: it's <|im_end|> 123 \xe4\xb8\xad\xff, don't they?";
    uintptr_t sum = 0;
    for (int round = 0; round < 200; round++) {
        int32_t *ids;
        size_t n;
        if (tokenizer_encode(tokenizer, text, strlen(text), MTP_TEXT_SPECIAL, &ids, &n, NULL) != 0)
            return NULL;
        for (size_t i = 0; i < n; i++)
            sum = sum * 31 + (uintptr_t)ids[i];
        free(ids);
    }
    return (void *)sum; /* never NULL but by the rarest accident */
}

static void threads_share_a_tokenizer(void **state)
{
    (void)state;
    struct fixture f = fixture_reference("qwen35");
    pthread_t threads[4];
    void *wanted = encode_often(f.tokenizer);
    assert_non_null(wanted);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, f.tokenizer), 0);
    for (int i = 0; i < 4; i++) {
        void *got;
        assert_int_equal(pthread_join(threads[i], &got), 0);
        assert_ptr_equal(got, wanted);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reference_model_has_its_tokens_and_ends),
        cmocka_unit_test(another_tokenizer_model_is_refused_with_the_supported_ones),
        cmocka_unit_test(another_pretokenizer_is_refused_with_the_supported_ones),
        cmocka_unit_test(a_file_that_names_no_pretokenizer_gets_the_default_one),
        cmocka_unit_test(a_file_without_tokens_is_refused),
        cmocka_unit_test(tokens_that_are_no_strings_are_refused),
        cmocka_unit_test(more_tokens_than_the_file_can_hold_are_refused),
        cmocka_unit_test(types_that_do_not_fit_the_tokens_are_refused),
        cmocka_unit_test(without_types_all_tokens_are_normal),
        cmocka_unit_test(of_tokens_with_one_text_the_lowest_is_used),
        cmocka_unit_test(pieces_are_bytes_except_where_a_token_is_literal),
        cmocka_unit_test(a_byte_without_a_token_is_named_when_a_text_needs_it),
        cmocka_unit_test(a_file_without_merges_is_refused),
        cmocka_unit_test(a_merge_without_halves_is_refused),
        cmocka_unit_test(a_merge_that_names_an_absent_token_is_passed_over),
        cmocka_unit_test(an_id_beyond_the_vocabulary_is_refused),
        cmocka_unit_test(an_id_of_the_wrong_kind_is_refused_by_its_key),
        cmocka_unit_test(all_ones_means_no_such_token),
        cmocka_unit_test(the_first_token_is_added_when_file_and_caller_want_it),
        cmocka_unit_test(a_first_token_that_is_wanted_and_not_named_is_refused),
        cmocka_unit_test(end_tokens_are_known_by_text_and_by_key),
        cmocka_unit_test(an_end_token_called_normal_is_a_control_token_all_the_same),
        cmocka_unit_test(markup_that_merges_make_ends_nothing),
        cmocka_unit_test(where_messages_have_parts_the_end_of_a_part_ends_nothing),
        cmocka_unit_test(a_vocabulary_as_large_as_those_of_today_is_read_right),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests_name("tokenizer_load", tests, NULL, NULL);
}
