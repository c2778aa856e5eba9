/* argmax.c - index of the largest element of each row, or of the largest score of a draw: the definition. */
#include "kernels/cpu/kernels.h"
#include "kernels/noise.h"

static size_t draw(const struct argmax_args *args, int64_t r)
{
    const float *x = args->x + (size_t)r * args->n;
    uint64_t position = (uint64_t)(args->first[0] + args->offset + r);
    uint32_t words[4];
    size_t best = 0;
    float best_score = 0.0f;
    for (size_t i = 0; i < args->n; i++) {
        if (i % 4 == 0)
            noise_words(words, args->noise->seed, position, (uint32_t)(i / 4));
        float score = noise_score(x[i], args->noise->temperature, words[i % 4]);
        if (i == 0 || score > best_score) {
            best = i;
            best_score = score;
        }
    }
    return best;
}

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
        if (argmax_draws(args))
            best = draw(args, r);
        args->dst[r] = (int32_t)best;
    }
}
