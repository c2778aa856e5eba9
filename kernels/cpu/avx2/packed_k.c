/* packed_k.c - products of packed weights of class K: lanes are output rows, eight at a time. */
#include "kernels/cpu/avx2/packed.h"
#include "kernels/cpu/avx2/variants.h"

enum { HALVES = 2, MOST_ROWS = 4 };

static inline __m256i load_line(const uint8_t *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

/* Bit `from` of every byte to bit `to`, others lost by the mask. */
ALWAYS_INLINE __m256i bits_to(__m256i v, int from, int to, int mask)
{
    __m256i moved = from <= to ? _mm256_slli_epi16(v, to - from) : _mm256_srli_epi16(v, from - to);
    return _mm256_and_si256(moved, _mm256_set1_epi8((char)mask));
}

/* The eight quads of a sub-block, of eight rows, as unsigned bytes. */
ALWAYS_INLINE void load_quads(const uint8_t *lines, struct packed_form f, __m256i q[8])
{
    const uint8_t *high = lines + (f.type == MTP_TYPE_Q3_K ? 0 : 4 * PACK_LINE);
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        if (f.type == MTP_TYPE_Q3_K) {
            q[v] = q[v + 4] = _mm256_setzero_si256();
            continue;
        }
        __m256i line = load_line(lines + v * PACK_LINE);
        q[v] = bits_to(line, 0, 0, 15);
        q[v + 4] = bits_to(line, 4, 0, 15);
    }
    if (f.type == MTP_TYPE_Q6_K || f.type == MTP_TYPE_Q3_K) {
        int to = f.type == MTP_TYPE_Q6_K ? 4 : 0;
#pragma GCC unroll 8
        for (int v = 0; v < 8; v++)
            q[v] = _mm256_or_si256(q[v], bits_to(load_line(high + v / 4 * PACK_LINE), 2 * (v % 4),
                                                 to, 3 << to));
    }
    if (f.type == MTP_TYPE_Q5_K || f.type == MTP_TYPE_Q3_K) {
        int to = f.type == MTP_TYPE_Q5_K ? 4 : 2;
        __m256i line = load_line(high + (f.type == MTP_TYPE_Q3_K ? 2 * PACK_LINE : 0));
#pragma GCC unroll 8
        for (int v = 0; v < 8; v++)
            q[v] = _mm256_or_si256(q[v], bits_to(line, v, to, 1 << to));
    }
}

/* Scales of a sub-block as words: of its first sixteen weights, and of the others. */
struct sub_scales {
    __m256i first, second;
};

/* Each of eight bytes to both words of a row. */
ALWAYS_INLINE __m256i doubled_words(const uint8_t *at)
{
    const __m256i doubled = _mm256_setr_epi8(0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1,
                                             4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7, -1);
    __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)at);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), doubled);
}

ALWAYS_INLINE struct sub_scales load_sub_scales(const struct k_tables *t, int j, int half,
                                                struct packed_form f)
{
    const __m256i low = _mm256_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13, 0, 1, 0,
                                         1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
    struct sub_scales s;
    if (f.has_min) { /* 0..63 */
        s.first = s.second = doubled_words(t->scales + 16 * j + 8 * half);
        return s;
    }
    __m256i both = _mm256_cvtepi8_epi16(load_16(t->scales + 32 * j + 16 * half));
    s.first = _mm256_shuffle_epi8(both, low);
    s.second = _mm256_shuffle_epi8(both, _mm256_add_epi8(low, _mm256_set1_epi8(2)));
    return s;
}

