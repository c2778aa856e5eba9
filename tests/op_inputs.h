/* op_inputs.h - what tests of the operations share: backends, random weights, quantised rows. */
#ifndef MTP_TESTS_OP_INPUTS_H
#define MTP_TESTS_OP_INPUTS_H

#include "kernels/cpu/backend.h"
#include "tests/numbers.h"

/* The types usable as matrices, in the order of their ids. */
enum { N_WEIGHT_TYPES = 21 };
extern const uint32_t weight_types[N_WEIGHT_TYPES];

/* Bytes of n weights (n a multiple of the type's block). */
size_t weight_bytes(uint32_t type, size_t n);

/* A random matrix: any bits for quants and sub-scales, small finite float scales. Freed with
 * free((void *)w.data). */
struct weight random_weight(struct numbers *numbers, uint32_t type, uint32_t n_in, uint32_t n_out,
                            uint32_t n_experts);

/* n_rows * act_blocks(n) super-blocks; freed with free. Uses the scalar definition. */
struct act_block *quantised(const float *x, size_t n, int32_t n_rows);

/* malloc that fails the test, zeroed. */
void *need(size_t bytes);
float *random_floats(struct numbers *numbers, size_t n);

/* Lowest multiple of the type's block that is at least n. */
uint32_t whole_blocks(uint32_t type, uint32_t n);

#endif
