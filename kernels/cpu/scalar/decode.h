/* decode.h - the scalar decoders, one a type (see blocks.h for what they produce). */
#ifndef MTP_KERNELS_CPU_SCALAR_DECODE_H
#define MTP_KERNELS_CPU_SCALAR_DECODE_H

#include "kernels/blocks.h"

/* Values of the 4-bit codes of IQ4_NL, IQ4_XS, and of MXFP4 (doubled, to be integers). */
#define IQ4_VALUES -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
#define MXFP4_VALUES 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12
extern const int8_t iq4_values[16];
extern const int8_t mxfp4_values[16];

decode_s_fn decode_q4_0_scalar, decode_q4_1_scalar, decode_q5_0_scalar, decode_q5_1_scalar;
decode_s_fn decode_q8_0_scalar, decode_iq4_nl_scalar, decode_mxfp4_scalar;
decode_k_fn decode_q2_k_scalar, decode_q3_k_scalar, decode_q4_k_scalar, decode_q5_k_scalar;
decode_k_fn decode_q6_k_scalar, decode_iq4_xs_scalar;
decode_k_fn decode_iq2_xxs_scalar, decode_iq2_xs_scalar, decode_iq2_s_scalar;
decode_k_fn decode_iq3_xxs_scalar, decode_iq3_s_scalar;

#endif
