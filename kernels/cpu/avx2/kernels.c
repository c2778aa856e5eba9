/* kernels.c - the table of AVX2/FMA/F16C variants. */
#include "kernels/cpu/avx2/variants.h"

static const struct cpu_kernels table = {
    .name = "avx2",
    .dot = dot_avx2,
    .dot_packed = dot_packed_avx2,
    .codec = block_codec_avx2,
    .quantize = quantize_avx2,
    .embed = embed_avx2,
    .rms_norm = rms_norm_avx2,
    .add = add_avx2,
    .rope = rope_avx2,
    .kv_store = kv_store_avx2,
    .attention = attention_avx2,
    .conv = conv_avx2,
    .delta_net = delta_net_avx2,
    .delta_net_replay = delta_net_replay_avx2,
    .mul_silu = mul_silu_avx2,
    .route = route_avx2,
    .moe_combine = moe_combine_avx2,
    .argmax = argmax_avx2,
    .digest = digest_avx2,
};

const struct cpu_kernels *cpu_kernels_avx2(void)
{
    return &table;
}
