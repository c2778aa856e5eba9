/* rope.h - tables of rotary position embedding, made on the host for every backend. */
#ifndef MTP_KERNELS_ROPE_H
#define MTP_KERNELS_ROPE_H

#include "ops.h"

/* frequencies[i] = base^(-2 i / n_rot) = exp(-(2 i / n_rot) * log(base)), i < n_rot / 2, in double.
 * IMROPE with equal text positions is this plain NEOX partial rotation (docs/arithmetic.md). */
void rope_frequencies(double *frequencies, uint32_t n_rot, double base);

/* For each row: n_pairs cosines then n_pairs sines of position * frequency, rounded to float. */
void rope_table(float *cos_sin, const struct batch_row *rows, int32_t n_rows,
                const double *frequencies, uint32_t n_pairs);

#endif
