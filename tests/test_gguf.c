/* Reading whole GGUF files: values, arrays, tensors, split files, speed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "gguf_internal.h"
#include "tests/gguf_sample.h"

struct opened {
    unsigned char *bytes;
    struct gguf *file;
};

static struct opened open_writer(struct gguf_writer *w)
{
    struct opened opened;
    struct mtp_error error = {MTP_OK, ""};
    size_t size;
    opened.bytes = gguf_writer_finish(w, &size);
    gguf_writer_free(w);
    gguf_open_memory(&opened.file, opened.bytes, size, "test.gguf", &error);
    assert_string_equal(error.message, "");
    assert_non_null(opened.file);
    return opened;
}

static void close_opened(struct opened *opened)
{
    gguf_close(opened->file);
    free(opened->bytes);
}

static uint32_t get_u32(const struct gguf *file, const char *key)
{
    uint32_t value = 0;
    bool found = false;
    struct mtp_error error;
    assert_int_equal(gguf_find_u32(file, key, &value, &found, &error), MTP_OK);
    assert_true(found);
    return value;
}

static void refuse_u32(const struct gguf *file, const char *key, const char *sentence)
{
    uint32_t value = 77;
    bool found = false;
    struct mtp_error error = {MTP_OK, ""};
    assert_int_equal(gguf_find_u32(file, key, &value, &found, &error), MTP_ERR_FORMAT);
    assert_string_equal(error.message, sentence);
    assert_true(found);
    assert_int_equal(value, 77);
}

static void both_versions_are_read(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct opened o = open_writer(gguf_sample(version));
        assert_int_equal(gguf_n_keys(o.file), 24);
        assert_int_equal(gguf_n_tensors(o.file), 4);
        assert_int_equal(gguf_n_parts(o.file), 1);
        assert_string_equal(gguf_path(o.file), "test.gguf");
        assert_string_equal(gguf_part_path(o.file, 0), "test.gguf");
        assert_null(gguf_part_path(o.file, 1));
        close_opened(&o);
    }
}

static void integers_of_any_width_convert_when_they_fit(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_sample(3);
    gguf_writer_i64(w, "small i64", 7);
    gguf_writer_i32(w, "small i32", 8);
    gguf_writer_u64(w, "edge", UINT32_MAX);
    struct opened o = open_writer(w);
    assert_int_equal(get_u32(o.file, "u8"), 200);
    assert_int_equal(get_u32(o.file, "u16"), 60000);
    assert_int_equal(get_u32(o.file, "u32"), 4000000000u);
    assert_int_equal(get_u32(o.file, "small i64"), 7);
    assert_int_equal(get_u32(o.file, "small i32"), 8);
    assert_int_equal(get_u32(o.file, "edge"), UINT32_MAX);
    refuse_u32(o.file, "i8", "test.gguf: key 'i8' holds -100, which is outside 0 to 4294967295");
    refuse_u32(o.file, "i16",
               "test.gguf: key 'i16' holds -30000, which is outside 0 to 4294967295");
    refuse_u32(o.file, "i64",
               "test.gguf: key 'i64' holds -9223372036854775808, which is outside 0 to 4294967295");
    refuse_u32(o.file, "u64",
               "test.gguf: key 'u64' holds 18446744073709551615, which is outside 0 to 4294967295");
    close_opened(&o);
}

static void a_wrong_type_is_named_with_what_was_expected(void **state)
{
    (void)state;
    struct opened o = open_writer(gguf_sample(3));
    struct mtp_error error;
    struct gguf_string string;
    struct gguf_string *strings;
    struct gguf_array array;
    uint64_t n;
    float f32;
    bool flag;
    bool found;
    refuse_u32(o.file, "f32",
               "test.gguf: key 'f32' is of type float32 where an integer is expected");
    refuse_u32(o.file, "bool",
               "test.gguf: key 'bool' is of type bool where an integer is expected");
    refuse_u32(o.file, "array of i32",
               "test.gguf: key 'array of i32' is of type array of int32 where an integer is "
               "expected");
    assert_int_equal(gguf_find_f32(o.file, "string", &f32, &found, &error), MTP_ERR_FORMAT);
    assert_string_equal(error.message,
                        "test.gguf: key 'string' is of type string where a number is expected");
    assert_int_equal(gguf_find_bool(o.file, "u8", &flag, &found, &error), MTP_ERR_FORMAT);
    assert_string_equal(error.message,
                        "test.gguf: key 'u8' is of type uint8 where a bool is expected");
    assert_int_equal(gguf_find_string(o.file, "u8", &string, &found, &error), MTP_ERR_FORMAT);
    assert_string_equal(error.message,
                        "test.gguf: key 'u8' is of type uint8 where a string is expected");
    assert_int_equal(gguf_find_array(o.file, "u8", &array, &found, &error), MTP_ERR_FORMAT);
    assert_string_equal(error.message,
                        "test.gguf: key 'u8' is of type uint8 where an array is expected");
    assert_int_equal(gguf_find_strings(o.file, "array of u8", &strings, &n, &found, &error),
                     MTP_ERR_FORMAT);
    assert_string_equal(error.message, "test.gguf: key 'array of u8' is of type array of uint8 "
                                       "where an array of strings is expected");
    close_opened(&o);
}

static void a_missing_key_is_no_error_unless_it_is_required(void **state)
{
    (void)state;
    struct opened o = open_writer(gguf_sample(3));
    struct mtp_error error;
    uint32_t value = 5;
    bool found = true;
    assert_int_equal(gguf_find_u32(o.file, "absent", &value, &found, &error), MTP_OK);
    assert_false(found);
    assert_int_equal(value, 5);
    assert_false(gguf_has(o.file, "absent"));
    assert_true(gguf_has(o.file, "u8"));
    assert_int_equal(gguf_find_u32(o.file, "absent", &value, NULL, &error), MTP_ERR_FORMAT);
    assert_string_equal(error.message, "test.gguf: key 'absent' is missing");
    assert_int_equal(value, 5);
    close_opened(&o);
}

static void floats_convert_and_must_be_finite(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_sample(3);
    gguf_writer_f32(w, "nan", NAN);
    gguf_writer_f32(w, "inf", -INFINITY);
    gguf_writer_f64(w, "huge", 1e300);
    gguf_writer_f64(w, "nan64", NAN);
    struct opened o = open_writer(w);
    struct mtp_error error;
    float value = 0;
    bool found;
    assert_int_equal(gguf_find_f32(o.file, "f32", &value, &found, &error), MTP_OK);
    assert_true(value == 1.25f);
    assert_int_equal(gguf_find_f32(o.file, "f64", &value, &found, &error), MTP_OK);
    assert_true(value == -2.5f);
    assert_int_equal(gguf_find_f32(o.file, "i16", &value, &found, &error), MTP_OK);
    assert_true(value == -30000.0f);
    static const char *const keys[] = {"nan", "inf", "huge", "nan64"};
    for (int i = 0; i < 4; i++)
        assert_int_equal(gguf_find_f32(o.file, keys[i], &value, &found, &error), MTP_ERR_FORMAT);
    assert_true(value == -30000.0f);
    gguf_find_f32(o.file, "inf", &value, &found, &error);
    assert_string_equal(error.message,
                        "test.gguf: key 'inf' holds -inf, which is no finite float32");
    close_opened(&o);
}

static void bools_and_strings_are_read(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_sample(3);
    gguf_writer_raw(w, "odd bool", GGUF_BOOL, "\x02", 1);
    struct opened o = open_writer(w);
    struct mtp_error error;
    struct gguf_string string;
    bool flag = false;
    bool found;
    assert_int_equal(gguf_find_bool(o.file, "bool", &flag, &found, &error), MTP_OK);
    assert_true(flag);
    assert_int_equal(gguf_find_bool(o.file, "odd bool", &flag, &found, &error), MTP_ERR_FORMAT);
    assert_string_equal(error.message,
                        "test.gguf: key 'odd bool' holds 2, which is outside 0 to 1");
    assert_int_equal(gguf_find_string(o.file, "string", &string, &found, &error), MTP_OK);
    assert_int_equal(string.length, 4);
    assert_memory_equal(string.data, "text", 4);
    assert_int_equal(gguf_find_string(o.file, "empty string", &string, &found, &error), MTP_OK);
    assert_int_equal(string.length, 0);
    close_opened(&o);
}

static void lists_may_be_scalars_or_arrays(void **state)
{
    (void)state;
    struct opened o = open_writer(gguf_sample(3));
    struct mtp_error error;
    uint32_t values[4];
    bool found;
    assert_int_equal(gguf_find_u32_list(o.file, "u16", values, 4, &found, &error), MTP_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(values[i], 60000);
    assert_int_equal(gguf_find_u32_list(o.file, "array of u8", values, 3, &found, &error), MTP_OK);
    assert_memory_equal(values, ((const uint32_t[]){5, 6, 7}), 12);
    assert_int_equal(gguf_find_u32_list(o.file, "array of u8", values, 2, &found, &error), MTP_OK);
    assert_int_equal(gguf_find_u32_list(o.file, "array of bool", values, 3, &found, &error),
                     MTP_OK);
    assert_memory_equal(values, ((const uint32_t[]){1, 0, 1}), 12);
    assert_int_equal(gguf_find_u32_list(o.file, "bool", values, 2, &found, &error), MTP_OK);
    assert_int_equal(values[1], 1);
    assert_int_equal(gguf_find_u32_list(o.file, "array of u8", values, 4, &found, &error),
                     MTP_ERR_FORMAT);
    assert_string_equal(error.message,
                        "test.gguf: key 'array of u8' is an array of 3 where 4 are needed");
    assert_int_equal(gguf_find_u32_list(o.file, "array of i32", values, 3, &found, &error),
                     MTP_ERR_FORMAT);
    assert_string_equal(error.message, "test.gguf: key 'array of i32' holds -2, which is outside 0 "
                                       "to 4294967295");
    assert_int_equal(gguf_find_u32_list(o.file, "strings", values, 3, &found, &error),
                     MTP_ERR_FORMAT);
    assert_int_equal(gguf_find_u32_list(o.file, "nested", values, 2, &found, &error),
                     MTP_ERR_FORMAT);
    close_opened(&o);
}

static void arrays_are_read_element_by_element(void **state)
{
    (void)state;
    struct opened o = open_writer(gguf_sample(3));
    struct mtp_error error;
    struct gguf_array array;
    int64_t integer = 0;
    float number = 0;
    assert_int_equal(gguf_find_array(o.file, "array of i32", &array, NULL, &error), MTP_OK);
    assert_int_equal(array.type, GGUF_INT32);
    assert_int_equal(array.length, 3);
    assert_true(gguf_array_integer(&array, 1, &integer));
    assert_int_equal(integer, -2);
    assert_true(gguf_array_float(&array, 2, &number));
    assert_true(number == 3.0f);
    assert_false(gguf_array_integer(&array, 3, &integer));
    assert_int_equal(gguf_find_array(o.file, "array of i64", &array, NULL, &error), MTP_OK);
    assert_true(gguf_array_integer(&array, 0, &integer));
    assert_true(integer == INT64_MIN);
    assert_true(gguf_array_integer(&array, 1, &integer));
    assert_true(integer == INT64_MAX);
    assert_int_equal(gguf_find_array(o.file, "array of f32", &array, NULL, &error), MTP_OK);
    assert_true(gguf_array_float(&array, 1, &number));
    assert_true(number == -1.5f);
    assert_false(gguf_array_integer(&array, 1, &integer));
    assert_int_equal(gguf_find_array(o.file, "nested", &array, NULL, &error), MTP_OK);
    assert_int_equal(array.type, GGUF_ARRAY);
    assert_int_equal(array.length, 2);
    assert_false(gguf_array_integer(&array, 0, &integer));
    assert_false(gguf_array_float(&array, 0, &number));
    close_opened(&o);
}

static void arrays_of_strings_point_into_the_file(void **state)
{
    (void)state;
    struct opened o = open_writer(gguf_sample(3));
    struct mtp_error error;
    struct gguf_string *strings = NULL;
    uint64_t n = 0;
    bool found;
    assert_int_equal(gguf_find_strings(o.file, "strings", &strings, &n, &found, &error), MTP_OK);
    assert_int_equal(n, 3);
    assert_int_equal(strings[0].length, 3);
    assert_memory_equal(strings[0].data, "one", 3);
    assert_int_equal(strings[1].length, 0);
    assert_memory_equal(strings[2].data, "three", 5);
    free(strings);
    assert_int_equal(gguf_find_strings(o.file, "no strings", &strings, &n, &found, &error), MTP_OK);
    assert_int_equal(n, 0);
    free(strings);
    close_opened(&o);
}

static void keys_are_listed_in_file_order(void **state)
{
    (void)state;
    struct opened o = open_writer(gguf_sample(3));
    enum gguf_value_type type;
    struct gguf_string name = gguf_key_at(o.file, 1, &type);
    assert_int_equal(name.length, 2);
    assert_memory_equal(name.data, "u8", 2);
    assert_int_equal(type, GGUF_UINT8);
    assert_int_equal(gguf_key_at(o.file, 24, &type).length, 0);
    assert_string_equal(gguf_value_type_name(GGUF_FLOAT64), "float64");
    assert_string_equal(gguf_value_type_name((enum gguf_value_type)13), "unknown");
    close_opened(&o);
}

static void tensors_are_described_and_aligned(void **state)
{
    (void)state;
    struct opened o = open_writer(gguf_sample(3));
    const struct gguf_tensor *q8 = gguf_find_tensor(o.file, "q8");
    assert_non_null(q8);
    assert_ptr_equal(q8, gguf_tensor_at(o.file, 2));
    assert_int_equal(q8->n_dims, 4);
    assert_memory_equal(q8->ne, ((const uint64_t[]){32, 2, 1, 2}), sizeof q8->ne);
    assert_int_equal(q8->n_elements, 128);
    assert_int_equal(q8->n_bytes, 136);
    assert_int_equal(((const unsigned char *)q8->data)[0], 1);
    assert_int_equal(((const unsigned char *)q8->data)[135], 136);
    for (uint64_t i = 0; i < 4; i++) {
        const unsigned char *data = gguf_tensor_at(o.file, i)->data;
        size_t first = (size_t)((const unsigned char *)gguf_tensor_at(o.file, 0)->data - o.bytes);
        assert_int_equal((size_t)(data - o.bytes) % 64, 0);
        assert_true((size_t)(data - o.bytes) >= first);
    }
    const struct gguf_tensor *f16 = gguf_find_tensor(o.file, "f16");
    assert_memory_equal(f16->ne, ((const uint64_t[]){6, 1, 1, 1}), sizeof f16->ne);
    assert_null(gguf_find_tensor(o.file, "f3"));
    assert_null(gguf_find_tensor(o.file, ""));
    assert_null(gguf_tensor_at(o.file, 4));
    close_opened(&o);
}

static void tensors_may_be_described_in_any_order(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_tensor_at(w, "last", 0, 1, (const uint64_t[]){4}, 32);
    gguf_writer_tensor(w, "first", 0, 1, (const uint64_t[]){4}, NULL, 48);
    struct opened o = open_writer(w);
    const unsigned char *last = gguf_find_tensor(o.file, "last")->data;
    assert_int_equal(last[0], 33);
    close_opened(&o);
}

static void a_file_without_tensors_or_keys_is_read(void **state)
{
    (void)state;
    struct opened o = open_writer(gguf_writer_new(3));
    assert_int_equal(gguf_n_keys(o.file), 0);
    assert_int_equal(gguf_n_tensors(o.file), 0);
    assert_null(gguf_find_tensor(o.file, "x"));
    assert_false(gguf_has(o.file, "x"));
    assert_int_equal(gguf_file_bytes(o.file), 24);
    close_opened(&o);
}

static void known_architectures_are_accepted(void **state)
{
    (void)state;
    static const char *const known[] = {"qwen35moe", "qwen35"};
    struct opened o = open_writer(gguf_sample(3));
    struct gguf_string arch;
    struct mtp_error error;
    assert_int_equal(gguf_check_architecture(o.file, known, 2, &arch, &error), MTP_OK);
    assert_int_equal(arch.length, 6);
    assert_memory_equal(arch.data, "qwen35", 6);
    close_opened(&o);
}

/* ---- speed --------------------------------------------------------------------------------- */

