/* rms_norm.c - root-mean-square norm of rows or of groups inside rows: the definition. */
#include "kernels/cpu/kernels.h"
#include "kernels/fmath.h"
#include "kernels/reduce.h"

void rms_norm_scalar(const struct rms_norm_args *args, int64_t begin, int64_t end,
                     struct cpu_task *task)
{
    for (int64_t t = begin; t < end; t++) {
        size_t row = (size_t)t / args->n_groups, group = (size_t)t % args->n_groups;
        const float *src = args->src + row * args->src_stride + group * args->src_group_stride;
        float *dst = args->dst + row * args->dst_stride + group * args->dst_group_stride;
        float squares = sum64_dot(src, src, args->n);
        if (f32_not_finite(squares)) {
            cpu_report_fault(task->fault, "rms_norm", (int32_t)row);
            continue;
        }
        float scale = 1.0f / sqrtf(squares / (float)args->n + args->eps);
        for (size_t i = 0; i < args->n; i++)
            dst[i] = (src[i] * scale) * args->w[i];
    }
}
