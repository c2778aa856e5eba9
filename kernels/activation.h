/* activation.h - a row of activations as int8 super-blocks (docs/arithmetic.md, "Activations").
 *
 * One float scale per 256 and an integer multiplier per 32 follow outlier channels nearly as well as
 * a float scale per 32 would (docs/activation-format.md), while every sum inside a super-block stays
 * an exact int32:
 *   x[i] ~ d * mul[i / 32] * q[i]
 */
#ifndef MTP_KERNELS_ACTIVATION_H
#define MTP_KERNELS_ACTIVATION_H

#include "blocks.h"

struct act_block {
    int8_t q[SUPER_BLOCK] __attribute__((aligned(64))); /* -127..127 */
    int16_t bsum[16];                   /* mul[i / 2] * sum of q over elements 16 i .. 16 i + 15 */
    uint8_t mul[8];                     /* 1..15 */
    float d;                            /* amax / 1905; 0 when amax < 2^-100 */
    uint8_t pad[20];
};

/* Super-blocks of a row of n elements; elements past n in the last one are 0. */
static inline size_t act_blocks(size_t n)
{
    return (n + SUPER_BLOCK - 1) / SUPER_BLOCK;
}

#endif
