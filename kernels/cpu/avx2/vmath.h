/* vmath.h - eight lanes at a time: twins of kernels/fmath.h and kernels/reduce.h. Each performs in
 * every lane exactly the operations of its scalar namesake, so it has the same bits. */
#ifndef MTP_KERNELS_CPU_AVX2_VMATH_H
#define MTP_KERNELS_CPU_AVX2_VMATH_H

#include <immintrin.h>

#include "kernels/fmath.h"
#include "kernels/reduce.h"

enum { LANES = 8 };

/* The first n lanes (n < 8 or more: all), as a mask for maskload, maskstore and blendv. */
static inline __m256i lane_mask(size_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < LANES ? (int)n : LANES), lane);
}

/* Up to eight floats; absent ones are 0 and not touched in memory. */
static inline __m256 load_lanes(const float *at, size_t n)
{
    return n >= LANES ? _mm256_loadu_ps(at) : _mm256_maskload_ps(at, lane_mask(n));
}

static inline void store_lanes(float *at, __m256 value, size_t n)
{
    if (n >= LANES)
        _mm256_storeu_ps(at, value);
    else
        _mm256_maskstore_ps(at, lane_mask(n), value);
}

static inline __m256 v_negative(__m256 x)
{
    return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f));
}

/* 2^n, n in -126..127 */
static inline __m256 v_pow2(__m256i n)
{
    __m256i biased = _mm256_add_epi32(n, _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}

/* mtp_expf. minps and maxps return their second operand for a NaN, as the comparisons there do. */
static inline __m256 v_exp(__m256 x)
{
    const __m256 shift = _mm256_set1_ps(12582912.0f);
    x = _mm256_min_ps(x, _mm256_set1_ps(MTP_EXP_MAX));
    x = _mm256_max_ps(x, _mm256_set1_ps(MTP_EXP_MIN));
    __m256 n = _mm256_mul_ps(x, _mm256_set1_ps(MTP_EXP_LOG2E));
    n = _mm256_sub_ps(_mm256_add_ps(n, shift), shift);
    __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-MTP_EXP_LN2_HI), x);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-MTP_EXP_LN2_LO), r);
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(MTP_EXP_C7), r, _mm256_set1_ps(MTP_EXP_C6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MTP_EXP_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MTP_EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MTP_EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(MTP_EXP_C2));
    p = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(p, r), r, r), _mm256_set1_ps(1.0f));
    __m256i whole = _mm256_cvttps_epi32(n);
    __m256i half = _mm256_srai_epi32(whole, 1);
    p = _mm256_mul_ps(p, v_pow2(half));
    return _mm256_mul_ps(p, v_pow2(_mm256_sub_epi32(whole, half)));
}

static inline __m256 v_one_plus_exp_negative(__m256 x)
{
    return _mm256_add_ps(_mm256_set1_ps(1.0f), v_exp(v_negative(x)));
}

/* mtp_sigmoidf */
static inline __m256 v_sigmoid(__m256 x)
{
    __m256 one = _mm256_fmadd_ps(x, _mm256_setzero_ps(), _mm256_set1_ps(1.0f));
    return _mm256_div_ps(one, v_one_plus_exp_negative(x));
}

/* mtp_siluf */
static inline __m256 v_silu(__m256 x)
{
    return _mm256_div_ps(x, v_one_plus_exp_negative(x));
}

/* mtp_softplusf */
static inline __m256 v_softplus(__m256 x)
{
    __m256 y = v_exp(_mm256_or_ps(x, _mm256_set1_ps(-0.0f))); /* -|x| */
    __m256 s = _mm256_div_ps(y, _mm256_add_ps(_mm256_set1_ps(2.0f), y));
    __m256 z = _mm256_mul_ps(s, s);
    __m256 p = _mm256_fmadd_ps(z, _mm256_set1_ps(MTP_SOFTPLUS_C15), _mm256_set1_ps(MTP_SOFTPLUS_C13));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(MTP_SOFTPLUS_C11));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(MTP_SOFTPLUS_C9));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(MTP_SOFTPLUS_C7));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(MTP_SOFTPLUS_C5));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(MTP_SOFTPLUS_C3));
    /* maxps gives its second operand for a NaN and for zeros of both signs, as the comparison there */
    __m256 positive = _mm256_max_ps(x, _mm256_setzero_ps());
    return _mm256_add_ps(positive, _mm256_fmadd_ps(_mm256_mul_ps(p, z), s, _mm256_add_ps(s, s)));
}

