/* quantize.c - activations to int8 super-blocks by AVX2. */
#include <string.h>

#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

/* Largest magnitude's bits of 32 floats a lane: as integers, so that NaN and infinity win. */
static inline __m128i amax_bits_32(const float *x)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i most = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int i = 0; i < SUB_BLOCK; i += LANES) {
        __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        most = _mm256_max_epi32(most, _mm256_and_si256(bits, magnitude));
    }
    return _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
}

/* The largest of each of four vectors: lane k of the result is of v[k]. */
static inline __m128i largest_each(const __m128i v[4])
{
    __m128i a = _mm_max_epi32(_mm_unpacklo_epi32(v[0], v[1]), _mm_unpackhi_epi32(v[0], v[1]));
    __m128i b = _mm_max_epi32(_mm_unpacklo_epi32(v[2], v[3]), _mm_unpackhi_epi32(v[2], v[3]));
    return _mm_max_epi32(_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b));
}

/* Lane j = largest magnitude's bits of sub-block j. */
static inline __m256i amax_bits(const float *x)
{
    __m128i most[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        most[j] = amax_bits_32(x + SUB_BLOCK * j);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(largest_each(most)),
                                   largest_each(most + 4), 1);
}

static inline uint32_t largest_lane(__m256i v)
{
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

/* As the definition's multiplier(): the whole number at or above, within 1..15. */
static inline __m256i multipliers(__m256 amax, __m256 d)
{
    __m256 wanted = _mm256_div_ps(amax, _mm256_mul_ps(d, _mm256_set1_ps(127.0f)));
    __m256i whole = _mm256_cvtps_epi32(_mm256_ceil_ps(wanted));
    whole = _mm256_max_epi32(whole, _mm256_set1_epi32(1));
    return _mm256_min_epi32(whole, _mm256_set1_epi32(15));
}

/* Nearest integers, ties to even: what f32_round_even does, as |x * inverse| is far below 2^22. */
static inline __m256i round_8(const float *x, __m256 inverse)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
}

/* 32 quants, held to -127..127; the sums of both halves, times mul, go to bsum. */
static inline void quantize_32(const float *x, __m256 inverse, int mul, int8_t *q, int16_t *bsum)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i a = _mm256_packs_epi32(round_8(x, inverse), round_8(x + 8, inverse));
    __m256i b = _mm256_packs_epi32(round_8(x + 16, inverse), round_8(x + 24, inverse));
    __m256i bytes = _mm256_packs_epi16(a, b);
    bytes = _mm256_max_epi8(bytes, _mm256_set1_epi8(-127));
    bytes = _mm256_permutevar8x32_epi32(bytes, order);
    _mm256_store_si256((__m256i *)(void *)q, bytes);
    __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
    __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16((short)mul));
    fours = _mm256_add_epi32(fours, _mm256_shuffle_epi32(fours, 0x4e));
    fours = _mm256_add_epi32(fours, _mm256_shuffle_epi32(fours, 0xb1));
    bsum[0] = (int16_t)_mm256_extract_epi32(fours, 0);
    bsum[1] = (int16_t)_mm256_extract_epi32(fours, 4);
}

/* x holds 256 floats. False for infinities and NaN. */
static bool quantize_block(const float *x, struct act_block *out)
{
    const __m256i bits = amax_bits(x);
    const uint32_t most = largest_lane(bits);
    const float amax = f32_from_bits(most);
    const bool finite = most < 0x7f800000u;
    float inverse[8];
    int32_t mul[8];
    if (!finite || amax < 0x1p-100f) {
        memset(out, 0, sizeof *out);
        memset(out->mul, 1, sizeof out->mul);
        return finite;
    }
    out->d = amax / 1905.0f;
    memset(out->pad, 0, sizeof out->pad);
    const __m256 d = _mm256_set1_ps(out->d);
    const __m256i whole = multipliers(_mm256_castsi256_ps(bits), d);
    __m256 step = _mm256_mul_ps(d, _mm256_cvtepi32_ps(whole));
    _mm256_storeu_ps(inverse, _mm256_div_ps(_mm256_set1_ps(1.0f), step));
    _mm256_storeu_si256((__m256i *)(void *)mul, whole);
    for (int j = 0; j < 8; j++) {
        out->mul[j] = (uint8_t)mul[j];
        quantize_32(x + SUB_BLOCK * j, _mm256_set1_ps(inverse[j]), mul[j], out->q + SUB_BLOCK * j,
                    out->bsum + 2 * j);
    }
    return true;
}

void quantize_avx2(const struct quantize_args *args, int64_t begin, int64_t end,
                   struct cpu_task *task)
{
    size_t blocks = act_blocks(args->n);
    for (int64_t t = begin; t < end; t++) {
        size_t row = (size_t)t / blocks, block = (size_t)t % blocks;
        const float *x = args->x + row * args->n + block * SUPER_BLOCK;
        size_t left = args->n - block * SUPER_BLOCK;
        float padded[SUPER_BLOCK];
        if (left < SUPER_BLOCK) { /* absent elements are zeros */
            memset(padded, 0, sizeof padded);
            memcpy(padded, x, left * sizeof *x);
            x = padded;
        }
        if (!quantize_block(x, &args->act[t]))
            cpu_report_fault(task->fault, "quantize", (int32_t)row);
    }
}
