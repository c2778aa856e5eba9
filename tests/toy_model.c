/* toy_model.c - see toy_model.h. */
#include "toy_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gguf_writer.h"
#include "kernels/blocks.h"

enum { HEADS = 2, KV_HEADS = 1, HEAD_DIM = 16, N_ROT = 8, STATE = 16, K_HEADS = 1, V_HEADS = 2,
       TAPS = 4, FF = 32, EXPERTS = 4, FF_EXPERT = 32, FF_SHARED = 32,
       CHANNELS = (2 * K_HEADS + V_HEADS) * STATE };

struct toy_writer {
    const struct toy *toy;
    struct gguf_writer *w;
    const char *arch;
    uint32_t dice;
};

static bool is(const char *name, const char *other)
{
    return other != NULL && strcmp(name, other) == 0;
}

static void key_u32(struct toy_writer *t, const char *name, uint32_t value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", t->arch, name);
    if (is(key, t->toy->without_key))
        return;
    gguf_writer_u32(t->w, key, is(key, t->toy->change_key) ? t->toy->value : value);
}

static void key_f32(struct toy_writer *t, const char *name, float value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", t->arch, name);
    if (!is(key, t->toy->without_key))
        gguf_writer_f32(t->w, key, is(key, t->toy->change_f32) ? t->toy->f32 : value);
}

static void keys(struct toy_writer *t)
{
    gguf_writer_string(t->w, "general.architecture", t->arch);
    gguf_writer_string(t->w, "general.name", "toy");
    key_u32(t, "block_count", t->toy->mtp ? 3 : 2);
    if (t->toy->mtp)
        key_u32(t, "nextn_predict_layers", 1);
    key_u32(t, "context_length", TOY_CTX);
    key_u32(t, "embedding_length", TOY_EMBD);
    key_u32(t, "attention.head_count", HEADS);
    key_u32(t, "attention.head_count_kv", KV_HEADS);
    key_u32(t, "attention.key_length", HEAD_DIM);
    key_u32(t, "attention.value_length", HEAD_DIM);
    key_u32(t, "rope.dimension_count", N_ROT);
    key_u32(t, "ssm.conv_kernel", TAPS);
    key_u32(t, "ssm.state_size", STATE);
    key_u32(t, "ssm.group_count", K_HEADS);
    key_u32(t, "ssm.time_step_rank", V_HEADS);
    key_u32(t, "ssm.inner_size", V_HEADS * STATE);
    key_u32(t, "full_attention_interval", 2);
    key_f32(t, "attention.layer_norm_rms_epsilon", 1e-6f);
    key_f32(t, "rope.freq_base", 10000.0f);
    if (!t->toy->moe) {
        key_u32(t, "feed_forward_length", FF);
        return;
    }
    key_u32(t, "expert_count", EXPERTS);
    key_u32(t, "expert_used_count", 2);
    key_u32(t, "expert_feed_forward_length", FF_EXPERT);
    key_u32(t, "expert_shared_feed_forward_length", FF_SHARED);
}

