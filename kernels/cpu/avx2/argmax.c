/* argmax.c - index of the largest element of each row by AVX2. */
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

static bool all_finite(const float *x, size_t n)
{
    const __m256i exponent = _mm256_set1_epi32(0x7f800000);
    __m256i bad = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += LANES) {
        __m256i bits = _mm256_castps_si256(load_lanes(x + i, n - i));
        bits = _mm256_and_si256(bits, exponent);
        bad = _mm256_or_si256(bad, _mm256_cmpeq_epi32(bits, exponent));
    }
    return _mm256_testz_si256(bad, bad);
}

void argmax_avx2(const struct argmax_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    for (int64_t r = begin; r < end; r++) {
        const float *x = args->x + (size_t)r * args->n;
        if (all_finite(x, args->n))
            args->dst[r] = (int32_t)v_largest(x, args->n);
        else /* reports the fault, and orders NaN as the definition does */
            argmax_scalar(args, r, r + 1, task);
    }
}
