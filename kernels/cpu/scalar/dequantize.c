/* dequantize.c - rows of weights as floats. d * scale and its product with q are exact in float32,
 * so the one rounding, of the sum with a minimum, is the file format's own. */
#include "kernels/cpu/block_read.h"
#include "kernels/cpu/scalar/decode.h"

static const struct block_codec codecs[MTP_TYPE_LIMIT] = {
    [MTP_TYPE_Q4_0] = {NULL, decode_q4_0_scalar},
    [MTP_TYPE_Q4_1] = {NULL, decode_q4_1_scalar},
    [MTP_TYPE_Q5_0] = {NULL, decode_q5_0_scalar},
    [MTP_TYPE_Q5_1] = {NULL, decode_q5_1_scalar},
    [MTP_TYPE_Q8_0] = {NULL, decode_q8_0_scalar},
    [MTP_TYPE_IQ4_NL] = {NULL, decode_iq4_nl_scalar},
    [MTP_TYPE_MXFP4] = {NULL, decode_mxfp4_scalar},
    [MTP_TYPE_Q2_K] = {decode_q2_k_scalar, NULL},
    [MTP_TYPE_Q3_K] = {decode_q3_k_scalar, NULL},
    [MTP_TYPE_Q4_K] = {decode_q4_k_scalar, NULL},
    [MTP_TYPE_Q5_K] = {decode_q5_k_scalar, NULL},
    [MTP_TYPE_Q6_K] = {decode_q6_k_scalar, NULL},
    [MTP_TYPE_IQ4_XS] = {decode_iq4_xs_scalar, NULL},
    [MTP_TYPE_IQ2_XXS] = {decode_iq2_xxs_scalar, NULL},
    [MTP_TYPE_IQ2_XS] = {decode_iq2_xs_scalar, NULL},
    [MTP_TYPE_IQ2_S] = {decode_iq2_s_scalar, NULL},
    [MTP_TYPE_IQ3_XXS] = {decode_iq3_xxs_scalar, NULL},
    [MTP_TYPE_IQ3_S] = {decode_iq3_s_scalar, NULL},
};

const struct block_codec *block_codec_scalar(uint32_t type)
{
    const struct type_info *info = type_info(type);
    if (info == NULL || (info->weight_class != WEIGHT_K && info->weight_class != WEIGHT_S))
        return NULL;
    return &codecs[type];
}

static void float_row(uint32_t type, const uint8_t *row, float *out, size_t n)
{
    switch (type) {
    case MTP_TYPE_F32:
        memcpy(out, row, n * sizeof *out);
        break;
    case MTP_TYPE_F16:
        for (size_t i = 0; i < n; i++)
            out[i] = read_f16(row + 2 * i);
        break;
    case MTP_TYPE_BF16:
        for (size_t i = 0; i < n; i++)
            out[i] = bf16_to_f32(read_u16(row + 2 * i));
        break;
    default:
        break;
    }
}

static void k_row(const struct type_info *info, decode_k_fn *decode, const uint8_t *row,
                  float *out, size_t n)
{
    struct kblock block;
    for (size_t first = 0; first < n; first += SUPER_BLOCK, row += info->block_bytes) {
        decode(row, &block);
        for (size_t i = 0; i < SUPER_BLOCK; i++) {
            float product = block.d * (float)block.scale[i / 16] * (float)block.q[i];
            float minimum = block.dmin * (float)block.min[i / 16];
            out[first + i] = info->has_min ? product - minimum : product;
        }
    }
}

static void s_row(const struct type_info *info, decode_s_fn *decode, const uint8_t *row,
                  float *out, size_t n)
{
    struct sblock block;
    for (size_t first = 0; first < n; first += SUPER_BLOCK, row += 8 * info->block_bytes) {
        size_t count = n - first < SUPER_BLOCK ? n - first : SUPER_BLOCK;
        decode(row, (uint32_t)(count / SUB_BLOCK), &block);
        for (size_t i = 0; i < count; i++) {
            float product = block.d[i / SUB_BLOCK] * (float)block.q[i];
            /* Adding a zero where there is no minimum would turn -0 into +0. */
            out[first + i] = info->has_min ? product + block.m[i / SUB_BLOCK] : product;
        }
    }
}

void dequantize_row(uint32_t type, const void *row, float *out, size_t n)
{
    const struct type_info *info = type_info(type);
    const struct block_codec *codec = block_codec_scalar(type);
    if (codec == NULL)
        float_row(type, row, out, n);
    else if (codec->decode_k != NULL)
        k_row(info, codec->decode_k, row, out, n);
    else
        s_row(info, codec->decode_s, row, out, n);
}
