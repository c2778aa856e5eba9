/* mtpsynth_header.c - the file before its tensors: metadata, a vocabulary, descriptions of tensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mtpsynth.h"
#include "src/gguf.h"
#include "src/tokenizer_internal.h"

struct header {
    struct synth_bytes *bytes;
    const struct synth_shape *shape;
    uint64_t n_keys;
};

static void put(struct synth_bytes *b, const void *data, size_t n)
{
    if (b->out_of_memory)
        return;
    if (b->allocated - b->size < n) {
        size_t allocated = 2 * b->allocated + n + 4096;
        uint8_t *grown = realloc(b->data, allocated);
        if (grown == NULL) {
            b->out_of_memory = true;
            return;
        }
        b->data = grown;
        b->allocated = allocated;
    }
    memcpy(b->data + b->size, data, n);
    b->size += n;
}

static void put_u32(struct synth_bytes *b, uint32_t value)
{
    put(b, &value, sizeof value);
}

static void put_u64(struct synth_bytes *b, uint64_t value)
{
    put(b, &value, sizeof value);
}

static void put_text(struct synth_bytes *b, const char *text, size_t length)
{
    put_u64(b, length);
    put(b, text, length);
}

/* ---- keys ---------------------------------------------------------------------------------------- */

/* A key that begins with a dot belongs to the architecture. */
static void put_key(struct header *h, const char *key, uint32_t type)
{
    char full[96];
    const char *prefix = key[0] == '.' ? synth_arch_name(h->shape->arch) : "";
    int length = snprintf(full, sizeof full, "%s%s", prefix, key);
    put_text(h->bytes, full, (size_t)length);
    put_u32(h->bytes, type);
    h->n_keys++;
}

static void key_u32(struct header *h, const char *key, uint32_t value)
{
    put_key(h, key, GGUF_UINT32);
    put_u32(h->bytes, value);
}

static void key_f32(struct header *h, const char *key, float value)
{
    put_key(h, key, GGUF_FLOAT32);
    put(h->bytes, &value, sizeof value);
}

static void key_text(struct header *h, const char *key, const char *value)
{
    put_key(h, key, GGUF_STRING);
    put_text(h->bytes, value, strlen(value));
}

static void key_array(struct header *h, const char *key, uint32_t type, uint64_t n)
{
    put_key(h, key, GGUF_ARRAY);
    put_u32(h->bytes, type);
    put_u64(h->bytes, n);
}

static void general_keys(struct header *h, const struct synth_spec *spec)
{
    char text[160];
    key_text(h, "general.architecture", synth_arch_name(h->shape->arch));
    key_text(h, "general.type", "model");
    snprintf(text, sizeof text, "SYNTHETIC (mtpsynth), shapes of %s, %s", h->shape->title,
             synth_mix_name(spec->mix));
    key_text(h, "general.name", text);
    key_text(h, "general.description",
             "Synthetic weights for measurements; it knows no language. Each id is followed by the id "
             "that mtpsynth chose.");
    key_array(h, "general.tags", GGUF_STRING, 1);
    put_text(h->bytes, "synthetic", strlen("synthetic"));
    key_u32(h, "general.quantization_version", 2);
    key_u32(h, "general.file_type", synth_mix_file_type(spec->mix));
}

static void own_keys(struct header *h, const struct synth_spec *spec)
{
    char accept[32 * SYNTH_MAX_CLASSES] = "";
    int length = 0;
    for (uint32_t i = 0; i < spec->n_classes; i++)
        length += snprintf(accept + length, sizeof accept - (size_t)length, "%s%.17g",
                           i == 0 ? "" : ",", spec->accept[i]);
    key_u32(h, "mtpsynth.version", SYNTH_VERSION);
    key_text(h, "mtpsynth.preset", h->shape->name);
    key_text(h, "mtpsynth.mix", synth_mix_name(spec->mix));
    key_u32(h, "mtpsynth.seed", spec->seed);
    key_u32(h, "mtpsynth.hot", spec->n_hot);
    key_text(h, "mtpsynth.accept", accept);
    key_u32(h, "mtpsynth.stretch", spec->stretch);
    key_f32(h, "mtpsynth.route_overlap", spec->overlap);
}

static void delta_net_keys(struct header *h)
{
    const struct synth_shape *s = h->shape;
    if (s->conv_taps == 0)
        return;
    key_u32(h, ".ssm.conv_kernel", s->conv_taps);
    key_u32(h, ".ssm.state_size", s->state_dim);
    key_u32(h, ".ssm.group_count", s->n_k_heads);
    key_u32(h, ".ssm.time_step_rank", s->n_v_heads);
    key_u32(h, ".ssm.inner_size", s->n_v_heads * s->state_dim);
    key_u32(h, ".full_attention_interval", s->interval);
    key_array(h, ".rope.dimension_sections", GGUF_INT32, 4);
    put(h->bytes, s->sections, sizeof s->sections);
}

