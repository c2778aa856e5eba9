#include "gguf_sample.h"

#include <stdlib.h>
#include <string.h>

static void add_arrays(struct gguf_writer *w)
{
    gguf_writer_strings(w, "strings", (const char *const[]){"one", "", "three"}, 3);
    gguf_writer_strings(w, "no strings", NULL, 0);
    gguf_writer_array(w, "array of i32", 5, (const int32_t[]){1, -2, 3}, 3, 4);
    gguf_writer_array(w, "array of u8", 0, "\x05\x06\x07", 3, 1);
    gguf_writer_array(w, "array of bool", 7, "\x01\x00\x01", 3, 1);
    gguf_writer_array(w, "array of f32", 6, (const float[]){0.5f, -1.5f}, 2, 4);
    gguf_writer_array(w, "array of f64", 12, (const double[]){1e-3}, 1, 8);
    gguf_writer_array(w, "array of i64", 11, (const int64_t[]){INT64_MIN, INT64_MAX}, 2, 8);
    /* Two arrays inside one: strings {"x"} and uint16 {7, 8}. */
    static const unsigned char nested[] = {
        9, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
        8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 'x',
        2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 8, 0,
    };
    gguf_writer_raw(w, "nested", 9, nested, sizeof nested);
}

struct gguf_writer *gguf_sample(uint32_t version)
{
    struct gguf_writer *w = gguf_writer_new(version);
    gguf_writer_string(w, "general.architecture", "qwen35");
    gguf_writer_u8(w, "u8", 200);
    gguf_writer_i8(w, "i8", -100);
    gguf_writer_u16(w, "u16", 60000);
    gguf_writer_i16(w, "i16", -30000);
    gguf_writer_u32(w, "u32", 4000000000u);
    gguf_writer_i32(w, "i32", -2000000000);
    gguf_writer_u64(w, "u64", UINT64_MAX);
    gguf_writer_i64(w, "i64", INT64_MIN);
    gguf_writer_f32(w, "f32", 1.25f);
    gguf_writer_f64(w, "f64", -2.5);
    gguf_writer_bool(w, "bool", true);
    gguf_writer_string(w, "string", "text");
    gguf_writer_string(w, "empty string", "");
    add_arrays(w);
    gguf_writer_u32(w, "general.alignment", 64);
    gguf_writer_set_alignment(w, 64);
    gguf_writer_tensor(w, "f32", 0, 2, (const uint64_t[]){4, 2}, NULL, 32);
    gguf_writer_tensor(w, "f16", 1, 1, (const uint64_t[]){6}, NULL, 12);
    gguf_writer_tensor(w, "q8", 8, 4, (const uint64_t[]){32, 2, 1, 2}, NULL, 4 * 34);
    gguf_writer_tensor(w, "i32", 26, 1, (const uint64_t[]){3}, NULL, 12);
    return w;
}

static uint64_t mix(uint64_t sum, const void *bytes, size_t n)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ at[i]) * 0x100000001b3u;
    return sum;
}

static uint64_t walk_array(const struct gguf *file, const char *key)
{
    struct gguf_array array;
    struct mtp_error error;
    uint64_t sum = 0;
    if (gguf_find_array(file, key, &array, NULL, &error) != MTP_OK)
        return mix(0, error.message, strlen(error.message));
    for (uint64_t i = 0; i < array.length; i++) {
        int64_t integer = 0;
        float number = 0;
        if (!gguf_array_integer(&array, i, &integer) && !gguf_array_float(&array, i, &number))
            break;
        sum = mix(sum, &integer, sizeof integer);
        sum = mix(sum, &number, sizeof number);
    }
    return sum;
}

static uint64_t walk_strings(const struct gguf *file, const char *key)
{
    struct gguf_string *strings;
    struct mtp_error error;
    uint64_t n;
    uint64_t sum = 0;
    if (gguf_find_strings(file, key, &strings, &n, NULL, &error) != MTP_OK)
        return mix(0, error.message, strlen(error.message));
    for (uint64_t i = 0; i < n; i++)
        sum = mix(sum, strings[i].data, strings[i].length);
    free(strings);
    return sum;
}

static uint64_t walk_key(const struct gguf *file, const char *key)
{
    struct mtp_error error = {MTP_OK, ""};
    uint32_t u32 = 0;
    uint32_t list[3] = {0};
    float f32 = 0;
    bool flag = false;
    bool found;
    struct gguf_string string = {"", 0};
    uint64_t sum = gguf_has(file, key);
    gguf_find_u32(file, key, &u32, &found, &error);
    gguf_find_f32(file, key, &f32, &found, &error);
    gguf_find_bool(file, key, &flag, &found, &error);
    gguf_find_string(file, key, &string, &found, &error);
    sum = mix(sum, string.data, string.length);
    gguf_find_u32_list(file, key, list, 3, &found, &error);
    sum = mix(sum, error.message, strlen(error.message));
    return sum + u32 + (f32 > 1) + flag + walk_array(file, key) + walk_strings(file, key);
}

uint64_t gguf_walk(const struct gguf *file)
{
    uint64_t sum = gguf_file_bytes(file) + gguf_n_parts(file);
    for (uint64_t i = 0; i < gguf_n_keys(file); i++) {
        enum gguf_value_type type;
        struct gguf_string name = gguf_key_at(file, i, &type);
        sum += strlen(gguf_value_type_name(type));
        char *key = malloc(name.length + 1);
        if (key == NULL)
            abort();
        memcpy(key, name.data, name.length);
        key[name.length] = '\0';
        sum += walk_key(file, key);
        free(key);
    }
    for (uint64_t i = 0; i < gguf_n_tensors(file); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(file, i);
        const unsigned char *data = tensor->data;
        sum = mix(sum, tensor->name.data, tensor->name.length);
        sum += data[0] + data[tensor->n_bytes - 1] + tensor->n_elements;
    }
    struct gguf_string arch;
    struct mtp_error error;
    static const char *const known[] = {"qwen35", "qwen35moe"};
    return sum + gguf_check_architecture(file, known, 2, &arch, &error);
}
