/* digest.c - digests of rows: integers only. Ranges of a row add to the same sum, whose order plays no
 * part. */
#include "kernels/cpu/kernels.h"
#include "kernels/digest_mix.h"

void digest_scalar(const struct digest_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)task;
    for (size_t at = (size_t)begin; at < (size_t)end;) {
        size_t row = at / args->n, first = at % args->n;
        size_t left = (size_t)end - at, n = left < args->n - first ? left : args->n - first;
        const float *x = args->x + at;
        uint64_t sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += digest_mix(first + i, x[i]);
        __atomic_fetch_add(&args->dst[row], sum, __ATOMIC_RELAXED);
        at += n;
    }
}
