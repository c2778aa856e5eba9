/* packed_s.c - products of packed weights of class S (a float scale a block of 32): lanes are output
 * rows, eight at a time. */
#include "kernels/cpu/avx2/packed.h"
#include "kernels/cpu/avx2/variants.h"

enum { MOST_ROWS = 4, SUBS = SUPER_BLOCK / SUB_BLOCK };

static inline __m256i load_line(const uint8_t *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

/* Eight int32: the sums of q x over a block of 32 of eight rows (Q4_0: of (q + 8) x). */
ALWAYS_INLINE __m256i block_sum(const uint8_t *lines, const int8_t *x, struct packed_form f)
{
    const __m256i ones = _mm256_set1_epi16(1), nibble = _mm256_set1_epi8(15);
    __m256i total = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        __m256i a = _mm256_set1_epi32(load_pair(x + 4 * v));
        __m256i b = _mm256_set1_epi32(load_pair(x + 4 * v + 16));
        __m256i line = load_line(lines + v * PACK_LINE);
        if (f.type == MTP_TYPE_Q8_0) {
            __m256i other = load_line(lines + (v + 4) * PACK_LINE);
            /* |q| may be 128: a pair is at most 2 * 128 * 127 < 2^15 */
            a = _mm256_maddubs_epi16(_mm256_abs_epi8(line), _mm256_sign_epi8(a, line));
            b = _mm256_maddubs_epi16(_mm256_abs_epi8(other), _mm256_sign_epi8(b, other));
            a = _mm256_add_epi32(_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones));
            total = _mm256_add_epi32(total, a);
        } else {
            a = _mm256_maddubs_epi16(_mm256_and_si256(line, nibble), a);
            line = _mm256_and_si256(_mm256_srli_epi16(line, 4), nibble);
            a = _mm256_add_epi16(a, _mm256_maddubs_epi16(line, b));
            total = _mm256_add_epi16(total, a);
        }
    }
    return f.type == MTP_TYPE_Q8_0 ? total : _mm256_madd_epi16(total, ones);
}

ALWAYS_INLINE __m256 fold(const __m256 s[8])
{
    __m256 low = _mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3]));
    __m256 high = _mm256_add_ps(_mm256_add_ps(s[4], s[5]), _mm256_add_ps(s[6], s[7]));
    return _mm256_add_ps(low, high);
}

/* Adds sub-block j of super-block x to the rows' partial j. */
ALWAYS_INLINE __m256 add_sub(const uint8_t *block, int half, const struct act_block *x, size_t j,
                             struct packed_form f, __m256 partial)
{
    const uint8_t *lines = block + 2 * PACK_ROWS + 32 * half;
    __m256i sum = _mm256_mullo_epi32(block_sum(lines, x->q + 32 * j, f),
                                     _mm256_set1_epi32(x->mul[j]));
    if (f.offset != 0)
        sum = _mm256_sub_epi32(sum, _mm256_set1_epi32(f.offset *
                                                      (x->bsum[2 * j] + x->bsum[2 * j + 1])));
    __m256 d = _mm256_mul_ps(_mm256_cvtph_ps(load_16(block + 16 * half)), _mm256_set1_ps(x->d));
    return _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(sum), partial);
}

/* Eight outputs of n batch rows. */
ALWAYS_INLINE void packed_half(const struct packed_rows *rows, int half, struct packed_form f, int n,
                               __m256 out[MOST_ROWS])
{
    const struct act_block *const *act = rows->args->act + rows->first;
    size_t subs = rows->args->n_in / SUB_BLOCK, blocks = act_blocks(rows->args->n_in);
    __m256 segments[MOST_ROWS][N_SEGMENTS];
    for (size_t s = 0; s < N_SEGMENTS; s++) {
        __m256 partials[MOST_ROWS][SUBS];
        size_t end = segment_start(blocks, s + 1) * SUBS;
        for (int r = 0; r < n; r++)
            for (size_t j = 0; j < SUBS; j++)
                partials[r][j] = _mm256_setzero_ps();
        for (size_t i = segment_start(blocks, s) * SUBS; i < end && i < subs; i++) {
            const uint8_t *block = rows->group + i * f.block_bytes;
            size_t j = i % SUBS;
#pragma GCC unroll 4
            for (int r = 0; r < n; r++)
                partials[r][j] = add_sub(block, half, act[r] + i / SUBS, j, f, partials[r][j]);
        }
        for (int r = 0; r < n; r++)
            segments[r][s] = fold(partials[r]);
    }
    for (int r = 0; r < n; r++)
        out[r] = fold(segments[r]);
}

ALWAYS_INLINE void packed_group(const struct packed_rows *rows, struct packed_form f, int n)
{
    int32_t wanted = packed_outputs(rows->args, rows->o);
    __m256 out[2][MOST_ROWS];
    packed_half(rows, 0, f, n, out[0]);
    packed_half(rows, 1, f, n, out[1]);
    for (int r = 0; r < n; r++) {
        float values[PACK_ROWS];
        _mm256_storeu_ps(values, out[0][r]);
        _mm256_storeu_ps(values + 8, out[1][r]);
        memcpy(rows->args->y[rows->first + r] + rows->o, values, (size_t)wanted * sizeof *values);
    }
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

void dot_packed_s_avx2(const struct dot_args *args)
{
    if (args->type == MTP_TYPE_Q8_0)
        packed_groups(args, FORM_Q8_0);
    else
        packed_groups(args, FORM_Q4_0);
}
