#include "types.h"

#include <stddef.h>

#define FLOAT_TYPE(type, bytes) {type, 1, bytes, WEIGHT_FLOAT, false}
#define S_TYPE(type, bytes, min) {type, 32, bytes, WEIGHT_S, min}
#define K_TYPE(type, bytes, min) {type, 256, bytes, WEIGHT_K, min}

static const struct type_info types[MTP_TYPE_LIMIT] = {
    [MTP_TYPE_F32] = FLOAT_TYPE("F32", 4),
    [MTP_TYPE_F16] = FLOAT_TYPE("F16", 2),
    [MTP_TYPE_BF16] = FLOAT_TYPE("BF16", 2),
    [MTP_TYPE_I32] = {"I32", 1, 4, WEIGHT_NONE, false},
    [MTP_TYPE_Q8_0] = S_TYPE("Q8_0", 34, false),
    [MTP_TYPE_Q4_0] = S_TYPE("Q4_0", 18, false),
    [MTP_TYPE_Q4_1] = S_TYPE("Q4_1", 20, true),
    [MTP_TYPE_Q5_0] = S_TYPE("Q5_0", 22, false),
    [MTP_TYPE_Q5_1] = S_TYPE("Q5_1", 24, true),
    [MTP_TYPE_IQ4_NL] = S_TYPE("IQ4_NL", 18, false),
    [MTP_TYPE_MXFP4] = S_TYPE("MXFP4", 17, false),
    [MTP_TYPE_Q2_K] = K_TYPE("Q2_K", 84, true),
    [MTP_TYPE_Q3_K] = K_TYPE("Q3_K", 110, false),
    [MTP_TYPE_Q4_K] = K_TYPE("Q4_K", 144, true),
    [MTP_TYPE_Q5_K] = K_TYPE("Q5_K", 176, true),
    [MTP_TYPE_Q6_K] = K_TYPE("Q6_K", 210, false),
    [MTP_TYPE_IQ4_XS] = K_TYPE("IQ4_XS", 136, false),
    [MTP_TYPE_IQ2_XXS] = K_TYPE("IQ2_XXS", 66, false),
    [MTP_TYPE_IQ2_XS] = K_TYPE("IQ2_XS", 74, false),
    [MTP_TYPE_IQ2_S] = K_TYPE("IQ2_S", 82, false),
    [MTP_TYPE_IQ3_XXS] = K_TYPE("IQ3_XXS", 98, false),
    [MTP_TYPE_IQ3_S] = K_TYPE("IQ3_S", 110, false),
};

/* Ids given out and ones withdrawn since; a file may carry any of them. */
static const char *const names[] = {
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K",
    "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
    "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16", "Q4_0_4_4", "Q4_0_4_8",
    "Q4_0_8_8", "TQ1_0", "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4", "NVFP4",
    "Q1_0", "Q2_0",
};

const struct type_info *type_info(uint32_t type)
{
    if (type >= MTP_TYPE_LIMIT || types[type].name == NULL)
        return NULL;
    return &types[type];
}

const char *type_name_any(uint32_t type)
{
    return type < sizeof names / sizeof *names ? names[type] : NULL;
}

const char *type_supported_list(void)
{
    return "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, "
           "IQ4_XS, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, MXFP4";
}
