/* float16.c - conversions of 16-bit floats, see kernels/float16.h. */
#include "kernels/float16.h"

#include "kernels/blocks.h"

float f16_to_f32(uint16_t half)
{
    return float_of_half(half);
}

uint16_t f32_to_f16(float value)
{
    return half_of_float(value);
}

float bf16_to_f32(uint16_t bits)
{
    return float_of_bfloat(bits);
}
