/* dot_k.h - the frame of products with types of integer sub-scales (WEIGHT_K), to be completed with
 * a loader a type; the compiler makes a copy of it for each loader and number of rows.
 *
 * Quants enter maddubs as unsigned bytes: either q + offset, taken back through the block's bsum,
 * or |q| with the sign moved to x. Both keep pair sums below 2^15: q + offset <= 127, |x| <= 127.
 */
#ifndef MTP_KERNELS_CPU_AVX2_DOT_K_H
#define MTP_KERNELS_CPU_AVX2_DOT_K_H

#include "kernels/cpu/avx2/dot.h"

/* How a type's quants are held. */
struct k_form {
    bool is_signed; /* else quants are stored as q + offset */
    bool has_min;
    int offset;
};

/* One super-block, ready for products with several rows. */
struct k_weights {
    __m256i q[8];      /* unsigned */
    __m256i sign[8];   /* is_signed: the quants themselves */
    __m256i scale;     /* of sub-blocks of 16: words 0 2 .. 14 | 1 3 .. 15 */
    __m256i taken;     /* offset: -offset * scale, in order */
    __m256i min;       /* has_min: in order */
    float d, dmin;
};

typedef void load_k_fn(const uint8_t *block, decode_k_fn *decode, struct k_form form,
                       struct k_weights *w);

/* Words 0..15 to 0 2 .. 14 | 1 3 .. 15. */
static inline __m256i evens_and_odds(__m256i words)
{
    const __m256i split = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
                                           0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    __m256i halves = _mm256_shuffle_epi8(words, split);
    halves = _mm256_permute4x64_epi64(halves, 0xd8);
    return halves;
}

/* The factors scale * mul of a block's sub-blocks, placed as k_weights.scale. */
ALWAYS_INLINE __m256i k_factors(const struct k_weights *w, const struct act_block *x)
{
    __m128i mul = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)x->mul));
    return _mm256_mullo_epi16(w->scale, _mm256_broadcastsi128_si256(mul));
}

/* Word j of each half, eight times. */
ALWAYS_INLINE __m256i factor_of(__m256i factors, int j)
{
    return _mm256_shuffle_epi8(factors, _mm256_set1_epi16((short)(2 * j | (2 * j + 1) << 8)));
}

/* Eight int32 whose sum is the block's sum of scale * mul * q * x. */
ALWAYS_INLINE __m256i k_product(const struct k_weights *w, const struct act_block *x,
                                struct k_form form)
{
    __m256i factors = k_factors(w, x);
    __m256i sum[2];
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m256i q = load_q(x->q + 32 * j);
        if (form.is_signed)
            q = _mm256_sign_epi8(q, w->sign[j]);
        __m256i pairs = _mm256_maddubs_epi16(w->q[j], q);
        __m256i products = _mm256_madd_epi16(pairs, factor_of(factors, j));
        sum[j % 2] = j < 2 ? products : _mm256_add_epi32(sum[j % 2], products);
    }
    if (form.offset != 0)
        sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(w->taken, load_q(x->bsum)));
    return _mm256_add_epi32(sum[0], sum[1]);
}

/* What one step over the segments gathers: lane s of d, and sums[r][s], belong to segment s. */
struct k_step {
    __m256i sums[ROW_GROUP][N_SEGMENTS], minima[ROW_GROUP][N_SEGMENTS];
    float d[N_SEGMENTS], dmin[N_SEGMENTS];
    size_t at[N_SEGMENTS]; /* of a present block */
};

ALWAYS_INLINE void k_block(const struct dot_rows *rows, const struct act_block *const *act,
                           const uint8_t *block, decode_k_fn *decode, load_k_fn *load,
                           struct k_form form, int n, int s, struct k_step *step)
{
    struct k_weights w;
    (void)rows;
    load(block, decode, form, &w);
    step->d[s] = w.d;
    step->dmin[s] = w.dmin;
#pragma GCC unroll 4
    for (int r = 0; r < n; r++) {
        const struct act_block *x = act[r] + step->at[s];
        step->sums[r][s] = k_product(&w, x, form);
        if (form.has_min)
            step->minima[r][s] = _mm256_madd_epi16(w.min, load_q(x->bsum));
    }
}

