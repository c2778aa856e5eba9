/* mtpsynth_presets.c - shapes of known models and small ones of the same structure; mixes of types. */
#include <string.h>

#include "mtpsynth.h"

static const struct synth_shape shapes[] = {
    {.name = "35b-a3b", .title = "Qwen3.6-35B-A3B", .arch = SYNTH_QWEN35MOE, .n_embd = 2048,
     .n_layers = 40, .n_mtp_layers = 1, .n_heads = 16, .n_kv_heads = 2, .head_dim = 256, .n_rot = 64,
     .n_experts = 256, .n_used = 8, .n_ff_expert = 512, .n_ff_shared = 512, .conv_taps = 4,
     .state_dim = 128, .n_k_heads = 16, .n_v_heads = 32, .interval = 4, .n_vocab = 248320,
     .n_ctx = 262144, .rope_base = 1e7f, .sections = {11, 11, 10, 0}},
    {.name = "27b", .title = "Qwen3.6-27B", .arch = SYNTH_QWEN35, .n_embd = 5120, .n_layers = 64,
     .n_mtp_layers = 1, .n_heads = 24, .n_kv_heads = 4, .head_dim = 256, .n_rot = 64, .n_ff = 17408,
     .conv_taps = 4, .state_dim = 128, .n_k_heads = 16, .n_v_heads = 48, .interval = 4,
     .n_vocab = 248320, .n_ctx = 262144, .rope_base = 1e7f, .sections = {11, 11, 10, 0}},
    {.name = "coder-30b", .title = "Qwen3-Coder-30B-A3B", .arch = SYNTH_QWEN3MOE, .n_embd = 2048,
     .n_layers = 48, .n_heads = 32, .n_kv_heads = 4, .head_dim = 128, .n_rot = 128, .n_ff = 6144,
     .n_experts = 128, .n_used = 8, .n_ff_expert = 768, .interval = 1, .n_vocab = 151936,
     .n_ctx = 262144, .rope_base = 1e7f},
    {.name = "tiny-moe", .title = "Qwen3.6-35B-A3B in small", .arch = SYNTH_QWEN35MOE, .n_embd = 512,
     .n_layers = 4, .n_mtp_layers = 1, .n_heads = 4, .n_kv_heads = 2, .head_dim = 128, .n_rot = 32,
     .n_experts = 16, .n_used = 2, .n_ff_expert = 256, .n_ff_shared = 256, .conv_taps = 4,
     .state_dim = 128, .n_k_heads = 2, .n_v_heads = 4, .interval = 4, .n_vocab = 4096, .n_ctx = 4096,
     .rope_base = 1e7f, .sections = {6, 5, 5, 0}},
    {.name = "tiny-dense", .title = "Qwen3.6-27B in small", .arch = SYNTH_QWEN35, .n_embd = 512,
     .n_layers = 4, .n_mtp_layers = 1, .n_heads = 4, .n_kv_heads = 2, .head_dim = 128, .n_rot = 32,
     .n_ff = 1024, .conv_taps = 4, .state_dim = 128, .n_k_heads = 2, .n_v_heads = 6, .interval = 4,
     .n_vocab = 4096, .n_ctx = 4096, .rope_base = 1e7f, .sections = {6, 5, 5, 0}},
    {.name = "tiny-coder", .title = "Qwen3-Coder-30B-A3B in small", .arch = SYNTH_QWEN3MOE,
     .n_embd = 512, .n_layers = 4, .n_heads = 4, .n_kv_heads = 2, .head_dim = 128, .n_rot = 128,
     .n_ff = 1024, .n_experts = 16, .n_used = 2, .n_ff_expert = 256, .interval = 1, .n_vocab = 4096,
     .n_ctx = 4096, .rope_base = 1e7f},
};

static const struct {
    const char *name;
    uint32_t file_type; /* llama.cpp's number of the mix */
} mixes[SYNTH_N_MIXES] = {
    [SYNTH_Q4_K_M] = {"Q4_K_M", 15},
    [SYNTH_Q5_K_M] = {"Q5_K_M", 17},
    [SYNTH_Q8_0] = {"Q8_0", 7},
    [SYNTH_Q3_K_Q8_0] = {"Q3_K+Q8_0", 12},
};

const struct synth_shape *synth_shape_at(size_t index)
{
    return index < sizeof shapes / sizeof *shapes ? &shapes[index] : NULL;
}

const struct synth_shape *synth_shape_named(const char *name)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    return NULL;
}

const char *synth_arch_name(enum synth_arch arch)
{
    static const char *const names[] = {"qwen35", "qwen35moe", "qwen3moe"};
    return names[arch];
}

bool synth_mix_named(const char *name, enum synth_mix *mix)
{
    for (int i = 0; i < SYNTH_N_MIXES; i++) {
        if (strcmp(mixes[i].name, name) == 0) {
            *mix = (enum synth_mix)i;
            return true;
        }
    }
    return false;
}

const char *synth_mix_name(enum synth_mix mix)
{
    return mixes[mix].name;
}

uint32_t synth_mix_file_type(enum synth_mix mix)
{
    return mixes[mix].file_type;
}

/* The layers where the _M mixes of llama.cpp spend more bits. */
static bool has_more_bits(uint32_t block, uint32_t n_blocks)
{
    return block < n_blocks / 8 || block >= 7 * n_blocks / 8 || (block - n_blocks / 8) % 3 == 2;
}

uint32_t synth_mix_type(enum synth_mix mix, enum synth_role role, uint32_t block, uint32_t n_blocks)
{
    bool ffn = role == ROLE_FFN || role == ROLE_EXPERT_DOWN;
    if (mix == SYNTH_Q8_0)
        return MTP_TYPE_Q8_0;
    if (mix == SYNTH_Q3_K_Q8_0)
        return ffn ? MTP_TYPE_Q3_K : MTP_TYPE_Q8_0;
    if (role == ROLE_TABLE)
        return MTP_TYPE_Q6_K;
    bool sensitive = role == ROLE_VALUE || role == ROLE_DOWN || role == ROLE_EXPERT_DOWN;
    if (sensitive && has_more_bits(block, n_blocks))
        return MTP_TYPE_Q6_K;
    return mix == SYNTH_Q4_K_M ? MTP_TYPE_Q4_K : MTP_TYPE_Q5_K;
}
