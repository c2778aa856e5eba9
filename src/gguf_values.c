/* Typed answers about metadata keys. */
#include "gguf_internal.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct integer {
    bool negative;
    uint64_t magnitude;
};

static const struct {
    const char *name;
    size_t size;
} value_types[] = {
    [GGUF_UINT8] = {"uint8", 1},    [GGUF_INT8] = {"int8", 1},       [GGUF_UINT16] = {"uint16", 2},
    [GGUF_INT16] = {"int16", 2},    [GGUF_UINT32] = {"uint32", 4},   [GGUF_INT32] = {"int32", 4},
    [GGUF_FLOAT32] = {"float32", 4}, [GGUF_BOOL] = {"bool", 1},      [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0},    [GGUF_UINT64] = {"uint64", 8},   [GGUF_INT64] = {"int64", 8},
    [GGUF_FLOAT64] = {"float64", 8},
};
#define N_VALUE_TYPES (sizeof value_types / sizeof value_types[0])

size_t gguf_value_size(uint32_t type)
{
    return type < N_VALUE_TYPES ? value_types[type].size : 0;
}

const char *gguf_value_type_name(enum gguf_value_type type)
{
    return (size_t)type < N_VALUE_TYPES ? value_types[type].name : "unknown";
}

const struct gguf_key *gguf_part_key(const struct gguf_part *part, const char *key)
{
    size_t index = name_table_find(&part->key_table, key, strlen(key));
    return index == NAME_TABLE_NONE ? NULL : &part->keys[index];
}

/* *entry becomes the key, or NULL when it is missing and found is there to say so. */
static enum mtp_status look_up(const struct gguf_part *part, const char *key, bool *found,
                               const struct gguf_key **entry, struct mtp_error *error)
{
    *entry = gguf_part_key(part, key);
    if (found != NULL)
        *found = *entry != NULL;
    else if (*entry == NULL)
        return mtp_fail(error, MTP_ERR_FORMAT, "%s: key '%s' is missing", part->label, key);
    return MTP_OK;
}

static enum mtp_status fail_type(const struct gguf_part *part, const struct gguf_key *entry,
                                 const char *wanted, struct mtp_error *error)
{
    bool array = entry->type == GGUF_ARRAY;
    return mtp_fail(error, MTP_ERR_FORMAT, "%s: key '%.*s' is of type %s%s where %s is expected",
                    part->label, GGUF_SHOW(entry->name), array ? "array of " : "",
                    gguf_value_type_name(array ? entry->element_type : entry->type), wanted);
}

static struct integer from_signed(int64_t value)
{
    struct integer result = {value < 0, (uint64_t)value};
    if (value < 0)
        result.magnitude = 0 - result.magnitude;
    return result;
}

#define LOAD(type, data) \
    (__extension__({ type value_; memcpy(&value_, data, sizeof value_); value_; }))

/* False when type is no integer. A bool counts as one only where the caller says so. */
static bool read_integer(uint32_t type, const unsigned char *data, struct integer *value)
{
    *value = (struct integer){false, 0};
    switch (type) {
    case GGUF_UINT8:
        value->magnitude = LOAD(uint8_t, data);
        return true;
    case GGUF_UINT16:
        value->magnitude = LOAD(uint16_t, data);
        return true;
    case GGUF_UINT32:
        value->magnitude = LOAD(uint32_t, data);
        return true;
    case GGUF_UINT64:
        value->magnitude = LOAD(uint64_t, data);
        return true;
    case GGUF_INT8:
        *value = from_signed(LOAD(int8_t, data));
        return true;
    case GGUF_INT16:
        *value = from_signed(LOAD(int16_t, data));
        return true;
    case GGUF_INT32:
        *value = from_signed(LOAD(int32_t, data));
        return true;
    case GGUF_INT64:
        *value = from_signed(LOAD(int64_t, data));
        return true;
    default:
        return false;
    }
}

static bool read_bool(uint32_t type, const unsigned char *data, bool *value)
{
    if (type != GGUF_BOOL || *data > 1)
        return false;
    *value = *data == 1;
    return true;
}

static double to_double(struct integer value)
{
    return value.negative ? -(double)value.magnitude : (double)value.magnitude;
}

