/* model_digest.c - telling model files apart without reading all of them.
 *
 * The digest is digest_bytes (verify/digest.h) over, for the model's file and then for its companion:
 * the number of keys and tensors; every key with its type and the bytes of its value; every tensor's
 * name, type, shape and first 64 KiB. Keys that say how a file is split are left out, so a split file
 * has the digest of the whole one when its tensors come in the same order.
 */
#include "gguf_internal.h"
#include "model.h"
#include "verify/digest.h"

#include <string.h>

enum { SAMPLED_BYTES = 64 * 1024 };

static uint64_t load_u64(const unsigned char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Bytes of an array's elements. The parser walked them already, so everything lies in the file. */
static size_t array_bytes(uint32_t type, uint64_t length, const unsigned char *data)
{
    if (type != GGUF_STRING && type != GGUF_ARRAY)
        return (size_t)length * gguf_value_size(type);
    size_t used = 0;
    for (uint64_t i = 0; i < length; i++) {
        if (type == GGUF_STRING) {
            used += sizeof(uint64_t) + (size_t)load_u64(data + used);
        } else {
            uint32_t inner;
            memcpy(&inner, data + used, sizeof inner);
            uint64_t inner_length = load_u64(data + used + sizeof inner);
            used += sizeof inner + sizeof inner_length;
            used += array_bytes(inner, inner_length, data + used);
        }
    }
    return used;
}

static size_t value_bytes(const struct gguf_key *key)
{
    if (key->type == GGUF_STRING)
        return (size_t)key->length;
    if (key->type == GGUF_ARRAY)
        return array_bytes(key->element_type, key->length, key->data);
    return gguf_value_size(key->type);
}

static bool tells_of_splitting(const struct gguf_key *key)
{
    return key->name.length >= 6 && memcmp(key->name.data, "split.", 6) == 0;
}

static uint64_t digest_key(uint64_t run, const struct gguf_key *key)
{
    run = digest_bytes(run, key->name.data, key->name.length);
    run = digest_chain(run, key->type);
    if (key->type == GGUF_ARRAY) {
        run = digest_chain(run, key->element_type);
        run = digest_chain(run, key->length);
    }
    return digest_bytes(run, key->data, value_bytes(key));
}

static uint64_t digest_tensor(uint64_t run, const struct gguf_tensor *tensor)
{
    run = digest_bytes(run, tensor->name.data, tensor->name.length);
    run = digest_chain(run, tensor->type);
    run = digest_chain(run, tensor->n_dims);
    for (size_t i = 0; i < 4; i++)
        run = digest_chain(run, tensor->ne[i]);
    size_t sampled = tensor->n_bytes < SAMPLED_BYTES ? (size_t)tensor->n_bytes : SAMPLED_BYTES;
    return digest_bytes(run, tensor->data, sampled);
}

static uint64_t digest_file(uint64_t run, const struct gguf *file)
{
    const struct gguf_part *first = &file->parts[0];
    uint64_t n_keys = 0;
    for (size_t i = 0; i < first->n_keys; i++)
        n_keys += !tells_of_splitting(&first->keys[i]);
    run = digest_chain(run, n_keys);
    for (size_t i = 0; i < first->n_keys; i++)
        if (!tells_of_splitting(&first->keys[i]))
            run = digest_key(run, &first->keys[i]);
    run = digest_chain(run, file->n_tensors);
    for (size_t i = 0; i < file->n_tensors; i++)
        run = digest_tensor(run, &file->tensors[i]);
    return run;
}

uint64_t mtp_model_digest(const mtp_model *model)
{
    uint64_t run = digest_file(0, model->file);
    return model->mtp_file != NULL ? digest_file(run, model->mtp_file) : run;
}
