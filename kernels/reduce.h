/* reduce.h - the two orders in which floats are summed (docs/arithmetic.md, "Order"). */
#ifndef MTP_KERNELS_REDUCE_H
#define MTP_KERNELS_REDUCE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

enum { SUM64 = 64, N_SEGMENTS = 8 };

/* Folds 64 partials by distance 32, 16, 8, 4, 2, 1; partials is overwritten. */
static inline float fold64(float *partials)
{
    for (int distance = SUM64 / 2; distance >= 1; distance /= 2)
        for (int i = 0; i < distance; i++)
            partials[i] += partials[i + distance];
    return partials[0];
}

static inline float sum64_dot(const float *a, const float *b, size_t n)
{
    float partials[SUM64] = {0};
    for (size_t i = 0; i < n; i++)
        partials[i % SUM64] = fmaf(a[i], b[i], partials[i % SUM64]);
    return fold64(partials);
}

static inline float sum64(const float *a, size_t n)
{
    float partials[SUM64] = {0};
    for (size_t i = 0; i < n; i++)
        partials[i % SUM64] += a[i];
    return fold64(partials);
}

/* Pairs of neighbours: ((0+1)+(2+3))+((4+5)+(6+7)). Folds segments, and the sub-block partials. */
static inline float fold8(const float *p)
{
    return ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7]));
}

/* First super-block of segment s when a row has n super-blocks. */
static inline size_t segment_start(size_t n, size_t s)
{
    return s * n / N_SEGMENTS;
}

#endif
