/* Reads the header, the keys and the tensor descriptions of one part. Every length is compared with
 * what is left of the file before it is used, and memory grows with what was read, never with what
 * a count claims. */
#include "gguf_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/types.h"

struct reader {
    const struct gguf_part *part;
    size_t at;
    /* For messages: what is being read. */
    const char *kind;         /* "key" or "tensor" */
    uint64_t index;
    struct gguf_string name;  /* length 0 until it is known */
    struct mtp_error *error;
};

/* Writes "key 'general.name'" or "key number 3". */
static const char *describe(const struct reader *r, char text[160])
{
    if (r->name.length > 0)
        snprintf(text, 160, "%s '%.*s'", r->kind, GGUF_SHOW(r->name));
    else
        snprintf(text, 160, "%s number %" PRIu64, r->kind, r->index + 1);
    return text;
}

static enum mtp_status fail_at(const struct reader *r, const char *problem)
{
    char where[160];
    return mtp_fail(r->error, MTP_ERR_FORMAT, "%s: damaged: %s %s", r->part->label,
                    describe(r, where), problem);
}

static enum mtp_status fail_short(const struct reader *r, uint64_t wanted, const char *what)
{
    char where[160];
    return mtp_fail(r->error, MTP_ERR_FORMAT,
                    "%s is truncated or damaged: %s of %s takes %" PRIu64
                    " bytes from byte %zu on, but the file ends at byte %zu",
                    r->part->label, what, describe(r, where), wanted, r->at, r->part->size);
}

static enum mtp_status read_bytes(struct reader *r, void *value, size_t size, const char *what)
{
    if (size > r->part->size - r->at)
        return fail_short(r, size, what);
    memcpy(value, r->part->data + r->at, size);
    r->at += size;
    return MTP_OK;
}

static enum mtp_status read_string(struct reader *r, struct gguf_string *string, const char *what)
{
    uint64_t length = 0;
    enum mtp_status status = read_bytes(r, &length, sizeof length, "the length of a string");
    if (status != MTP_OK)
        return status;
    if (length > r->part->size - r->at)
        return fail_short(r, length, what);
    string->data = (const char *)r->part->data + r->at;
    string->length = (size_t)length;
    r->at += (size_t)length;
    return MTP_OK;
}

static enum mtp_status skip_strings(struct reader *r, uint64_t n)
{
    struct gguf_string ignored;
    for (uint64_t i = 0; i < n; i++) {
        enum mtp_status status = read_string(r, &ignored, "a string");
        if (status != MTP_OK)
            return status;
    }
    return MTP_OK;
}

static enum mtp_status fail_value_type(const struct reader *r, uint32_t type)
{
    char where[160];
    return mtp_fail(r->error, MTP_ERR_FORMAT, "%s: damaged: %s has the unknown value type %" PRIu32,
                    r->part->label, describe(r, where), type);
}

/* Skips an array; an array of arrays may nest to a fixed depth. Every step of every loop consumes
 * bytes of the file, so the time is bounded by its size. */
static enum mtp_status skip_array(struct reader *r, unsigned depth, uint32_t *element_type,
                                  uint64_t *length)
{
    if (depth == GGUF_MAX_ARRAY_DEPTH)
        return fail_at(r, "nests arrays too deeply");
    enum mtp_status status = read_bytes(r, element_type, sizeof *element_type, "the array's type");
    if (status == MTP_OK)
        status = read_bytes(r, length, sizeof *length, "the array's length");
    if (status != MTP_OK)
        return status;
    if (*element_type > GGUF_FLOAT64)
        return fail_value_type(r, *element_type);
    if (*element_type == GGUF_STRING)
        return skip_strings(r, *length);
    if (*element_type == GGUF_ARRAY) {
        for (uint64_t i = 0; i < *length; i++) {
            uint32_t inner_type;
            uint64_t inner_length;
            status = skip_array(r, depth + 1, &inner_type, &inner_length);
            if (status != MTP_OK)
                return status;
        }
        return MTP_OK;
    }
    size_t size = gguf_value_size(*element_type);
    if (*length > (r->part->size - r->at) / size)
        return fail_short(r, *length > UINT64_MAX / size ? UINT64_MAX : *length * size,
                          "the array");
    r->at += (size_t)*length * size;
    return MTP_OK;
}