static double cpu_milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static char *numbered_strings(const char *format, uint64_t n, size_t *size)
{
    char *bytes = malloc(n * 64);
    char text[56];
    assert_non_null(bytes);
    *size = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t length = (uint64_t)snprintf(text, sizeof text, format, (int)i, (int)i);
        memcpy(bytes + *size, &length, 8);
        memcpy(bytes + *size + 8, text, length);
        *size += 8 + length;
    }
    return bytes;
}

static void add_numbered_strings(struct gguf_writer *w, const char *key, const char *format,
                                 uint64_t n)
{
    size_t size;
    char *strings = numbered_strings(format, n, &size);
    char *value = malloc(size + 12);
    assert_non_null(value);
    memcpy(value, &(uint32_t){GGUF_STRING}, 4);
    memcpy(value + 4, &n, 8);
    memcpy(value + 12, strings, size);
    gguf_writer_raw(w, key, GGUF_ARRAY, value, size + 12);
    free(value);
    free(strings);
}

static void a_vocabulary_of_248320_tokens_opens_in_60_ms(void **state)
{
    (void)state;
    double start = cpu_milliseconds();
    struct gguf_writer *w = gguf_writer_new(3);
    add_numbered_strings(w, "tokenizer.ggml.tokens", "tok%den%d", 248320);
    add_numbered_strings(w, "tokenizer.ggml.merges", "to%d ken%d", 247587);
    double made = cpu_milliseconds() - start;
    start = cpu_milliseconds();
    struct opened o = open_writer(w);
    double spent = cpu_milliseconds() - start;
    print_message("    made in %.1f, opened in %.1f ms of processor time\n", made, spent);
    assert_true(spent < 60 || spent < made); /* the second under valgrind and the like */
    struct gguf_string *strings;
    struct mtp_error error;
    uint64_t n;
    assert_int_equal(gguf_find_strings(o.file, "tokenizer.ggml.tokens", &strings, &n, NULL, &error),
                     MTP_OK);
    assert_int_equal(n, 248320);
    assert_memory_equal(strings[248319].data, "tok248319en248319", 17);
    free(strings);
    close_opened(&o);
}