/* Loads one by one: a single load would have to wait for all the stores before it. */
static inline __m256 gather_floats(const float v[8])
{
    return _mm256_setr_ps(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]);
}

/* Lane s: the activation scale of block at[s]. */
static inline __m256 act_scales(const struct act_block *x, const size_t at[8])
{
    return _mm256_setr_ps(x[at[0]].d, x[at[1]].d, x[at[2]].d, x[at[3]].d, x[at[4]].d, x[at[5]].d,
                          x[at[6]].d, x[at[7]].d);
}

ALWAYS_INLINE __m256 k_finish(const struct k_step *step, const struct act_block *x,
                              struct k_form form, int r, __m256 present, __m256 total)
{
    __m256 scale = act_scales(x, step->at);
    __m256 d = _mm256_mul_ps(gather_floats(step->d), scale);
    __m256 next = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(sum_each(step->sums[r])), total);
    if (form.has_min) {
        __m256 dmin = _mm256_mul_ps(gather_floats(step->dmin), scale);
        /* fma(-dmin, sum, next) */
        next = _mm256_fnmadd_ps(dmin, _mm256_cvtepi32_ps(sum_each(step->minima[r])), next);
    }
    return _mm256_blendv_ps(total, next, present);
}

ALWAYS_INLINE void k_rows(const struct dot_rows *rows, decode_k_fn *decode, size_t block_bytes,
                          load_k_fn *load, struct k_form form, int n)
{
    const struct act_block *const *act = rows->args->act + rows->first;
    __m256 total[ROW_GROUP];
#pragma GCC unroll 4
    for (int r = 0; r < n; r++)
        total[r] = _mm256_setzero_ps();
    for (size_t t = 0; t < rows->cut->longest; t++) {
        struct k_step step;
        __m256 here = segments_with(rows->cut, t);
        for (int s = 0; s < N_SEGMENTS; s++) {
            bool present = t < rows->cut->length[s];
            step.at[s] = present ? rows->cut->first[s] + t : 0;
            if (present) {
                k_block(rows, act, rows->row + step.at[s] * block_bytes, decode, load, form, n, s,
                        &step);
                continue;
            }
            step.d[s] = step.dmin[s] = 0.0f;
            for (int r = 0; r < n; r++)
                step.sums[r][s] = step.minima[r][s] = _mm256_setzero_si256();
        }
#pragma GCC unroll 4
        for (int r = 0; r < n; r++)
            total[r] = k_finish(&step, act[r], form, r, here, total[r]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < n; r++)
        rows->args->y[rows->first + r][rows->o] = v_fold8(total[r]);
}

ALWAYS_INLINE void k_groups(const struct dot_args *args, load_k_fn *load, struct k_form form)
{
    decode_k_fn *decode = block_codec_avx2(args->type)->decode_k;
    size_t block_bytes = type_info(args->type)->block_bytes;
    struct segments cut = cut_segments(args->n_in / SUPER_BLOCK);
    for (int32_t first = 0; first < args->n; first += ROW_GROUP)
        for (int32_t o = 0; o < args->n_out; o++) {
            const uint8_t *row = (const uint8_t *)args->w + (size_t)o * args->row_bytes;
            struct dot_rows rows = {args, row, &cut, first, o};
            switch (args->n - first) {
            case 1: k_rows(&rows, decode, block_bytes, load, form, 1); break;
            case 2: k_rows(&rows, decode, block_bytes, load, form, 2); break;
            case 3: k_rows(&rows, decode, block_bytes, load, form, 3); break;
            default: k_rows(&rows, decode, block_bytes, load, form, 4); break;
            }
        }
}

#endif