static enum mtp_status read_value(struct reader *r, struct gguf_key *key)
{
    if (key->type > GGUF_FLOAT64)
        return fail_value_type(r, key->type);
    key->data = r->part->data + r->at;
    key->length = 1;
    if (key->type == GGUF_STRING) {
        struct gguf_string value = {NULL, 0};
        enum mtp_status status = read_string(r, &value, "the value");
        key->data = (const unsigned char *)value.data;
        key->length = value.length;
        return status;
    }
    if (key->type == GGUF_ARRAY) {
        enum mtp_status status = skip_array(r, 0, &key->element_type, &key->length);
        if (status == MTP_OK)
            key->data += sizeof key->element_type + sizeof key->length;
        return status;
    }
    size_t size = gguf_value_size(key->type);
    if (size > r->part->size - r->at)
        return fail_short(r, size, "the value");
    r->at += size;
    return MTP_OK;
}

static enum mtp_status read_key(struct reader *r, struct gguf_key *key)
{
    *key = (struct gguf_key){0};
    r->name = (struct gguf_string){NULL, 0};
    enum mtp_status status = read_string(r, &key->name, "the name");
    if (status != MTP_OK)
        return status;
    if (key->name.length == 0)
        return fail_at(r, "has an empty name");
    r->name = key->name;
    if (key->name.length > GGUF_MAX_KEY_LENGTH)
        return fail_at(r, "has a name longer than 65535 bytes");
    status = read_bytes(r, &key->type, sizeof key->type, "the type");
    return status == MTP_OK ? read_value(r, key) : status;
}

/* array with room for one more element than n, or NULL; *allocated is what fits. */
static void *grown(void *array, size_t n, size_t *allocated, size_t size)
{
    if (n < *allocated)
        return array;
    size_t wanted = *allocated < 32 ? 32 : *allocated * 2;
    void *larger = wanted > SIZE_MAX / 2 / size ? NULL : realloc(array, wanted * size);
    if (larger != NULL)
        *allocated = wanted;
    return larger;
}

static enum mtp_status index_keys(struct gguf_part *part, struct mtp_error *error)
{
    size_t duplicate;
    enum mtp_status status = name_table_build(&part->key_table, part->keys, sizeof *part->keys,
                                              part->n_keys, &duplicate, error);
    if (status == MTP_OK && duplicate != NAME_TABLE_NONE)
        return mtp_fail(error, MTP_ERR_FORMAT, "%s: damaged: key '%.*s' occurs twice", part->label,
                        GGUF_SHOW(part->keys[duplicate].name));
    return status;
}

static enum mtp_status read_keys(struct reader *r, struct gguf_part *part, uint64_t n_keys)
{
    size_t allocated = 0;
    r->kind = "key";
    for (r->index = 0; r->index < n_keys; r->index++) {
        void *keys = grown(part->keys, part->n_keys, &allocated, sizeof *part->keys);
        if (keys == NULL)
            return mtp_fail_memory(r->error, "the metadata keys",
                                   (part->n_keys + 1) * sizeof *part->keys);
        part->keys = keys;
        enum mtp_status status = read_key(r, &part->keys[part->n_keys]);
        if (status != MTP_OK)
            return status;
        part->n_keys++;
    }
    return index_keys(part, r->error);
}

static enum mtp_status read_alignment(struct gguf_part *part, struct mtp_error *error)
{
    uint32_t alignment = GGUF_DEFAULT_ALIGNMENT;
    bool found;
    enum mtp_status status =
        gguf_part_find_u32(part, "general.alignment", &alignment, &found, error);
    if (status != MTP_OK)
        return status;
    if (alignment < GGUF_MIN_ALIGNMENT || (alignment & (alignment - 1)) != 0)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s: key 'general.alignment' is %" PRIu32
                        ", but must be a power of two and at least %d",
                        part->label, alignment, GGUF_MIN_ALIGNMENT);
    part->alignment = alignment;
    return MTP_OK;
}

static enum mtp_status fail_tensor_type(const struct reader *r, uint32_t type)
{
    char number[24];
    const char *name = type_name_any(type);
    if (name == NULL) {
        snprintf(number, sizeof number, "%" PRIu32, type);
        name = number;
    }
    char where[160];
    return mtp_fail(r->error, MTP_ERR_UNSUPPORTED,
                    "%s: %s has type %s, which is not supported (supported: %s)", r->part->label,
                    describe(r, where), name, type_supported_list());
}