/* False when type is no number; the value may be anything a double can be. */
static bool read_number(uint32_t type, const unsigned char *data, double *value)
{
    struct integer integer;
    if (type == GGUF_FLOAT32) {
        *value = (double)LOAD(float, data);
    } else if (type == GGUF_FLOAT64) {
        *value = LOAD(double, data);
    } else if (read_integer(type, data, &integer)) {
        *value = to_double(integer);
    } else {
        return false;
    }
    return true;
}

static enum mtp_status fail_range(const struct gguf_part *part, const struct gguf_key *entry,
                                  struct integer value, const char *range, struct mtp_error *error)
{
    return mtp_fail(error, MTP_ERR_FORMAT,
                    "%s: key '%.*s' holds %s%" PRIu64 ", which is outside %s", part->label,
                    GGUF_SHOW(entry->name), value.negative ? "-" : "", value.magnitude, range);
}

/* One element, or the value of a scalar; bools too where they are allowed. */
static enum mtp_status convert_u32(const struct gguf_part *part, const struct gguf_key *entry,
                                   uint32_t type, const unsigned char *data, bool bools,
                                   uint32_t *value, struct mtp_error *error)
{
    struct integer integer;
    bool flag;
    if (bools && read_bool(type, data, &flag)) {
        *value = flag;
        return MTP_OK;
    }
    if (!read_integer(type, data, &integer))
        return fail_type(part, entry, "an integer", error);
    if (integer.negative || integer.magnitude > UINT32_MAX)
        return fail_range(part, entry, integer, "0 to 4294967295", error);
    *value = (uint32_t)integer.magnitude;
    return MTP_OK;
}

enum mtp_status gguf_part_find_u32(const struct gguf_part *part, const char *key, uint32_t *value,
                                   bool *found, struct mtp_error *error)
{
    const struct gguf_key *entry;
    enum mtp_status status = look_up(part, key, found, &entry, error);
    if (entry == NULL)
        return status;
    return convert_u32(part, entry, entry->type, entry->data, false, value, error);
}

bool gguf_has(const struct gguf *file, const char *key)
{
    return gguf_part_key(&file->parts[0], key) != NULL;
}

enum mtp_status gguf_find_u32(const struct gguf *file, const char *key, uint32_t *value,
                              bool *found, struct mtp_error *error)
{
    return gguf_part_find_u32(&file->parts[0], key, value, found, error);
}

enum mtp_status gguf_find_f32(const struct gguf *file, const char *key, float *value, bool *found,
                              struct mtp_error *error)
{
    const struct gguf_part *part = &file->parts[0];
    const struct gguf_key *entry;
    double number;
    enum mtp_status status = look_up(part, key, found, &entry, error);
    if (entry == NULL)
        return status;
    if (!read_number(entry->type, entry->data, &number))
        return fail_type(part, entry, "a number", error);
    if (isnan(number) || fabs(number) > (double)FLT_MAX)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s: key '%.*s' holds %g, which is no finite float32", part->label,
                        GGUF_SHOW(entry->name), number);
    *value = (float)number;
    return MTP_OK;
}

enum mtp_status gguf_find_bool(const struct gguf *file, const char *key, bool *value, bool *found,
                               struct mtp_error *error)
{
    const struct gguf_part *part = &file->parts[0];
    const struct gguf_key *entry;
    enum mtp_status status = look_up(part, key, found, &entry, error);
    if (entry == NULL)
        return status;
    if (entry->type != GGUF_BOOL)
        return fail_type(part, entry, "a bool", error);
    if (!read_bool(entry->type, entry->data, value))
        return fail_range(part, entry, (struct integer){false, *entry->data}, "0 to 1", error);
    return MTP_OK;
}

enum mtp_status gguf_find_string(const struct gguf *file, const char *key,
                                 struct gguf_string *value, bool *found, struct mtp_error *error)
{
    const struct gguf_part *part = &file->parts[0];
    const struct gguf_key *entry;
    enum mtp_status status = look_up(part, key, found, &entry, error);
    if (entry == NULL)
        return status;
    if (entry->type != GGUF_STRING)
        return fail_type(part, entry, "a string", error);
    *value = (struct gguf_string){(const char *)entry->data, (size_t)entry->length};
    return MTP_OK;
}

