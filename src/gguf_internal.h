/* gguf_internal.h - shared by the gguf_*.c files, their tests and the fuzzer; nobody else.
 *
 * The way of a file: gguf_map.c maps it, gguf_identify.c says what it is, gguf_parse.c reads keys
 * and tensor descriptions, gguf_place.c checks where the tensors lie, gguf_split.c adds the other
 * parts, gguf_values.c answers questions about keys.
 */
#ifndef MTP_SRC_GGUF_INTERNAL_H
#define MTP_SRC_GGUF_INTERNAL_H

#include "gguf.h"
#include "name_table.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensor data are used as they lie in the file, which is little endian"
#endif

/* Limits of the format's specification, or far above anything a converter writes. */
#define GGUF_HEADER_BYTES 24
#define GGUF_MAX_KEY_LENGTH 65535
#define GGUF_MAX_TENSOR_NAME_LENGTH 1023
#define GGUF_MAX_ARRAY_DEPTH 8
#define GGUF_MIN_ALIGNMENT 8 /* also what makes a float32 in the mapping safe to load */
#define GGUF_DEFAULT_ALIGNMENT 32
#define GGUF_LABEL_BYTES 200

struct gguf_key {
    struct gguf_string name; /* first: see name_table.h */
    uint32_t type;           /* enum gguf_value_type, checked */
    uint32_t element_type;   /* of an array, checked */
    uint64_t length;         /* elements of an array, bytes of a string, else 1 */
    const unsigned char *data;
};

struct gguf_part {
    char *path;
    char label[GGUF_LABEL_BYTES]; /* the path, or its end, for messages */
    const unsigned char *data;
    size_t size;
    bool mapped; /* else borrowed from gguf_open_memory's caller */
    struct gguf_key *keys;
    size_t n_keys;
    struct name_table key_table;
    size_t alignment;
};

struct gguf {
    struct gguf_part *parts;
    uint32_t n_parts;
    struct gguf_tensor *tensors; /* of all parts, in file order */
    size_t n_tensors;
    size_t tensors_allocated;
    struct name_table tensor_table;
};

/* Arguments for a "%.*s" that shows a name from the file at a length a sentence can bear. */
#define GGUF_SHOW(string) (int)((string).length < 96 ? (string).length : 96), (string).data

/* As gguf_open, from bytes that stay the caller's, 8-byte aligned and alive until gguf_close. A
 * split file is refused: its other parts have no place to be found. */
enum mtp_status gguf_open_memory(struct gguf **out, const void *data, size_t size,
                                 const char *label, struct mtp_error *error);

/* gguf_map.c */
enum mtp_status gguf_part_map(struct gguf_part *part, const char *path, struct mtp_error *error);
enum mtp_status gguf_part_borrow(struct gguf_part *part, const void *data, size_t size,
                                 const char *label, struct mtp_error *error);
void gguf_part_release(struct gguf_part *part);
bool gguf_exists(const char *path);
/* The suffix by which a downloader marks path as unfinished (".part"), or NULL. */
const char *gguf_unfinished_suffix(const char *path);
/* The suffix that makes path the name of an existing unfinished download beside it, or NULL. */
const char *gguf_unfinished_sibling(const char *path);

/* gguf_identify.c: MTP_OK when the bytes begin with a header that gguf_parse.c can read. */
enum mtp_status gguf_identify(const struct gguf_part *part, struct mtp_error *error);

/* gguf_parse.c: reads the last part of file and appends its tensors. */
enum mtp_status gguf_parse_last_part(struct gguf *file, struct mtp_error *error);

/* gguf_place.c: offsets[i] is that of tensors[first + i] of the last part, relative to
 * the data section that follows header_end; checks them and sets .data. */
enum mtp_status gguf_place_tensors(struct gguf *file, size_t first, const uint64_t *offsets,
                                   size_t header_end, struct mtp_error *error);

/* gguf_split.c: opens and checks the parts after the first. */
enum mtp_status gguf_open_other_parts(struct gguf *file, struct mtp_error *error);
/* gguf.c: maps, identifies and parses path as a further part. */
enum mtp_status gguf_add_part(struct gguf *file, const char *path, struct mtp_error *error);

/* gguf_values.c */
const struct gguf_key *gguf_part_key(const struct gguf_part *part, const char *key);
enum mtp_status gguf_part_find_u32(const struct gguf_part *part, const char *key, uint32_t *value,
                                   bool *found, struct mtp_error *error);
/* Bytes of one element, 0 for strings and arrays. */
size_t gguf_value_size(uint32_t type);

#endif
