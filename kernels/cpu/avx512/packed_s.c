/* packed_s.c - products of packed weights of class S (a float scale a block of 32): lanes are sixteen
 * output rows. */
#include "kernels/cpu/avx512/packed512.h"
#include "kernels/cpu/avx512/variants.h"

enum { MOST_ROWS = 8, SUBS = SUPER_BLOCK / SUB_BLOCK };

/* The eight quads of a block as unsigned bytes: q + 8 of Q4_0, q + 128 of Q8_0. */
ALWAYS_INLINE void load_quads(const uint8_t *lines, struct packed_form f, __m512i q[8])
{
    const __m512i nibble = _mm512_set1_epi8(15), flip = _mm512_set1_epi8((char)0x80);
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        __m512i line = load_line512(lines + v * PACK_LINE);
        if (f.type == MTP_TYPE_Q8_0) {
            q[v] = _mm512_xor_si512(line, flip);
            q[v + 4] = _mm512_xor_si512(load_line512(lines + (v + 4) * PACK_LINE), flip);
        } else {
            q[v] = _mm512_and_si512(line, nibble);
            q[v + 4] = _mm512_and_si512(_mm512_srli_epi16(line, 4), nibble);
        }
    }
}

ALWAYS_INLINE __m512 add_sub(const __m512i q[8], __m512 d, const struct act_block *x, size_t j,
                             struct packed_form f, __m512 partial)
{
    const int8_t *values = x->q + 32 * j;
    int offset = f.type == MTP_TYPE_Q8_0 ? 128 : f.offset;
    __m512i first = _mm512_setzero_si512(), second = first;
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        first = _mm512_dpbusd_epi32(first, q[v], _mm512_set1_epi32(load_pair(values + 4 * v)));
        second = _mm512_dpbusd_epi32(second, q[v + 4],
                                     _mm512_set1_epi32(load_pair(values + 4 * v + 16)));
    }
    __m512i sum = _mm512_mullo_epi32(_mm512_add_epi32(first, second), _mm512_set1_epi32(x->mul[j]));
    sum = _mm512_sub_epi32(sum, _mm512_set1_epi32(offset * (x->bsum[2 * j] + x->bsum[2 * j + 1])));
    return _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(x->d)), _mm512_cvtepi32_ps(sum), partial);
}

ALWAYS_INLINE void packed_group(const struct packed_rows *rows, struct packed_form f, int n)
{
    const struct act_block *const *act = rows->args->act + rows->first;
    size_t subs = rows->args->n_in / SUB_BLOCK, blocks = act_blocks(rows->args->n_in);
    __m512 segments[MOST_ROWS][N_SEGMENTS];
    for (size_t s = 0; s < N_SEGMENTS; s++) {
        __m512 partials[MOST_ROWS][SUBS];
        size_t end = segment_start(blocks, s + 1) * SUBS;
        for (int r = 0; r < n; r++)
            for (size_t j = 0; j < SUBS; j++)
                partials[r][j] = _mm512_setzero_ps();
        for (size_t i = segment_start(blocks, s) * SUBS; i < end && i < subs; i++) {
            const uint8_t *block = rows->group + i * f.block_bytes;
            __m512i q[8];
            load_quads(block + 2 * PACK_ROWS, f, q);
            __m512 d = sixteen_halves(block);
            size_t j = i % SUBS;
#pragma GCC unroll 8
            for (int r = 0; r < n; r++)
                partials[r][j] = add_sub(q, d, act[r] + i / SUBS, j, f, partials[r][j]);
        }
        for (int r = 0; r < n; r++)
            segments[r][s] = fold512(partials[r]);
    }
    for (int r = 0; r < n; r++)
        store_outputs(rows, r, fold512(segments[r]));
}

void dot_packed_s_avx512(const struct dot_args *args)
{
    if (args->type == MTP_TYPE_Q8_0)
        for_groups(args, FORM_Q8_0, packed_group);
    else
        for_groups(args, FORM_Q4_0, packed_group);
}
