/* packed512.h - what the AVX-512 products with packed weights share: a group's sixteen rows fill one
 * vector. */
#ifndef MTP_KERNELS_CPU_AVX512_PACKED512_H
#define MTP_KERNELS_CPU_AVX512_PACKED512_H

#include "kernels/cpu/avx2/packed.h"

static inline __m512i load_line512(const uint8_t *at)
{
    return _mm512_loadu_si512(at);
}

static inline __m512 sixteen_halves(const uint8_t *at)
{
    return _mm512_cvtph_ps(load_32(at));
}

/* Pairs of neighbours, as fold8. */
ALWAYS_INLINE __m512 fold512(const __m512 s[8])
{
    __m512 low = _mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3]));
    __m512 high = _mm512_add_ps(_mm512_add_ps(s[4], s[5]), _mm512_add_ps(s[6], s[7]));
    return _mm512_add_ps(low, high);
}

ALWAYS_INLINE void store_outputs(const struct packed_rows *rows, int r, __m512 values)
{
    __mmask16 wanted = (__mmask16)((1u << packed_outputs(rows->args, rows->o)) - 1);
    _mm512_mask_storeu_ps(rows->args->y[rows->first + r] + rows->o, wanted, values);
}

typedef void packed_group_fn(const struct packed_rows *rows, struct packed_form f, int n);

/* Calls `group` for every sixteen outputs and up to eight batch rows, with constant numbers of rows so
 * that each has a copy. */
ALWAYS_INLINE void for_groups(const struct dot_args *args, struct packed_form f,
                              packed_group_fn *group)
{
    size_t group_bytes = args->row_bytes * PACK_ROWS;
    for (int32_t first = 0; first < args->n; first += 8)
        for (int32_t o = 0; o < args->n_out; o += PACK_ROWS) {
            struct packed_rows rows = {
                args, (const uint8_t *)args->w + (size_t)(o / PACK_ROWS) * group_bytes, first, o};
            switch (args->n - first) {
            case 1: group(&rows, f, 1); break;
            case 2: group(&rows, f, 2); break;
            case 3: group(&rows, f, 3); break;
            case 4: group(&rows, f, 4); break;
            case 5: group(&rows, f, 5); break;
            case 6: group(&rows, f, 6); break;
            case 7: group(&rows, f, 7); break;
            default: group(&rows, f, 8); break;
            }
        }
}

#endif
