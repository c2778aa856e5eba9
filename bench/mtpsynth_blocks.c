/* mtpsynth_blocks.c - blocks of quantised weights, made as they are stored: random levels that lie
 * symmetric around 0, random sub-scales, and the scale that gives the standard deviation wanted.
 *
 * Signed types keep odd levels only (the low bit is set), types with minima subtract half of their
 * largest level (min = scale, dmin = half * d): the mean is 0 and no weight is.
 */
#include <math.h>

#include "kernels/blocks.h"
#include "mtpsynth.h"
#include "mtpsynth_random.h"

enum { Q8_0_LEVELS = 5461, Q6_K_LEVELS = 341, Q3_K_LEVELS = 5 }; /* mean squares of odd levels */

static const double q4_levels = (16.0 * 16.0 - 1.0) / 12.0, q5_levels = (32.0 * 32.0 - 1.0) / 12.0;
/* Mean squares of uniform whole sub-scales: 32..63, 64..127, 16..31. */
static const double scales_32 = 47.5 * 47.5 + 1023.0 / 12.0, scales_64 = 95.5 * 95.5 + 4095.0 / 12.0,
                    scales_16 = 23.5 * 23.5 + 255.0 / 12.0;

static void put_16(uint8_t *out, uint16_t value)
{
    out[0] = (uint8_t)value;
    out[1] = (uint8_t)(value >> 8);
}

/* Stores d as f16, at least the smallest there is; what was stored. */
static double put_scale(uint8_t *out, double d)
{
    uint16_t half = f32_to_f16((float)d);
    if (half == 0)
        half = 1;
    put_16(out, half);
    return (double)f16_to_f32(half);
}

/* A factor of 0.9 to 1.1, its mean square divided out: no two blocks need have one scale. */
static double jitter(uint64_t bits)
{
    return (0.9 + 0.2 * ((double)(bits & 255) + 0.5) / 256.0) / sqrt(1.0 + 1.0 / 300.0);
}

static void set_low_bits(uint8_t *bytes, size_t n_words, uint64_t pattern)
{
    for (size_t i = 0; i < n_words; i++) {
        uint64_t word;
        memcpy(&word, bytes + 8 * i, 8);
        word |= pattern;
        memcpy(bytes + 8 * i, &word, 8);
    }
}

static void make_q8_0(uint64_t key, double std, uint8_t *out)
{
    synth_fill(key, out + 2, 4);
    set_low_bits(out + 2, 4, 0x0101010101010101u);
    put_scale(out, std / sqrt(Q8_0_LEVELS) * jitter(synth_word(key, 4)));
}

static void make_q6_k(uint64_t key, double std, uint8_t *out)
{
    synth_fill(key, out, 26); /* 128 low, 64 high, 16 scales */
    set_low_bits(out, 16, 0x1111111111111111u);
    for (int j = 0; j < 16; j++)
        out[192 + j] = (uint8_t)(64 + (out[192 + j] & 63));
    put_scale(out + 208, std / sqrt(Q6_K_LEVELS * scales_64) * jitter(synth_word(key, 26)));
}

static void make_q3_k(uint64_t key, double std, uint8_t *out)
{
    synth_fill(key, out, 13); /* 32 high bits, 64 levels, 8 of 12 scales */
    set_low_bits(out + 32, 8, 0x5555555555555555u);
    memset(out + 104, 0xff, 4); /* the high bits of 48..63, stored 32 too large */
    put_scale(out + 108, std / sqrt(Q3_K_LEVELS * scales_16) * jitter(synth_word(key, 13)));
}

/* The 12 bytes of eight 6-bit scales and as many equal minima. */
static void pack_scales(const uint8_t scales[8], uint8_t *out)
{
    for (int j = 0; j < 4; j++) {
        uint8_t low = scales[j], high = scales[j + 4];
        out[j] = out[j + 4] = (uint8_t)(low | (high >> 4) << 6);
        out[j + 8] = (uint8_t)((high & 15) | (high & 15) << 4);
    }
}

static void put_centred(uint8_t *out, double d, double centre)
{
    put_scale(out + 2, centre * put_scale(out, d));
}

static void random_scales(uint64_t word, double std, double levels, double centre, uint8_t *out)
{
    uint8_t scales[8];
    for (int j = 0; j < 8; j++)
        scales[j] = (uint8_t)(32 + (word >> 5 * j & 31));
    pack_scales(scales, out + 4);
    put_centred(out, std / sqrt(levels * scales_32) * jitter(word >> 40), centre);
}

