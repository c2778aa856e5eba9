/* decode_k.c - the K types: super-blocks of 256 with integer scales (and minima) a sub-block. */
#include "kernels/cpu/block_read.h"
#include "kernels/cpu/scalar/decode.h"

static void no_minima(struct kblock *out)
{
    memset(out->min, 0, sizeof out->min);
    out->dmin = 0.0f;
}

void decode_q2_k_scalar(const void *block, struct kblock *out)
{
    const uint8_t *scales = block;
    const uint8_t *qs = scales + 16;
    for (int i = 0; i < SUPER_BLOCK; i++)
        out->q[i] = (int8_t)(qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3);
    for (int j = 0; j < 16; j++) {
        out->scale[j] = scales[j] & 15;
        out->min[j] = scales[j] >> 4;
    }
    out->d = read_f16(scales + 80);
    out->dmin = read_f16(scales + 82);
}

void decode_q3_k_scalar(const void *block, struct kblock *out)
{
    const uint8_t *high_bits = block;
    const uint8_t *qs = high_bits + 32;
    const uint8_t *scales = high_bits + 96;
    for (int i = 0; i < SUPER_BLOCK; i++) {
        int low = qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
        int high = high_bits[i % 32] >> i / 32 & 1;
        out->q[i] = (int8_t)(low - (high ? 0 : 4));
    }
    for (int j = 0; j < 16; j++) {
        int low = scales[j % 8] >> j / 8 * 4 & 15;
        int high = scales[8 + j % 4] >> j / 4 * 2 & 3;
        out->scale[j] = (int16_t)((low | high << 4) - 32);
    }
    out->d = read_f16(high_bits + 108);
    no_minima(out);
}

/* The 12 bytes of Q4_K and Q5_K: eight 6-bit scales and eight 6-bit minima, one of each per 32. */
static void scales_and_minima(const uint8_t *packed, struct kblock *out)
{
    for (int j = 0; j < 8; j++) {
        int scale, min;
        if (j < 4) {
            scale = packed[j] & 63;
            min = packed[j + 4] & 63;
        } else {
            scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
            min = packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
        }
        out->scale[2 * j] = out->scale[2 * j + 1] = (int16_t)scale;
        out->min[2 * j] = out->min[2 * j + 1] = (int16_t)min;
    }
}

/* Each 32 bytes hold 64 weights: the low nibbles are the first 32. */
static int nibble_of_64(const uint8_t *qs, int i)
{
    return qs[i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15;
}

void decode_q4_k_scalar(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    for (int i = 0; i < SUPER_BLOCK; i++)
        out->q[i] = (int8_t)nibble_of_64(bytes + 16, i);
    scales_and_minima(bytes + 4, out);
    out->d = read_f16(bytes);
    out->dmin = read_f16(bytes + 2);
}

void decode_q5_k_scalar(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    const uint8_t *high_bits = bytes + 16;
    for (int i = 0; i < SUPER_BLOCK; i++) {
        int high = high_bits[i % 32] >> i / 32 & 1;
        out->q[i] = (int8_t)(nibble_of_64(bytes + 48, i) | high << 4);
    }
    scales_and_minima(bytes + 4, out);
    out->d = read_f16(bytes);
    out->dmin = read_f16(bytes + 2);
}

void decode_q6_k_scalar(const void *block, struct kblock *out)
{
    const uint8_t *low_bits = block;
    const uint8_t *high_bits = low_bits + 128;
    const uint8_t *scales = low_bits + 192;
    for (int i = 0; i < SUPER_BLOCK; i++) {
        int half = i / 128, in_half = i % 128;
        int low = low_bits[half * 64 + in_half % 64] >> in_half / 64 * 4 & 15;
        int high = high_bits[half * 32 + i % 32] >> in_half / 32 * 2 & 3;
        out->q[i] = (int8_t)((low | high << 4) - 32);
    }
    for (int j = 0; j < 16; j++)
        out->scale[j] = (int8_t)scales[j];
    out->d = read_f16(low_bits + 208);
    no_minima(out);
}