enum mtp_status gguf_find_u32_list(const struct gguf *file, const char *key, uint32_t *values,
                                   uint32_t n, bool *found, struct mtp_error *error)
{
    const struct gguf_part *part = &file->parts[0];
    const struct gguf_key *entry;
    enum mtp_status status = look_up(part, key, found, &entry, error);
    if (entry == NULL)
        return status;
    bool array = entry->type == GGUF_ARRAY;
    uint32_t type = array ? entry->element_type : entry->type;
    size_t step = array ? gguf_value_size(type) : 0;
    if (array && entry->length < n)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s: key '%.*s' is an array of %" PRIu64 " where %" PRIu32 " are needed",
                        part->label, GGUF_SHOW(entry->name), entry->length, n);
    for (uint32_t i = 0; i < n && status == MTP_OK; i++)
        status = convert_u32(part, entry, type, entry->data + i * step, true, &values[i], error);
    return status;
}

enum mtp_status gguf_find_array(const struct gguf *file, const char *key, struct gguf_array *array,
                                bool *found, struct mtp_error *error)
{
    const struct gguf_part *part = &file->parts[0];
    const struct gguf_key *entry;
    enum mtp_status status = look_up(part, key, found, &entry, error);
    if (entry == NULL)
        return status;
    if (entry->type != GGUF_ARRAY)
        return fail_type(part, entry, "an array", error);
    *array = (struct gguf_array){(enum gguf_value_type)entry->element_type, entry->length,
                                 entry->data};
    return MTP_OK;
}

bool gguf_array_integer(const struct gguf_array *array, uint64_t index, int64_t *value)
{
    struct integer integer;
    const unsigned char *data = array->data;
    if (index >= array->length ||
        !read_integer(array->type, data + index * gguf_value_size(array->type), &integer))
        return false;
    if (integer.magnitude > (uint64_t)INT64_MAX + integer.negative)
        return false;
    *value = (int64_t)(integer.negative ? 0 - integer.magnitude : integer.magnitude);
    return true;
}

bool gguf_array_float(const struct gguf_array *array, uint64_t index, float *value)
{
    double number;
    const unsigned char *data = array->data;
    if (index >= array->length ||
        !read_number(array->type, data + index * gguf_value_size(array->type), &number))
        return false;
    if (isnan(number) || fabs(number) > (double)FLT_MAX)
        return false;
    *value = (float)number;
    return true;
}

enum mtp_status gguf_find_strings(const struct gguf *file, const char *key,
                                  struct gguf_string **strings, uint64_t *n, bool *found,
                                  struct mtp_error *error)
{
    const struct gguf_part *part = &file->parts[0];
    const struct gguf_key *entry;
    enum mtp_status status = look_up(part, key, found, &entry, error);
    if (entry == NULL)
        return status;
    if (entry->type != GGUF_ARRAY || entry->element_type != GGUF_STRING)
        return fail_type(part, entry, "an array of strings", error);
    /* The parser has seen length * 8 bytes of lengths in the file: the product cannot overflow. */
    size_t bytes = ((size_t)entry->length + 1) * sizeof **strings;
    struct gguf_string *list = malloc(bytes);
    if (list == NULL)
        return mtp_fail_memory(error, "the strings of an array", bytes);
    const unsigned char *at = entry->data;
    for (uint64_t i = 0; i < entry->length; i++) {
        uint64_t length = LOAD(uint64_t, at);
        list[i] = (struct gguf_string){(const char *)at + 8, (size_t)length};
        at += 8 + length;
    }
    *strings = list;
    *n = entry->length;
    return MTP_OK;
}

uint64_t gguf_n_keys(const struct gguf *file)
{
    return file->parts[0].n_keys;
}

struct gguf_string gguf_key_at(const struct gguf *file, uint64_t index, enum gguf_value_type *type)
{
    if (index >= file->parts[0].n_keys)
        return (struct gguf_string){"", 0};
    const struct gguf_key *entry = &file->parts[0].keys[index];
    if (type != NULL)
        *type = (enum gguf_value_type)entry->type;
    return entry->name;
}
