/* fmath.h - elementary functions of the engine, the same bits on every machine.
 *
 * glibc's exp, log, sin and pow choose code by CPU and so change bits; these use only + - * /, fma
 * and integer operations, each rounded to nearest, in the order written here (docs/arithmetic.md,
 * "Elementary functions"). The float functions are straight-line code, so a vector twin that performs
 * the same operations per element has the same bits. CUDA devices run these very functions, compiled
 * without contraction (tests/check_ptx.sh reads the result).
 */
#ifndef MTP_KERNELS_FMATH_H
#define MTP_KERNELS_FMATH_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* The float functions are compiled for CUDA devices too, where nvcc reads this. */
#ifdef __CUDACC__
#define MTP_HOST_DEVICE __host__ __device__
#else
#define MTP_HOST_DEVICE
#endif

#if FLT_EVAL_METHOD != 0
#error "float expressions must be evaluated in float"
#endif
#if defined(__FAST_MATH__) || defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "fast-math changes bits: build without it"
#endif

static inline MTP_HOST_DEVICE uint32_t f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline MTP_HOST_DEVICE float f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* True for infinities and NaN, without a floating-point comparison. */
static inline MTP_HOST_DEVICE int f32_not_finite(float value)
{
    return (f32_bits(value) & 0x7f800000u) == 0x7f800000u;
}

/* Nearest integer, ties to even, for |x| < 2^22: adding 1.5 * 2^23 leaves no fraction bits. */
static inline MTP_HOST_DEVICE float f32_round_even(float x)
{
    return (x + 12582912.0f) - 12582912.0f;
}

/* 2^n for -126 <= n <= 127. */
static inline MTP_HOST_DEVICE float f32_pow2(int n)
{
    return f32_from_bits((uint32_t)(n + 127) << 23);
}

/* Constants of mtp_expf, shared with its vector twins. exp(x) = 2^n * exp(r), n = round(x / ln 2),
 * |r| <= ln 2 / 2. MTP_EXP_LN2_HI has 9 trailing zero bits, so n * hi is exact. The polynomial is
 * Taylor's to r^7: on that range its cut is below 2^-28 relative. */
#define MTP_EXP_MAX 89.0f   /* exp of more is infinite */
#define MTP_EXP_MIN -104.0f /* exp of less is zero */
#define MTP_EXP_LOG2E 1.44269504088896341f
#define MTP_EXP_LN2_HI 0.693145751953125f
#define MTP_EXP_LN2_LO 1.428606765330187e-6f
#define MTP_EXP_C2 0.5f
#define MTP_EXP_C3 0.166666666666666667f
#define MTP_EXP_C4 0.0416666666666666667f
#define MTP_EXP_C5 0.00833333333333333333f
#define MTP_EXP_C6 0.00138888888888888889f
#define MTP_EXP_C7 0.000198412698412698413f

/* exp(x), within 1.03 ulp; 0 below -104, infinity above 89 (NaN counts as above). */
static inline MTP_HOST_DEVICE float mtp_expf(float x)
{
    x = x < MTP_EXP_MAX ? x : MTP_EXP_MAX;
    x = x > MTP_EXP_MIN ? x : MTP_EXP_MIN;
    float n = f32_round_even(x * MTP_EXP_LOG2E);
    float r = fmaf(n, -MTP_EXP_LN2_HI, x);
    r = fmaf(n, -MTP_EXP_LN2_LO, r);
    float p = fmaf(MTP_EXP_C7, r, MTP_EXP_C6);
    p = fmaf(p, r, MTP_EXP_C5);
    p = fmaf(p, r, MTP_EXP_C4);
    p = fmaf(p, r, MTP_EXP_C3);
    p = fmaf(p, r, MTP_EXP_C2);
    p = fmaf(p * r, r, r) + 1.0f;
    int whole = (int)n;
    int half = whole >> 1; /* two factors, so that subnormal results round once */
    return p * f32_pow2(half) * f32_pow2(whole - half);
}

/* ln(x) for finite x > 0, within 2 ulp: x = m * 2^e with m in [sqrt(1/2), sqrt(2)),
 * ln m = 2 * atanh(s), s = (m - 1) / (m + 1). */
static inline MTP_HOST_DEVICE float mtp_logf(float x)
{
    int e = 0;
    if (x < 0x1p-126f) {
        x *= 0x1p24f;
        e = -24;
    }
    uint32_t bits = f32_bits(x);
    uint32_t shifted = bits - 0x3f3504f3u; /* bits of sqrt(1/2) */
    e += (int32_t)shifted >> 23;
    float m = f32_from_bits((shifted & 0x007fffffu) + 0x3f3504f3u);
    float s = (m - 1.0f) / (m + 1.0f);
    float z = s * s;
    float p = fmaf(z, 0.181818181818181818f, 0.222222222222222222f);
    p = fmaf(p, z, 0.285714285714285714f);
    p = fmaf(p, z, 0.4f);
    p = fmaf(p, z, 0.666666666666666667f);
    float series = fmaf(p * z, s, s + s);
    float n = (float)e;
    return fmaf(n, MTP_EXP_LN2_HI, fmaf(n, MTP_EXP_LN2_LO, series));
}

/* 1 / (1 + exp(-x)). The numerator is 1 for every finite x; mtp_expf hides a NaN, and a gate must
 * not (NaN for NaN and infinities). */
static inline MTP_HOST_DEVICE float mtp_sigmoidf(float x)
{
    return fmaf(x, 0.0f, 1.0f) / (1.0f + mtp_expf(-x));
}

/* x * sigmoid(x) */
static inline MTP_HOST_DEVICE float mtp_siluf(float x)
{
    return x / (1.0f + mtp_expf(-x));
}

/* Coefficients of 2 atanh(s) / s^n in mtp_softplusf: 2 / n. */
#define MTP_SOFTPLUS_C15 0.133333333333333333f
#define MTP_SOFTPLUS_C13 0.153846153846153846f
#define MTP_SOFTPLUS_C11 0.181818181818181818f
#define MTP_SOFTPLUS_C9 0.222222222222222222f
#define MTP_SOFTPLUS_C7 0.285714285714285714f
#define MTP_SOFTPLUS_C5 0.4f
#define MTP_SOFTPLUS_C3 0.666666666666666667f

/* ln(1 + exp(x)) = max(x, 0) + log1p(y), y = exp(-|x|) in [0, 1]; log1p(y) = 2 * atanh(s) with
 * s = y / (2 + y) <= 1/3, the series cut where a term falls below 2^-27. */
static inline MTP_HOST_DEVICE float mtp_softplusf(float x)
{
    float y = mtp_expf(-fabsf(x));
    float s = y / (2.0f + y);
    float z = s * s;
    float p = fmaf(z, MTP_SOFTPLUS_C15, MTP_SOFTPLUS_C13);
    p = fmaf(p, z, MTP_SOFTPLUS_C11);
    p = fmaf(p, z, MTP_SOFTPLUS_C9);
    p = fmaf(p, z, MTP_SOFTPLUS_C7);
    p = fmaf(p, z, MTP_SOFTPLUS_C5);
    p = fmaf(p, z, MTP_SOFTPLUS_C3);
    float positive = x > 0.0f ? x : 0.0f;
    return positive + fmaf(p * z, s, s + s);
}

/* Double precision, for tables built on the host once or once a position. Errors are below 1e-15
 * relative (sin and cos: absolute) on the ranges that positions up to 2^24 and RoPE bases need. */
double mtp_exp(double x);
double mtp_log(double x);             /* x > 0, normal */
void mtp_sincos(double x, double *sine, double *cosine); /* |x| < 2^24 */

#endif
