/* hparams.c - see hparams.h. Names of keys: docs/gguf.md. */
#include "hparams.h"

#include <inttypes.h>
#include <string.h>

#include "kernels/ops.h"

static const char *const supported[] = {"qwen35", "qwen35moe"};

struct reader {
    const struct gguf *file;
    const char *arch;
    struct mtp_error *error;
};

static void full_key(const struct reader *r, const char *name, char *key, size_t size)
{
    snprintf(key, size, "%s.%s", r->arch, name);
}

static enum mtp_status missing(const struct reader *r, const char *key)
{
    return mtp_fail(r->error, MTP_ERR_FORMAT, "%s: key %s is missing", gguf_path(r->file), key);
}

static enum mtp_status check_range(const struct reader *r, const char *key, uint32_t value,
                                   uint32_t low, uint32_t high)
{
    if (value >= low && value <= high)
        return MTP_OK;
    return mtp_fail(r->error, MTP_ERR_FORMAT,
                    "%s: key %s is %" PRIu32 ", outside %" PRIu32 "..%" PRIu32, gguf_path(r->file),
                    key, value, low, high);
}

/* A key that must be there, between low and high. */
struct u32_key {
    const char *name;
    uint32_t low, high;
    uint32_t *value;
};

static enum mtp_status read_u32(const struct reader *r, const struct u32_key *want)
{
    char key[128];
    full_key(r, want->name, key, sizeof key);
    bool found = false;
    enum mtp_status status = gguf_find_u32(r->file, key, want->value, &found, r->error);
    if (status != MTP_OK)
        return status;
    if (!found)
        return missing(r, key);
    return check_range(r, key, *want->value, want->low, want->high);
}

static enum mtp_status read_all(const struct reader *r, const struct u32_key *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        enum mtp_status status = read_u32(r, &keys[i]);
        if (status != MTP_OK)
            return status;
    }
    return MTP_OK;
}

/* As read_u32, for keys that converters write as a scalar or as one value a layer. Layers may not
 * differ (0 is allowed for layers without the thing, as heads of DeltaNet layers). */
static enum mtp_status read_uniform(const struct reader *r, const struct u32_key *want,
                                    uint32_t n_blocks)
{
    char key[128];
    uint32_t values[MAX_LAYERS];
    bool found = false;
    full_key(r, want->name, key, sizeof key);
    enum mtp_status status = gguf_find_u32_list(r->file, key, values, n_blocks, &found, r->error);
    if (status != MTP_OK)
        return status;
    if (!found)
        return missing(r, key);
    *want->value = 0;
    for (uint32_t i = 0; i < n_blocks; i++) {
        if (values[i] != 0 && *want->value != 0 && values[i] != *want->value)
            return mtp_fail(r->error, MTP_ERR_UNSUPPORTED,
                            "%s: key %s differs between layers, which %s models here may not",
                            gguf_path(r->file), key, r->arch);
        if (values[i] != 0)
            *want->value = values[i];
    }
    return check_range(r, key, *want->value, want->low, want->high);
}

static enum mtp_status read_floats(const struct reader *r, struct hparams *h)
{
    char key[128];
    bool found = false;
    float base = 0.0f;
    full_key(r, "attention.layer_norm_rms_epsilon", key, sizeof key);
    enum mtp_status status = gguf_find_f32(r->file, key, &h->rms_eps, &found, r->error);
    if (status != MTP_OK)
        return status;
    if (!found)
        return missing(r, key);
    if (!(h->rms_eps > 0.0f && h->rms_eps < 1.0f))
        return mtp_fail(r->error, MTP_ERR_FORMAT, "%s: key %s is %g, outside 0..1",
                        gguf_path(r->file), key, (double)h->rms_eps);
    full_key(r, "rope.freq_base", key, sizeof key);
    status = gguf_find_f32(r->file, key, &base, &found, r->error);
    if (status != MTP_OK)
        return status;
    if (!found)
        return missing(r, key);
    if (!(base > 1.0f && base < 1e12f))
        return mtp_fail(r->error, MTP_ERR_FORMAT, "%s: key %s is %g, outside 1..1e12",
                        gguf_path(r->file), key, (double)base);
    h->rope_base = (double)base;
    return MTP_OK;
}

/* Every interval-th layer is full attention, unless attention.recurrent_layers lists them. */
static enum mtp_status read_layer_kinds(const struct reader *r, struct hparams *h)
{
    char key[128];
    bool found = false;
    uint32_t interval = 4, listed[MAX_LAYERS];
    full_key(r, "full_attention_interval", key, sizeof key);
    enum mtp_status status = gguf_find_u32(r->file, key, &interval, &found, r->error);
    if (status == MTP_OK && found)
        status = check_range(r, key, interval, 1, MAX_LAYERS);
    if (status != MTP_OK)
        return status;
    for (uint32_t i = 0; i < h->n_layers; i++)
        h->recurrent[i] = (i + 1) % interval != 0;
    full_key(r, "attention.recurrent_layers", key, sizeof key);
    status = gguf_find_u32_list(r->file, key, listed, h->n_layers, &found, r->error);
    for (uint32_t i = 0; status == MTP_OK && found && i < h->n_layers; i++)
        h->recurrent[i] = listed[i] != 0;
    return status;
}

