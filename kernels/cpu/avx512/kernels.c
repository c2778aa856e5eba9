/* kernels.c - the table for processors with AVX-512 and VNNI: attention, digests and products with
 * packed weights of its own, the AVX2 variants for the rest. */
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx512/variants.h"

static const struct cpu_kernels table = {
    .name = "avx512",
    .dot = dot_avx2,
    .dot_packed = dot_packed_avx512,
    .codec = block_codec_avx2,
    .quantize = quantize_avx2,
    .embed = embed_avx2,
    .rms_norm = rms_norm_avx2,
    .add = add_avx2,
    .rope = rope_avx2,
    .kv_store = kv_store_avx2,
    .attention = attention_avx512,
    .conv = conv_avx2,
    .delta_net = delta_net_avx2,
    .delta_net_replay = delta_net_replay_avx2,
    .mul_silu = mul_silu_avx2,
    .route = route_avx2,
    .moe_combine = moe_combine_avx2,
    .argmax = argmax_avx2,
    .digest = digest_avx512,
};

const struct cpu_kernels *cpu_kernels_avx512(void)
{
    return &table;
}