/* The last three steps of fold64 and all of sum8: distances 4, 2, 1 inside a vector. */
static inline float fold_lanes(__m256 v)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

/* fold64, partial 8 g + l in lane l of v[g]; the first three steps leave one vector. */
static inline __m256 fold64_to_8(const __m256 v[8])
{
    __m256 a = _mm256_add_ps(_mm256_add_ps(v[0], v[4]), _mm256_add_ps(v[2], v[6]));
    __m256 b = _mm256_add_ps(_mm256_add_ps(v[1], v[5]), _mm256_add_ps(v[3], v[7]));
    return _mm256_add_ps(a, b);
}

static inline float v_fold64(const __m256 v[8])
{
    return fold_lanes(fold64_to_8(v));
}

/* sum64_dot(x, x, n). Past the end lanes add 0 * 0, which changes no partial of squares:
 * none is ever -0. */
static inline float v_sum64_squares(const float *x, size_t n)
{
    __m256 partial[8];
    size_t whole = n / SUM64 * SUM64;
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++)
        partial[g] = _mm256_setzero_ps();
    for (size_t i = 0; i < whole; i += SUM64)
#pragma GCC unroll 8
        for (int g = 0; g < 8; g++) {
            __m256 value = _mm256_loadu_ps(x + i + LANES * g);
            partial[g] = _mm256_fmadd_ps(value, value, partial[g]);
        }
    /* unrolled: partials with an index known to the compiler stay in registers */
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        size_t i = whole + LANES * (size_t)g;
        __m256 value = i < n ? load_lanes(x + i, n - i) : _mm256_setzero_ps();
        partial[g] = _mm256_fmadd_ps(value, value, partial[g]);
    }
    return v_fold64(partial);
}

/* Index of the largest of n > 0 floats that are not NaN, the lowest among equals. */
static inline size_t v_largest(const float *x, size_t n)
{
    size_t best = 0, done = 0;
    if (n >= LANES) {
        const __m256i step = _mm256_set1_epi32(LANES);
        __m256i at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), where = at;
        __m256 most = _mm256_loadu_ps(x);
        for (done = LANES; done + LANES <= n; done += LANES) {
            __m256 next = _mm256_loadu_ps(x + done);
            __m256 more = _mm256_cmp_ps(next, most, _CMP_GT_OQ);
            at = _mm256_add_epi32(at, step);
            most = _mm256_blendv_ps(most, next, more);
            where = _mm256_blendv_epi8(where, at, _mm256_castps_si256(more));
        }
        uint32_t index[LANES];
        _mm256_storeu_si256((__m256i *)(void *)index, where);
        best = index[0];
        for (int l = 1; l < LANES; l++)
            if (x[index[l]] > x[best] || (x[index[l]] == x[best] && index[l] < best))
                best = index[l];
    }
    for (; done < n; done++)
        if (x[done] > x[best])
            best = done;
    return best;
}

/* Lane k = fold_lanes of v[k]. */
static inline __m256 fold_lanes_each(const __m256 v[8])
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256 four[4], two[2];
    for (int i = 0; i < 4; i++) {
        __m256 a = v[2 * i], b = v[2 * i + 1];
        four[i] = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20),
                                _mm256_permute2f128_ps(a, b, 0x31));
    }
    for (int i = 0; i < 2; i++) {
        __m256 a = four[2 * i], b = four[2 * i + 1];
        two[i] = _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee));
    }
    return _mm256_permutevar8x32_ps(_mm256_hadd_ps(two[0], two[1]), order);
}

static inline float v_largest_lane(__m256 v)
{
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

/* fold8: neighbours. */
static inline float v_fold8(__m256 v)
{
    v = _mm256_hadd_ps(v, v);
    v = _mm256_hadd_ps(v, v);
    return _mm_cvtss_f32(
        _mm_add_ss(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}

/* Lane k = fold8 of v[k]. */
static inline __m256 fold8_each(const __m256 v[8])
{
    __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

/* Lane k = exact sum of the lanes of v[k]. */
static inline __m256i sum_each(const __m256i v[8])
{
    __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                            _mm256_permute2x128_si256(a, b, 0x31));
}

#endif
