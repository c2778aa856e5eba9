/* moe_combine.c - weighted sum of a row's experts in rank order, shared expert last: the definition. */
#include "kernels/cpu/kernels.h"
#include "kernels/fmath.h"

void moe_combine_scalar(const struct moe_combine_args *args, int64_t begin, int64_t end,
                        struct cpu_task *task)
{
    (void)task;
    for (int64_t r = begin; r < end; r++) {
        const float *y = args->y + (size_t)r * args->n_used * args->n;
        const float *weights = args->weights + (size_t)r * args->n_used;
        float *dst = args->dst + (size_t)r * args->n;
        float gate = args->shared != NULL ? mtp_sigmoidf(args->shared_gate[r]) : 0.0f;
        for (size_t i = 0; i < args->n; i++) {
            float sum = 0.0f;
            for (uint32_t k = 0; k < args->n_used; k++)
                sum = fmaf(weights[k], y[k * args->n + i], sum);
            if (args->shared != NULL)
                sum = fmaf(gate, args->shared[(size_t)r * args->n + i], sum);
            dst[i] = sum;
        }
    }
}
