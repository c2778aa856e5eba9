/* packed_k.c - products of packed weights of class K: lanes are sixteen output rows; quads of weights
 * and activations meet in vpdpbusd, whose int32 sums do not saturate. */
#include "kernels/cpu/avx2/packed.h"
#include "kernels/cpu/avx512/packed512.h"
#include "kernels/cpu/avx512/variants.h"

enum { MOST_ROWS = 8 };

/* Bit `from` of every byte to bit `to`, others lost by the mask. */
ALWAYS_INLINE __m512i bits_to(__m512i v, int from, int to, int mask)
{
    __m512i moved = from <= to ? _mm512_slli_epi16(v, (unsigned)(to - from))
                               : _mm512_srli_epi16(v, (unsigned)(from - to));
    return _mm512_and_si512(moved, _mm512_set1_epi8((char)mask));
}

/* The eight quads of a sub-block, of sixteen rows, as unsigned bytes. */
ALWAYS_INLINE void load_quads(const uint8_t *lines, struct packed_form f, __m512i q[8])
{
    const uint8_t *high = lines + (f.type == MTP_TYPE_Q3_K ? 0 : 4 * PACK_LINE);
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        if (f.type == MTP_TYPE_Q3_K) {
            q[v] = q[v + 4] = _mm512_setzero_si512();
            continue;
        }
        __m512i line = load_line512(lines + v * PACK_LINE);
        q[v] = bits_to(line, 0, 0, 15);
        q[v + 4] = bits_to(line, 4, 0, 15);
    }
    if (f.type == MTP_TYPE_Q6_K || f.type == MTP_TYPE_Q3_K) {
        int to = f.type == MTP_TYPE_Q6_K ? 4 : 0;
#pragma GCC unroll 8
        for (int v = 0; v < 8; v++)
            q[v] = _mm512_or_si512(q[v], bits_to(load_line512(high + v / 4 * PACK_LINE), 2 * (v % 4),
                                                 to, 3 << to));
    }
    if (f.type == MTP_TYPE_Q5_K || f.type == MTP_TYPE_Q3_K) {
        int to = f.type == MTP_TYPE_Q5_K ? 4 : 2;
        __m512i line = load_line512(high + (f.type == MTP_TYPE_Q3_K ? 2 * PACK_LINE : 0));
#pragma GCC unroll 8
        for (int v = 0; v < 8; v++)
            q[v] = _mm512_or_si512(q[v], bits_to(line, v, to, 1 << to));
    }
}

/* Scales of a sub-block as int32: of its first sixteen weights, and of the others. */
struct sub_scales {
    __m512i first, second;
};

ALWAYS_INLINE struct sub_scales load_sub_scales(const struct k_tables *t, int j,
                                                struct packed_form f)
{
    struct sub_scales s;
    if (f.has_min) { /* 0..63 */
        s.first = s.second = _mm512_cvtepu8_epi32(load_16(t->scales + 16 * j));
        return s;
    }
    __m256i first = _mm256_cvtepi8_epi16(load_16(t->scales + 32 * j));
    __m256i last = _mm256_cvtepi8_epi16(load_16(t->scales + 32 * j + 16));
    __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(first), last, 1);
    s.second = _mm512_srai_epi32(both, 16);
    s.first = _mm512_srai_epi32(_mm512_slli_epi32(both, 16), 16);
    return s;
}

/* What the sub-block adds to the exact sums of sixteen rows. */
ALWAYS_INLINE __m512i sub_product(const __m512i q[8], const struct sub_scales *s, const int8_t *x,
                                  uint8_t mul, struct packed_form f)
{
    __m512i first = _mm512_setzero_si512(), second = first;
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        first = _mm512_dpbusd_epi32(first, q[v], _mm512_set1_epi32(load_pair(x + 4 * v)));
        second = _mm512_dpbusd_epi32(second, q[v + 4], _mm512_set1_epi32(load_pair(x + 4 * v + 16)));
    }
    __m512i sum;
    if (f.has_min)
        sum = _mm512_mullo_epi32(_mm512_add_epi32(first, second), s->first);
    else
        sum = _mm512_add_epi32(_mm512_mullo_epi32(first, s->first),
                               _mm512_mullo_epi32(second, s->second));
    return _mm512_mullo_epi32(sum, _mm512_set1_epi32(mul));
}

