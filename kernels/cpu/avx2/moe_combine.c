/* moe_combine.c - weighted sum of a row's experts by AVX2. */
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

void moe_combine_avx2(const struct moe_combine_args *args, int64_t begin, int64_t end,
                      struct cpu_task *task)
{
    (void)task;
    for (int64_t r = begin; r < end; r++) {
        const float *y = args->y + (size_t)r * args->n_used * args->n;
        const float *weights = args->weights + (size_t)r * args->n_used;
        const float *shared = args->shared;
        __m256 gate = _mm256_setzero_ps();
        if (shared != NULL) {
            shared += (size_t)r * args->n;
            gate = _mm256_set1_ps(mtp_sigmoidf(args->shared_gate[r]));
        }
        for (size_t i = 0; i < args->n; i += LANES) {
            size_t n = args->n - i;
            __m256 sum = _mm256_setzero_ps();
            for (size_t k = 0; k < args->n_used; k++)
                sum = _mm256_fmadd_ps(_mm256_set1_ps(weights[k]),
                                      load_lanes(y + k * args->n + i, n), sum);
            if (shared != NULL)
                sum = _mm256_fmadd_ps(gate, load_lanes(shared + i, n), sum);
            store_lanes(args->dst + (size_t)r * args->n + i, sum, n);
        }
    }
}
