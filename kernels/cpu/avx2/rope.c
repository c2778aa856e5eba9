/* rope.c - rotary position embedding by AVX2. */
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

void rope_avx2(const struct rope_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)task;
    size_t pairs = args->n_pairs;
    for (int64_t t = begin; t < end; t++) {
        size_t row = (size_t)t / args->n_heads, head = (size_t)t % args->n_heads;
        float *x = args->x + row * args->stride + head * args->head_stride;
        const float *cosines = args->cos_sin + rope_row(args, row) * 2 * pairs, *sines = cosines + pairs;
        for (size_t i = 0; i < pairs; i += LANES) {
            size_t n = pairs - i;
            __m256 c = load_lanes(cosines + i, n), s = load_lanes(sines + i, n);
            __m256 x0 = load_lanes(x + i, n), x1 = load_lanes(x + pairs + i, n);
            /* fma(x0, c, -(x1 * s)): the product rounds before it is subtracted */
            __m256 first = _mm256_fmsub_ps(x0, c, _mm256_mul_ps(x1, s));
            __m256 second = _mm256_fmadd_ps(x0, s, _mm256_mul_ps(x1, c));
            store_lanes(x + i, first, n);
            store_lanes(x + pairs + i, second, n);
        }
    }
}
