/* gguf_writer.h - makes GGUF files for tests: whole ones, and ones that are broken on purpose.
 *
 *     struct gguf_writer *w = gguf_writer_new(3);
 *     gguf_writer_string(w, "general.architecture", "qwen35");
 *     gguf_writer_u32(w, "qwen35.block_count", 2);
 *     gguf_writer_tensor(w, "output_norm.weight", 0, 1, (uint64_t[]){64}, data, 256);
 *     unsigned char *bytes = gguf_writer_finish(w, &size);      or gguf_writer_save(w, path)
 *     gguf_writer_free(w);
 *
 * Keys and tensors appear in the order of the calls. Nothing is checked: types, dimensions and byte
 * counts are written as given, so that wrong files can be made. Running out of memory aborts: this
 * is test code. Knows nothing of src/, so that it cannot share the parser's mistakes.
 */
#ifndef MTP_TESTS_GGUF_WRITER_H
#define MTP_TESTS_GGUF_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gguf_writer;

struct gguf_writer *gguf_writer_new(uint32_t version);
void gguf_writer_free(struct gguf_writer *w);

/* Metadata, one call a key. */
void gguf_writer_u8(struct gguf_writer *w, const char *key, uint8_t value);
void gguf_writer_i8(struct gguf_writer *w, const char *key, int8_t value);
void gguf_writer_u16(struct gguf_writer *w, const char *key, uint16_t value);
void gguf_writer_i16(struct gguf_writer *w, const char *key, int16_t value);
void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_writer_i32(struct gguf_writer *w, const char *key, int32_t value);
void gguf_writer_u64(struct gguf_writer *w, const char *key, uint64_t value);
void gguf_writer_i64(struct gguf_writer *w, const char *key, int64_t value);
void gguf_writer_f32(struct gguf_writer *w, const char *key, float value);
void gguf_writer_f64(struct gguf_writer *w, const char *key, double value);
void gguf_writer_bool(struct gguf_writer *w, const char *key, bool value);
void gguf_writer_string(struct gguf_writer *w, const char *key, const char *value);
/* n strings that end with NUL; for others, build the bytes and use gguf_writer_raw. */
void gguf_writer_strings(struct gguf_writer *w, const char *key, const char *const *values,
                         uint64_t n);
/* n elements of element_bytes each, of the file's type number `type`. */
void gguf_writer_array(struct gguf_writer *w, const char *key, uint32_t type, const void *values,
                       uint64_t n, size_t element_bytes);
/* Any value type number, any bytes after it: nested arrays, wrong values, absurd lengths. */
void gguf_writer_raw(struct gguf_writer *w, const char *key, uint32_t type, const void *bytes,
                     size_t n_bytes);

/* Alignment of the data section; set before the first tensor (default 32). Does not write the key
 * general.alignment: use gguf_writer_u32 for that. */
void gguf_writer_set_alignment(struct gguf_writer *w, uint32_t alignment);

/* A tensor behind all earlier ones. data may be NULL: then bytes 1, 2, 3... are written. */
void gguf_writer_tensor(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
                        const uint64_t *ne, const void *data, size_t n_bytes);
/* A tensor whose description claims this offset; its data are not written. */
void gguf_writer_tensor_at(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
                           const uint64_t *ne, uint64_t offset);

/* Counts that the header is to claim in place of the true ones. */
void gguf_writer_claim_tensors(struct gguf_writer *w, uint64_t n);
void gguf_writer_claim_keys(struct gguf_writer *w, uint64_t n);

/* The file, malloc'ed. The writer may be used on and finished again. */
unsigned char *gguf_writer_finish(const struct gguf_writer *w, size_t *size);
/* Writes the file; false (with errno) when that fails. */
bool gguf_writer_save(const struct gguf_writer *w, const char *path);
/* Writes any bytes: for truncated files and files that are no GGUF at all. */
bool gguf_writer_save_bytes(const char *path, const void *bytes, size_t size);

#endif
