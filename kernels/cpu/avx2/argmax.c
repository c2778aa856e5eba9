/* argmax.c - index of the largest element of each row by AVX2: the largest of every block of the row,
 * then its place in the first block that has it. */
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

enum { BLOCK = 512, TOGETHER = 4 * LANES };

/* The largest element; the largest magnitude's bits are joined to *magnitudes. */
static float largest_of(const float *x, size_t n, __m256i *magnitudes)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    const __m256 first = _mm256_set1_ps(x[0]);
    __m256 most[4] = {first, first, first, first};
    __m256i bits[4] = {*magnitudes, *magnitudes, *magnitudes, *magnitudes};
    size_t i = 0;
    for (; i + TOGETHER <= n; i += TOGETHER)
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) {
            __m256 value = _mm256_loadu_ps(x + i + LANES * g);
            most[g] = _mm256_max_ps(most[g], value);
            bits[g] = _mm256_max_epi32(bits[g],
                                       _mm256_and_si256(_mm256_castps_si256(value), magnitude));
        }
    for (; i < n; i += LANES) { /* lanes past the end repeat x[0] */
        __m256 mask = _mm256_castsi256_ps(lane_mask(n - i));
        __m256 value = _mm256_blendv_ps(first, load_lanes(x + i, n - i), mask);
        most[0] = _mm256_max_ps(most[0], value);
        bits[0] = _mm256_max_epi32(bits[0], _mm256_and_si256(_mm256_castps_si256(value), magnitude));
    }
    *magnitudes = _mm256_max_epi32(_mm256_max_epi32(bits[0], bits[1]),
                                   _mm256_max_epi32(bits[2], bits[3]));
    return v_largest_lane(_mm256_max_ps(_mm256_max_ps(most[0], most[1]),
                                        _mm256_max_ps(most[2], most[3])));
}

static bool all_finite(__m256i magnitudes)
{
    const __m256i most_finite = _mm256_set1_epi32(0x7f7fffff);
    __m256i bad = _mm256_cmpgt_epi32(magnitudes, most_finite);
    return _mm256_testz_si256(bad, bad);
}

/* The first of n elements that equals `value`, which is among them; -0 equals 0. */
static size_t place_of(const float *x, size_t n, float value)
{
    const __m256 wanted = _mm256_set1_ps(value);
    for (size_t i = 0; i < n; i += LANES) {
        __m256 same = _mm256_cmp_ps(load_lanes(x + i, n - i), wanted, _CMP_EQ_OQ);
        same = _mm256_and_ps(same, _mm256_castsi256_ps(lane_mask(n - i)));
        int found = _mm256_movemask_ps(same);
        if (found != 0)
            return i + (size_t)__builtin_ctz((unsigned)found);
    }
    return 0;
}

void argmax_avx2(const struct argmax_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    for (int64_t r = begin; r < end; r++) {
        const float *x = args->x + (size_t)r * args->n;
        __m256i magnitudes = _mm256_setzero_si256();
        size_t best = 0;
        float most = -INFINITY;
        for (size_t i = 0; i < args->n; i += BLOCK) {
            size_t n = args->n - i < BLOCK ? args->n - i : BLOCK;
            float largest = largest_of(x + i, n, &magnitudes);
            best = largest > most ? i : best;
            most = largest > most ? largest : most;
        }
        if (all_finite(magnitudes)) {
            size_t n = args->n - best < BLOCK ? args->n - best : BLOCK;
            args->dst[r] = (int32_t)(best + place_of(x + best, n, most));
        } else { /* reports the fault, and orders NaN as the definition does */
            argmax_scalar(args, r, r + 1, task);
        }
    }
}
