/* dot.c - products of weight rows with activation rows by AVX2. */
#include "kernels/cpu/avx2/dot.h"

void dot_avx2(const struct dot_args *args)
{
    switch (type_info(args->type)->weight_class) {
    case WEIGHT_K: dot_k_avx2(args); break;
    case WEIGHT_S: dot_s_avx2(args); break;
    default: dot_float_avx2(args); break;
    }
}
