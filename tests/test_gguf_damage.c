/* Damaged GGUF bytes: one sentence for each kind of damage, and no crash for any. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gguf_internal.h"
#include "kernels/types.h"
#include "tests/gguf_sample.h"

static void refuse_bytes(const void *bytes, size_t size, enum mtp_status status,
                         const char *sentence)
{
    /* A copy of the exact size, so that a sanitizer sees one byte too many. */
    unsigned char *copy = malloc(size);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    struct gguf *file = (struct gguf *)copy;
    struct mtp_error error = {MTP_OK, ""};
    enum mtp_status got = gguf_open_memory(&file, copy, size, "test.gguf", &error);
    free(copy);
    assert_string_equal(error.message, sentence);
    assert_int_equal(got, status);
    assert_int_equal(error.status, status);
    assert_null(file);
}

/* Frees w. */
static void refuse(struct gguf_writer *w, enum mtp_status status, const char *sentence)
{
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    gguf_writer_free(w);
    refuse_bytes(bytes, size, status, sentence);
    free(bytes);
}

static void refuse_cut(struct gguf_writer *w, size_t lost, const char *sentence)
{
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    gguf_writer_free(w);
    refuse_bytes(bytes, size - lost, MTP_ERR_FORMAT, sentence);
    free(bytes);
}

#define F32 0
#define NE(...) ((const uint64_t[]){__VA_ARGS__})

/* ---- header ---------------------------------------------------------------------------------- */

static void a_short_header_is_truncated(void **state)
{
    (void)state;
    refuse_bytes("GG", 2, MTP_ERR_FORMAT,
                 "test.gguf is truncated: it has only 2 bytes, not even a header of 24");
    refuse_cut(gguf_writer_new(3), 1,
               "test.gguf is truncated: it has only 23 bytes, not even a header of 24");
}

static void an_unknown_version_is_refused(void **state)
{
    (void)state;
    refuse(gguf_writer_new(4), MTP_ERR_UNSUPPORTED,
           "test.gguf has GGUF version 4; versions 2 and 3 can be read");
    refuse(gguf_writer_new(0), MTP_ERR_UNSUPPORTED,
           "test.gguf has GGUF version 0; versions 2 and 3 can be read");
    refuse(gguf_writer_new(1), MTP_ERR_UNSUPPORTED,
           "test.gguf has GGUF version 1; versions 2 and 3 can be read (1 was in use for some "
           "weeks of 2023)");
}

static void a_big_endian_file_is_called_one(void **state)
{
    (void)state;
    static const char sentence[] =
        "test.gguf is a big-endian GGUF file; only little-endian ones can be read";
    refuse(gguf_writer_new(0x03000000), MTP_ERR_UNSUPPORTED, sentence);
    refuse_bytes("FUGG\0\0\0\3", 8, MTP_ERR_UNSUPPORTED, sentence);
}

static void absurd_counts_are_not_believed(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_claim_keys(w, UINT64_MAX);
    refuse(w, MTP_ERR_FORMAT,
           "test.gguf is truncated or damaged: the length of a string of key number 1 takes 8 "
           "bytes from byte 24 on, but the file ends at byte 24");
    w = gguf_writer_new(3);
    gguf_writer_claim_tensors(w, (uint64_t)1 << 60);
    refuse(w, MTP_ERR_FORMAT,
           "test.gguf is truncated or damaged: the length of a string of tensor number 1 takes "
           "8 bytes from byte 24 on, but the file ends at byte 24");
}

/* ---- keys ------------------------------------------------------------------------------------ */

static void a_cut_value_names_its_key(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_u32(w, "general.file_type", 7);
    refuse_cut(w, 1, "test.gguf is truncated or damaged: the value of key 'general.file_type' "
                     "takes 4 bytes from byte 53 on, but the file ends at byte 56");
    w = gguf_writer_new(3);
    gguf_writer_string(w, "a", "text");
    refuse_cut(w, 1, "test.gguf is truncated or damaged: the value of key 'a' takes 4 bytes "
                     "from byte 45 on, but the file ends at byte 48");
}

