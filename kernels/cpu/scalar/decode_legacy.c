/* decode_legacy.c - blocks of 32 with a float scale of their own. In all 4-bit layouts byte j holds
 * weight j in its low nibble and weight j + 16 in its high one. */
#include "kernels/cpu/block_read.h"
#include "kernels/cpu/scalar/decode.h"

const int8_t iq4_values[16] = {IQ4_VALUES};
const int8_t mxfp4_values[16] = {MXFP4_VALUES};

enum {
    Q4_0_BYTES = 18, Q4_1_BYTES = 20, Q5_0_BYTES = 22, Q5_1_BYTES = 24, Q8_0_BYTES = 34,
    IQ4_NL_BYTES = 18, MXFP4_BYTES = 17,
};

static void nibbles(const uint8_t *qs, int offset, int8_t *q)
{
    for (int j = 0; j < 16; j++) {
        q[j] = (int8_t)((qs[j] & 15) + offset);
        q[j + 16] = (int8_t)((qs[j] >> 4) + offset);
    }
}

/* As nibbles, with bit i of fifth as the fifth bit of weight i. */
static void nibbles_and_bit(const uint8_t *qs, uint32_t fifth, int offset, int8_t *q)
{
    nibbles(qs, offset, q);
    for (int i = 0; i < 32; i++)
        q[i] = (int8_t)(q[i] + (int)(fifth >> i & 1) * 16);
}

static void nibbles_of(const uint8_t *qs, const int8_t values[16], int8_t *q)
{
    for (int j = 0; j < 16; j++) {
        q[j] = values[qs[j] & 15];
        q[j + 16] = values[qs[j] >> 4];
    }
}

void decode_q4_0_scalar(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *block = blocks;
    for (uint32_t sub = 0; sub < n_sub; sub++, block += Q4_0_BYTES) {
        nibbles(block + 2, -8, out->q + sub * SUB_BLOCK);
        out->d[sub] = read_f16(block);
        out->m[sub] = 0.0f;
    }
    clear_absent(out, n_sub);
}

void decode_q4_1_scalar(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *block = blocks;
    for (uint32_t sub = 0; sub < n_sub; sub++, block += Q4_1_BYTES) {
        nibbles(block + 4, 0, out->q + sub * SUB_BLOCK);
        out->d[sub] = read_f16(block);
        out->m[sub] = read_f16(block + 2);
    }
    clear_absent(out, n_sub);
}

void decode_q5_0_scalar(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *block = blocks;
    for (uint32_t sub = 0; sub < n_sub; sub++, block += Q5_0_BYTES) {
        nibbles_and_bit(block + 6, read_u32(block + 2), -16, out->q + sub * SUB_BLOCK);
        out->d[sub] = read_f16(block);
        out->m[sub] = 0.0f;
    }
    clear_absent(out, n_sub);
}

void decode_q5_1_scalar(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *block = blocks;
    for (uint32_t sub = 0; sub < n_sub; sub++, block += Q5_1_BYTES) {
        nibbles_and_bit(block + 8, read_u32(block + 4), 0, out->q + sub * SUB_BLOCK);
        out->d[sub] = read_f16(block);
        out->m[sub] = read_f16(block + 2);
    }
    clear_absent(out, n_sub);
}

void decode_q8_0_scalar(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *block = blocks;
    for (uint32_t sub = 0; sub < n_sub; sub++, block += Q8_0_BYTES) {
        memcpy(out->q + sub * SUB_BLOCK, block + 2, SUB_BLOCK);
        out->d[sub] = read_f16(block);
        out->m[sub] = 0.0f;
    }
    clear_absent(out, n_sub);
}

void decode_iq4_nl_scalar(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *block = blocks;
    for (uint32_t sub = 0; sub < n_sub; sub++, block += IQ4_NL_BYTES) {
        nibbles_of(block + 2, iq4_values, out->q + sub * SUB_BLOCK);
        out->d[sub] = read_f16(block);
        out->m[sub] = 0.0f;
    }
    clear_absent(out, n_sub);
}

void decode_mxfp4_scalar(const void *blocks, uint32_t n_sub, struct sblock *out)
{
    const uint8_t *block = blocks;
    for (uint32_t sub = 0; sub < n_sub; sub++, block += MXFP4_BYTES) {
        nibbles_of(block + 1, mxfp4_values, out->q + sub * SUB_BLOCK);
        out->d[sub] = read_e8m0_half(block);
        out->m[sub] = 0.0f;
    }
    clear_absent(out, n_sub);
}