static void make_q4_k(uint64_t key, double std, uint8_t *out)
{
    synth_fill(key, out + 16, 16);
    random_scales(synth_word(key, 16), std, q4_levels, 7.5, out);
}

static void make_q5_k(uint64_t key, double std, uint8_t *out)
{
    synth_fill(key, out + 16, 20);
    random_scales(synth_word(key, 20), std, q5_levels, 15.5, out);
}

synth_block_fn *synth_block_of(uint32_t type)
{
    switch (type) {
    case MTP_TYPE_Q3_K:
        return make_q3_k;
    case MTP_TYPE_Q4_K:
        return make_q4_k;
    case MTP_TYPE_Q5_K:
        return make_q5_k;
    case MTP_TYPE_Q6_K:
        return make_q6_k;
    case MTP_TYPE_Q8_0:
        return make_q8_0;
    default:
        return NULL;
    }
}

/* ---- single weights ------------------------------------------------------------------------------ */

static void set_bits(uint8_t *byte, int shift, uint8_t mask, uint8_t value)
{
    *byte = (uint8_t)((*byte & ~(mask << shift)) | value << shift);
}

/* Level i of a block of Q4_K, or of Q5_K (high: its fifth bits, else NULL). */
static void set_level(uint8_t *levels, uint8_t *high, uint32_t i, uint8_t value)
{
    set_bits(levels + i / 64 * 32 + i % 32, (int)(i % 64 / 32 * 4), 15, value & 15);
    if (high != NULL)
        set_bits(high + i % 32, (int)(i / 32), 1, value >> 4);
}

static void set_q6_level(uint8_t *block, uint32_t i, int value)
{
    uint32_t half = i / 128, within = i % 128;
    uint8_t raw = (uint8_t)(value + 32);
    set_bits(block + half * 64 + within % 64, (int)(within / 64 * 4), 15, raw & 15);
    set_bits(block + 128 + half * 32 + i % 32, (int)(within / 32 * 2), 3, raw >> 4);
}

/* The largest scale and level give 1; beside it stand the smallest levels, around it the smallest
 * scale. */
static void diagonal_k(bool five_bits, uint64_t key, uint32_t at, uint8_t *out)
{
    uint8_t scales[8], *high = five_bits ? out + 16 : NULL, *levels = out + (five_bits ? 48 : 16);
    uint8_t largest = five_bits ? 31 : 15;
    synth_fill(key, out + 16, five_bits ? 20 : 16);
    for (uint32_t j = 0; j < 8; j++)
        scales[j] = j == at / 32 ? 63 : 1;
    pack_scales(scales, out + 4);
    put_centred(out, 1.0 / (63.0 * largest / 2.0), largest / 2.0);
    uint64_t signs = synth_word(key, 20);
    for (uint32_t i = 0; i < 32; i++)
        set_level(levels, high, at / 32 * 32 + i, (uint8_t)(largest / 2 + (signs >> i & 1)));
    set_level(levels, high, at, largest);
}

void synth_diagonal_block(uint32_t type, uint64_t key, uint32_t at, uint8_t *out)
{
    if (type != MTP_TYPE_Q8_0) {
        diagonal_k(type == MTP_TYPE_Q5_K, key, at, out);
        return;
    }
    put_scale(out, 1.0 / 127.0);
    uint64_t signs = synth_word(key, 4);
    for (uint32_t i = 0; i < 32; i++)
        out[2 + i] = (uint8_t)(signs >> i & 1 ? 1 : -1);
    out[2 + at] = 127;
}

void synth_topic_block(uint32_t type, const int8_t values[SYNTH_TOPIC_DIMS], double std, double gain,
                       uint8_t *out)
{
    if (type == MTP_TYPE_Q8_0) {
        put_scale(out, gain * std / sqrt(Q8_0_LEVELS));
        for (int j = 0; j < SYNTH_TOPIC_DIMS; j++) /* odd values up to 31 become odd ones up to 127 */
            out[2 + j] = (uint8_t)(values[j] * 4 + (values[j] > 0 ? 1 : -1));
        return;
    }
    enum { LARGEST = 127 };
    put_scale(out + 208, gain * std / (LARGEST * sqrt(Q6_K_LEVELS)));
    double others = LARGEST / (gain * sqrt(scales_64));
    for (int j = 0; j < 16; j++) {
        double scale = j < SYNTH_TOPIC_DIMS / 16 ? LARGEST : out[192 + j] * others + 0.5;
        out[192 + j] = (uint8_t)(scale < LARGEST ? scale : LARGEST);
    }
    for (uint32_t j = 0; j < SYNTH_TOPIC_DIMS; j++)
        set_q6_level(out, j, values[j]);
}
