/* product_cases.h - products and their right answers, for the tests of the CUDA kernels: made by the
 * CPU's definition or, for large ones, by its fastest variant, which equals it (test_variants.c).
 *
 * A NaN equals any NaN: processors differ in the bits of the NaN that infinity - infinity makes, so the
 * definition cannot give them. */
#ifndef MTP_TESTS_GPU_PRODUCT_CASES_H
#define MTP_TESTS_GPU_PRODUCT_CASES_H

#include "kernels/cuda/headers.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the weights and activations are made of. */
enum case_fill {
    FILL_RANDOM,   /* any quants and scales of ordinary size; activations quantised from floats */
    FILL_SPECIAL,  /* the largest halves, subnormals, zeros of both signs; activations at their bounds */
    FILL_INFINITE, /* infinities and NaN among the halves too */
    FILL_ONES, FILL_ZEROS, FILL_55, FILL_80, FILL_7F, /* every byte but the scales' alike */
    N_FILLS
};

struct product_case {
    struct weight w;
    const struct act_block *act; /* one of act and x */
    const float *x;
    int32_t n, n_inputs, pairs_per_input; /* n: rows of y */
    const int32_t *order, *start;         /* experts, or NULL */
    const int32_t *experts;               /* of the pairs; of every other case, NULL of the others */
    float *wanted;                        /* [n][y_stride], the gaps 0x5a bytes */
    size_t y_stride, y_bytes;
};

/* Memory at 64 bytes. A case is freed with free_case. */
void make_case(struct product_case *c, uint32_t type, uint32_t n_in, uint32_t n_out, int32_t n_rows,
               uint64_t seed, enum case_fill fill);
/* n_rows rows of n_used different experts each; where own_inputs is set each pair has its own row of x. */
void make_expert_case(struct product_case *c, uint32_t type, uint32_t n_in, uint32_t n_out,
                      uint32_t n_experts, int32_t n_rows, uint32_t n_used, bool own_inputs, uint64_t seed);
/* The right answers for other floats x, all rows of them. */
void answer_with(struct product_case *c, const float *x);
void free_case(struct product_case *c);

/* Whether y equals what is wanted, gaps between rows included; prints the first difference. */
bool report_difference(const struct product_case *c, const float *y, const char *how);

#ifdef __cplusplus
}
#endif

#endif
