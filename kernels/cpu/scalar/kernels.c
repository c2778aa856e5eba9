/* kernels.c - the table of scalar definitions. */
#include "kernels/cpu/kernels.h"

static const struct cpu_kernels table = {
    .name = "scalar",
    .dot = dot_scalar,
    .codec = block_codec_scalar,
    .quantize = quantize_scalar,
    .embed = embed_scalar,
    .rms_norm = rms_norm_scalar,
    .add = add_scalar,
    .rope = rope_scalar,
    .kv_store = kv_store_scalar,
    .attention = attention_scalar,
    .conv = conv_scalar,
    .delta_net = delta_net_scalar,
    .delta_net_replay = delta_net_replay_scalar,
    .mul_silu = mul_silu_scalar,
    .route = route_scalar,
    .moe_combine = moe_combine_scalar,
    .argmax = argmax_scalar,
    .digest = digest_scalar,
};

const struct cpu_kernels *cpu_kernels_scalar(void)
{
    return &table;
}
