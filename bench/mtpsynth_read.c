/* mtpsynth_read.c - what a synthetic file says about itself. */
#include <string.h>

#include "mtpsynth.h"
#include "src/gguf.h"

static enum mtp_status needed_u32(const struct gguf *file, const char *key, uint32_t low, uint32_t high,
                                  uint32_t *value, struct mtp_error *error)
{
    enum mtp_status status = gguf_find_u32(file, key, value, NULL, error);
    if (status == MTP_OK && (*value < low || *value > high))
        status = mtp_fail(error, MTP_ERR_FORMAT, "%s: key %s is %u, outside %u..%u", gguf_path(file), key,
                          *value, low, high);
    return status;
}

static enum mtp_status read_accept(struct synth_spec *spec, const struct gguf *file,
                                   struct mtp_error *error)
{
    struct gguf_string accept;
    char text[256];
    enum mtp_status status = gguf_find_string(file, "mtpsynth.accept", &accept, NULL, error);
    if (status != MTP_OK)
        return status;
    size_t length = accept.length < sizeof text ? accept.length : 0;
    memcpy(text, accept.data, length);
    text[length] = '\0';
    if (!synth_parse_accept(spec, text))
        return mtp_fail(error, MTP_ERR_FORMAT, "%s: key mtpsynth.accept is no list of shares",
                        gguf_path(file));
    return MTP_OK;
}

static enum mtp_status read_keys(struct synth_spec *spec, const struct gguf *file,
                                 struct mtp_error *error)
{
    uint32_t version = 0;
    struct gguf_array tokens;
    if (!gguf_has(file, "mtpsynth.version"))
        return mtp_fail(error, MTP_ERR_FORMAT, "%s was not written by mtpsynth", gguf_path(file));
    enum mtp_status status =
        needed_u32(file, "mtpsynth.version", SYNTH_VERSION, SYNTH_VERSION, &version, error);
    if (status == MTP_OK)
        status = gguf_find_array(file, "tokenizer.ggml.tokens", &tokens, NULL, error);
    if (status != MTP_OK)
        return status;
    if (tokens.length < 4 || tokens.length > INT32_MAX)
        return mtp_fail(error, MTP_ERR_FORMAT, "%s: its vocabulary is no cycle of ids", gguf_path(file));
    spec->shape.n_vocab = (uint32_t)tokens.length;
    status = needed_u32(file, "mtpsynth.hot", 2, spec->shape.n_vocab - 2, &spec->n_hot, error);
    if (status == MTP_OK)
        status = needed_u32(file, "mtpsynth.seed", 0, UINT32_MAX, &spec->seed, error);
    if (status == MTP_OK)
        status = needed_u32(file, "mtpsynth.stretch", 1, UINT32_MAX, &spec->stretch, error);
    if (status == MTP_OK)
        status = gguf_find_f32(file, "mtpsynth.route_overlap", &spec->overlap, NULL, error);
    return status == MTP_OK ? read_accept(spec, file, error) : status;
}

enum mtp_status synth_read_spec(struct synth_spec *spec, const char *path, struct mtp_error *error)
{
    struct gguf *file;
    *spec = (struct synth_spec){0};
    enum mtp_status status = gguf_open(&file, path, error);
    if (status != MTP_OK)
        return status;
    status = read_keys(spec, file, error);
    gguf_close(file);
    return status;
}
