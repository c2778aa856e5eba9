/* argmax.c - index of the largest element of each row, or of the largest score of a draw: the definition. */
#include "kernels/cpu/kernels.h"
#include "kernels/noise.h"

static float score_at(const struct argmax_args *args, int64_t r, size_t i)
{
    uint32_t words[4];
    noise_words(words, args->noise->seed, (uint64_t)(args->first[0] + args->offset + r), (uint32_t)(i / 4));
    return noise_score(args->x[(size_t)r * args->n + i], args->noise->temperature, words[i % 4]);
}

/* The draw of row r, whose largest element is that at `best`. */
static size_t draw(const struct argmax_args *args, int64_t r, size_t best)
{
    const float *x = args->x + (size_t)r * args->n;
    float least = noise_least(x[best], args->noise->min_p), highest = score_at(args, r, best);
    for (size_t i = 0; i < args->n; i++) {
        float score = x[i] >= least ? score_at(args, r, i) : -INFINITY;
        if (x[i] >= least && (score > highest || (score == highest && i < best))) {
            best = i;
            highest = score;
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
        args->dst[r] = (int32_t)(args->noise != NULL ? draw(args, r, best) : best);
    }
}
