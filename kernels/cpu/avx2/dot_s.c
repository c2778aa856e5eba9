/* dot_s.c - products with types of one float scale a block of 32 (WEIGHT_S). Lane j of an
 * accumulator is partial j of the definition: sub-block j of each super-block of a segment. */
#include "kernels/cpu/avx2/dot.h"

/* How a type's quants are held, as in dot_k.c. */
struct s_form {
    bool is_signed, has_min;
    int offset;
};

struct s_weights {
    __m256i q[8];    /* unsigned */
    __m256i sign[8]; /* is_signed: the quants themselves */
    __m256 d, m;
};

typedef void load_s_fn(const uint8_t *blocks, uint32_t n_sub, decode_s_fn *decode,
                       struct s_form form, struct s_weights *w);

ALWAYS_INLINE void load_any(const uint8_t *blocks, uint32_t n_sub, decode_s_fn *decode,
                            struct s_form form, struct s_weights *w)
{
    struct sblock s;
    decode(blocks, n_sub, &s);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m256i q = load_q(s.q + 32 * j);
        if (form.is_signed) {
            w->sign[j] = q;
            w->q[j] = _mm256_abs_epi8(q);
        } else {
            w->q[j] = _mm256_add_epi8(q, _mm256_set1_epi8((char)form.offset));
        }
    }
    w->d = _mm256_loadu_ps(s.d);
    w->m = _mm256_loadu_ps(s.m);
}

/* The halves at the start of eight blocks. */
static inline __m256 halves_apart(const uint8_t *blocks, size_t bytes)
{
    __m128i halves = _mm_setr_epi16(
        (short)load_u16(blocks), (short)load_u16(blocks + bytes),
        (short)load_u16(blocks + 2 * bytes), (short)load_u16(blocks + 3 * bytes),
        (short)load_u16(blocks + 4 * bytes), (short)load_u16(blocks + 5 * bytes),
        (short)load_u16(blocks + 6 * bytes), (short)load_u16(blocks + 7 * bytes));
    return _mm256_cvtph_ps(halves);
}

ALWAYS_INLINE void load_q8_0(const uint8_t *blocks, uint32_t n_sub, decode_s_fn *decode,
                             struct s_form form, struct s_weights *w)
{
    enum { BYTES = 34 };
    if (n_sub < 8) {
        load_any(blocks, n_sub, decode, form, w);
        return;
    }
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        w->sign[j] = load_32(blocks + BYTES * j + 2);
        w->q[j] = _mm256_abs_epi8(w->sign[j]);
    }
    w->d = halves_apart(blocks, BYTES);
}

ALWAYS_INLINE void load_q4_0(const uint8_t *blocks, uint32_t n_sub, decode_s_fn *decode,
                             struct s_form form, struct s_weights *w)
{
    enum { BYTES = 18 };
    if (n_sub < 8) {
        load_any(blocks, n_sub, decode, form, w);
        return;
    }
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        w->q[j] = nibbles_of_16(load_16(blocks + BYTES * j + 2));
    w->d = halves_apart(blocks, BYTES);
}

/* Lane j: the sum of q * x over sub-block j, times its multiplier. |q| may be 128: pair sums are at
 * most 2 * 128 * 127 < 2^15. */
ALWAYS_INLINE __m256i s_products(const struct s_weights *w, const struct act_block *x,
                                 struct s_form form)
{
    __m256i sums[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m256i q = load_q(x->q + 32 * j);
        if (form.is_signed)
            q = _mm256_sign_epi8(q, w->sign[j]);
        sums[j] = _mm256_madd_epi16(_mm256_maddubs_epi16(w->q[j], q), _mm256_set1_epi16(1));
    }
    __m128i mul = _mm_loadl_epi64((const __m128i *)(const void *)x->mul);
    __m256i products = _mm256_mullo_epi32(sum_each(sums), _mm256_cvtepu8_epi32(mul));
    if (form.offset != 0) {
        __m256i offset = _mm256_set1_epi16((short)-form.offset);
        products = _mm256_add_epi32(products, _mm256_madd_epi16(offset, load_q(x->bsum)));
    }
    return products;
}