static void absurd_lengths_of_strings_are_refused(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_raw(w, "a", GGUF_STRING, "\xff\xff\xff\xff\xff\xff\xff\xff" "text", 12);
    refuse(w, MTP_ERR_FORMAT,
           "test.gguf is truncated or damaged: the value of key 'a' takes "
           "18446744073709551615 bytes from byte 45 on, but the file ends at byte 49");
    w = gguf_writer_new(3);
    char name[70000];
    memset(name, 'n', sizeof name);
    name[65536] = '\0';
    gguf_writer_u8(w, name, 1);
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    struct mtp_error error;
    struct gguf *file;
    assert_int_equal(gguf_open_memory(&file, bytes, size, "t", &error), MTP_ERR_FORMAT);
    assert_non_null(strstr(error.message, "nnn' has a name longer than 65535 bytes"));
    assert_true(strlen(error.message) < 250);
    free(bytes);
    gguf_writer_free(w);
}

static void absurd_lengths_of_arrays_are_refused(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    /* 2^61 + 1 elements of 8 bytes overflow to 8. */
    gguf_writer_raw(w, "a", GGUF_ARRAY, "\x0a\0\0\0" "\1\0\0\0\0\0\0\x20" "12345678", 20);
    refuse(w, MTP_ERR_FORMAT,
           "test.gguf is truncated or damaged: the array of key 'a' takes "
           "18446744073709551615 bytes from byte 49 on, but the file ends at byte 57");
    w = gguf_writer_new(3);
    gguf_writer_raw(w, "a", GGUF_ARRAY, "\x08\0\0\0" "\xff\xff\xff\xff\xff\xff\xff\xff", 12);
    refuse(w, MTP_ERR_FORMAT,
           "test.gguf is truncated or damaged: the length of a string of key 'a' takes 8 bytes "
           "from byte 49 on, but the file ends at byte 49");
}

static void unknown_value_types_are_refused(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_raw(w, "a", 13, "x", 1);
    refuse(w, MTP_ERR_FORMAT, "test.gguf: damaged: key 'a' has the unknown value type 13");
    w = gguf_writer_new(3);
    gguf_writer_array(w, "a", 99, "x", 1, 1);
    refuse(w, MTP_ERR_FORMAT, "test.gguf: damaged: key 'a' has the unknown value type 99");
}

/* n arrays of one element, one in the other, the innermost of no uint8. */
static struct gguf_writer *nested_writer(int depth)
{
    unsigned char value[12 * 64] = {0};
    for (int i = 0; i < depth; i++) {
        value[12 * i] = i == depth - 1 ? GGUF_UINT8 : GGUF_ARRAY;
        value[12 * i + 4] = i == depth - 1 ? 0 : 1;
    }
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_raw(w, "deep", GGUF_ARRAY, value, 12 * (size_t)depth);
    return w;
}

static void arrays_nest_to_a_fixed_depth(void **state)
{
    (void)state;
    refuse(nested_writer(9), MTP_ERR_FORMAT,
           "test.gguf: damaged: key 'deep' nests arrays too deeply");
    struct gguf_writer *w = nested_writer(8);
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    struct gguf *file;
    assert_int_equal(gguf_open_memory(&file, bytes, size, "t", NULL), MTP_OK);
    gguf_close(file);
    free(bytes);
    gguf_writer_free(w);
}

static void empty_and_duplicate_keys_are_refused(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_u8(w, "", 1);
    refuse(w, MTP_ERR_FORMAT, "test.gguf: damaged: key number 1 has an empty name");
    w = gguf_writer_new(3);
    gguf_writer_u8(w, "a", 1);
    gguf_writer_u8(w, "b", 1);
    gguf_writer_string(w, "a", "x");
    refuse(w, MTP_ERR_FORMAT, "test.gguf: damaged: key 'a' occurs twice");
}

static void hostile_names_are_escaped(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_raw(w, "\x1b[2J\xff", 13, "x", 1);
    refuse(w, MTP_ERR_FORMAT,
           "test.gguf: damaged: key '\\x1b[2J\\xff' has the unknown value type 13");
}

