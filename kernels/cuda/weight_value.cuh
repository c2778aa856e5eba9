/* weight_value.cuh - one weight of a row of any type as a float: what dequantize_row of kernels/blocks.h
 * gives at that place. Layouts as in kernels/cpu/scalar/decode_*.c. */
#ifndef MTP_KERNELS_CUDA_WEIGHT_VALUE_CUH
#define MTP_KERNELS_CUDA_WEIGHT_VALUE_CUH

#include "kernels/cuda/common.cuh"

#define IQ_TABLE static __device__ const
#include "kernels/cpu/scalar/iq_tables.c"
#include "kernels/cpu/scalar/decode.h"

static __device__ const int8_t device_iq4_values[16] = {IQ4_VALUES};
static __device__ const int8_t device_mxfp4_values[16] = {MXFP4_VALUES};

/* A weight before the multiplication: d * scale * q - dmin * min (K types), d * q + m (S types). */
struct weight_parts {
    float d, m; /* m: dmin of a K type */
    int scale, q, min;
};

static __device__ inline uint32_t bytes_16(const uint8_t *at)
{
    return (uint32_t)(at[0] | at[1] << 8);
}

static __device__ inline uint32_t bytes_32(const uint8_t *at)
{
    return bytes_16(at) | bytes_16(at + 2) << 16;
}

static __device__ inline float half_at(const uint8_t *at)
{
    return float_of_half((uint16_t)bytes_16(at));
}

static __device__ inline int nibble_at(const uint8_t *bytes, uint32_t i)
{
    return bytes[i / 2] >> i % 2 * 4 & 15;
}

/* ---- blocks of 32, weight i of the block --------------------------------------------------- */

/* Byte j holds weight j in its low nibble and weight j + 16 in its high one. */
static __device__ inline int nibble_of_32(const uint8_t *qs, uint32_t i)
{
    return qs[i % 16] >> i / 16 * 4 & 15;
}

static __device__ inline struct weight_parts s_parts(uint32_t type, const uint8_t *b, uint32_t i)
{
    switch (type) {
    case MTP_TYPE_Q4_0: return {half_at(b), 0.0f, 1, nibble_of_32(b + 2, i) - 8, 0};
    case MTP_TYPE_Q4_1: return {half_at(b), half_at(b + 2), 1, nibble_of_32(b + 4, i), 0};
    case MTP_TYPE_Q5_0: {
        int fifth = (int)(bytes_32(b + 2) >> i & 1);
        return {half_at(b), 0.0f, 1, nibble_of_32(b + 6, i) - 16 + fifth * 16, 0};
    }
    case MTP_TYPE_Q5_1: {
        int fifth = (int)(bytes_32(b + 4) >> i & 1);
        return {half_at(b), half_at(b + 2), 1, nibble_of_32(b + 8, i) + fifth * 16, 0};
    }
    case MTP_TYPE_Q8_0: return {half_at(b), 0.0f, 1, (int8_t)b[2 + i], 0};
    case MTP_TYPE_IQ4_NL:
        return {half_at(b), 0.0f, 1, device_iq4_values[nibble_of_32(b + 2, i)], 0};
    default: {
        /* MXFP4: 2^(exponent - 128), the scale of doubled values; the two smallest are subnormal */
        uint32_t bits = *b < 2 ? (uint32_t)0x00200000 << *b : (uint32_t)(*b - 1) << 23;
        return {f32_from_bits(bits), 0.0f, 1, device_mxfp4_values[nibble_of_32(b + 1, i)], 0};
    }
    }
}

/* ---- super-blocks of 256, weight i of the super-block -------------------------------------- */