ALWAYS_INLINE __m256 s_step(const struct s_weights *w, const struct act_block *x,
                            struct s_form form, __m256 partial)
{
    __m256 scale = _mm256_set1_ps(x->d);
    __m256 products = _mm256_cvtepi32_ps(s_products(w, x, form));
    partial = _mm256_fmadd_ps(_mm256_mul_ps(w->d, scale), products, partial);
    if (form.has_min) {
        __m256i sums = _mm256_madd_epi16(load_q(x->bsum), _mm256_set1_epi16(1));
        partial = _mm256_fmadd_ps(_mm256_mul_ps(w->m, scale), _mm256_cvtepi32_ps(sums), partial);
    }
    return partial;
}

ALWAYS_INLINE void s_rows(const struct dot_rows *rows, decode_s_fn *decode, size_t block_bytes,
                          load_s_fn *load, struct s_form form, int n)
{
    const struct act_block *const *act = rows->args->act + rows->first;
    uint32_t subs = rows->args->n_in / SUB_BLOCK;
    __m256 segment[ROW_GROUP][N_SEGMENTS];
    for (int s = 0; s < N_SEGMENTS; s++) {
        __m256 partial[ROW_GROUP];
#pragma GCC unroll 4
        for (int r = 0; r < n; r++)
            partial[r] = _mm256_setzero_ps();
        for (size_t t = 0; t < rows->cut->length[s]; t++) {
            size_t b = rows->cut->first[s] + t;
            uint32_t left = subs - (uint32_t)b * 8, n_sub = left < 8 ? left : 8;
            struct s_weights w;
            load(rows->row + b * 8 * block_bytes, n_sub, decode, form, &w);
            __m256 present = _mm256_castsi256_ps(lane_mask(n_sub));
#pragma GCC unroll 4
            for (int r = 0; r < n; r++)
                partial[r] = _mm256_blendv_ps(partial[r],
                                              s_step(&w, act[r] + b, form, partial[r]), present);
        }
#pragma GCC unroll 4
        for (int r = 0; r < n; r++)
            segment[r][s] = partial[r];
    }
#pragma GCC unroll 4
    for (int r = 0; r < n; r++)
        rows->args->y[rows->first + r][rows->o] = v_fold8(fold8_each(segment[r]));
}

/* As k_groups. */
ALWAYS_INLINE void s_groups(const struct dot_args *args, load_s_fn *load, struct s_form form)
{
    decode_s_fn *decode = block_codec_avx2(args->type)->decode_s;
    size_t block_bytes = type_info(args->type)->block_bytes;
    struct segments cut = cut_segments(act_blocks(args->n_in));
    for (int32_t first = 0; first < args->n; first += ROW_GROUP)
        for (int32_t o = 0; o < args->n_out; o++) {
            const uint8_t *row = (const uint8_t *)args->w + (size_t)o * args->row_bytes;
            struct dot_rows rows = {args, row, &cut, first, o};
            switch (args->n - first) {
            case 1: s_rows(&rows, decode, block_bytes, load, form, 1); break;
            case 2: s_rows(&rows, decode, block_bytes, load, form, 2); break;
            case 3: s_rows(&rows, decode, block_bytes, load, form, 3); break;
            default: s_rows(&rows, decode, block_bytes, load, form, 4); break;
            }
        }
}

/* IQ4_NL: values to -127, no offset fits. */
static void dot_signed(const struct dot_args *args)
{
    s_groups(args, load_any, (struct s_form){.is_signed = true});
}

static void dot_with_minima(const struct dot_args *args)
{
    s_groups(args, load_any, (struct s_form){.has_min = true});
}

/* Q5_0 has -16..15, MXFP4 -12..12. */
static void dot_by_16(const struct dot_args *args)
{
    s_groups(args, load_any, (struct s_form){.offset = 16});
}

static void dot_q4_0(const struct dot_args *args)
{
    s_groups(args, load_q4_0, (struct s_form){.offset = 8});
}

static void dot_q8_0(const struct dot_args *args)
{
    s_groups(args, load_q8_0, (struct s_form){.is_signed = true});
}

void dot_s_avx2(const struct dot_args *args)
{
    switch (args->type) {
    case MTP_TYPE_Q8_0: dot_q8_0(args); break;
    case MTP_TYPE_Q4_0: dot_q4_0(args); break;
    case MTP_TYPE_Q4_1:
    case MTP_TYPE_Q5_1: dot_with_minima(args); break;
    case MTP_TYPE_Q5_0:
    case MTP_TYPE_MXFP4: dot_by_16(args); break;
    default: dot_signed(args); break;
    }
}