static void the_alignment_must_be_sane(void **state)
{
    (void)state;
    static const uint32_t wrong[] = {0, 4, 48, 0xffffffffu};
    char sentence[160];
    for (int i = 0; i < 4; i++) {
        struct gguf_writer *w = gguf_writer_new(3);
        gguf_writer_u32(w, "general.alignment", wrong[i]);
        snprintf(sentence, sizeof sentence, "test.gguf: key 'general.alignment' is %u, but must be "
                 "a power of two and at least 8", wrong[i]);
        refuse(w, MTP_ERR_FORMAT, sentence);
    }
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_string(w, "general.alignment", "32");
    refuse(w, MTP_ERR_FORMAT, "test.gguf: key 'general.alignment' is of type string where an "
                              "integer is expected");
}

/* ---- tensors --------------------------------------------------------------------------------- */

static void truncated_data_name_the_tensor_and_the_missing_bytes(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_tensor(w, "one", F32, 1, NE(8), NULL, 32);
    gguf_writer_tensor(w, "two", F32, 1, NE(8), NULL, 32);
    refuse_cut(w, 1, "test.gguf is truncated: it ends inside tensor 'two', 1 of 160 bytes are "
                     "missing; its header is whole, so this looks like an unfinished download or "
                     "copy");
    w = gguf_writer_new(3);
    gguf_writer_tensor(w, "one", F32, 1, NE(8), NULL, 32);
    gguf_writer_tensor(w, "two", F32, 1, NE(8), NULL, 32);
    refuse_cut(w, 32, "test.gguf is truncated: it ends before tensor 'two', 32 of 160 bytes are "
                      "missing; its header is whole, so this looks like an unfinished download or "
                      "copy");
    w = gguf_writer_new(3);
    gguf_writer_tensor(w, "one", F32, 1, NE(8), NULL, 32);
    gguf_writer_tensor(w, "two", F32, 1, NE(8), NULL, 32);
    refuse_cut(w, 60, "test.gguf is truncated: it ends inside tensor 'one', 60 of 160 bytes are "
                      "missing; its header is whole, so this looks like an unfinished download or "
                      "copy");
}

static void a_cut_tensor_description_is_told_from_cut_data(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_tensor(w, "one", F32, 1, NE(8), NULL, 0);
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    gguf_writer_free(w);
    refuse_bytes(bytes, 58, MTP_ERR_FORMAT,
                 "test.gguf is truncated or damaged: the offset of tensor 'one' takes 8 bytes "
                 "from byte 51 on, but the file ends at byte 58");
    free(bytes);
}

static void refuse_tensor(uint32_t type, uint32_t n_dims, const uint64_t *ne,
                          enum mtp_status status, const char *sentence)
{
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_tensor(w, "blk.0.x", type, n_dims, ne, NULL, 64);
    refuse(w, status, sentence);
}

static void wrong_dimensions_are_refused(void **state)
{
    (void)state;
    static const char count[] =
        "test.gguf: damaged: tensor 'blk.0.x' has a number of dimensions that is not 1 to 4";
    refuse_tensor(F32, 0, NULL, MTP_ERR_FORMAT, count);
    refuse_tensor(F32, 5, NE(1, 1, 1, 1, 1), MTP_ERR_FORMAT, count);
    refuse_tensor(F32, 2, NE(4, 0), MTP_ERR_FORMAT,
                  "test.gguf: damaged: tensor 'blk.0.x' has a dimension of 0");
    refuse_tensor(F32, 2, NE((uint64_t)1 << 32, (uint64_t)1 << 32), MTP_ERR_FORMAT,
                  "test.gguf: damaged: tensor 'blk.0.x' has dimensions whose product overflows");
    refuse_tensor(F32, 1, NE((uint64_t)1 << 62), MTP_ERR_FORMAT,
                  "test.gguf: damaged: tensor 'blk.0.x' has a size in bytes that overflows");
    refuse_tensor(MTP_TYPE_Q8_0, 2, NE(33, 2), MTP_ERR_FORMAT,
                  "test.gguf: damaged: tensor 'blk.0.x' has rows of 33 elements, but Q8_0 stores "
                  "blocks of 32");
}

