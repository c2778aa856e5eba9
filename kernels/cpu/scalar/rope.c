/* rope.c - rotary position embedding: the definition, and its tables. */
#include "kernels/rope.h"

#include "kernels/cpu/kernels.h"
#include "kernels/fmath.h"
#include "kernels/fpcontrol.h"

void rope_frequencies(double *frequencies, uint32_t n_rot, double base)
{
    fp_control saved = fp_control_enter();
    double log_base = mtp_log(base);
    for (uint32_t i = 0; i < n_rot / 2; i++)
        frequencies[i] = mtp_exp(-(2.0 * (double)i / (double)n_rot) * log_base);
    fp_control_leave(saved);
}

void rope_table(float *cos_sin, const struct batch_row *rows, int32_t n_rows,
                const double *frequencies, uint32_t n_pairs)
{
    fp_control saved = fp_control_enter();
    for (int32_t r = 0; r < n_rows; r++) {
        float *cosines = cos_sin + (size_t)r * 2 * n_pairs;
        for (uint32_t i = 0; i < n_pairs; i++) {
            double sine, cosine;
            mtp_sincos((double)rows[r].position * frequencies[i], &sine, &cosine);
            cosines[i] = (float)cosine;
            cosines[n_pairs + i] = (float)sine;
        }
    }
    fp_control_leave(saved);
}

void rope_scalar(const struct rope_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)task;
    uint32_t n = args->n_pairs;
    for (int64_t t = begin; t < end; t++) {
        size_t row = (size_t)t / args->n_heads, head = (size_t)t % args->n_heads;
        float *x = args->x + row * args->stride + head * args->head_stride;
        const float *c = args->cos_sin + rope_row(args, row) * 2 * n, *s = c + n;
        for (uint32_t i = 0; i < n; i++) {
            float x0 = x[i], x1 = x[i + n];
            x[i] = fmaf(x0, c[i], -(x1 * s[i]));
            x[i + n] = fmaf(x0, s[i], x1 * c[i]);
        }
    }
}
