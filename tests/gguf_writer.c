#include "gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct buffer {
    unsigned char *bytes;
    size_t size;
    size_t allocated;
};

struct gguf_writer {
    uint32_t version;
    uint32_t alignment;
    uint64_t n_keys;
    uint64_t n_tensors;
    bool keys_claimed;
    bool tensors_claimed;
    uint64_t claimed_keys;
    uint64_t claimed_tensors;
    struct buffer keys;
    struct buffer infos;
    struct buffer data;
};

static void put(struct buffer *buffer, const void *bytes, size_t n)
{
    if (n == 0)
        return;
    if (buffer->allocated - buffer->size < n) {
        buffer->allocated = 2 * buffer->allocated + n + 256;
        buffer->bytes = realloc(buffer->bytes, buffer->allocated);
        if (buffer->bytes == NULL)
            abort();
    }
    memcpy(buffer->bytes + buffer->size, bytes, n);
    buffer->size += n;
}

static void put_u32(struct buffer *buffer, uint32_t value)
{
    put(buffer, &value, sizeof value);
}

static void put_u64(struct buffer *buffer, uint64_t value)
{
    put(buffer, &value, sizeof value);
}

static void put_string(struct buffer *buffer, const char *text)
{
    put_u64(buffer, strlen(text));
    put(buffer, text, strlen(text));
}

static void pad(struct buffer *buffer, size_t alignment)
{
    static const unsigned char zero = 0;
    while (alignment != 0 && buffer->size % alignment != 0)
        put(buffer, &zero, 1);
}

struct gguf_writer *gguf_writer_new(uint32_t version)
{
    struct gguf_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        abort();
    w->version = version;
    w->alignment = 32;
    return w;
}

void gguf_writer_free(struct gguf_writer *w)
{
    if (w == NULL)
        return;
    free(w->keys.bytes);
    free(w->infos.bytes);
    free(w->data.bytes);
    free(w);
}

void gguf_writer_raw(struct gguf_writer *w, const char *key, uint32_t type, const void *bytes,
                     size_t n_bytes)
{
    put_string(&w->keys, key);
    put_u32(&w->keys, type);
    put(&w->keys, bytes, n_bytes);
    w->n_keys++;
}

void gguf_writer_u8(struct gguf_writer *w, const char *key, uint8_t value)
{
    gguf_writer_raw(w, key, 0, &value, sizeof value);
}

void gguf_writer_i8(struct gguf_writer *w, const char *key, int8_t value)
{
    gguf_writer_raw(w, key, 1, &value, sizeof value);
}

void gguf_writer_u16(struct gguf_writer *w, const char *key, uint16_t value)
{
    gguf_writer_raw(w, key, 2, &value, sizeof value);
}

void gguf_writer_i16(struct gguf_writer *w, const char *key, int16_t value)
{
    gguf_writer_raw(w, key, 3, &value, sizeof value);
}

void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    gguf_writer_raw(w, key, 4, &value, sizeof value);
}

void gguf_writer_i32(struct gguf_writer *w, const char *key, int32_t value)
{
    gguf_writer_raw(w, key, 5, &value, sizeof value);
}

void gguf_writer_f32(struct gguf_writer *w, const char *key, float value)
{
    gguf_writer_raw(w, key, 6, &value, sizeof value);
}

void gguf_writer_bool(struct gguf_writer *w, const char *key, bool value)
{
    gguf_writer_raw(w, key, 7, &(unsigned char){value}, 1);
}

void gguf_writer_string(struct gguf_writer *w, const char *key, const char *value)
{
    gguf_writer_raw(w, key, 8, NULL, 0);
    put_string(&w->keys, value);
}

void gguf_writer_u64(struct gguf_writer *w, const char *key, uint64_t value)
{
    gguf_writer_raw(w, key, 10, &value, sizeof value);
}

void gguf_writer_i64(struct gguf_writer *w, const char *key, int64_t value)
{
    gguf_writer_raw(w, key, 11, &value, sizeof value);
}

void gguf_writer_f64(struct gguf_writer *w, const char *key, double value)
{
    gguf_writer_raw(w, key, 12, &value, sizeof value);
}

void gguf_writer_array(struct gguf_writer *w, const char *key, uint32_t type, const void *values,
                       uint64_t n, size_t element_bytes)
{
    gguf_writer_raw(w, key, 9, NULL, 0);
    put_u32(&w->keys, type);
    put_u64(&w->keys, n);
    put(&w->keys, values, (size_t)n * element_bytes);
}

void gguf_writer_strings(struct gguf_writer *w, const char *key, const char *const *values,
                         uint64_t n)
{
    gguf_writer_array(w, key, 8, NULL, 0, 0);
    memcpy(w->keys.bytes + w->keys.size - sizeof n, &n, sizeof n);
    for (uint64_t i = 0; i < n; i++)
        put_string(&w->keys, values[i]);
}

void gguf_writer_set_alignment(struct gguf_writer *w, uint32_t alignment)
{
    w->alignment = alignment;
}

void gguf_writer_tensor_at(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
                           const uint64_t *ne, uint64_t offset)
{
    put_string(&w->infos, name);
    put_u32(&w->infos, n_dims);
    put(&w->infos, ne, n_dims * sizeof *ne);
    put_u32(&w->infos, type);
    put_u64(&w->infos, offset);
    w->n_tensors++;
}

void gguf_writer_tensor(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
                        const uint64_t *ne, const void *data, size_t n_bytes)
{
    pad(&w->data, w->alignment);
    gguf_writer_tensor_at(w, name, type, n_dims, ne, w->data.size);
    if (data != NULL) {
        put(&w->data, data, n_bytes);
        return;
    }
    for (size_t i = 0; i < n_bytes; i++)
        put(&w->data, &(unsigned char){(unsigned char)(i + 1)}, 1);
}

void gguf_writer_claim_tensors(struct gguf_writer *w, uint64_t n)
{
    w->tensors_claimed = true;
    w->claimed_tensors = n;
}

void gguf_writer_claim_keys(struct gguf_writer *w, uint64_t n)
{
    w->keys_claimed = true;
    w->claimed_keys = n;
}

unsigned char *gguf_writer_finish(const struct gguf_writer *w, size_t *size)
{
    struct buffer file = {NULL, 0, 0};
    put(&file, "GGUF", 4);
    put_u32(&file, w->version);
    put_u64(&file, w->tensors_claimed ? w->claimed_tensors : w->n_tensors);
    put_u64(&file, w->keys_claimed ? w->claimed_keys : w->n_keys);
    put(&file, w->keys.bytes, w->keys.size);
    put(&file, w->infos.bytes, w->infos.size);
    if (w->n_tensors > 0)
        pad(&file, w->alignment);
    put(&file, w->data.bytes, w->data.size);
    *size = file.size;
    return file.bytes;
}

bool gguf_writer_save_bytes(const char *path, const void *bytes, size_t size)
{
    FILE *out = fopen(path, "wb");
    if (out == NULL)
        return false;
    bool written = size == 0 || fwrite(bytes, 1, size, out) == size;
    return fclose(out) == 0 && written;
}

bool gguf_writer_save(const struct gguf_writer *w, const char *path)
{
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    bool saved = gguf_writer_save_bytes(path, bytes, size);
    free(bytes);
    return saved;
}
