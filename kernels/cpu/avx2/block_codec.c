#include "kernels/cpu/avx2/decode.h"

static const struct block_codec codecs[MTP_TYPE_LIMIT] = {
    [MTP_TYPE_Q4_0] = {NULL, decode_q4_0_avx2},
    [MTP_TYPE_Q4_1] = {NULL, decode_q4_1_avx2},
    [MTP_TYPE_Q5_0] = {NULL, decode_q5_0_avx2},
    [MTP_TYPE_Q5_1] = {NULL, decode_q5_1_avx2},
    [MTP_TYPE_Q8_0] = {NULL, decode_q8_0_avx2},
    [MTP_TYPE_IQ4_NL] = {NULL, decode_iq4_nl_avx2},
    [MTP_TYPE_MXFP4] = {NULL, decode_mxfp4_avx2},
    [MTP_TYPE_Q2_K] = {decode_q2_k_avx2, NULL},
    [MTP_TYPE_Q3_K] = {decode_q3_k_avx2, NULL},
    [MTP_TYPE_Q4_K] = {decode_q4_k_avx2, NULL},
    [MTP_TYPE_Q5_K] = {decode_q5_k_avx2, NULL},
    [MTP_TYPE_Q6_K] = {decode_q6_k_avx2, NULL},
    [MTP_TYPE_IQ4_XS] = {decode_iq4_xs_avx2, NULL},
    [MTP_TYPE_IQ2_XXS] = {decode_iq2_xxs_avx2, NULL},
    [MTP_TYPE_IQ2_XS] = {decode_iq2_xs_avx2, NULL},
    [MTP_TYPE_IQ2_S] = {decode_iq2_s_avx2, NULL},
    [MTP_TYPE_IQ3_XXS] = {decode_iq3_xxs_avx2, NULL},
    [MTP_TYPE_IQ3_S] = {decode_iq3_s_avx2, NULL},
};

const struct block_codec *block_codec_avx2(uint32_t type)
{
    return block_codec_scalar(type) != NULL ? &codecs[type] : NULL;
}
