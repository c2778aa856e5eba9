/* types.h - tensor types of GGUF files: ids, names, block sizes.
 *
 * Source of ids and layouts: ggml's file format (ggml-common.h, ggml-quants.c of llama.cpp), see
 * docs/arithmetic.md.
 */
#ifndef MTP_KERNELS_TYPES_H
#define MTP_KERNELS_TYPES_H

#include <stdbool.h>
#include <stdint.h>

/* Every kernel source sees this header, so the guard stands here. */
#if defined(__FAST_MATH__) || defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "fast-math changes bits: build without it"
#endif

enum mtp_type {
    MTP_TYPE_F32 = 0, MTP_TYPE_F16 = 1, MTP_TYPE_Q4_0 = 2, MTP_TYPE_Q4_1 = 3, MTP_TYPE_Q5_0 = 6,
    MTP_TYPE_Q5_1 = 7, MTP_TYPE_Q8_0 = 8, MTP_TYPE_Q2_K = 10, MTP_TYPE_Q3_K = 11,
    MTP_TYPE_Q4_K = 12, MTP_TYPE_Q5_K = 13, MTP_TYPE_Q6_K = 14, MTP_TYPE_IQ2_XXS = 16,
    MTP_TYPE_IQ2_XS = 17, MTP_TYPE_IQ3_XXS = 18, MTP_TYPE_IQ4_NL = 20, MTP_TYPE_IQ3_S = 21,
    MTP_TYPE_IQ2_S = 22, MTP_TYPE_IQ4_XS = 23, MTP_TYPE_I32 = 26, MTP_TYPE_BF16 = 30,
    MTP_TYPE_MXFP4 = 39,
    MTP_TYPE_LIMIT = 40, /* ids are below this */
};

/* How a row of weights enters a dot product (docs/arithmetic.md, "Quantised weights"). */
enum weight_class {
    WEIGHT_FLOAT, /* F32, F16, BF16: widened, float32 activations */
    WEIGHT_K,     /* super-blocks of 256 with integer sub-scales: struct kblock */
    WEIGHT_S,     /* blocks of 32 with a float scale of their own: struct sblock */
    WEIGHT_NONE,  /* readable in a file, not usable as a matrix (I32) */
};

struct type_info {
    const char *name;        /* "Q4_K" */
    uint32_t block_elements; /* weights in one block: 1, 32 or 256 */
    uint32_t block_bytes;
    enum weight_class weight_class;
    bool has_min;            /* Q4_1, Q5_1, Q2_K, Q4_K, Q5_K */
};

#ifdef __cplusplus
extern "C" {
#endif

/* NULL for an id we cannot read. */
const struct type_info *type_info(uint32_t type);

/* Name of any id ggml has ever assigned ("IQ1_S"), "type 77" style text is the caller's business;
 * NULL when the id was never assigned. For messages about unsupported types. */
const char *type_name_any(uint32_t type);

/* Comma-separated names of the types usable as matrices, for messages. */
const char *type_supported_list(void);

#ifdef __cplusplus
}
#endif

#endif
