/* rms_norm.c - root-mean-square norm by AVX2. */
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

void rms_norm_avx2(const struct rms_norm_args *args, int64_t begin, int64_t end,
                   struct cpu_task *task)
{
    for (int64_t t = begin; t < end; t++) {
        size_t row = (size_t)t / args->n_groups, group = (size_t)t % args->n_groups;
        const float *src = args->src + row * args->src_stride + group * args->src_group_stride;
        float *dst = args->dst + row * args->dst_stride + group * args->dst_group_stride;
        float squares = v_sum64_squares(src, args->n);
        if (f32_not_finite(squares)) {
            cpu_report_fault(task->fault, "rms_norm", (int32_t)row);
            continue;
        }
        __m256 scale = _mm256_set1_ps(1.0f / sqrtf(squares / (float)args->n + args->eps));
        for (size_t i = 0; i < args->n; i += LANES) {
            size_t n = args->n - i;
            __m256 x = _mm256_mul_ps(load_lanes(src + i, n), scale);
            store_lanes(dst + i, _mm256_mul_ps(x, load_lanes(args->w + i, n)), n);
        }
    }
}