static void unsupported_types_are_named_with_the_supported_ones(void **state)
{
    (void)state;
    static const struct {
        uint32_t type;
        const char *name;
    } types[] = {{19, "IQ1_S"}, {29, "IQ1_M"}, {34, "TQ1_0"}, {40, "NVFP4"}, {28, "F64"},
                 {1234, "1234"}, {UINT32_MAX, "4294967295"}};
    char sentence[700];
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        snprintf(sentence, sizeof sentence,
                 "test.gguf: tensor 'blk.0.x' has type %s, which is not supported (supported: %s)",
                 types[i].name, type_supported_list());
        refuse_tensor(types[i].type, 1, NE(256), MTP_ERR_UNSUPPORTED, sentence);
    }
    assert_non_null(strstr(sentence, "Q4_K"));
}

static void misplaced_tensors_are_refused(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_tensor(w, "one", F32, 1, NE(24), NULL, 96);
    gguf_writer_tensor_at(w, "two", F32, 1, NE(8), 64);
    refuse(w, MTP_ERR_FORMAT, "test.gguf: damaged: tensors 'one' and 'two' overlap");
    w = gguf_writer_new(3);
    gguf_writer_tensor_at(w, "two", F32, 1, NE(8), 64);
    gguf_writer_tensor(w, "one", F32, 1, NE(24), NULL, 96);
    refuse(w, MTP_ERR_FORMAT, "test.gguf: damaged: tensors 'one' and 'two' overlap");
    w = gguf_writer_new(3);
    gguf_writer_tensor(w, "one", F32, 1, NE(24), NULL, 96);
    gguf_writer_tensor_at(w, "two", F32, 1, NE(1), 36);
    refuse(w, MTP_ERR_FORMAT,
           "test.gguf: damaged: tensor 'two' lies at an offset that is not aligned");
    w = gguf_writer_new(3);
    gguf_writer_tensor_at(w, "two", F32, 1, NE(64), UINT64_MAX - 31);
    refuse(w, MTP_ERR_FORMAT, "test.gguf: damaged: tensor 'two' lies at an absurd offset");
}

static void wrong_names_of_tensors_are_refused(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_tensor(w, "", F32, 1, NE(8), NULL, 32);
    refuse(w, MTP_ERR_FORMAT, "test.gguf: damaged: tensor number 1 has an empty name");
    w = gguf_writer_new(3);
    gguf_writer_tensor(w, "x", F32, 1, NE(8), NULL, 32);
    gguf_writer_tensor(w, "y", F32, 1, NE(8), NULL, 32);
    gguf_writer_tensor(w, "x", F32, 1, NE(8), NULL, 32);
    refuse(w, MTP_ERR_FORMAT, "test.gguf: damaged: tensor 'x' occurs twice");
    char name[1025];
    char sentence[300];
    memset(name, 'n', 1024);
    name[1024] = '\0';
    w = gguf_writer_new(3);
    gguf_writer_tensor(w, name, F32, 1, NE(8), NULL, 32);
    snprintf(sentence, sizeof sentence,
             "test.gguf: damaged: tensor '%.96s' has a name longer than 1023 bytes", name);
    refuse(w, MTP_ERR_FORMAT, sentence);
}

/* ---- architectures --------------------------------------------------------------------------- */

/* kind may be NULL. */
static void refuse_architecture(const char *kind, const char *name, enum mtp_status status,
                                const char *sentence)
{
    static const char *const known[] = {"qwen35", "qwen35moe"};
    struct gguf_writer *w = gguf_writer_new(3);
    if (kind != NULL)
        gguf_writer_string(w, "general.type", kind);
    if (name != NULL)
        gguf_writer_string(w, "general.architecture", name);
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    struct gguf *file;
    struct gguf_string arch;
    struct mtp_error error = {MTP_OK, ""};
    assert_int_equal(gguf_open_memory(&file, bytes, size, "test.gguf", NULL), MTP_OK);
    assert_int_equal(gguf_check_architecture(file, known, 2, &arch, &error), status);
    assert_string_equal(error.message, sentence);
    gguf_close(file);
    free(bytes);
    gguf_writer_free(w);
}

