/* decode_iq.c - the IQ types with super-blocks of 256.
 *
 * IQ2 and IQ3 weights are magnitudes from a grid with signs, times d * (1/2 + s) / 4 (IQ2_*),
 * d * (1/2 + s) / 2 (IQ3_XXS) or d * (1 + 2 s) (IQ3_S). The integer scale is 2 s + 1 in each and
 * the power of two goes into d, where it is exact. */
#include "kernels/cpu/block_read.h"
#include "kernels/cpu/scalar/decode.h"
#include "kernels/cpu/scalar/iq_tables.h"

static void finish(struct kblock *out, float d)
{
    out->d = d;
    out->dmin = 0.0f;
    memset(out->min, 0, sizeof out->min);
}

/* n weights: bytes of magnitudes, the first lowest, negative where the bit of signs is set. */
static void signed_weights(uint64_t magnitudes, uint32_t signs, int n, int8_t *q)
{
    for (int i = 0; i < n; i++) {
        int magnitude = (int)(magnitudes >> 8 * i & 255);
        q[i] = (int8_t)(signs >> i & 1 ? -magnitude : magnitude);
    }
}

static void scale_of_32(struct kblock *out, int sub, int scale)
{
    out->scale[2 * sub] = out->scale[2 * sub + 1] = (int16_t)scale;
}

/* Nibble number i, low nibbles first. */
static int nibble(const uint8_t *bytes, int i)
{
    return bytes[i / 2] >> i % 2 * 4 & 15;
}

void decode_iq4_xs_scalar(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    uint32_t scales_high = read_u16(bytes + 2);
    for (int sub = 0; sub < 8; sub++) {
        int high = (int)(scales_high >> 2 * sub & 3);
        scale_of_32(out, sub, (nibble(bytes + 4, sub) | high << 4) - 32);
        const uint8_t *qs = bytes + 8 + 16 * sub;
        int8_t *q = out->q + SUB_BLOCK * sub;
        for (int j = 0; j < 16; j++) {
            q[j] = iq4_values[qs[j] & 15];
            q[j + 16] = iq4_values[qs[j] >> 4];
        }
    }
    finish(out, read_f16(bytes));
}

void decode_iq2_xxs_scalar(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    for (int sub = 0; sub < 8; sub++) {
        const uint8_t *indices = bytes + 2 + 8 * sub;
        uint32_t signs_and_scale = read_u32(indices + 4);
        for (int k = 0; k < 4; k++)
            signed_weights(iq2xxs_grid[indices[k]], iq_signs(signs_and_scale >> 7 * k & 127), 8,
                           out->q + SUB_BLOCK * sub + 8 * k);
        scale_of_32(out, sub, 2 * (int)(signs_and_scale >> 28) + 1);
    }
    finish(out, read_f16(bytes) * 0.125f);
}

void decode_iq2_xs_scalar(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    for (int k = 0; k < 32; k++) {
        uint32_t code = read_u16(bytes + 2 + 2 * k);
        signed_weights(iq2xs_grid[code & 511], iq_signs(code >> 9), 8, out->q + 8 * k);
    }
    for (int j = 0; j < 16; j++)
        out->scale[j] = (int16_t)(2 * nibble(bytes + 66, j) + 1);
    finish(out, read_f16(bytes) * 0.125f);
}

void decode_iq2_s_scalar(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    const uint8_t *signs = bytes + 34;
    const uint8_t *high_bits = bytes + 66;
    for (int k = 0; k < 32; k++) {
        int index = bytes[2 + k] | (high_bits[k / 4] >> k % 4 * 2 & 3) << 8;
        signed_weights(iq2s_grid[index], signs[k], 8, out->q + 8 * k);
    }
    for (int j = 0; j < 16; j++)
        out->scale[j] = (int16_t)(2 * nibble(bytes + 74, j) + 1);
    finish(out, read_f16(bytes) * 0.125f);
}

void decode_iq3_xxs_scalar(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    for (int sub = 0; sub < 8; sub++) {
        const uint8_t *indices = bytes + 2 + 8 * sub;
        uint32_t signs_and_scale = read_u32(bytes + 66 + 4 * sub);
        for (int k = 0; k < 8; k++) {
            uint32_t signs = iq_signs(signs_and_scale >> k / 2 * 7 & 127) >> k % 2 * 4;
            signed_weights(iq3xxs_grid[indices[k]], signs, 4, out->q + SUB_BLOCK * sub + 4 * k);
        }
        scale_of_32(out, sub, 2 * (int)(signs_and_scale >> 28) + 1);
    }
    finish(out, read_f16(bytes) * 0.25f);
}

void decode_iq3_s_scalar(const void *block, struct kblock *out)
{
    const uint8_t *bytes = block;
    const uint8_t *high_bits = bytes + 66;
    const uint8_t *signs = bytes + 74;
    for (int k = 0; k < 64; k++) {
        int index = bytes[2 + k] | (high_bits[k / 8] >> k % 8 & 1) << 8;
        signed_weights(iq3s_grid[index], (uint32_t)signs[k / 2] >> k % 2 * 4, 4, out->q + 4 * k);
    }
    for (int sub = 0; sub < 8; sub++)
        scale_of_32(out, sub, 2 * nibble(bytes + 106, sub) + 1);
    finish(out, read_f16(bytes));
}
