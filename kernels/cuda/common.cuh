/* common.cuh - what the kernels share: launches, faults, sums in the orders of docs/arithmetic.md.
 *
 * Every float operation of a kernel is an intrinsic that rounds to nearest (__fmaf_rn and so on) or one
 * of kernels/fmath.h; no other is written, so that no compiler switch can fuse them.
 */
#ifndef MTP_KERNELS_CUDA_COMMON_CUH
#define MTP_KERNELS_CUDA_COMMON_CUH

#include <cuda_runtime.h>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/float16.h"
#include "kernels/fmath.h"

/* First in every kernel. It may have been launched before the kernels before it have ended (LAUNCH): the next
 * one may be so too, and this one waits. All threads come here before they touch what a kernel may write or
 * read, so that a kernel ends after all that went before it. What is never written while passes run, such as
 * weights, may be read sooner: those kernels call the two by themselves. */
static __device__ __forceinline__ void begin_kernel()
{
    let_next_begin();
    wait_for_earlier();
}

/* Whether the code that runs on the device in use knows how to wait (device.cuh): the best that this build
 * has for it is for 9.0 or later. */
static inline bool kernels_wait()
{
#ifdef __CUDA_ARCH_LIST__
    static constexpr int built[] = {__CUDA_ARCH_LIST__};
    int device, major, minor;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess)
        return false;
    for (int arch : built)
        if (arch >= 900 && arch <= 100 * major + 10 * minor)
            return true;
#endif
    return false;
}

/* Every kernel takes one argument, a structure by value, and begins with begin_kernel or its two parts: where
 * the device can, it is launched while the kernel before it ends. So in a recorded pass too. */
template <class ARGS>
static inline cudaError_t launch_kernel(void (*kernel)(ARGS), dim3 grid, unsigned block, size_t shared_bytes,
                                        cudaStream_t stream, const ARGS &args)
{
    cudaLaunchAttribute overlap = {};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(block);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &overlap;
    config.numAttrs = kernels_wait() ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, args);
}
#define LAUNCH(kernel, grid, block, stream, args)                                                  \
    launch_kernel(kernel, dim3(grid), (block), 0, (stream), (args))

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

/* Brings 128 bytes to the second cache. All writes go there, so it may be asked for before those are done. */
static __device__ __forceinline__ void bring_near(const void *global)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
}

/* For all threads of a block, once and at its end: whether it is the last of n to come here, so that what the
 * others wrote before lies in the second cache (__ldcg). The count begins again by itself. */
static __device__ inline bool last_to_arrive(uint32_t *arrivals, uint32_t n)
{
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t before;
        asm volatile("atom.acq_rel.gpu.inc.u32 %0, [%1], %2;"
                     : "=r"(before) : "l"(arrivals), "r"(n - 1) : "memory");
        last = before == n - 1;
    }
    __syncthreads();
    return last;
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

/* Partial p of sum64(x^2): elements p, p + 64, .., a few read at once and added one after the other. */
static __device__ inline float partial_of_squares(const float *x, size_t n, size_t p)
{
    enum { PARTIALS = 64, AT_ONCE = 16 };
    float sum = 0.0f;
    size_t i = p;
    for (; i + (AT_ONCE - 1) * PARTIALS < n; i += AT_ONCE * PARTIALS) {
        float part[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++)
            part[k] = x[i + (size_t)k * PARTIALS];
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++)
            sum = __fmaf_rn(part[k], part[k], sum);
    }
    for (; i < n; i += PARTIALS)
        sum = __fmaf_rn(x[i], x[i], sum);
    return sum;
}

/* sum64(x^2), by a whole warp; all lanes get it. */
static __device__ inline float squares_warp(const float *x, size_t n)
{
    float low = 0.0f, high = 0.0f;
    size_t i = threadIdx.x % WARP;
#pragma unroll 8
    for (; i + WARP < n; i += 64) {
        float a = x[i], b = x[i + WARP];
        low = __fmaf_rn(a, a, low);
        high = __fmaf_rn(b, b, high);
    }
    if (i < n)
        low = __fmaf_rn(x[i], x[i], low);
    return fold64_warp(low, high);
}

/* What a norm multiplies a row of n by; not finite where the squares are not. */
static __device__ inline float norm_scale(float squares, size_t n, float eps)
{
    float mean = __fdiv_rn(squares, (float)n);
    return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, eps)));
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
