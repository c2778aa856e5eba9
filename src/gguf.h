/* gguf.h - reading GGUF model files (versions 2 and 3, little endian), one part or split.
 *
 * A file is hostile until checked: after gguf_open returns MTP_OK every tensor listed lies whole
 * inside its mapped part, is aligned, overlaps no other, has a known type, and its element and byte
 * counts did not overflow. Everything returned points into the mapping or into the gguf object and
 * lives until gguf_close.
 */
#ifndef MTP_SRC_GGUF_H
#define MTP_SRC_GGUF_H

#include "error.h"

struct gguf;

enum gguf_value_type {
    GGUF_UINT8 = 0, GGUF_INT8 = 1, GGUF_UINT16 = 2, GGUF_INT16 = 3, GGUF_UINT32 = 4,
    GGUF_INT32 = 5, GGUF_FLOAT32 = 6, GGUF_BOOL = 7, GGUF_STRING = 8, GGUF_ARRAY = 9,
    GGUF_UINT64 = 10, GGUF_INT64 = 11, GGUF_FLOAT64 = 12,
};

struct gguf_string { /* not terminated; may hold any bytes */
    const char *data;
    size_t length;
};

struct gguf_tensor {
    struct gguf_string name;
    uint32_t type;       /* a MTP_TYPE_* id of kernels/types.h */
    uint32_t n_dims;     /* 1..4 */
    uint64_t ne[4];      /* innermost first; 1 beyond n_dims */
    uint64_t n_elements;
    uint64_t n_bytes;
    const void *data;    /* into the mapping */
    uint32_t part;       /* which split part holds it */
};

/* Opens path and, for a split file (split.count > 1, NAME-00001-of-0000N.gguf), every other part
 * beside it. Messages name the file and the key or tensor at fault. */
enum mtp_status gguf_open(struct gguf **out, const char *path, struct mtp_error *error);
void gguf_close(struct gguf *file);

const char *gguf_path(const struct gguf *file);
uint32_t gguf_n_parts(const struct gguf *file);
const char *gguf_part_path(const struct gguf *file, uint32_t part);
uint64_t gguf_file_bytes(const struct gguf *file); /* all parts */

uint64_t gguf_n_tensors(const struct gguf *file);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *file, uint64_t index);
/* By name (hash lookup), or NULL. */
const struct gguf_tensor *gguf_find_tensor(const struct gguf *file, const char *name);

/* Metadata, of the first part when the file is split. Integers of any width convert when the value
 * fits. A missing key is no error: *found becomes false and *value is left alone; with found NULL
 * the key is required. A key present with a wrong type or a value out of range (for floats also an
 * infinity or NaN) fails with MTP_ERR_FORMAT naming file and key, and never aborts. */
bool gguf_has(const struct gguf *file, const char *key);
enum mtp_status gguf_find_u32(const struct gguf *file, const char *key, uint32_t *value,
                              bool *found, struct mtp_error *error);
enum mtp_status gguf_find_f32(const struct gguf *file, const char *key, float *value, bool *found,
                              struct mtp_error *error);
enum mtp_status gguf_find_bool(const struct gguf *file, const char *key, bool *value, bool *found,
                               struct mtp_error *error);
enum mtp_status gguf_find_string(const struct gguf *file, const char *key,
                                 struct gguf_string *value, bool *found, struct mtp_error *error);
/* Scalar or per-layer array, as converters write either: fills values[0..n) (a scalar is repeated;
 * an array must have at least n elements). Bools read as 0/1. On failure values are undefined. */
enum mtp_status gguf_find_u32_list(const struct gguf *file, const char *key, uint32_t *values,
                                   uint32_t n, bool *found, struct mtp_error *error);

/* Arrays. */
struct gguf_array {
    enum gguf_value_type type; /* of the elements; GGUF_ARRAY when they are arrays themselves */
    uint64_t length;
    const void *data; /* packed and not aligned: read with memcpy or the two functions below; for
                       * GGUF_STRING use gguf_find_strings */
};
enum mtp_status gguf_find_array(const struct gguf *file, const char *key, struct gguf_array *array,
                                bool *found, struct mtp_error *error);
/* Element index as a number; false when it is none (or, for a float, not finite; for an integer,
 * beyond int64). index must be below length. */
bool gguf_array_integer(const struct gguf_array *array, uint64_t index, int64_t *value);
bool gguf_array_float(const struct gguf_array *array, uint64_t index, float *value);
/* *strings is malloc'ed (caller frees), one entry an element, each pointing into the mapping. */
enum mtp_status gguf_find_strings(const struct gguf *file, const char *key,
                                  struct gguf_string **strings, uint64_t *n, bool *found,
                                  struct mtp_error *error);

/* Visiting all keys, for --info and tests. */
uint64_t gguf_n_keys(const struct gguf *file);
struct gguf_string gguf_key_at(const struct gguf *file, uint64_t index, enum gguf_value_type *type);
/* "uint32", "string"... */
const char *gguf_value_type_name(enum gguf_value_type type);

/* Fills *arch with general.architecture when it is one of the n supported; otherwise says what the
 * file is (a multimodal projector, an adapter...) or lists what is supported. */
enum mtp_status gguf_check_architecture(const struct gguf *file, const char *const *supported,
                                        size_t n, struct gguf_string *arch,
                                        struct mtp_error *error);

#endif
