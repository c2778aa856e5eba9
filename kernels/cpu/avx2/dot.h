/* dot.h - shared pieces of the AVX2 dot products.
 *
 * A weight row's super-blocks are visited eight at a time, one of each segment, so that lane s of a
 * vector accumulator is segment s of the definition and eight exact integer sums share one
 * reduction. Batch rows are taken in groups of up to ROW_GROUP, so that a decoded block serves
 * several.
 */
#ifndef MTP_KERNELS_CPU_AVX2_DOT_H
#define MTP_KERNELS_CPU_AVX2_DOT_H

#include "kernels/cpu/avx2/decode.h"
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vmath.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum { ROW_GROUP = 4 };

/* Where the segments of a row begin, and how long they are. */
struct segments {
    size_t first[N_SEGMENTS], length[N_SEGMENTS];
    int32_t lengths[N_SEGMENTS];
    size_t longest;
};

static inline struct segments cut_segments(size_t blocks)
{
    struct segments cut;
    cut.longest = 0;
    for (size_t s = 0; s < N_SEGMENTS; s++) {
        cut.first[s] = segment_start(blocks, s);
        cut.length[s] = segment_start(blocks, s + 1) - cut.first[s];
        cut.lengths[s] = (int32_t)cut.length[s];
        cut.longest = cut.length[s] > cut.longest ? cut.length[s] : cut.longest;
    }
    return cut;
}

/* Lane s is set where segment s has a block t. */
static inline __m256 segments_with(const struct segments *cut, size_t t)
{
    __m256i lengths = _mm256_loadu_si256((const __m256i *)(const void *)cut->lengths);
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(lengths, _mm256_set1_epi32((int32_t)t)));
}

/* The rows of one call of a kernel: weight row `row`, batch rows first.. of args, output o. */
struct dot_rows {
    const struct dot_args *args;
    const uint8_t *row;
    const struct segments *cut;
    int32_t first, o;
};

static inline __m256i load_q(const void *at)
{
    return _mm256_loadu_si256((const __m256i *)at);
}

void dot_float_avx2(const struct dot_args *args);
void dot_k_avx2(const struct dot_args *args);
void dot_s_avx2(const struct dot_args *args);
void dot_q4_k_avx2(const struct dot_args *args);
void dot_q5_k_avx2(const struct dot_args *args);
void dot_q6_k_avx2(const struct dot_args *args);

#endif