static void other_kinds_of_gguf_are_called_by_their_names(void **state)
{
    (void)state;
    static const char projector[] =
        "test.gguf is a multimodal projector (mmproj), which turns images or sound into "
        "embeddings, and not a language model; open the model that it belongs to";
    refuse_architecture(NULL, "clip", MTP_ERR_UNSUPPORTED, projector);
    refuse_architecture("mmproj", "clip", MTP_ERR_UNSUPPORTED, projector);
    refuse_architecture("adapter", "qwen35", MTP_ERR_UNSUPPORTED,
                        "test.gguf is an adapter (LoRA) and not a model");
    refuse_architecture("imatrix", NULL, MTP_ERR_UNSUPPORTED,
                        "test.gguf is an importance matrix for quantisation and not a model");
    refuse_architecture("model", "llama", MTP_ERR_UNSUPPORTED,
                        "test.gguf: key 'general.architecture' is 'llama', which is not supported "
                        "(supported: qwen35, qwen35moe)");
    refuse_architecture("model", "qwen3", MTP_ERR_UNSUPPORTED,
                        "test.gguf: key 'general.architecture' is 'qwen3', which is not supported "
                        "(supported: qwen35, qwen35moe)");
    refuse_architecture(NULL, NULL, MTP_ERR_FORMAT,
                        "test.gguf: key 'general.architecture' is missing");
}

/* ---- any damage ------------------------------------------------------------------------------ */

/* Returns 1 when the bytes were accepted. */
static int survive(const unsigned char *bytes, size_t size)
{
    unsigned char *copy = malloc(size + 1);
    assert_non_null(copy);
    unsigned char *exact = realloc(memcpy(copy, bytes, size), size > 0 ? size : 1);
    assert_non_null(exact);
    struct gguf *file;
    struct mtp_error error = {MTP_OK, ""};
    enum mtp_status status = gguf_open_memory(&file, exact, size, "test.gguf", &error);
    if (status == MTP_OK) {
        gguf_walk(file);
        gguf_close(file);
    } else {
        assert_int_equal(error.status, status);
        assert_null(file);
        assert_memory_equal(error.message, "test.gguf", 9);
        assert_true(strlen(error.message) > 20);
    }
    free(exact);
    return status == MTP_OK;
}

static void any_flipped_byte_is_survived(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_sample(3);
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    int accepted = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char old = bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] = (unsigned char)(old ^ (1 << bit));
            accepted += survive(bytes, size);
        }
        bytes[i] = 0xff;
        accepted += survive(bytes, size);
        bytes[i] = 0;
        accepted += survive(bytes, size);
        bytes[i] = old;
    }
    print_message("    %d of %zu mutations were accepted\n", accepted, 10 * size);
    assert_true(accepted > 0 && (size_t)accepted < 10 * size);
    free(bytes);
    gguf_writer_free(w);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_sample(2);
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    for (size_t n = 0; n < size; n++)
        assert_int_equal(survive(bytes, n), 0);
    assert_int_equal(survive(bytes, size), 1);
    free(bytes);
    gguf_writer_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_short_header_is_truncated),
        cmocka_unit_test(an_unknown_version_is_refused),
        cmocka_unit_test(a_big_endian_file_is_called_one),
        cmocka_unit_test(absurd_counts_are_not_believed),
        cmocka_unit_test(a_cut_value_names_its_key),
        cmocka_unit_test(absurd_lengths_of_strings_are_refused),
        cmocka_unit_test(absurd_lengths_of_arrays_are_refused),
        cmocka_unit_test(unknown_value_types_are_refused),
        cmocka_unit_test(arrays_nest_to_a_fixed_depth),
        cmocka_unit_test(empty_and_duplicate_keys_are_refused),
        cmocka_unit_test(hostile_names_are_escaped),
        cmocka_unit_test(the_alignment_must_be_sane),
        cmocka_unit_test(truncated_data_name_the_tensor_and_the_missing_bytes),
        cmocka_unit_test(a_cut_tensor_description_is_told_from_cut_data),
        cmocka_unit_test(wrong_dimensions_are_refused),
        cmocka_unit_test(unsupported_types_are_named_with_the_supported_ones),
        cmocka_unit_test(misplaced_tensors_are_refused),
        cmocka_unit_test(wrong_names_of_tensors_are_refused),
        cmocka_unit_test(other_kinds_of_gguf_are_called_by_their_names),
        cmocka_unit_test(any_flipped_byte_is_survived),
        cmocka_unit_test(every_truncation_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
