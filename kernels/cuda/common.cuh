/* common.cuh - what the kernels share: launches, faults, sums in the orders of docs/arithmetic.md.
 *
 * Every float operation of a kernel is an intrinsic that rounds to nearest (__fmaf_rn and so on) or one
 * of kernels/fmath.h; no other is written, so that no compiler switch can fuse them.
 */
#ifndef MTP_KERNELS_CUDA_COMMON_CUH
#define MTP_KERNELS_CUDA_COMMON_CUH

#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "kernels/float16.h"
#include "kernels/fmath.h"

/* Every kernel takes one argument, a structure by value. */
#define LAUNCH(kernel, grid, block, stream, args)                                                  \
    (kernel<<<(grid), (block), 0, (stream)>>>(args), cudaGetLastError())

enum { WARP = 32 };
#define ALL_LANES 0xffffffffu

static inline unsigned blocks_for(size_t n, size_t a_block)
{
    return (unsigned)((n + a_block - 1) / a_block);
}

static __device__ inline void report_fault(struct cuda_fault fault, enum cuda_faulty operation,
                                           size_t row)
{
    unsigned long long word = (unsigned long long)fault.serial << 40 |
                              (unsigned long long)(fault.layer & 4095) << 28 |
                              (unsigned long long)operation << 24 | ((uint32_t)row & 0xffffff);
    atomicMin(fault.record, word);
}

/* The fold of sum64 where lane l of a warp holds partials l and l + 32; all lanes get the sum.
 * Which of two partials comes first does not change a sum, so a butterfly has the bits of the fold. */
static __device__ inline float fold64_warp(float low, float high)
{
    float sum = __fadd_rn(low, high);
    for (int distance = WARP / 2; distance >= 1; distance /= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, distance));
    return sum;
}

/* sum64(x^2), by a whole warp; all lanes get it. */
static __device__ inline float squares_warp(const float *x, size_t n)
{
    float low = 0.0f, high = 0.0f;
    for (size_t i = threadIdx.x % WARP; i < n; i += 64) {
        float a = x[i];
        low = __fmaf_rn(a, a, low);
        if (i + WARP < n) {
            float b = x[i + WARP];
            high = __fmaf_rn(b, b, high);
        }
    }
    return fold64_warp(low, high);
}

/* Half to float. Only for values that a cache has stored: the processor's conversion has a NaN of
 * its own, all else is the same. */
static __device__ inline float float_of_cached(uint16_t half)
{
#ifdef __CUDA_ARCH__
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
#else
    return float_of_half(half);
#endif
}

#endif
