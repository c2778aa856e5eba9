/* dot_k.c - products with types of integer sub-scales (WEIGHT_K).
 *
 * Quants enter maddubs as unsigned bytes: either q + offset, taken back through the block's bsum, or
 * |q| with the sign moved to x. Both keep pair sums below 2^15: (q + offset) <= 127 and |x| <= 127.
 */
#include "kernels/cpu/avx2/dot.h"

/* How a type's quants are held. */
struct k_form {
    bool by_16;     /* the two halves of a sub-block of 32 have scales of their own */
    bool is_signed; /* else quants are stored as q + offset */
    bool has_min;
    int offset;
};

/* One super-block, ready for products with several rows. */
struct k_weights {
    __m256i q[8];    /* unsigned */
    __m256i sign[8]; /* is_signed: the quants themselves */
    __m256i scale;   /* by_16: words 0 2 .. 14 | 1 3 .. 15; otherwise one a sub-block, twice */
    __m256i offset;  /* -offset * scale, one a sub-block of 16 in order */
    __m256i min;     /* in order */
    float d, dmin;
};

typedef void load_k_fn(const uint8_t *block, decode_k_fn *decode, struct k_form form,
                       struct k_weights *w);

/* Words 0..15 to 0 2 .. 14 | 1 3 .. 15. */
static inline __m256i evens_and_odds(__m256i words)
{
    const __m256i split = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
                                           0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    return _mm256_permute4x64_epi64(_mm256_shuffle_epi8(words, split), 0xd8);
}

ALWAYS_INLINE void load_any(const uint8_t *block, decode_k_fn *decode, struct k_form form,
                            struct k_weights *w)
{
    struct kblock k;
    decode(block, &k);
    for (int j = 0; j < 8; j++) {
        __m256i q = load_q(k.q + 32 * j);
        if (form.is_signed) {
            w->sign[j] = q;
            w->q[j] = _mm256_abs_epi8(q);
        } else {
            w->q[j] = _mm256_add_epi8(q, _mm256_set1_epi8((char)form.offset));
        }
    }
    __m256i scale = load_q(k.scale);
    w->scale = evens_and_odds(scale);
    w->offset = _mm256_mullo_epi16(scale, _mm256_set1_epi16((short)-form.offset));
    w->min = load_q(k.min);
    w->d = k.d;
    w->dmin = k.dmin;
}

/* Word j of each half, eight times. */
static inline __m256i word_of_each_half(__m256i words, int j)
{
    return _mm256_shuffle_epi8(words, _mm256_set1_epi16((short)(2 * j | (2 * j + 1) << 8)));
}

/* Eight int32 whose sum is the block's sum of scale * mul * q * x. */
ALWAYS_INLINE __m256i k_product(const struct k_weights *w, const struct act_block *x,
                                struct k_form form)
{
    __m128i mul = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)x->mul));
    __m256i scale = _mm256_mullo_epi16(w->scale, _mm256_broadcastsi128_si256(mul));
    __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    if (form.offset != 0)
        sum[1] = _mm256_madd_epi16(w->offset, load_q(x->bsum));
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m256i q = load_q(x->q + 32 * j);
        if (form.is_signed)
            q = _mm256_sign_epi8(q, w->sign[j]);
        __m256i pairs = _mm256_maddubs_epi16(w->q[j], q);
        __m256i products = _mm256_madd_epi16(pairs, word_of_each_half(scale, j));
        sum[j % 2] = _mm256_add_epi32(sum[j % 2], products);
    }
    return _mm256_add_epi32(sum[0], sum[1]);
}

/* Lane s: the activation scale of block at[s]. */
static inline __m256 act_scales(const struct act_block *x, const size_t at[8])
{
    return _mm256_setr_ps(x[at[0]].d, x[at[1]].d, x[at[2]].d, x[at[3]].d, x[at[4]].d, x[at[5]].d,
                          x[at[6]].d, x[at[7]].d);
}

ALWAYS_INLINE void k_rows(const struct dot_rows *rows, decode_k_fn *decode, size_t block_bytes,
                          load_k_fn *load, struct k_form form, int n)
{
    const struct act_block *const *act = rows->args->act + rows->first;
    __m256 total[ROW_GROUP];
    for (int r = 0; r < n; r++)
        total[r] = _mm256_setzero_ps();
    for (size_t t = 0; t < rows->cut->longest; t++) {
        __m256i sums[ROW_GROUP][8], minima[ROW_GROUP][8];
        _Alignas(32) float d[8] = {0}, dmin[8] = {0};
        _Alignas(32) int32_t present[8];
        size_t at[8];
        for (int s = 0; s < N_SEGMENTS; s++) {
            present[s] = t < rows->cut->length[s] ? -1 : 0;
            at[s] = 0;
            if (!present[s]) {
                for (int r = 0; r < n; r++)
                    sums[r][s] = minima[r][s] = _mm256_setzero_si256();
                continue;
            }
            at[s] = rows->cut->first[s] + t;
            struct k_weights w;
            load(rows->row + at[s] * block_bytes, decode, form, &w);
            d[s] = w.d;
            dmin[s] = w.dmin;
            for (int r = 0; r < n; r++) {
                const struct act_block *x = act[r] + at[s];
                sums[r][s] = k_product(&w, x, form);
                if (form.has_min)
                    minima[r][s] = _mm256_madd_epi16(w.min, load_q(x->bsum));
            }
        }
        __m256 here = _mm256_castsi256_ps(load_q(present));
        for (int r = 0; r < n; r++) {
            __m256 scale = act_scales(act[r], at);
            __m256 next = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_load_ps(d), scale),
                                          _mm256_cvtepi32_ps(sum_each(sums[r])), total[r]);
            if (form.has_min) {
                __m256 down = v_negative(_mm256_mul_ps(_mm256_load_ps(dmin), scale));
                next = _mm256_fmadd_ps(down, _mm256_cvtepi32_ps(sum_each(minima[r])), next);
            }
            total[r] = _mm256_blendv_ps(total[r], next, here);
        }
    }
    for (int r = 0; r < n; r++)
        rows->args->y[rows->first + r][rows->o] = v_fold8(total[r]);
}

/* One form of blocks for any number of rows: the compiler makes a copy of k_rows of each. */
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

static void dot_signed(const struct dot_args *args)
{
    k_groups(args, load_any, (struct k_form){.by_16 = true, .is_signed = true});
}

static void dot_with_minima(const struct dot_args *args)
{
    k_groups(args, load_any, (struct k_form){.by_16 = true, .has_min = true});
}

void dot_k_avx2(const struct dot_args *args)
{
    if (type_info(args->type)->has_min)
        dot_with_minima(args);
    else
        dot_signed(args);
}
