/* blocks.h - GGUF weight blocks in canonical integer form, and as floats.
 *
 * Every quantised type decodes to one of two forms; the dot product is then defined once per form
 * (docs/arithmetic.md) and no variant needs to know more about a format than its decoder. Products
 * and sums of the integers are exact, so any tiling of them gives the same bits.
 */
#ifndef MTP_KERNELS_BLOCKS_H
#define MTP_KERNELS_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "types.h"

enum { SUPER_BLOCK = 256, SUB_BLOCK = 32 };

/* weight[i] = d * scale[i / 16] * q[i] - dmin * min[i / 16]
 * Ranges, which keep every int32 sum of docs/arithmetic.md exact: |q| <= 127 (Q6_K: -32..31),
 * |scale| <= 128, 0 <= min <= 63, and sum over the block of |scale*q| * 15 * 127 < 2^31. d and dmin
 * come from the file and may be anything, infinities and NaN included. */
struct kblock {
    int8_t q[SUPER_BLOCK] __attribute__((aligned(32)));
    int16_t scale[16];
    int16_t min[16]; /* zeros for types without minima */
    float d, dmin;   /* exactly representable products of the file's f16 and a power of two */
};

/* weight[i] = d[i / 32] * q[i] + m[i / 32]; blocks from n_sub on are absent (short last
 * super-block). q may be -128, though only in a Q8_0 block no known quantiser would write. */
struct sblock {
    int8_t q[SUPER_BLOCK] __attribute__((aligned(32)));
    float d[8];
    float m[8]; /* zeros for types without minima */
};

/* Decodes one super-block of a WEIGHT_K type. */
typedef void decode_k_fn(const void *block, struct kblock *out);
/* Decodes n_sub (1..8) blocks of 32 of a WEIGHT_S type; the absent q, d, m become 0. */
typedef void decode_s_fn(const void *blocks, uint32_t n_sub, struct sblock *out);

struct block_codec {
    decode_k_fn *decode_k; /* set iff WEIGHT_K */
    decode_s_fn *decode_s; /* set iff WEIGHT_S */
};

/* The scalar definition's codec of a quantised type (NULL for float types). */
const struct block_codec *block_codec_scalar(uint32_t type);
#ifdef MTP_HAVE_AVX2
/* The same results byte for byte, on a processor with AVX2 and F16C. */
const struct block_codec *block_codec_avx2(uint32_t type);
#endif

/* n weights of a row (n a multiple of the type's block) as float32, bit for bit what the gguf
 * package's dequantize gives. Works for every type except I32. */
void dequantize_row(uint32_t type, const void *row, float *out, size_t n);

/* IEEE half and bfloat16, exactly (subnormals and infinities included); NaN stays NaN, and
 * conversions from and to half make it quiet. */
float f16_to_f32(uint16_t half);
uint16_t f32_to_f16(float value); /* round to nearest even */
float bf16_to_f32(uint16_t bits);

#endif