/* What the sub-block adds to the exact sums of eight rows. */
ALWAYS_INLINE __m256i sub_product(const __m256i q[8], const struct sub_scales *s, const int8_t *x,
                                  uint8_t mul, struct packed_form f)
{
    __m256i by = _mm256_and_si256(_mm256_set1_epi8((char)mul), _mm256_set1_epi16(0xff));
    __m256i first = _mm256_mullo_epi16(s->first, by);
    __m256i second = f.has_min ? first : _mm256_mullo_epi16(s->second, by);
    __m256i total = _mm256_setzero_si256(), pairs = total;
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++) {
        __m256i products = _mm256_maddubs_epi16(q[v], _mm256_set1_epi32(load_pair(x + 4 * v)));
        pairs = v % f.run == 0 ? products : _mm256_add_epi16(pairs, products);
        if (v % f.run == f.run - 1)
            total = _mm256_add_epi32(total, _mm256_madd_epi16(pairs, v < 4 || f.run == 8
                                                                         ? first : second));
    }
    return total;
}

/* Sum over sub-blocks of minima or scales times the activations' sums of sixteen. */
ALWAYS_INLINE __m256i with_sums(const struct k_tables *t, int half, const struct act_block *x,
                                bool minima)
{
    __m256i total = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m256i words = minima ? doubled_words(t->min[j] + 8 * half)
                               : _mm256_cvtepi8_epi16(load_16(t->scales + 32 * j + 16 * half));
        __m256i sums = _mm256_set1_epi32(load_pair(x->bsum + 2 * j));
        total = _mm256_add_epi32(total, _mm256_madd_epi16(words, sums));
    }
    return total;
}

static inline __m256 eight_halves(const uint8_t *at)
{
    return _mm256_cvtph_ps(load_16(at));
}

/* Adds one super-block of eight rows to totals[r]. */
ALWAYS_INLINE void add_block(const uint8_t *block, const struct k_tables *t, int half,
                             const struct act_block *const *act, size_t b, struct packed_form f,
                             int n, __m256 totals[][HALVES])
{
    __m256i sums[MOST_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < n; r++)
        sums[r] = _mm256_setzero_si256();
    const uint8_t *lines = t->lines + 32 * half;
    for (int j = 0; j < 8; j++) {
        __m256i q[8];
        load_quads(lines + (size_t)j * line_bytes(f), f, q);
        struct sub_scales scales = load_sub_scales(t, j, half, f);
#pragma GCC unroll 4
        for (int r = 0; r < n; r++) {
            const struct act_block *x = act[r] + b;
            sums[r] = _mm256_add_epi32(sums[r],
                                       sub_product(q, &scales, x->q + 32 * j, x->mul[j], f));
        }
    }
    __m256 d = eight_halves(block + 16 * half);
#pragma GCC unroll 4
    for (int r = 0; r < n; r++) {
        const struct act_block *x = act[r] + b;
        __m256 scale = _mm256_set1_ps(x->d);
        if (f.offset != 0) {
            __m256i offset = _mm256_set1_epi32(f.offset);
            sums[r] = _mm256_sub_epi32(sums[r],
                                       _mm256_mullo_epi32(with_sums(t, half, x, false), offset));
        }
        __m256 total = _mm256_fmadd_ps(_mm256_mul_ps(d, scale), _mm256_cvtepi32_ps(sums[r]),
                                       totals[r][half]);
        if (f.has_min) {
            __m256 dmin = _mm256_mul_ps(eight_halves(block + 32 + 16 * half), scale);
            /* fma(-dmin, sum, total) */
            total = _mm256_fnmadd_ps(dmin, _mm256_cvtepi32_ps(with_sums(t, half, x, true)), total);
        }
        totals[r][half] = total;
    }
}

ALWAYS_INLINE __m256 fold_segments(const __m256 s[N_SEGMENTS])
{
    __m256 low = _mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3]));
    __m256 high = _mm256_add_ps(_mm256_add_ps(s[4], s[5]), _mm256_add_ps(s[6], s[7]));
    return _mm256_add_ps(low, high);
}