static __device__ inline struct weight_parts q2_k_parts(const uint8_t *b, uint32_t i)
{
    int q = b[16 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
    return {half_at(b + 80), half_at(b + 82), b[i / 16] & 15, q, b[i / 16] >> 4};
}

static __device__ inline struct weight_parts q3_k_parts(const uint8_t *b, uint32_t i)
{
    const uint8_t *scales = b + 96;
    uint32_t j = i / 16;
    int low = b[32 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
    int high = b[i % 32] >> i / 32 & 1;
    int scale = (scales[j % 8] >> j / 8 * 4 & 15) | (scales[8 + j % 4] >> j / 4 * 2 & 3) << 4;
    return {half_at(b + 108), 0.0f, scale - 32, low - (high ? 0 : 4), 0};
}

/* Q4_K and Q5_K: the 12 bytes hold eight 6-bit scales and eight 6-bit minima; each 32 bytes of
 * nibbles hold 64 weights, the low nibbles the first 32. */
static __device__ inline struct weight_parts q45_k_parts(uint32_t type, const uint8_t *b, uint32_t i)
{
    const uint8_t *packed = b + 4, *qs = b + (type == MTP_TYPE_Q4_K ? 16 : 48);
    uint32_t j = i / 32;
    int q = qs[i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15;
    if (type == MTP_TYPE_Q5_K)
        q |= (b[16 + i % 32] >> i / 32 & 1) << 4;
    if (j < 4)
        return {half_at(b), half_at(b + 2), packed[j] & 63, q, packed[j + 4] & 63};
    int scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
    int min = packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
    return {half_at(b), half_at(b + 2), scale, q, min};
}

static __device__ inline struct weight_parts q6_k_parts(const uint8_t *b, uint32_t i)
{
    uint32_t half = i / 128, in_half = i % 128;
    int low = b[half * 64 + in_half % 64] >> in_half / 64 * 4 & 15;
    int high = b[128 + half * 32 + i % 32] >> in_half / 32 * 2 & 3;
    return {half_at(b + 208), 0.0f, (int8_t)b[192 + i / 16], (low | high << 4) - 32, 0};
}

/* Byte `at` of a grid's entry, negative where bit `at` of signs is set. */
static __device__ inline int signed_magnitude(uint64_t grid, uint32_t signs, uint32_t at)
{
    int magnitude = (int)(grid >> 8 * at & 255);
    return signs >> at & 1 ? -magnitude : magnitude;
}

static __device__ inline struct weight_parts iq4_xs_parts(const uint8_t *b, uint32_t i)
{
    uint32_t sub = i / 32;
    int high = (int)(bytes_16(b + 2) >> 2 * sub & 3);
    int scale = (nibble_at(b + 4, sub) | high << 4) - 32;
    int code = nibble_of_32(b + 8 + 16 * sub, i % 32);
    return {half_at(b), 0.0f, scale, device_iq4_values[code], 0};
}

static __device__ inline struct weight_parts iq2_parts(uint32_t type, const uint8_t *b, uint32_t i)
{
    uint32_t k = i / 8, sub = i / 32;
    float d = __fmul_rn(half_at(b), 0.125f);
    if (type == MTP_TYPE_IQ2_XXS) {
        uint32_t word = bytes_32(b + 2 + 8 * sub + 4);
        uint64_t grid = iq2xxs_grid[b[2 + 8 * sub + k % 4]];
        int q = signed_magnitude(grid, iq_signs(word >> 7 * (k % 4) & 127), i % 8);
        return {d, 0.0f, 2 * (int)(word >> 28) + 1, q, 0};
    }
    if (type == MTP_TYPE_IQ2_XS) {
        uint32_t code = bytes_16(b + 2 + 2 * k);
        int q = signed_magnitude(iq2xs_grid[code & 511], iq_signs(code >> 9), i % 8);
        return {d, 0.0f, 2 * nibble_at(b + 66, i / 16) + 1, q, 0};
    }
    int index = b[2 + k] | (b[66 + k / 4] >> k % 4 * 2 & 3) << 8;
    int q = signed_magnitude(iq2s_grid[index], b[34 + k], i % 8);
    return {d, 0.0f, 2 * nibble_at(b + 74, i / 16) + 1, q, 0};
}

static __device__ inline struct weight_parts iq3_parts(uint32_t type, const uint8_t *b, uint32_t i)
{
    uint32_t k = i / 4, sub = i / 32;
    if (type == MTP_TYPE_IQ3_XXS) {
        uint32_t word = bytes_32(b + 66 + 4 * sub);
        uint32_t signs = iq_signs(word >> k % 8 / 2 * 7 & 127) >> k % 2 * 4;
        int q = signed_magnitude(iq3xxs_grid[b[2 + k]], signs, i % 4);
        return {__fmul_rn(half_at(b), 0.25f), 0.0f, 2 * (int)(word >> 28) + 1, q, 0};
    }
    int index = b[2 + k] | (b[66 + k / 8] >> k % 8 & 1) << 8;
    int q = signed_magnitude(iq3s_grid[index], (uint32_t)b[74 + k / 2] >> k % 2 * 4, i % 4);
    return {half_at(b), 0.0f, 2 * nibble_at(b + 106, sub) + 1, q, 0};
}

static __device__ inline struct weight_parts k_parts(uint32_t type, const uint8_t *b, uint32_t i)
{
    switch (type) {
    case MTP_TYPE_Q2_K: return q2_k_parts(b, i);
    case MTP_TYPE_Q3_K: return q3_k_parts(b, i);
    case MTP_TYPE_Q4_K:
    case MTP_TYPE_Q5_K: return q45_k_parts(type, b, i);
    case MTP_TYPE_Q6_K: return q6_k_parts(b, i);
    case MTP_TYPE_IQ4_XS: return iq4_xs_parts(b, i);
    case MTP_TYPE_IQ3_XXS:
    case MTP_TYPE_IQ3_S: return iq3_parts(type, b, i);
    default: return iq2_parts(type, b, i);
    }
}

/* ---- rows ---------------------------------------------------------------------------------- */

/* The facts of a type that a device needs of struct type_info. */
struct device_type {
    uint32_t type;
    uint32_t block_elements, block_bytes;
    bool has_min;
};

/* Weight i of a row. */
static __device__ inline float weight_value(struct device_type type, const uint8_t *row, size_t i)
{
    switch (type.type) {
    case MTP_TYPE_F32: return f32_from_bits(bytes_32(row + 4 * i));
    case MTP_TYPE_F16: return half_at(row + 2 * i);
    case MTP_TYPE_BF16: return float_of_bfloat((uint16_t)bytes_16(row + 2 * i));
    default: break;
    }
    const uint8_t *block = row + i / type.block_elements * type.block_bytes;
    uint32_t at = (uint32_t)(i % type.block_elements);
    if (type.block_elements == SUPER_BLOCK) {
        struct weight_parts w = k_parts(type.type, block, at);
        float product = __fmul_rn(__fmul_rn(w.d, (float)w.scale), (float)w.q);
        return type.has_min ? __fsub_rn(product, __fmul_rn(w.m, (float)w.min)) : product;
    }
    struct weight_parts w = s_parts(type.type, block, at);
    float product = __fmul_rn(w.d, (float)w.q);
    /* Adding a zero where there is no minimum would turn -0 into +0. */
    return type.has_min ? __fadd_rn(product, w.m) : product;
}

#endif
