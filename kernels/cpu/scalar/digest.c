/* digest.c - digests of rows: integers only. */
#include "kernels/cpu/kernels.h"
#include "kernels/digest_mix.h"

void digest_ranges(const struct digest_args *args, int64_t begin, int64_t end,
                   uint64_t (*sum_of)(const float *x, size_t first, size_t n))
{
    for (size_t at = (size_t)begin; at < (size_t)end;) {
        size_t row = at / args->n, first = at % args->n;
        size_t left = (size_t)end - at, n = left < args->n - first ? left : args->n - first;
        __atomic_fetch_add(&args->dst[row], sum_of(args->x + at, first, n), __ATOMIC_RELAXED);
        at += n;
    }
}

static uint64_t sum_of(const float *x, size_t first, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += digest_mix(first + i, x[i]);
    return sum;
}

void digest_scalar(const struct digest_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)task;
    digest_ranges(args, begin, end, sum_of);
}
