/* vnoise.h - eight lanes at a time: twins of kernels/noise.h, with the same operations in every lane. */
#ifndef MTP_KERNELS_CPU_AVX2_VNOISE_H
#define MTP_KERNELS_CPU_AVX2_VNOISE_H

#include "kernels/cpu/avx2/vmath.h"
#include "kernels/noise.h"

/* Ids whose words come together: eight blocks of four. */
enum { NOISE_IDS = 4 * LANES };

/* a * b of all lanes, the upper and the lower halves apart. */
static inline __m256i v_product_low(__m256i a, __m256i b)
{
    return _mm256_mullo_epi32(a, b);
}

static inline __m256i v_product_high(__m256i a, __m256i b)
{
    __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(a, b), 32);
    __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    return _mm256_blend_epi32(even, odd, 0xaa);
}

/* noise_words of blocks first_block..first_block + 7: words[g] holds ids 8 g.. of them in order. */
static inline void v_noise_words(__m256i words[4], uint64_t seed, uint64_t position, uint32_t first_block)
{
    const __m256i m0 = _mm256_set1_epi32((int)0xd2511f53u), m1 = _mm256_set1_epi32((int)0xcd9e8d57u);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    __m256i c0 = _mm256_add_epi32(_mm256_set1_epi32((int)first_block),
                                  _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    __m256i c1 = _mm256_setzero_si256();
    __m256i c2 = _mm256_set1_epi32((int)(uint32_t)position);
    __m256i c3 = _mm256_set1_epi32((int)(uint32_t)(position >> 32));
    for (int round = 0; round < 10; round++) {
        __m256i high0 = v_product_high(m0, c0), low0 = v_product_low(m0, c0);
        __m256i high1 = v_product_high(m1, c2), low1 = v_product_low(m1, c2);
        c0 = _mm256_xor_si256(_mm256_xor_si256(high1, c1), _mm256_set1_epi32((int)k0));
        c1 = low1;
        c2 = _mm256_xor_si256(_mm256_xor_si256(high0, c3), _mm256_set1_epi32((int)k1));
        c3 = low0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    /* Lane b of c0..c3 holds the words of block b: four in a row are wanted. */
    __m256i low01 = _mm256_unpacklo_epi32(c0, c1), high01 = _mm256_unpackhi_epi32(c0, c1);
    __m256i low23 = _mm256_unpacklo_epi32(c2, c3), high23 = _mm256_unpackhi_epi32(c2, c3);
    __m256i b04 = _mm256_unpacklo_epi64(low01, low23), b15 = _mm256_unpackhi_epi64(low01, low23);
    __m256i b26 = _mm256_unpacklo_epi64(high01, high23), b37 = _mm256_unpackhi_epi64(high01, high23);
    words[0] = _mm256_permute2x128_si256(b04, b15, 0x20);
    words[1] = _mm256_permute2x128_si256(b26, b37, 0x20);
    words[2] = _mm256_permute2x128_si256(b04, b15, 0x31);
    words[3] = _mm256_permute2x128_si256(b26, b37, 0x31);
}

/* mtp_logf of normal numbers. */
static inline __m256 v_log_normal(__m256 x)
{
    const __m256i root = _mm256_set1_epi32(0x3f3504f3);
    __m256i shifted = _mm256_sub_epi32(_mm256_castps_si256(x), root);
    __m256 n = _mm256_cvtepi32_ps(_mm256_srai_epi32(shifted, 23));
    __m256 m = _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_and_si256(shifted, _mm256_set1_epi32(0x007fffff)), root));
    const __m256 one = _mm256_set1_ps(1.0f);
    __m256 s = _mm256_div_ps(_mm256_sub_ps(m, one), _mm256_add_ps(m, one));
    __m256 z = _mm256_mul_ps(s, s);
    __m256 p = _mm256_set1_ps(0.181818181818181818f);
    p = _mm256_fmadd_ps(z, p, _mm256_set1_ps(0.222222222222222222f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(0.285714285714285714f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(0.4f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(0.666666666666666667f));
    __m256 series = _mm256_fmadd_ps(_mm256_mul_ps(p, z), s, _mm256_add_ps(s, s));
    __m256 low = _mm256_fmadd_ps(n, _mm256_set1_ps(MTP_EXP_LN2_LO), series);
    return _mm256_fmadd_ps(n, _mm256_set1_ps(MTP_EXP_LN2_HI), low);
}

/* Unsigned integers to float, correctly rounded: both halves are exact, their sum rounds once. */
static inline __m256 v_float_of_unsigned(__m256i x)
{
    __m256 high = _mm256_cvtepi32_ps(_mm256_srli_epi32(x, 16));
    __m256 low = _mm256_cvtepi32_ps(_mm256_and_si256(x, _mm256_set1_epi32(0xffff)));
    return _mm256_fmadd_ps(high, _mm256_set1_ps(65536.0f), low);
}

/* noise_gumbel */
static inline __m256 v_gumbel(__m256i word)
{
    const __m256 half = _mm256_set1_ps(0.5f), unit = _mm256_set1_ps(0x1p-32f);
    __m256i small = _mm256_cmpeq_epi32(_mm256_srli_epi32(word, 27), _mm256_setzero_si256());
    __m256 v = _mm256_mul_ps(_mm256_add_ps(v_float_of_unsigned(word), half), unit);
    __m256 p = _mm256_fmadd_ps(v, _mm256_set1_ps(1.0f / 6.0f), _mm256_set1_ps(0.2f));
    p = _mm256_fmadd_ps(p, v, _mm256_set1_ps(0.25f));
    p = _mm256_fmadd_ps(p, v, _mm256_set1_ps(1.0f / 3.0f));
    p = _mm256_fmadd_ps(p, v, half);
    __m256 near_one = _mm256_fmadd_ps(_mm256_mul_ps(p, v), v, v);
    __m256i inverse = _mm256_xor_si256(word, _mm256_set1_epi32(-1));
    __m256 u = _mm256_mul_ps(_mm256_add_ps(v_float_of_unsigned(inverse), half), unit);
    __m256 e = _mm256_blendv_ps(v_negative(v_log_normal(u)), near_one, _mm256_castsi256_ps(small));
    return v_negative(v_log_normal(e));
}

#endif