/* The 256 byte tokens: printable bytes stand for themselves, others for U+0100 upwards. */
static void vocabulary(struct toy_writer *t)
{
    static char texts[TOY_VOCAB][4];
    const char *tokens[TOY_VOCAB];
    uint32_t other = 0;
    for (uint32_t b = 0; b < TOY_VOCAB; b++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        uint32_t code = plain ? b : 256 + other++;
        if (code < 128)
            snprintf(texts[b], sizeof texts[b], "%c", (char)code);
        else
            snprintf(texts[b], sizeof texts[b], "%c%c", (char)(0xc0 | code >> 6),
                     (char)(0x80 | (code & 63)));
        tokens[b] = texts[b];
    }
    gguf_writer_string(t->w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_string(t->w, "tokenizer.ggml.pre", "qwen35");
    gguf_writer_strings(t->w, "tokenizer.ggml.tokens", tokens, TOY_VOCAB);
    gguf_writer_strings(t->w, "tokenizer.ggml.merges", NULL, 0);
    gguf_writer_u32(t->w, "tokenizer.ggml.eos_token_id", 10);
}

static float dice(struct toy_writer *t, float spread)
{
    t->dice = t->dice * 1664525u + 1013904223u;
    return ((float)(t->dice >> 8) / 8388608.0f - 1.0f) * spread;
}

static void tensor(struct toy_writer *t, const char *name, uint32_t n_dims, uint64_t a, uint64_t b,
                   uint64_t c)
{
    if (is(name, t->toy->without_tensor))
        return;
    uint64_t ne[3] = {a, b, c};
    if (is(name, t->toy->reshape_tensor))
        ne[n_dims - 1]++;
    size_t n = ne[0] * ne[1] * ne[2];
    float *values = calloc(n, sizeof *values);
    uint16_t *halves = calloc(n, sizeof *halves);
    assert_true(values != NULL && halves != NULL);
    for (size_t i = 0; i < n; i++)
        values[i] = n_dims == 1 ? 1.0f + dice(t, 0.25f) : dice(t, 0.3f);
    if (is(name, t->toy->poison_tensor))
        values[0] = NAN;
    for (size_t i = 0; i < n; i++)
        halves[i] = f32_to_f16(values[i]);
    uint32_t type = is(name, t->toy->retype_tensor) ? 26 : 0;
    if (n_dims == 1 && t->toy->f16_vectors != NULL)
        gguf_writer_tensor(t->w, name, 1, n_dims, ne, halves, n * sizeof *halves);
    else
        gguf_writer_tensor(t->w, name, type, n_dims, ne, values, n * sizeof *values);
    free(values);
    free(halves);
}

static void block_tensor(struct toy_writer *t, int block, const char *suffix, uint32_t n_dims,
                         uint64_t a, uint64_t b, uint64_t c)
{
    char name[96];
    snprintf(name, sizeof name, "blk.%d.%s", block, suffix);
    tensor(t, name, n_dims, a, b, c);
}

static void attention(struct toy_writer *t, int i)
{
    block_tensor(t, i, "attn_q.weight", 2, TOY_EMBD, 2 * HEADS * HEAD_DIM, 1);
    block_tensor(t, i, "attn_k.weight", 2, TOY_EMBD, KV_HEADS * HEAD_DIM, 1);
    block_tensor(t, i, "attn_v.weight", 2, TOY_EMBD, KV_HEADS * HEAD_DIM, 1);
    block_tensor(t, i, "attn_output.weight", 2, HEADS * HEAD_DIM, TOY_EMBD, 1);
    block_tensor(t, i, "attn_q_norm.weight", 1, HEAD_DIM, 1, 1);
    block_tensor(t, i, "attn_k_norm.weight", 1, HEAD_DIM, 1, 1);
}

static void delta_net(struct toy_writer *t, int i)
{
    block_tensor(t, i, "attn_qkv.weight", 2, TOY_EMBD, CHANNELS, 1);
    block_tensor(t, i, "attn_gate.weight", 2, TOY_EMBD, V_HEADS * STATE, 1);
    block_tensor(t, i, "ssm_alpha.weight", 2, TOY_EMBD, V_HEADS, 1);
    block_tensor(t, i, "ssm_beta.weight", 2, TOY_EMBD, V_HEADS, 1);
    block_tensor(t, i, "ssm_out.weight", 2, V_HEADS * STATE, TOY_EMBD, 1);
    block_tensor(t, i, "ssm_conv1d.weight", 2, TAPS, CHANNELS, 1);
    block_tensor(t, i, "ssm_a", 1, V_HEADS, 1, 1);
    block_tensor(t, i, "ssm_dt.bias", 1, V_HEADS, 1, 1);
    block_tensor(t, i, "ssm_norm.weight", 1, STATE, 1, 1);
}

static void feed_forward(struct toy_writer *t, int i)
{
    if (!t->toy->moe) {
        block_tensor(t, i, "ffn_gate.weight", 2, TOY_EMBD, FF, 1);
        block_tensor(t, i, "ffn_up.weight", 2, TOY_EMBD, FF, 1);
        block_tensor(t, i, "ffn_down.weight", 2, FF, TOY_EMBD, 1);
        return;
    }
    block_tensor(t, i, "ffn_gate_inp.weight", 2, TOY_EMBD, EXPERTS, 1);
    block_tensor(t, i, "ffn_gate_exps.weight", 3, TOY_EMBD, FF_EXPERT, EXPERTS);
    block_tensor(t, i, "ffn_up_exps.weight", 3, TOY_EMBD, FF_EXPERT, EXPERTS);
    block_tensor(t, i, "ffn_down_exps.weight", 3, FF_EXPERT, TOY_EMBD, EXPERTS);
    block_tensor(t, i, "ffn_gate_inp_shexp.weight", 1, TOY_EMBD, 1, 1);
    block_tensor(t, i, "ffn_gate_shexp.weight", 2, TOY_EMBD, FF_SHARED, 1);
    block_tensor(t, i, "ffn_up_shexp.weight", 2, TOY_EMBD, FF_SHARED, 1);
    block_tensor(t, i, "ffn_down_shexp.weight", 2, FF_SHARED, TOY_EMBD, 1);
}

static void block(struct toy_writer *t, int i, bool recurrent)
{
    block_tensor(t, i, "attn_norm.weight", 1, TOY_EMBD, 1, 1);
    block_tensor(t, i, "post_attention_norm.weight", 1, TOY_EMBD, 1, 1);
    if (recurrent)
        delta_net(t, i);
    else
        attention(t, i);
    feed_forward(t, i);
}

void toy_save(const struct toy *toy, const char *path)
{
    struct toy_writer t = {toy, gguf_writer_new(3), toy->moe ? "qwen35moe" : "qwen35", 1};
    keys(&t);
    if (toy->synthetic)
        gguf_writer_u32(t.w, "mtpsynth.version", 1);
    vocabulary(&t);
    tensor(&t, "token_embd.weight", 2, TOY_EMBD, TOY_VOCAB, 1);
    tensor(&t, "output.weight", 2, TOY_EMBD, TOY_VOCAB, 1);
    tensor(&t, "output_norm.weight", 1, TOY_EMBD, 1, 1);
    block(&t, 0, true);
    block(&t, 1, false);
    if (toy->mtp) {
        block(&t, 2, false);
        block_tensor(&t, 2, "nextn.eh_proj.weight", 2, 2 * TOY_EMBD, TOY_EMBD, 1);
        block_tensor(&t, 2, "nextn.enorm.weight", 1, TOY_EMBD, 1, 1);
        block_tensor(&t, 2, "nextn.hnorm.weight", 1, TOY_EMBD, 1, 1);
    }
    assert_true(gguf_writer_save(t.w, path));
    gguf_writer_free(t.w);
}
