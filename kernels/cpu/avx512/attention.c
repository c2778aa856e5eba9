/* attention.c - softmax attention with vectors of sixteen floats: the AVX2 variant's source, whose loops
 * over keys and values widen when AVX-512 is there. The rest of it would be the same line for line. */
#define attention_avx2 attention_avx512
#include "kernels/cpu/avx2/attention.c"
