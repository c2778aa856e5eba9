/* route.c - the MoE router of each row by AVX2. */
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

/* Room for the logits and for the zeros that a last, part vector of them needs. */
enum { ROOM = MAX_EXPERTS + LANES };

static void softmax(const float *x, size_t n, float *p)
{
    __m256 most = _mm256_set1_ps(x[v_largest(x, n)]);
    __m256 partial[8];
    for (int g = 0; g < 8; g++)
        partial[g] = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += LANES) {
        __m256 e = v_exp(_mm256_sub_ps(load_lanes(x + i, n - i), most));
        e = _mm256_and_ps(e, _mm256_castsi256_ps(lane_mask(n - i)));
        size_t g = i % SUM64 / LANES;
        partial[g] = _mm256_add_ps(partial[g], e);
        _mm256_storeu_ps(p + i, e);
    }
    __m256 total = _mm256_set1_ps(v_fold64(partial));
    for (size_t i = 0; i < n; i += LANES)
        _mm256_storeu_ps(p + i, _mm256_div_ps(_mm256_loadu_ps(p + i), total));
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (f32_not_finite(x[i]))
            return false;
    return true;
}

void route_avx2(const struct route_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    size_t n = args->n_experts, used = args->n_used;
    for (int64_t r = begin; r < end; r++) {
        const float *logits = args->logits + (size_t)r * n;
        int32_t *experts = args->experts + (size_t)r * used;
        float *weights = args->weights + (size_t)r * used;
        float p[ROOM];
        if (!all_finite(logits, n)) { /* reports the fault, and orders NaN as it does */
            route_scalar(args, r, r + 1, task);
            continue;
        }
        softmax(logits, n, p);
        float total = 0.0f;
        for (size_t k = 0; k < used; k++) {
            size_t best = v_largest(p, n);
            experts[k] = (int32_t)best;
            weights[k] = p[best];
            total += p[best];
            p[best] = -1.0f;
        }
        total = total > 6.1e-5f ? total : 6.1e-5f;
        for (size_t k = 0; k < used; k++)
            weights[k] = weights[k] / total;
    }
}
