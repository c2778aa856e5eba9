/* dot.c - products of weight rows with activation rows: the definition (docs/arithmetic.md,
 * "Quantised weights", "Float weights", "Order"). */
#include "kernels/cpu/kernels.h"
#include "kernels/reduce.h"

/* Exact: sum over sub-blocks of 16 of scale * mul * sum of q x. */
static int32_t k_sum(const struct kblock *w, const struct act_block *x)
{
    int32_t total = 0;
    for (int s = 0; s < 16; s++) {
        int32_t sum = 0;
        for (int i = 16 * s; i < 16 * s + 16; i++)
            sum += w->q[i] * x->q[i];
        total += w->scale[s] * x->mul[s / 2] * sum;
    }
    return total;
}

/* Exact: sum over sub-blocks of 16 of min * mul * sum of x. */
static int32_t k_min_sum(const struct kblock *w, const struct act_block *x)
{
    int32_t total = 0;
    for (int s = 0; s < 16; s++)
        total += w->min[s] * x->bsum[s];
    return total;
}

static void dot_k(const struct dot_args *a, const uint8_t *row, float *out)
{
    const struct type_info *type = type_info(a->type);
    decode_k_fn *decode = block_codec_scalar(a->type)->decode_k;
    size_t blocks = a->n_in / SUPER_BLOCK;
    float segment[DOT_TILE][N_SEGMENTS];
    for (size_t s = 0; s < N_SEGMENTS; s++) {
        float sum[DOT_TILE] = {0};
        for (size_t b = segment_start(blocks, s); b < segment_start(blocks, s + 1); b++) {
            struct kblock w;
            decode(row + b * type->block_bytes, &w);
            for (int r = 0; r < a->n; r++) {
                const struct act_block *x = &a->act[r][b];
                sum[r] = fmaf(w.d * x->d, (float)k_sum(&w, x), sum[r]);
                if (type->has_min)
                    sum[r] = fmaf(-(w.dmin * x->d), (float)k_min_sum(&w, x), sum[r]);
            }
        }
        for (int r = 0; r < a->n; r++)
            segment[r][s] = sum[r];
    }
    for (int r = 0; r < a->n; r++)
        out[r] = fold8(segment[r]);
}

/* Adds the sub-blocks present in one super-block to the eight partials. */
static void s_accumulate(const struct sblock *w, uint32_t n_sub, bool has_min,
                         const struct act_block *x, float *partial)
{
    for (uint32_t j = 0; j < n_sub; j++) {
        int32_t sum = 0;
        for (int i = 32 * (int)j; i < 32 * (int)j + 32; i++)
            sum += w->q[i] * x->q[i];
        partial[j] = fmaf(w->d[j] * x->d, (float)(x->mul[j] * sum), partial[j]);
        if (has_min)
            partial[j] = fmaf(w->m[j] * x->d, (float)(x->bsum[2 * j] + x->bsum[2 * j + 1]),
                              partial[j]);
    }
}

static void dot_s(const struct dot_args *a, const uint8_t *row, float *out)
{
    const struct type_info *type = type_info(a->type);
    decode_s_fn *decode = block_codec_scalar(a->type)->decode_s;
    uint32_t subs = a->n_in / SUB_BLOCK;
    size_t blocks = act_blocks(a->n_in);
    float segment[DOT_TILE][N_SEGMENTS];
    for (size_t s = 0; s < N_SEGMENTS; s++) {
        float partial[DOT_TILE][8] = {{0}};
        for (size_t b = segment_start(blocks, s); b < segment_start(blocks, s + 1); b++) {
            uint32_t left = subs - (uint32_t)b * 8;
            uint32_t n_sub = left < 8 ? left : 8;
            struct sblock w;
            decode(row + b * 8 * type->block_bytes, n_sub, &w);
            for (int r = 0; r < a->n; r++)
                s_accumulate(&w, n_sub, type->has_min, &a->act[r][b], partial[r]);
        }
        for (int r = 0; r < a->n; r++)
            segment[r][s] = fold8(partial[r]);
    }
    for (int r = 0; r < a->n; r++)
        out[r] = fold8(segment[r]);
}

static float widen(uint32_t type, const uint8_t *row, size_t i)
{
    if (type == MTP_TYPE_F32)
        return ((const float *)(const void *)row)[i];
    uint16_t half = ((const uint16_t *)(const void *)row)[i];
    return type == MTP_TYPE_F16 ? f16_to_f32(half) : bf16_to_f32(half);
}

static void dot_float(const struct dot_args *a, const uint8_t *row, float *out)
{
    for (int r = 0; r < a->n; r++) {
        float partial[SUM64] = {0};
        for (size_t i = 0; i < a->n_in; i++)
            partial[i % SUM64] = fmaf(widen(a->type, row, i), a->x[r][i], partial[i % SUM64]);
        out[r] = fold64(partial);
    }
}

void dot_scalar(const struct dot_args *args)
{
    enum weight_class class = type_info(args->type)->weight_class;
    for (int32_t o = 0; o < args->n_out; o++) {
        const uint8_t *row = (const uint8_t *)args->w + (size_t)o * args->row_bytes;
        float out[DOT_TILE];
        if (class == WEIGHT_K)
            dot_k(args, row, out);
        else if (class == WEIGHT_S)
            dot_s(args, row, out);
        else
            dot_float(args, row, out);
        for (int r = 0; r < args->n; r++)
            args->y[r][o] = out[r];
    }
}
