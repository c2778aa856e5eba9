/* mul_silu.c - a * silu(b), the middle of SwiGLU and the gate of a DeltaNet head: the definition. */
#include "kernels/cpu/kernels.h"
#include "kernels/fmath.h"

void mul_silu_scalar(const struct mul_silu_args *args, int64_t begin, int64_t end,
                     struct cpu_task *task)
{
    (void)task;
    for (int64_t r = begin; r < end; r++) {
        const float *a = args->a + (size_t)r * args->a_stride;
        const float *b = args->b + (size_t)r * args->b_stride;
        float *dst = args->dst + (size_t)r * args->dst_stride;
        for (size_t i = 0; i < args->n; i++)
            dst[i] = a[i] * mtp_siluf(b[i]);
    }
}
