/* mul_silu.c - a * silu(b) by AVX2. */
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

void mul_silu_avx2(const struct mul_silu_args *args, int64_t begin, int64_t end,
                   struct cpu_task *task)
{
    (void)task;
    for (int64_t r = begin; r < end; r++) {
        const float *a = args->a + (size_t)r * args->a_stride;
        const float *b = args->b + (size_t)r * args->b_stride;
        float *dst = args->dst + (size_t)r * args->dst_stride;
        for (size_t i = 0; i < args->n; i += LANES) {
            size_t n = args->n - i;
            __m256 gate = v_silu(load_lanes(b + i, n));
            store_lanes(dst + i, _mm256_mul_ps(load_lanes(a + i, n), gate), n);
        }
    }
}