/* fold_segments where all segments but 7, or 3 and 7, are +0 and were left out; adding +0 turns a -0. */
ALWAYS_INLINE __m256 fold_few(const __m256 s[N_SEGMENTS], size_t blocks)
{
    const __m256 zero = _mm256_setzero_ps();
    __m256 last = _mm256_add_ps(zero, s[7]);
    return blocks == 1 ? last : _mm256_add_ps(_mm256_add_ps(zero, s[3]), last);
}

ALWAYS_INLINE void store_group(const struct packed_rows *rows, size_t blocks, int n,
                               __m256 segments[][HALVES][N_SEGMENTS])
{
    int32_t wanted = packed_outputs(rows->args, rows->o);
    for (int r = 0; r < n; r++) {
        float out[PACK_ROWS];
        for (int half = 0; half < HALVES; half++)
            _mm256_storeu_ps(out + 8 * half, blocks <= FEW_BLOCKS
                                                 ? fold_few(segments[r][half], blocks)
                                                 : fold_segments(segments[r][half]));
        memcpy(rows->args->y[rows->first + r] + rows->o, out, (size_t)wanted * sizeof *out);
    }
}

ALWAYS_INLINE void packed_group(const struct packed_rows *rows, struct packed_form f, int n)
{
    const struct dot_args *args = rows->args;
    const struct act_block *const *act = args->act + rows->first;
    size_t blocks = args->n_in / SUPER_BLOCK;
    __m256 segments[MOST_ROWS][HALVES][N_SEGMENTS];
    for (size_t s = 0; s < N_SEGMENTS; s++) {
        size_t b = segment_start(blocks, s), end = segment_start(blocks, s + 1);
        if (b == end && blocks <= FEW_BLOCKS)
            continue;
        __m256 totals[MOST_ROWS][HALVES];
        for (int r = 0; r < n; r++)
            totals[r][0] = totals[r][1] = _mm256_setzero_ps();
        for (; b < end; b++) {
            const uint8_t *block = rows->group + b * f.block_bytes;
            struct k_tables t;
            load_tables(block, f, &t);
            for (int half = 0; half < HALVES; half++)
                add_block(block, &t, half, act, b, f, n, totals);
        }
        for (int r = 0; r < n; r++)
            for (int half = 0; half < HALVES; half++)
                segments[r][half][s] = totals[r][half];
    }
    store_group(rows, blocks, n, segments);
}

ALWAYS_INLINE void packed_groups(const struct dot_args *args, struct packed_form f)
{
    size_t group_bytes = args->row_bytes * PACK_ROWS;
    for (int32_t first = 0; first < args->n; first += MOST_ROWS)
        for (int32_t o = 0; o < args->n_out; o += PACK_ROWS) {
            struct packed_rows rows = {
                args, (const uint8_t *)args->w + (size_t)(o / PACK_ROWS) * group_bytes, first, o};
            switch (args->n - first) {
            case 1: packed_group(&rows, f, 1); break;
            case 2: packed_group(&rows, f, 2); break;
            case 3: packed_group(&rows, f, 3); break;
            default: packed_group(&rows, f, 4); break;
            }
        }
}

static void packed_q3_k(const struct dot_args *args)
{
    packed_groups(args, FORM_Q3_K);
}
static void packed_q4_k(const struct dot_args *args)
{
    packed_groups(args, FORM_Q4_K);
}
static void packed_q5_k(const struct dot_args *args)
{
    packed_groups(args, FORM_Q5_K);
}
static void packed_q6_k(const struct dot_args *args)
{
    packed_groups(args, FORM_Q6_K);
}

void dot_packed_avx2(const struct dot_args *args)
{
    switch (args->type) {
    case MTP_TYPE_Q3_K: packed_q3_k(args); break;
    case MTP_TYPE_Q4_K: packed_q4_k(args); break;
    case MTP_TYPE_Q5_K: packed_q5_k(args); break;
    case MTP_TYPE_Q6_K: packed_q6_k(args); break;
    default: dot_packed_s_avx2(args); break;
    }
}
