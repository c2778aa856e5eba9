/* float16.h - IEEE half in integer operations (one exact product for subnormals): the definition, for
 * processors and CUDA devices alike. */
#ifndef MTP_KERNELS_FLOAT16_H
#define MTP_KERNELS_FLOAT16_H

#include "fmath.h"

static inline MTP_HOST_DEVICE float float_of_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 31;
    uint32_t fraction = half & 1023;
    if (exponent == 31) {
        /* A conversion makes a signalling NaN quiet, as the processors' instructions do. */
        uint32_t quiet = fraction != 0 ? 0x00400000 : 0;
        return f32_from_bits(sign | 0x7f800000 | quiet | fraction << 13);
    }
    if (exponent == 0)
        return f32_from_bits(sign | f32_bits((float)fraction * 0x1p-24f));
    return f32_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

/* value >> shift rounded to nearest, ties to even; shift is 1..31. */
static inline MTP_HOST_DEVICE uint32_t shift_right_rounded(uint32_t value, uint32_t shift)
{
    uint32_t odd = value >> shift & 1;
    return (value + (1u << (shift - 1)) - 1 + odd) >> shift;
}

static inline MTP_HOST_DEVICE uint16_t half_of_float(float value)
{
    uint32_t bits = f32_bits(value);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    uint32_t half;
    if (magnitude > 0x7f800000)
        half = 0x7e00 | (magnitude >> 13 & 0x3ff);
    else if (magnitude >= 0x477ff000) /* 65520, half way past the largest half */
        half = 0x7c00;
    else if (magnitude >= 0x38800000) /* 2^-14, the smallest normal half */
        half = shift_right_rounded(magnitude - (112u << 23), 13);
    else if (magnitude >= 0x33000000) /* 2^-25, half the smallest subnormal */
        half = shift_right_rounded((magnitude & 0x7fffff) | 0x800000, 126 - (magnitude >> 23));
    else
        half = 0;
    return (uint16_t)(sign | half);
}

static inline MTP_HOST_DEVICE float float_of_bfloat(uint16_t bits)
{
    return f32_from_bits((uint32_t)bits << 16);
}

#endif
