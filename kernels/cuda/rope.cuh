/* rope.cuh - one pair of a rotation. */
#ifndef MTP_KERNELS_CUDA_ROPE_CUH
#define MTP_KERNELS_CUDA_ROPE_CUH

#include "kernels/cuda/common.cuh"

/* Row `row`'s cosines and, n_pairs behind them, sines. */
static __device__ inline const float *rope_table_row(const struct rope_args *args, size_t row)
{
    size_t place = args->rows != NULL ? (size_t)args->rows[row].position : row;
    return args->cos_sin + place * 2 * args->n_pairs;
}

static __device__ inline float2 rotated(float x0, float x1, float c, float s)
{
    return make_float2(__fmaf_rn(x0, c, -__fmul_rn(x1, s)), __fmaf_rn(x0, s, __fmul_rn(x1, c)));
}

#endif