static enum mtp_status read_blocks(const struct reader *r, struct hparams *h, uint32_t *n_blocks)
{
    const struct u32_key block_count = {"block_count", 1, MAX_LAYERS, n_blocks};
    enum mtp_status status = read_u32(r, &block_count);
    if (status != MTP_OK)
        return status;
    char key[128];
    bool found = false;
    full_key(r, "nextn_predict_layers", key, sizeof key);
    status = gguf_find_u32(r->file, key, &h->n_mtp_layers, &found, r->error);
    if (status != MTP_OK)
        return status;
    if (h->n_mtp_layers > 1)
        return mtp_fail(r->error, MTP_ERR_UNSUPPORTED,
                        "%s: key %s is %" PRIu32 "; at most one MTP block is supported",
                        gguf_path(r->file), key, h->n_mtp_layers);
    if (h->n_mtp_layers >= *n_blocks)
        return mtp_fail(r->error, MTP_ERR_FORMAT, "%s: %s.block_count leaves no trunk layers",
                        gguf_path(r->file), r->arch);
    h->n_layers = *n_blocks - h->n_mtp_layers;
    return MTP_OK;
}

/* Rules between keys that the kernels rely on. */
static enum mtp_status check_relations(const struct reader *r, const struct hparams *h,
                                       uint32_t value_length, uint32_t inner_size)
{
    const char *path = gguf_path(r->file), *rule = NULL;
    if (value_length != h->head_dim)
        rule = "attention.value_length must equal attention.key_length";
    else if (h->n_heads % h->n_kv_heads != 0)
        rule = "attention.head_count must be a multiple of attention.head_count_kv";
    else if (h->n_rot % 2 != 0 || h->n_rot > h->head_dim)
        rule = "rope.dimension_count must be even and at most attention.key_length";
    else if (inner_size != h->n_v_heads * h->state_dim)
        rule = "ssm.inner_size must be ssm.time_step_rank * ssm.state_size";
    else if (h->n_v_heads % h->n_k_heads != 0)
        rule = "ssm.time_step_rank must be a multiple of ssm.group_count";
    else if (h->n_experts_used > h->n_experts)
        rule = "expert_used_count must be at most expert_count";
    if (rule == NULL)
        return MTP_OK;
    return mtp_fail(r->error, MTP_ERR_FORMAT, "%s: %s.%s", path, r->arch, rule);
}

static enum mtp_status read_ffn(const struct reader *r, struct hparams *h, uint32_t n_blocks)
{
    if (h->arch == ARCH_QWEN35) {
        const struct u32_key dense = {"feed_forward_length", 1, 1 << 20, &h->n_ff};
        return read_uniform(r, &dense, n_blocks);
    }
    const struct u32_key moe[] = {
        {"expert_count", 1, MAX_EXPERTS, &h->n_experts},
        {"expert_used_count", 1, 64, &h->n_experts_used},
        {"expert_feed_forward_length", 1, 1 << 20, &h->n_ff_expert},
        {"expert_shared_feed_forward_length", 1, 1 << 20, &h->n_ff_shared},
    };
    return read_all(r, moe, sizeof moe / sizeof moe[0]);
}

static enum mtp_status read_sizes(const struct reader *r, struct hparams *h, uint32_t n_blocks)
{
    uint32_t value_length = 0, inner_size = 0;
    const struct u32_key keys[] = {
        {"context_length", 1, 1 << 24, &h->n_ctx_train},
        {"embedding_length", 1, 1 << 17, &h->n_embd},
        {"attention.key_length", 1, MAX_HEAD_DIM, &h->head_dim},
        {"attention.value_length", 1, MAX_HEAD_DIM, &value_length},
        {"rope.dimension_count", 2, MAX_HEAD_DIM, &h->n_rot},
        {"ssm.conv_kernel", 1, 64, &h->conv_taps},
        {"ssm.state_size", 1, MAX_STATE_DIM, &h->state_dim},
        {"ssm.group_count", 1, 1024, &h->n_k_heads},
        {"ssm.time_step_rank", 1, 1024, &h->n_v_heads},
        {"ssm.inner_size", 1, 1 << 18, &inner_size},
    };
    const struct u32_key heads = {"attention.head_count", 1, 1024, &h->n_heads};
    const struct u32_key kv_heads = {"attention.head_count_kv", 1, 1024, &h->n_kv_heads};
    enum mtp_status status = read_all(r, keys, sizeof keys / sizeof keys[0]);
    if (status == MTP_OK)
        status = read_uniform(r, &heads, n_blocks);
    if (status == MTP_OK)
        status = read_uniform(r, &kv_heads, n_blocks);
    if (status == MTP_OK)
        status = read_ffn(r, h, n_blocks);
    if (status == MTP_OK)
        status = check_relations(r, h, value_length, inner_size);
    return status;
}

enum mtp_status hparams_read(struct hparams *out, const struct gguf *file, struct mtp_error *error)
{
    memset(out, 0, sizeof *out);
    struct gguf_string arch;
    enum mtp_status status = gguf_check_architecture(
        file, supported, sizeof supported / sizeof supported[0], &arch, error);
    if (status != MTP_OK)
        return status;
    out->arch = arch.length == strlen("qwen35") ? ARCH_QWEN35 : ARCH_QWEN35MOE;
    out->arch_name = supported[out->arch];
    struct reader r = {file, out->arch_name, error};
    uint32_t n_blocks = 0;
    status = read_blocks(&r, out, &n_blocks);
    if (status == MTP_OK)
        status = read_sizes(&r, out, n_blocks);
    if (status == MTP_OK)
        status = read_floats(&r, out);
    if (status == MTP_OK)
        status = read_layer_kinds(&r, out);
    return status;
}
