/* argmax.c - index of the largest element of each row by AVX2: the largest of every block of the row,
 * then its place in the first block that has it. A draw begins with that element's score, which spares the
 * noise of all that could not reach it. */
#include "kernels/cpu/avx2/variants.h"
#include "kernels/cpu/avx2/vnoise.h"

enum { BLOCK = 512, TOGETHER = 4 * LANES };

/* The largest element; the largest magnitude's bits are joined to *magnitudes. */
static float largest_of(const float *x, size_t n, __m256i *magnitudes)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    const __m256 first = _mm256_set1_ps(x[0]);
    __m256 most[4] = {first, first, first, first};
    __m256i bits[4] = {*magnitudes, *magnitudes, *magnitudes, *magnitudes};
    size_t i = 0;
    for (; i + TOGETHER <= n; i += TOGETHER)
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) {
            __m256 value = _mm256_loadu_ps(x + i + LANES * g);
            most[g] = _mm256_max_ps(most[g], value);
            bits[g] = _mm256_max_epi32(bits[g],
                                       _mm256_and_si256(_mm256_castps_si256(value), magnitude));
        }
    for (; i < n; i += LANES) { /* lanes past the end repeat x[0] */
        __m256 mask = _mm256_castsi256_ps(lane_mask(n - i));
        __m256 value = _mm256_blendv_ps(first, load_lanes(x + i, n - i), mask);
        most[0] = _mm256_max_ps(most[0], value);
        bits[0] = _mm256_max_epi32(bits[0], _mm256_and_si256(_mm256_castps_si256(value), magnitude));
    }
    *magnitudes = _mm256_max_epi32(_mm256_max_epi32(bits[0], bits[1]),
                                   _mm256_max_epi32(bits[2], bits[3]));
    return v_largest_lane(_mm256_max_ps(_mm256_max_ps(most[0], most[1]),
                                        _mm256_max_ps(most[2], most[3])));
}

static bool all_finite(__m256i magnitudes)
{
    const __m256i most_finite = _mm256_set1_epi32(0x7f7fffff);
    __m256i bad = _mm256_cmpgt_epi32(magnitudes, most_finite);
    return _mm256_testz_si256(bad, bad);
}

/* The first of n elements that equals `value`, which is among them; -0 equals 0. */
static size_t place_of(const float *x, size_t n, float value)
{
    const __m256 wanted = _mm256_set1_ps(value);
    for (size_t i = 0; i < n; i += LANES) {
        __m256 same = _mm256_cmp_ps(load_lanes(x + i, n - i), wanted, _CMP_EQ_OQ);
        same = _mm256_and_ps(same, _mm256_castsi256_ps(lane_mask(n - i)));
        int found = _mm256_movemask_ps(same);
        if (found != 0)
            return i + (size_t)__builtin_ctz((unsigned)found);
    }
    return 0;
}

/* ---- draws --------------------------------------------------------------------------------- */

struct drawing {
    const struct draw_noise *noise;
    uint64_t position;
    float least;   /* elements below it take no part */
    float reached; /* a score that an element has */
    __m256 score;  /* the largest so far in each lane... */
    __m256i id;    /* ...and the first id that has it */
};

/* The scores of ids first..first + 31, of which n (at least 1) are there. */
static void draw_group(struct drawing *d, const float *x, size_t first, size_t n)
{
    const __m256 most = _mm256_set1_ps(NOISE_GUMBEL_MAX), reached = _mm256_set1_ps(d->reached);
    const __m256 temperature = _mm256_set1_ps(d->noise->temperature), least = _mm256_set1_ps(d->least);
    __m256 scaled[4], taking_part[4], any = _mm256_setzero_ps();
    for (size_t g = 0; g < 4; g++) {
        size_t left = n > LANES * g ? n - LANES * g : 0;
        __m256 value = load_lanes(x + first + (left > 0 ? LANES * g : 0), left);
        scaled[g] = _mm256_div_ps(value, temperature);
        __m256 possible = _mm256_cmp_ps(_mm256_add_ps(scaled[g], most), reached, _CMP_GE_OQ);
        possible = _mm256_and_ps(possible, _mm256_cmp_ps(value, least, _CMP_GE_OQ));
        taking_part[g] = _mm256_and_ps(possible, _mm256_castsi256_ps(lane_mask(left)));
        any = _mm256_or_ps(any, taking_part[g]);
    }
    if (_mm256_movemask_ps(any) == 0)
        return;
    __m256i words[4];
    v_noise_words(words, d->noise->seed, d->position, (uint32_t)(first / 4));
    __m256i id = _mm256_add_epi32(_mm256_set1_epi32((int)first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    for (size_t g = 0; g < 4; g++) {
        __m256 score = _mm256_add_ps(scaled[g], v_gumbel(words[g]));
        __m256 same = _mm256_cmp_ps(score, d->score, _CMP_EQ_OQ);
        __m256 better = _mm256_and_ps(same, _mm256_castsi256_ps(_mm256_cmpgt_epi32(d->id, id)));
        better = _mm256_or_ps(better, _mm256_cmp_ps(score, d->score, _CMP_GT_OQ));
        better = _mm256_and_ps(better, taking_part[g]);
        d->score = _mm256_blendv_ps(d->score, score, better);
        d->id = _mm256_blendv_epi8(d->id, id, _mm256_castps_si256(better));
        id = _mm256_add_epi32(id, _mm256_set1_epi32(LANES));
    }
    d->reached = v_largest_lane(d->score);
}

/* The draw of row r, whose elements are finite and the largest of which is x[best]. */
static size_t draw(const struct argmax_args *args, int64_t r, size_t best)
{
    const float *x = args->x + (size_t)r * args->n;
    const struct draw_noise *noise = args->noise;
    uint64_t position = (uint64_t)(args->first[0] + args->offset + r);
    uint32_t words[4], ids[LANES];
    float scores[LANES];
    noise_words(words, noise->seed, position, (uint32_t)(best / 4));
    float reached = noise_score(x[best], noise->temperature, words[best % 4]);
    struct drawing d = {noise, position, noise_least(x[best], noise->min_p), reached,
                        _mm256_set1_ps(reached), _mm256_set1_epi32((int)best)};
    for (size_t i = 0; i < args->n; i += NOISE_IDS)
        draw_group(&d, x, i, args->n - i);
    _mm256_storeu_ps(scores, d.score);
    _mm256_storeu_si256((__m256i *)(void *)ids, d.id);
    size_t first = 0;
    for (size_t l = 1; l < LANES; l++)
        if (scores[l] > scores[first] || (scores[l] == scores[first] && ids[l] < ids[first]))
            first = l;
    return ids[first];
}

void argmax_avx2(const struct argmax_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    for (int64_t r = begin; r < end; r++) {
        const float *x = args->x + (size_t)r * args->n;
        __m256i magnitudes = _mm256_setzero_si256();
        size_t best = 0;
        float most = -INFINITY;
        for (size_t i = 0; i < args->n; i += BLOCK) {
            size_t n = args->n - i < BLOCK ? args->n - i : BLOCK;
            float largest = largest_of(x + i, n, &magnitudes);
            best = largest > most ? i : best;
            most = largest > most ? largest : most;
        }
        if (all_finite(magnitudes)) {
            size_t n = args->n - best < BLOCK ? args->n - best : BLOCK;
            best += place_of(x + best, n, most);
            args->dst[r] = (int32_t)(args->noise != NULL ? draw(args, r, best) : best);
        } else { /* reports the fault, and orders NaN as the definition does */
            argmax_scalar(args, r, r + 1, task);
        }
    }
}
