/* digest.c - digests of rows by AVX2: four elements at a time, 64-bit products of three 32-bit ones. */
#include <immintrin.h>

#include "kernels/cpu/avx2/variants.h"
#include "kernels/digest_mix.h"

static __m256i times(__m256i a, uint64_t b)
{
    const __m256i low = _mm256_set1_epi64x((int64_t)(b & 0xffffffffu));
    const __m256i high = _mm256_set1_epi64x((int64_t)(b >> 32));
    __m256i cross = _mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64(a, 32), low),
                                     _mm256_mul_epu32(a, high));
    return _mm256_add_epi64(_mm256_mul_epu32(a, low), _mm256_slli_epi64(cross, 32));
}

static __m256i words(__m256i z)
{
    z = _mm256_add_epi64(z, _mm256_set1_epi64x((int64_t)DIGEST_OFFSET));
    z = times(_mm256_xor_si256(z, _mm256_srli_epi64(z, 30)), DIGEST_FIRST);
    z = times(_mm256_xor_si256(z, _mm256_srli_epi64(z, 27)), DIGEST_SECOND);
    return _mm256_xor_si256(z, _mm256_srli_epi64(z, 31));
}

/* Elements first.. of a row. */
static uint64_t sum_of(const float *x, size_t first, size_t n)
{
    enum { TOGETHER = 4 };
    __m256i at = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)first), _mm256_setr_epi64x(0, 1, 2, 3));
    __m256i sum = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + TOGETHER <= n; i += TOGETHER) {
        __m128i bits = _mm_loadu_si128((const __m128i *)(const void *)(x + i));
        __m256i z = _mm256_or_si256(_mm256_slli_epi64(at, 32), _mm256_cvtepu32_epi64(bits));
        sum = _mm256_add_epi64(sum, words(z));
        at = _mm256_add_epi64(at, _mm256_set1_epi64x(TOGETHER));
    }
    uint64_t lanes[4], all = 0;
    _mm256_storeu_si256((__m256i *)(void *)lanes, sum);
    for (; i < n; i++)
        all += digest_mix(first + i, x[i]);
    return all + lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

void digest_avx2(const struct digest_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)task;
    digest_ranges(args, begin, end, sum_of);
}
