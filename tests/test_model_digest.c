/* test_model_digest.c - the digest that tells models apart: the same for the same file, another when
 * a key, a tensor's name, shape or first bytes change. */
#define _GNU_SOURCE /* memmem */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "gguf_internal.h"
#include "model_fixture.h"
#include "verify/digest.h"

#define TRUNK "tests/golden/models/moe-q8_0-trunk.gguf"
#define COMPANION "tests/golden/models/moe-q8_0-mtp.gguf"
#define WHOLE "tests/golden/models/moe-q8_0.gguf"

static uint64_t digest_of(const char *path, const char *mtp_path)
{
    mtp_model *model = fixture_model_with(path, mtp_path);
    uint64_t digest = mtp_model_digest(model);
    mtp_model_close(model);
    return digest;
}

static void the_same_file_has_the_same_digest(void **state)
{
    (void)state;
    assert_int_equal(digest_of(WHOLE, NULL), digest_of(WHOLE, NULL));
    assert_int_equal(digest_of(TRUNK, COMPANION), digest_of(TRUNK, COMPANION));
    mtp_model *model = fixture_model(WHOLE);
    assert_int_equal(mtp_model_digest(model), mtp_model_digest(model));
    mtp_model_close(model);
}

static void other_models_and_a_companion_have_other_digests(void **state)
{
    (void)state;
    const uint64_t digests[] = {digest_of(WHOLE, NULL), digest_of(TRUNK, NULL),
                                digest_of(TRUNK, COMPANION),
                                digest_of("tests/golden/models/moe-fused.gguf", NULL),
                                digest_of("tests/golden/models/dense-mixed.gguf", NULL),
                                digest_of(REFERENCE_MODEL, NULL)};
    for (size_t i = 0; i < 6; i++)
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(digests[i], digests[j]);
}

/* Traces in the field hold these numbers: they change with the rule, never by accident. */
static void the_digests_of_committed_models_are_pinned(void **state)
{
    (void)state;
    assert_int_equal(digest_of(WHOLE, NULL), 0x4f5cb8cc27dcdfabull);
    assert_int_equal(digest_of(TRUNK, COMPANION), 0xceb18a2321ca98a2ull);
    assert_int_equal(digest_of(REFERENCE_MODEL, NULL), 0xf4accf0db71859d3ull);
}

static void digests_of_bytes_tell_length_order_and_every_byte(void **state)
{
    (void)state;
    const unsigned char zeros[32] = {0};
    for (size_t n = 0; n < 32; n++)
        for (size_t m = 0; m < n; m++)
            assert_int_not_equal(digest_bytes(0, zeros, n), digest_bytes(0, zeros, m));
    for (size_t bit = 0; bit < 8 * sizeof zeros; bit++) {
        unsigned char other[32] = {0};
        other[bit / 8] = (unsigned char)(1 << bit % 8);
        assert_int_not_equal(digest_bytes(0, zeros, 32), digest_bytes(0, other, 32));
    }
    assert_int_not_equal(digest_bytes(0, "ab", 2), digest_bytes(0, "ba", 2));
    assert_int_not_equal(digest_bytes(0, "ab", 2), digest_bytes(1, "ab", 2));
    assert_int_equal(digest_bytes(0, "", 0), digest_chain(0, 0));
    assert_int_equal(digest_bytes(5, "\1\0\0\0\0\0\0\0\2", 9),
                     digest_chain(digest_chain(digest_chain(5, 9), 1), 2));
}

/* ---- a copy with one byte changed ----------------------------------------------------------- */

struct copy {
    char path[64];
    unsigned char *bytes;
    size_t size;
};

static struct copy read_copy(const char *path)
{
    struct copy copy = {.path = "/tmp/test_model_digest.XXXXXX"};
    char full[1024];
    snprintf(full, sizeof full, "%s/%s", TEST_SRCDIR, path);
    FILE *file = fopen(full, "rb");
    assert_non_null(file);
    struct stat about;
    assert_int_equal(fstat(fileno(file), &about), 0);
    copy.size = (size_t)about.st_size;
    copy.bytes = malloc(copy.size);
    assert_non_null(copy.bytes);
    assert_int_equal(fread(copy.bytes, 1, copy.size, file), copy.size);
    fclose(file);
    int out = mkstemp(copy.path);
    assert_true(out >= 0);
    close(out);
    return copy;
}

/* The digest of the copy with a bit of byte `at` flipped. */
static uint64_t digest_flipped(struct copy *copy, size_t at)
{
    copy->bytes[at] ^= 1;
    FILE *file = fopen(copy->path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(copy->bytes, 1, copy->size, file), copy->size);
    assert_int_equal(fclose(file), 0);
    copy->bytes[at] ^= 1;
    mtp_model *model = NULL;
    struct mtp_error error = {0};
    if (mtp_model_open(&model, copy->path, NULL, &error) != MTP_OK)
        fail_msg("%s", error.message);
    uint64_t digest = mtp_model_digest(model);
    mtp_model_close(model);
    return digest;
}

static size_t find(const struct copy *copy, const char *text)
{
    const unsigned char *at = memmem(copy->bytes, copy->size, text, strlen(text));
    assert_non_null(at);
    return (size_t)(at - copy->bytes);
}

static void a_changed_key_or_tensor_byte_changes_the_digest(void **state)
{
    (void)state;
    struct copy copy = read_copy(WHOLE);
    uint64_t before = digest_of(WHOLE, NULL);
    mtp_model *model = fixture_model(WHOLE);
    size_t first_value = find(&copy, "general.name") + strlen("general.name") + 4 + 8;
    assert_int_not_equal(digest_flipped(&copy, first_value), before);
    assert_int_not_equal(digest_flipped(&copy, find(&copy, "general.name")), before);
    const unsigned char *base = model->file->parts[0].data;
    for (uint64_t i = 0; i < gguf_n_tensors(model->file); i += 7) {
        const unsigned char *data = gguf_tensor_at(model->file, i)->data;
        assert_int_not_equal(digest_flipped(&copy, (size_t)(data - base)), before);
    }
    mtp_model_close(model);
    unlink(copy.path);
    free(copy.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_file_has_the_same_digest),
        cmocka_unit_test(other_models_and_a_companion_have_other_digests),
        cmocka_unit_test(the_digests_of_committed_models_are_pinned),
        cmocka_unit_test(digests_of_bytes_tell_length_order_and_every_byte),
        cmocka_unit_test(a_changed_key_or_tensor_byte_changes_the_digest),
    };
    return cmocka_run_group_tests_name("model_digest", tests, NULL, NULL);
}