static void names_are_found_in_constant_time(void **state)
{
    (void)state;
    enum { N = 100000 };
    struct gguf_writer *w = gguf_writer_new(3);
    char name[32];
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "k.%d", i);
        gguf_writer_u32(w, name, (uint32_t)i);
        snprintf(name, sizeof name, "t.%d", i);
        gguf_writer_tensor(w, name, 0, 1, (const uint64_t[]){8}, NULL, 32);
    }
    double start = cpu_milliseconds();
    struct opened o = open_writer(w);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "k.%d", i);
        assert_int_equal(get_u32(o.file, name), i);
        snprintf(name, sizeof name, "t.%d", i);
        assert_ptr_equal(gguf_find_tensor(o.file, name), gguf_tensor_at(o.file, (uint64_t)i));
    }
    double spent = cpu_milliseconds() - start;
    print_message("    100,000 keys and tensors: %.0f ms of processor time\n", spent);
    assert_true(spent < 2000); /* a scan of names would take minutes */
    close_opened(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_versions_are_read),
        cmocka_unit_test(integers_of_any_width_convert_when_they_fit),
        cmocka_unit_test(a_wrong_type_is_named_with_what_was_expected),
        cmocka_unit_test(a_missing_key_is_no_error_unless_it_is_required),
        cmocka_unit_test(floats_convert_and_must_be_finite),
        cmocka_unit_test(bools_and_strings_are_read),
        cmocka_unit_test(lists_may_be_scalars_or_arrays),
        cmocka_unit_test(arrays_are_read_element_by_element),
        cmocka_unit_test(arrays_of_strings_point_into_the_file),
        cmocka_unit_test(keys_are_listed_in_file_order),
        cmocka_unit_test(tensors_are_described_and_aligned),
        cmocka_unit_test(tensors_may_be_described_in_any_order),
        cmocka_unit_test(a_file_without_tensors_or_keys_is_read),
        cmocka_unit_test(known_architectures_are_accepted),
        cmocka_unit_test(a_vocabulary_of_248320_tokens_opens_in_60_ms),
        cmocka_unit_test(names_are_found_in_constant_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
