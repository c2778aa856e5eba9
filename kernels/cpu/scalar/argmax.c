/* argmax.c - index of the largest element of each row: the definition. */
#include "kernels/cpu/kernels.h"
#include "kernels/fmath.h"

void argmax_scalar(const struct argmax_args *args, int64_t begin, int64_t end,
                   struct cpu_task *task)
{
    for (int64_t r = begin; r < end; r++) {
        const float *x = args->x + (size_t)r * args->n;
        size_t best = 0;
        for (size_t i = 0; i < args->n; i++) {
            if (f32_not_finite(x[i]))
                cpu_report_fault(task->fault, "argmax", (int32_t)r);
            if (x[i] > x[best])
                best = i;
        }
        args->dst[r] = (int32_t)best;
    }
}
