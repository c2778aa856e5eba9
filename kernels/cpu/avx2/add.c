/* add.c - elementwise sum by AVX2. */
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

void add_avx2(const struct add_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)task;
    for (int64_t i = begin; i < end; i += LANES) {
        size_t n = (size_t)(end - i);
        __m256 sum = _mm256_add_ps(load_lanes(args->a + i, n), load_lanes(args->b + i, n));
        store_lanes(args->dst + i, sum, n);
    }
}
