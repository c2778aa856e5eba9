/* dot_float.c - products with F32, F16 and BF16 weights. Partial 8 g + l of the definition's 64 is
 * lane l of group g; partials never meet before the fold, so groups may be taken one after
 * another. */
#include "kernels/cpu/avx2/dot.h"

typedef __m256 widen_fn(const uint8_t *row, size_t i);

ALWAYS_INLINE __m256 widen_f32(const uint8_t *row, size_t i)
{
    return _mm256_loadu_ps((const float *)(const void *)row + i);
}

ALWAYS_INLINE __m256 widen_f16(const uint8_t *row, size_t i)
{
    return _mm256_cvtph_ps(load_16(row + 2 * i));
}

ALWAYS_INLINE __m256 widen_bf16(const uint8_t *row, size_t i)
{
    __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16(row + 2 * i)), 16);
    return _mm256_castsi256_ps(bits);
}

static float widen_one(uint32_t type, const uint8_t *row, size_t i)
{
    if (type == MTP_TYPE_F16)
        return load_f16(row + 2 * i);
    uint32_t bits = type == MTP_TYPE_F32 ? load_u32(row + 4 * i)
                                         : (uint32_t)load_u16(row + 2 * i) << 16;
    return f32_from_bits(bits);
}

/* Elements past the last whole 64. */
static void add_rest(const struct dot_rows *rows, int r, size_t done, __m256 partial[8])
{
    float p[SUM64];
    size_t n = rows->args->n_in;
    const float *x = rows->args->x[rows->first + r];
    memcpy(p, partial, sizeof p);
    for (size_t i = done; i < n; i++)
        p[i % SUM64] = fmaf(widen_one(rows->args->type, rows->row, i), x[i], p[i % SUM64]);
    memcpy(partial, p, sizeof p);
}

/* `together` groups of lanes at a time: enough sums in flight to hide the latency of fma. */
ALWAYS_INLINE void float_rows(const struct dot_rows *rows, widen_fn *widen, int n, int together)
{
    size_t whole = rows->args->n_in / SUM64 * SUM64;
    const float *const *x = rows->args->x + rows->first;
    __m256 partial[ROW_GROUP][8];
    for (int g = 0; g < 8; g += together) {
        __m256 sum[ROW_GROUP][8];
#pragma GCC unroll 4
        for (int r = 0; r < n; r++)
#pragma GCC unroll 8
            for (int k = 0; k < together; k++)
                sum[r][k] = _mm256_setzero_ps();
        for (size_t i = (size_t)g * 8; i < whole; i += SUM64)
#pragma GCC unroll 8
            for (int k = 0; k < together; k++) {
                __m256 w = widen(rows->row, i + (size_t)k * 8);
#pragma GCC unroll 4
                for (int r = 0; r < n; r++)
                    sum[r][k] = _mm256_fmadd_ps(w, _mm256_loadu_ps(x[r] + i + (size_t)k * 8),
                                                sum[r][k]);
            }
#pragma GCC unroll 4
        for (int r = 0; r < n; r++)
#pragma GCC unroll 8
            for (int k = 0; k < together; k++)
                partial[r][g + k] = sum[r][k];
    }
    for (int r = 0; r < n; r++) {
        if (whole < rows->args->n_in)
            add_rest(rows, r, whole, partial[r]);
        rows->args->y[rows->first + r][rows->o] = v_fold64(partial[r]);
    }
}

ALWAYS_INLINE void float_groups(const struct dot_args *args, widen_fn *widen)
{
    for (int32_t first = 0; first < args->n; first += ROW_GROUP)
        for (int32_t o = 0; o < args->n_out; o++) {
            const uint8_t *row = (const uint8_t *)args->w + (size_t)o * args->row_bytes;
            struct dot_rows rows = {args, row, NULL, first, o};
            switch (args->n - first) {
            case 1: float_rows(&rows, widen, 1, 8); break;
            case 2: float_rows(&rows, widen, 2, 4); break;
            case 3: float_rows(&rows, widen, 3, 4); break;
            default: float_rows(&rows, widen, 4, 2); break;
            }
        }
}

void dot_float_avx2(const struct dot_args *args)
{
    switch (args->type) {
    case MTP_TYPE_F32: float_groups(args, widen_f32); break;
    case MTP_TYPE_F16: float_groups(args, widen_f16); break;
    default: float_groups(args, widen_bf16); break;
    }
}
