/* digest.c - digests of rows by AVX-512: eight elements at a time. */
#include <immintrin.h>

#include "kernels/cpu/avx512/variants.h"
#include "kernels/digest_mix.h"

static __m512i times(__m512i a, uint64_t b)
{
    return _mm512_mullo_epi64(a, _mm512_set1_epi64((int64_t)b));
}

static __m512i words(__m512i z)
{
    z = _mm512_add_epi64(z, _mm512_set1_epi64((int64_t)DIGEST_OFFSET));
    z = times(_mm512_xor_si512(z, _mm512_srli_epi64(z, 30)), DIGEST_FIRST);
    z = times(_mm512_xor_si512(z, _mm512_srli_epi64(z, 27)), DIGEST_SECOND);
    return _mm512_xor_si512(z, _mm512_srli_epi64(z, 31));
}

/* Elements first.. of a row. */
static uint64_t sum_of(const float *x, size_t first, size_t n)
{
    enum { TOGETHER = 8 };
    __m512i at = _mm512_add_epi64(_mm512_set1_epi64((int64_t)first),
                                  _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    __m512i sum = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + TOGETHER <= n; i += TOGETHER) {
        __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        __m512i z = _mm512_or_si512(_mm512_slli_epi64(at, 32), _mm512_cvtepu32_epi64(bits));
        sum = _mm512_add_epi64(sum, words(z));
        at = _mm512_add_epi64(at, _mm512_set1_epi64(TOGETHER));
    }
    uint64_t lanes[TOGETHER], all = 0; /* the intrinsic that folds them adds signed numbers */
    _mm512_storeu_si512(lanes, sum);
    for (int lane = 0; lane < TOGETHER; lane++)
        all += lanes[lane];
    for (; i < n; i++)
        all += digest_mix(first + i, x[i]);
    return all;
}

void digest_avx512(const struct digest_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)task;
    digest_ranges(args, begin, end, sum_of);
}