/* Sum over sub-blocks of words times the activations' sums of sixteen. */
ALWAYS_INLINE __m512i with_sums(const struct k_tables *t, const struct act_block *x, bool minima)
{
    __m512i total = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m512i words;
        if (minima) {
            words = _mm512_cvtepu8_epi32(load_16(t->min[j]));
            words = _mm512_or_si512(words, _mm512_slli_epi32(words, 16));
        } else {
            words = _mm512_cvtepi8_epi16(load_32(t->scales + 32 * j));
        }
        total = _mm512_dpwssd_epi32(total, words, _mm512_set1_epi32(load_pair(x->bsum + 2 * j)));
    }
    return total;
}

/* Adds one super-block of sixteen rows to totals[r]. */
ALWAYS_INLINE void add_block(const uint8_t *block, const struct act_block *const *act, size_t b,
                             struct packed_form f, int n, __m512 totals[])
{
    struct k_tables t;
    __m512i sums[MOST_ROWS];
    load_tables(block, f, &t);
#pragma GCC unroll 8
    for (int r = 0; r < n; r++)
        sums[r] = _mm512_setzero_si512();
    for (int j = 0; j < 8; j++) {
        __m512i q[8];
        load_quads(t.lines + (size_t)j * line_bytes(f), f, q);
        struct sub_scales scales = load_sub_scales(&t, j, f);
#pragma GCC unroll 8
        for (int r = 0; r < n; r++) {
            const struct act_block *x = act[r] + b;
            sums[r] = _mm512_add_epi32(sums[r],
                                       sub_product(q, &scales, x->q + 32 * j, x->mul[j], f));
        }
    }
    __m512 d = sixteen_halves(block);
#pragma GCC unroll 8
    for (int r = 0; r < n; r++) {
        const struct act_block *x = act[r] + b;
        __m512 scale = _mm512_set1_ps(x->d);
        if (f.offset != 0) /* a power of two */
            sums[r] = _mm512_sub_epi32(sums[r],
                                       _mm512_slli_epi32(with_sums(&t, x, false),
                                                         f.offset == 32 ? 5 : 2));
        totals[r] = _mm512_fmadd_ps(_mm512_mul_ps(d, scale), _mm512_cvtepi32_ps(sums[r]), totals[r]);
        if (f.has_min) {
            __m512 dmin = _mm512_mul_ps(sixteen_halves(block + 2 * PACK_ROWS), scale);
            /* fma(-dmin, sum, total) */
            totals[r] = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(with_sums(&t, x, true)),
                                         totals[r]);
        }
    }
}

/* fold512 where all segments but 7, or 3 and 7, are +0 and were left out; adding +0 turns a -0. */
ALWAYS_INLINE __m512 fold_few(const __m512 s[N_SEGMENTS], size_t blocks)
{
    const __m512 zero = _mm512_setzero_ps();
    __m512 last = _mm512_add_ps(zero, s[7]);
    return blocks == 1 ? last : _mm512_add_ps(_mm512_add_ps(zero, s[3]), last);
}

ALWAYS_INLINE void packed_group(const struct packed_rows *rows, struct packed_form f, int n)
{
    const struct dot_args *args = rows->args;
    size_t blocks = args->n_in / SUPER_BLOCK;
    __m512 segments[MOST_ROWS][N_SEGMENTS];
    for (size_t s = 0; s < N_SEGMENTS; s++) {
        size_t b = segment_start(blocks, s), end = segment_start(blocks, s + 1);
        if (b == end && blocks <= FEW_BLOCKS)
            continue;
        __m512 totals[MOST_ROWS];
        for (int r = 0; r < n; r++)
            totals[r] = _mm512_setzero_ps();
        for (; b < end; b++)
            add_block(rows->group + b * f.block_bytes, args->act + rows->first, b, f, n, totals);
        for (int r = 0; r < n; r++)
            segments[r][s] = totals[r];
    }
    for (int r = 0; r < n; r++)
        store_outputs(rows, r, blocks <= FEW_BLOCKS ? fold_few(segments[r], blocks)
                                                    : fold512(segments[r]));
}

ALWAYS_INLINE void packed_groups(const struct dot_args *args, struct packed_form f)
{
    for_groups(args, f, packed_group);
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

void dot_packed_avx512(const struct dot_args *args)
{
    switch (args->type) {
    case MTP_TYPE_Q3_K: packed_q3_k(args); break;
    case MTP_TYPE_Q4_K: packed_q4_k(args); break;
    case MTP_TYPE_Q5_K: packed_q5_k(args); break;
    case MTP_TYPE_Q6_K: packed_q6_k(args); break;
    default: dot_packed_s_avx512(args); break;
    }
}