static void shape_keys(struct header *h)
{
    const struct synth_shape *s = h->shape;
    key_u32(h, ".block_count", s->n_layers + s->n_mtp_layers);
    if (s->n_mtp_layers > 0)
        key_u32(h, ".nextn_predict_layers", s->n_mtp_layers);
    key_u32(h, ".context_length", s->n_ctx);
    key_u32(h, ".embedding_length", s->n_embd);
    if (s->n_ff > 0)
        key_u32(h, ".feed_forward_length", s->n_ff);
    key_u32(h, ".attention.head_count", s->n_heads);
    key_u32(h, ".attention.head_count_kv", s->n_kv_heads);
    key_u32(h, ".attention.key_length", s->head_dim);
    key_u32(h, ".attention.value_length", s->head_dim);
    key_f32(h, ".attention.layer_norm_rms_epsilon", 1e-6f);
    key_u32(h, ".rope.dimension_count", s->n_rot);
    key_f32(h, ".rope.freq_base", s->rope_base);
    if (s->n_experts > 0) {
        key_u32(h, ".expert_count", s->n_experts);
        key_u32(h, ".expert_used_count", s->n_used);
        key_u32(h, ".expert_feed_forward_length", s->n_ff_expert);
    }
    if (s->n_ff_shared > 0)
        key_u32(h, ".expert_shared_feed_forward_length", s->n_ff_shared);
    delta_net_keys(h);
}

/* ---- vocabulary ---------------------------------------------------------------------------------- */

static const char *const control_tokens[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
enum { N_CONTROL = 3 };

/* A word of three or more syllables, another for every id, with the space that begins words. */
static size_t made_up_word(uint32_t id, char *out)
{
    static const char consonants[] = "bdfghjklmnprstvz", vowels[] = "aeio";
    size_t length = token_byte_to_text(' ', out);
    for (int i = 0; i < 3 || id > 0; i++, id /= 64) {
        out[length++] = consonants[id % 64 / 4];
        out[length++] = vowels[id % 4];
    }
    return length;
}

static void put_token(struct header *h, uint32_t id)
{
    char text[32];
    uint32_t first_control = h->shape->n_vocab - N_CONTROL;
    if (id < 256)
        put_text(h->bytes, text, token_byte_to_text((unsigned char)id, text));
    else if (id < first_control)
        put_text(h->bytes, text, made_up_word(id, text));
    else
        put_text(h->bytes, control_tokens[id - first_control],
                 strlen(control_tokens[id - first_control]));
}

static void tokenizer_keys(struct header *h)
{
    uint32_t n = h->shape->n_vocab;
    key_text(h, "tokenizer.ggml.model", "gpt2");
    key_text(h, "tokenizer.ggml.pre", h->shape->arch == SYNTH_QWEN3MOE ? "qwen2" : "qwen35");
    key_array(h, "tokenizer.ggml.tokens", GGUF_STRING, n);
    for (uint32_t id = 0; id < n; id++)
        put_token(h, id);
    key_array(h, "tokenizer.ggml.token_type", GGUF_INT32, n);
    for (uint32_t id = 0; id < n; id++)
        put_u32(h->bytes, id < n - N_CONTROL ? TOKEN_NORMAL : TOKEN_CONTROL);
    key_array(h, "tokenizer.ggml.merges", GGUF_STRING, 0);
    key_u32(h, "tokenizer.ggml.eos_token_id", n - 1);
    key_u32(h, "tokenizer.ggml.padding_token_id", n - N_CONTROL);
    put_key(h, "tokenizer.ggml.add_bos_token", GGUF_BOOL);
    put(h->bytes, "", 1);
}

/* ---- all of it ----------------------------------------------------------------------------------- */

static void put_tensor(struct synth_bytes *b, const struct synth_tensor *t)
{
    put_text(b, t->name, strlen(t->name));
    put_u32(b, t->n_dims);
    put(b, t->ne, t->n_dims * sizeof *t->ne);
    put_u32(b, t->type);
    put_u64(b, t->offset);
}

enum mtp_status synth_header(struct synth_bytes *bytes, const struct synth_plan *plan,
                             struct mtp_error *error)
{
    *bytes = (struct synth_bytes){0};
    struct header h = {bytes, &plan->spec->shape, 0};
    put(bytes, "GGUF", 4);
    put_u32(bytes, 3);
    put_u64(bytes, plan->n_tensors);
    size_t n_keys_at = bytes->size;
    put_u64(bytes, 0);
    general_keys(&h, plan->spec);
    own_keys(&h, plan->spec);
    shape_keys(&h);
    tokenizer_keys(&h);
    for (size_t i = 0; i < plan->n_tensors; i++)
        put_tensor(bytes, &plan->tensors[i]);
    while (!bytes->out_of_memory && bytes->size % SYNTH_ALIGNMENT != 0)
        put(bytes, "", 1);
    if (bytes->out_of_memory) {
        free(bytes->data);
        return mtp_fail_memory(error, "the file's header", bytes->size);
    }
    memcpy(bytes->data + n_keys_at, &h.n_keys, sizeof h.n_keys);
    return MTP_OK;
}
