/* variants.h - the AVX-512 VNNI variants, each equal to its scalar namesake bit for bit. */
#ifndef MTP_KERNELS_CPU_AVX512_VARIANTS_H
#define MTP_KERNELS_CPU_AVX512_VARIANTS_H

#include "kernels/cpu/kernels.h"

void dot_packed_avx512(const struct dot_args *args);
void dot_packed_s_avx512(const struct dot_args *args);
void attention_avx512(const struct attention_args *, int64_t, int64_t, struct cpu_task *);
void digest_avx512(const struct digest_args *, int64_t, int64_t, struct cpu_task *);

#endif
