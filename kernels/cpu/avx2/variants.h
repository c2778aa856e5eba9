/* variants.h - the AVX2 variants, each equal to its scalar namesake bit for bit. */
#ifndef MTP_KERNELS_CPU_AVX2_VARIANTS_H
#define MTP_KERNELS_CPU_AVX2_VARIANTS_H

#include "kernels/cpu/kernels.h"

void dot_avx2(const struct dot_args *args);
void dot_packed_avx2(const struct dot_args *args);
void dot_packed_s_avx2(const struct dot_args *args);
void quantize_avx2(const struct quantize_args *, int64_t, int64_t, struct cpu_task *);
void rms_norm_avx2(const struct rms_norm_args *, int64_t, int64_t, struct cpu_task *);
void add_avx2(const struct add_args *, int64_t, int64_t, struct cpu_task *);
void rope_avx2(const struct rope_args *, int64_t, int64_t, struct cpu_task *);
void kv_store_avx2(const struct kv_store_args *, int64_t, int64_t, struct cpu_task *);
void attention_avx2(const struct attention_args *, int64_t, int64_t, struct cpu_task *);
void conv_avx2(const struct conv_args *, int64_t, int64_t, struct cpu_task *);
void delta_net_avx2(const struct delta_net_args *, int64_t, int64_t, struct cpu_task *);
void delta_net_replay_avx2(const struct delta_net_replay_args *, int64_t, int64_t,
                           struct cpu_task *);
void mul_silu_avx2(const struct mul_silu_args *, int64_t, int64_t, struct cpu_task *);
void route_avx2(const struct route_args *, int64_t, int64_t, struct cpu_task *);
void moe_combine_avx2(const struct moe_combine_args *, int64_t, int64_t, struct cpu_task *);
void embed_avx2(const struct embed_args *, int64_t, int64_t, struct cpu_task *);
void argmax_avx2(const struct argmax_args *, int64_t, int64_t, struct cpu_task *);
void digest_avx2(const struct digest_args *, int64_t, int64_t, struct cpu_task *);

#endif
