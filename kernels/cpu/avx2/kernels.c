/* kernels.c - the table of AVX2/FMA/F16C variants. embed copies or decodes one row a token: the
 * definition serves. */
#include "kernels/cpu/avx2/variants.h"

static const struct cpu_kernels table = {
    .name = "avx2",
    .dot = dot_avx2,
    .quantize = quantize_scalar,
    .embed = embed_scalar,
    .rms_norm = rms_norm_scalar,
    .add = add_scalar,
    .rope = rope_scalar,
    .kv_store = kv_store_scalar,
    .attention = attention_scalar,
    .conv = conv_scalar,
    .delta_net = delta_net_scalar,
    .mul_silu = mul_silu_scalar,
    .route = route_scalar,
    .moe_combine = moe_combine_scalar,
    .argmax = argmax_scalar,
};

const struct cpu_kernels *cpu_kernels_avx2(void)
{
    return &table;
}