/* Elements and bytes from the dimensions, refusing what overflows. */
static enum mtp_status measure_tensor(const struct reader *r, struct gguf_tensor *tensor)
{
    const struct type_info *type = type_info(tensor->type);
    if (type == NULL)
        return fail_tensor_type(r, tensor->type);
    tensor->n_elements = 1;
    for (uint32_t i = 0; i < 4; i++) {
        if (tensor->ne[i] == 0)
            return fail_at(r, "has a dimension of 0");
        if (__builtin_mul_overflow(tensor->n_elements, tensor->ne[i], &tensor->n_elements))
            return fail_at(r, "has dimensions whose product overflows");
    }
    if (tensor->ne[0] % type->block_elements != 0) {
        char where[160];
        return mtp_fail(r->error, MTP_ERR_FORMAT,
                        "%s: damaged: %s has rows of %" PRIu64
                        " elements, but %s stores blocks of %" PRIu32,
                        r->part->label, describe(r, where), tensor->ne[0], type->name,
                        type->block_elements);
    }
    if (__builtin_mul_overflow(tensor->n_elements / type->block_elements,
                               (uint64_t)type->block_bytes, &tensor->n_bytes))
        return fail_at(r, "has a size in bytes that overflows");
    return MTP_OK;
}

static enum mtp_status read_tensor(struct reader *r, struct gguf_tensor *tensor, uint64_t *offset)
{
    *tensor = (struct gguf_tensor){.ne = {1, 1, 1, 1}};
    r->name = (struct gguf_string){NULL, 0};
    enum mtp_status status = read_string(r, &tensor->name, "the name");
    if (status != MTP_OK)
        return status;
    if (tensor->name.length == 0)
        return fail_at(r, "has an empty name");
    r->name = tensor->name;
    if (tensor->name.length > GGUF_MAX_TENSOR_NAME_LENGTH)
        return fail_at(r, "has a name longer than 1023 bytes");
    status = read_bytes(r, &tensor->n_dims, sizeof tensor->n_dims, "the number of dimensions");
    if (status != MTP_OK)
        return status;
    if (tensor->n_dims < 1 || tensor->n_dims > 4)
        return fail_at(r, "has a number of dimensions that is not 1 to 4");
    status = read_bytes(r, tensor->ne, tensor->n_dims * sizeof tensor->ne[0], "the dimensions");
    if (status == MTP_OK)
        status = read_bytes(r, &tensor->type, sizeof tensor->type, "the type");
    if (status == MTP_OK)
        status = read_bytes(r, offset, sizeof *offset, "the offset");
    return status == MTP_OK ? measure_tensor(r, tensor) : status;
}

struct offsets {
    uint64_t *values;
    size_t allocated;
};

static bool make_room(struct gguf *file, struct offsets *offsets, size_t n)
{
    void *tensors = grown(file->tensors, file->n_tensors, &file->tensors_allocated,
                          sizeof *file->tensors);
    if (tensors == NULL)
        return false;
    file->tensors = tensors;
    void *values = grown(offsets->values, n, &offsets->allocated, sizeof *offsets->values);
    if (values == NULL)
        return false;
    offsets->values = values;
    return true;
}

static enum mtp_status read_tensors(struct reader *r, struct gguf *file, uint64_t n_tensors)
{
    size_t first = file->n_tensors;
    struct offsets offsets = {NULL, 0};
    enum mtp_status status = MTP_OK;
    r->kind = "tensor";
    for (r->index = 0; r->index < n_tensors && status == MTP_OK; r->index++) {
        size_t i = file->n_tensors - first;
        if (!make_room(file, &offsets, i)) {
            status = mtp_fail_memory(r->error, "the list of tensors",
                                     (file->n_tensors + 1) * sizeof *file->tensors);
            break;
        }
        struct gguf_tensor *tensor = &file->tensors[file->n_tensors];
        status = read_tensor(r, tensor, &offsets.values[i]);
        tensor->part = file->n_parts - 1;
        if (status == MTP_OK)
            file->n_tensors++;
    }
    if (status == MTP_OK)
        status = gguf_place_tensors(file, first, offsets.values, r->at, r->error);
    free(offsets.values);
    return status;
}

enum mtp_status gguf_parse_last_part(struct gguf *file, struct mtp_error *error)
{
    struct gguf_part *part = &file->parts[file->n_parts - 1];
    struct reader r = {.part = part, .at = 8, .kind = "header", .error = error};
    uint64_t n_tensors = 0;
    uint64_t n_keys = 0;
    enum mtp_status status = read_bytes(&r, &n_tensors, sizeof n_tensors, "the counts");
    if (status == MTP_OK)
        status = read_bytes(&r, &n_keys, sizeof n_keys, "the counts");
    if (status == MTP_OK)
        status = read_keys(&r, part, n_keys);
    if (status == MTP_OK)
        status = read_alignment(part, error);
    return status == MTP_OK ? read_tensors(&r, file, n_tensors) : status;
}
