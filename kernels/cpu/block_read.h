/* block_read.h - fields of a weight block, which is packed and not aligned. */
#ifndef MTP_KERNELS_CPU_BLOCK_READ_H
#define MTP_KERNELS_CPU_BLOCK_READ_H

#include <string.h>

#include "kernels/blocks.h"

static inline uint16_t read_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static inline uint32_t read_u32(const uint8_t *at)
{
    return (uint32_t)read_u16(at) | (uint32_t)read_u16(at + 2) << 16;
}

static inline float read_f16(const uint8_t *at)
{
    return f16_to_f32(read_u16(at));
}

/* 2^(exponent - 128), the MXFP4 scale for doubled values; the two smallest are subnormal. */
static inline float read_e8m0_half(const uint8_t *at)
{
    uint32_t bits = *at < 2 ? (uint32_t)0x00200000 << *at : (uint32_t)(*at - 1) << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Zeros for the sub-blocks a short super-block lacks. */
static inline void clear_absent(struct sblock *out, uint32_t n_sub)
{
    memset(out->q + n_sub * SUB_BLOCK, 0, (8 - n_sub) * SUB_BLOCK);
    for (uint32_t sub = n_sub; sub < 8; sub++) {
        out->d[sub] = 0.0f;
        out->m[sub] = 0.0f;
    }
}

#endif
