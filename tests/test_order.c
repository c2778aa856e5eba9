/* The documented order of every float operation (docs/arithmetic.md, "Order"), exactly: inputs
 * whose result differs in bits when the same terms are added in another order, or when a product is
 * rounded before it is added. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "kernels/activation.h"
#include "kernels/fmath.h"
#include "tests/op_fixture.h"
#include "tests/op_inputs.h"

/* BIG + 1 rounds to BIG, BIG + 2 does not; a 1 that meets BIG first is lost. */
#define BIG 0x1p24f

static void assert_float(float got, float wanted)
{
    if (f32_bits(got) != f32_bits(wanted))
        fail_msg("%.9g, not %.9g", (double)got, (double)wanted);
}

/* ---- sum64 ----------------------------------------------------------------------------------- */

static float dot_f32(const float *w, const float *x, uint32_t n)
{
    float y;
    struct weight weight = {w, MTP_TYPE_F32, n, 1, 1, n * 4, n * 4};
    ops->matmul(backend, &(struct matmul_args){weight, x, NULL, &y, 1, 1});
    return y;
}

/* Terms at a, a + far, a + near, a + near + far, the first and third large and opposite: adding
 * over distance `far` first loses a 1, adding over `near` first keeps both. */
static float folded(int far, int near)
{
    float w[64], x[64] = {0};
    for (int i = 0; i < 64; i++)
        w[i] = 1.0f;
    x[0] = BIG;
    x[far] = 1.0f;
    x[near] = -BIG;
    x[near + far] = 1.0f;
    return dot_f32(w, x, 64);
}

static void partials_fold_from_distance_32_down_to_1(void **state)
{
    (void)state;
    for (int far = 32; far >= 2; far /= 2)
        for (int near = far / 2; near >= 1; near /= 2) {
            assert_float(folded(far, near), 1.0f);
            assert_float(folded(near, far), 2.0f);
        }
}

static void partial_i_takes_elements_64_apart_in_ascending_order(void **state)
{
    (void)state;
    float w[200], x[200] = {0};
    for (int i = 0; i < 200; i++)
        w[i] = 1.0f;
    x[3] = BIG;
    x[67] = 1.0f;
    x[131] = -BIG;
    x[195] = 1.0f;
    assert_float(dot_f32(w, x, 200), 1.0f); /* ((BIG + 1) - BIG) + 1 */
    x[67] = -BIG;
    x[131] = 1.0f;
    assert_float(dot_f32(w, x, 200), 2.0f);
    x[131] = 0.0f;
    x[132] = 1.0f; /* another partial, added after */
    x[67] = 1.0f;
    x[195] = -BIG;
    assert_float(dot_f32(w, x, 200), 1.0f);
}

static void products_are_added_unrounded(void **state)
{
    (void)state;
    float w[65] = {[0] = -1.0f, [64] = 1.0f + 0x1p-12f};
    float x[65] = {[0] = 1.0f, [64] = 1.0f + 0x1p-12f};
    assert_float(dot_f32(w, x, 65), 0x1p-11f + 0x1p-24f);
}

static void norms_use_the_same_order_and_multiply_by_the_weight_last(void **state)
{
    (void)state;
    struct numbers numbers = {30};
    enum { N = 300 };
    float *x = random_floats(&numbers, N), *w = random_floats(&numbers, N), out[N];
    ops->rms_norm(backend, &(struct rms_norm_args){x, out, w, N, 1, N, N, N, N, 1e-5f, 1});
    float sum = dot_f32(x, x, N);
    float scale = 1.0f / sqrtf(sum / 300.0f + 1e-5f);
    for (int i = 0; i < N; i++)
        assert_float(out[i], (x[i] * scale) * w[i]);
    free(x);
    free(w);
}

/* ---- quantised products ---------------------------------------------------------------------- */

/* One float a segment: a Q6_K row of 8 super-blocks of which each gives x.d. */
static float segments_summed(const float *values, int n)
{
    enum { BLOCK = 210, MOST = 24 };
    uint8_t row[MOST * BLOCK] = {0};
    struct act_block *act = quantised((float[MOST * 256]){0}, MOST * 256, 1);
    for (int b = 0; b < n; b++) {
        const uint16_t one = 0x3c00;
        row[b * BLOCK] = 1;        /* the low nibble of weight 0: 1 + 32 - 32 */
        row[b * BLOCK + 128] = 2;  /* and its high bits */
        row[b * BLOCK + 192] = 1;  /* sub-scale 0 */
        memcpy(row + b * BLOCK + 208, &one, 2);
        act[b].q[0] = 1;
        act[b].bsum[0] = 1;
        act[b].d = values[b];
    }
    float y;
    uint32_t bytes = (uint32_t)n * BLOCK;
    struct weight w = {row, MTP_TYPE_Q6_K, (uint32_t)n * 256, 1, 1, bytes, bytes};
    ops->matmul(backend, &(struct matmul_args){w, NULL, act, &y, 1, 1});
    free(act);
    return y;
}

static void segments_fold_in_pairs_of_neighbours(void **state)
{
    (void)state;
    assert_float(segments_summed((float[8]){BIG, 1, -BIG, 1}, 8), 1.0f);
    assert_float(segments_summed((float[8]){BIG, -BIG, 1, 1}, 8), 2.0f);
    assert_float(segments_summed((float[8]){1, BIG, 1, -BIG}, 8), 1.0f); /* in sequence: 0 */
    assert_float(segments_summed((float[8]){0, 0, 0, 0, BIG, 1, -BIG, 1}, 8), 1.0f);
    assert_float(segments_summed((float[8]){BIG, 0, 0, 0, 1, 0, 1, 0}, 8), BIG + 2);
    assert_float(segments_summed((float[8]){BIG, 0, 1, 0, -BIG, 0, 1, 0}, 8), 1.0f);
}

static void super_blocks_of_a_segment_add_in_sequence(void **state)
{
    (void)state;
    /* 24 super-blocks: three a segment. */
    assert_float(segments_summed((float[24]){BIG, 1, -BIG}, 24), 0.0f);
    assert_float(segments_summed((float[24]){BIG, -BIG, 1}, 24), 1.0f);
    assert_float(segments_summed((float[24]){1, 1, BIG, 0, 0, 0, -BIG}, 24), 2.0f);
    /* 9: segment 7 has two, 7 and 8; 3: segments 2, 5 and 7 have one each. */
    assert_float(segments_summed((float[9]){0, 0, 0, 0, 0, 0, BIG, 1, 1}, 9), BIG + 2);
    assert_float(segments_summed((float[3]){1, 1, BIG}, 3), BIG);
    assert_float(segments_summed((float[3]){BIG, 1, 1}, 3), BIG + 2);
}

static void sub_blocks_with_float_scales_have_a_partial_each(void **state)
{
    (void)state;
    /* Q8_0: d 2^12 * q 64 * x 64 is BIG. Eight sub-blocks of one super-block fold in pairs. */
    static const float wanted[] = {1.0f, 2.0f};
    static const int terms[][8] = {{2, 1, -2, 1}, {2, -2, 1, 1}};
    for (int c = 0; c < 2; c++) {
        uint8_t row[8 * 34] = {0};
        struct act_block *act = quantised((float[256]){0}, 256, 1);
        act->d = 1.0f;
        for (int j = 0; j < 8; j++) {
            int term = terms[c][j];
            uint16_t d = term == 2 || term == -2 ? 0x6c00 : 0x3c00;
            memcpy(row + j * 34, &d, 2);
            row[j * 34 + 2] = (uint8_t)(int8_t)(term * term == 4 ? 32 * term : term);
            act->q[32 * j] = term * term == 4 ? 64 : 1;
        }
        float y;
        struct weight w = {row, MTP_TYPE_Q8_0, 256, 1, 1, sizeof row, sizeof row};
        ops->matmul(backend, &(struct matmul_args){w, NULL, act, &y, 1, 1});
        assert_float(y, wanted[c]);
        free(act);
    }
}

/* The rules once more, from docs/arithmetic.md, with the folds written out. */
static float in_pairs(const float *p)
{
    return ((p[0] + p[1]) + (p[2] + p[3])) + ((p[4] + p[5]) + (p[6] + p[7]));
}

static float add_k_block(float sum, bool has_min, const void *block, uint32_t type,
                         const struct act_block *x)
{
    struct kblock w;
    block_codec_scalar(type)->decode_k(block, &w);
    int64_t main_sum = 0, min_sum = 0;
    for (int i = 0; i < SUPER_BLOCK; i++) {
        main_sum += (int64_t)w.q[i] * w.scale[i / 16] * x->q[i] * x->mul[i / 32];
        min_sum += (int64_t)w.min[i / 16] * x->q[i] * x->mul[i / 32];
    }
    assert_true(main_sum > -INT32_MAX && main_sum < INT32_MAX);
    sum = fmaf(w.d * x->d, (float)main_sum, sum);
    return has_min ? fmaf(-(w.dmin * x->d), (float)min_sum, sum) : sum;
}

static void add_s_block(float *partial, bool has_min, uint32_t n_sub, const void *block,
                        uint32_t type, const struct act_block *x)
{
    struct sblock w;
    block_codec_scalar(type)->decode_s(block, n_sub, &w);
    for (uint32_t j = 0; j < n_sub; j++) {
        int64_t main_sum = 0, min_sum = 0;
        for (uint32_t i = 32 * j; i < 32 * j + 32; i++) {
            main_sum += (int64_t)w.q[i] * x->q[i] * x->mul[j];
            min_sum += (int64_t)x->q[i] * x->mul[j];
        }
        partial[j] = fmaf(w.d[j] * x->d, (float)main_sum, partial[j]);
        if (has_min)
            partial[j] = fmaf(w.m[j] * x->d, (float)min_sum, partial[j]);
    }
}

static float product_by_rule(uint32_t type, const uint8_t *row, uint32_t n_in,
                             const struct act_block *act)
{
    const struct type_info *info = type_info(type);
    uint32_t n = (n_in + 255) / 256;
    float segment[8] = {0};
    for (uint32_t s = 0; s < 8; s++) {
        float partial[8] = {0}, sum = 0.0f;
        for (uint32_t b = 0; b < n; b++) {
            if (b < s * n / 8 || b >= (s + 1) * n / 8)
                continue;
            uint32_t n_sub = n_in / 32 - b * 8 < 8 ? n_in / 32 - b * 8 : 8;
            const uint8_t *block = row + weight_bytes(type, b * 256);
            if (info->weight_class == WEIGHT_K)
                sum = add_k_block(sum, info->has_min, block, type, &act[b]);
            else
                add_s_block(partial, info->has_min, n_sub, block, type, &act[b]);
        }
        segment[s] = info->weight_class == WEIGHT_K ? sum : in_pairs(partial);
    }
    return in_pairs(segment);
}

static void quantised_products_follow_the_rule_at_every_size(void **state)
{
    (void)state;
    struct numbers numbers = {31};
    for (int t = 0; t < N_WEIGHT_TYPES; t++) {
        uint32_t type = weight_types[t];
        if (type_info(type)->weight_class == WEIGHT_FLOAT)
            continue;
        uint32_t step = type_info(type)->block_elements == 32 ? 96 : 256;
        for (uint32_t n_in = step; n_in <= 20 * step; n_in += step) {
            struct weight w = random_weight(&numbers, type, n_in, 2, 1);
            float *x = random_floats(&numbers, n_in), y[2];
            struct act_block *act = quantised(x, n_in, 1);
            ops->matmul(backend, &(struct matmul_args){w, NULL, act, y, 2, 1});
            for (size_t o = 0; o < 2; o++)
                assert_float(y[o], product_by_rule(type, (const uint8_t *)w.data + o * w.row_bytes,
                                                   n_in, act));
            free(x);
            free(act);
            free((void *)w.data);
        }
    }
}

/* Largest |q|, |scale| and min of each type of super-blocks; docs/arithmetic.md lists them. */
static const struct extremes {
    uint32_t type;
    int q, scale, min;
} extremes[] = {
    {MTP_TYPE_Q2_K, 3, 15, 15},    {MTP_TYPE_Q3_K, 4, 32, 0},     {MTP_TYPE_Q4_K, 15, 63, 63},
    {MTP_TYPE_Q5_K, 31, 63, 63},   {MTP_TYPE_Q6_K, 32, 128, 0},   {MTP_TYPE_IQ4_XS, 127, 32, 0},
    {MTP_TYPE_IQ2_XXS, 43, 31, 0}, {MTP_TYPE_IQ2_XS, 43, 31, 0},  {MTP_TYPE_IQ2_S, 43, 31, 0},
    {MTP_TYPE_IQ3_XXS, 62, 31, 0}, {MTP_TYPE_IQ3_S, 15, 31, 0},
};

static void sums_of_a_super_block_fit_32_bits(void **state)
{
    (void)state;
    struct numbers numbers = {34};
    for (size_t t = 0; t < sizeof extremes / sizeof *extremes; t++) {
        struct extremes found = {extremes[t].type, 0, 0, 0};
        for (int round = 0; round < 4000; round++) {
            uint8_t block[256];
            struct kblock w;
            for (size_t i = 0; i < sizeof block; i++)
                block[i] = (uint8_t)next_bits(&numbers);
            block_codec_scalar(found.type)->decode_k(block, &w);
            for (int i = 0; i < SUPER_BLOCK; i++) {
                found.q = abs(w.q[i]) > found.q ? abs(w.q[i]) : found.q;
                found.scale = abs(w.scale[i / 16]) > found.scale ? abs(w.scale[i / 16])
                                                                 : found.scale;
                found.min = w.min[i / 16] > found.min ? w.min[i / 16] : found.min;
            }
        }
        assert_memory_equal(&found, &extremes[t], sizeof found);
        assert_true((int64_t)found.q * found.scale * SUPER_BLOCK * 15 * 127 < INT32_MAX);
        assert_true((int64_t)found.min * SUPER_BLOCK * 15 * 127 < INT32_MAX);
    }
}

static void the_largest_sum_of_all_is_exact(void **state)
{
    (void)state;
    uint8_t row[210] = {0}; /* Q6_K: weights -32, sub-scales -128 */
    memset(row + 192, 0x80, 16);
    row[209] = 0x3c;
    struct act_block *act = quantised((float[256]){0}, 256, 1);
    memset(act->q, 127, sizeof act->q);
    memset(act->mul, 15, sizeof act->mul);
    for (int i = 0; i < 16; i++)
        act->bsum[i] = 15 * 16 * 127;
    act->d = 1.0f;
    struct weight w = {row, MTP_TYPE_Q6_K, 256, 1, 1, sizeof row, sizeof row};
    struct backend *best = cpu_backend_open(cpu_kernels_best(), 1);
    assert_non_null(best);
    float y[2];
    ops->matmul(backend, &(struct matmul_args){w, NULL, act, &y[0], 1, 1});
    best->ops->matmul(best, &(struct matmul_args){w, NULL, act, &y[1], 1, 1});
    best->ops->close(best);
    assert_float(y[0], 1997537280.0f);
    assert_float(y[1], 1997537280.0f);
    free(act);
}

/* ---- attention ------------------------------------------------------------------------------- */

/* One head of one dimension over n positions, all scores equal, times n: the values' sum. */
static float values_summed(const float *v, int n, int at, int length)
{
    float k[256] = {0}, q = 0.0f, out, values[256] = {0};
    memcpy(values + at, v, (size_t)length * sizeof *v);
    const struct batch_row row = {0, n - 1, 0};
    struct attention_args args = {
        .cache = {k, values, KV_F32, 1, 1, 256}, .rows = &row, .q = &q, .q_stride = 1,
        .q_head_stride = 1, .n_heads = 1, .scale = 1.0f, .out = &out, .n_rows = 1,
    };
    assert_true(ops->reserve(backend, 256));
    ops->attention(backend, &args);
    return out * (float)n;
}

static void values_add_in_order_inside_chunks_of_64_positions(void **state)
{
    (void)state;
    assert_int_equal(ATTENTION_CHUNK, 64);
    assert_float(values_summed((float[4]){BIG, 1, 1, 0}, 256, 60, 4), BIG);
    assert_float(values_summed((float[4]){1, 1, BIG, 0}, 256, 60, 4), BIG + 2);
    /* Positions 63 | 64, 65: the pair of ones meets first. */
    assert_float(values_summed((float[3]){BIG, 1, 1}, 256, 63, 3), BIG + 2);
    assert_float(values_summed((float[3]){BIG, 1, 1}, 128, 63, 3), BIG + 2);
    assert_float(values_summed((float[3]){BIG, 1, 1}, 256, 31, 3), BIG);
    assert_float(values_summed((float[3]){BIG, 1, 1}, 256, 191, 3), BIG + 2);
}

static void chunks_merge_in_order_from_the_first(void **state)
{
    (void)state;
    float v[256] = {[5] = BIG, [70] = 1.0f, [140] = -BIG, [200] = 1.0f};
    assert_float(values_summed(v, 256, 0, 256), 1.0f);
    float w[256] = {[5] = BIG, [70] = -BIG, [140] = 1.0f, [200] = 1.0f};
    assert_float(values_summed(w, 256, 0, 256), 2.0f);
}

/* The merge with maxima of their own, by the rule of kernels/ops.h. */
static float attended_by_rule(const float *scores, const float *v, int n)
{
    float most = -INFINITY, total = 0.0f, sum = 0.0f;
    for (int p = 0; p < n; p++)
        most = fmaxf(most, scores[p]);
    for (int first = 0; first < n; first += 64) {
        int last = first + 64 < n ? first + 64 : n;
        float m = -INFINITY, acc = 0.0f, weights[64] = {0};
        for (int p = first; p < last; p++)
            m = fmaxf(m, scores[p]);
        for (int p = first; p < last; p++) {
            weights[p - first] = mtp_expf(scores[p] - m);
            acc = fmaf(weights[p - first], v[p], acc);
        }
        float ones[64];
        for (int i = 0; i < 64; i++)
            ones[i] = 1.0f;
        float w = mtp_expf(m - most), l = dot_f32(weights, ones, 64);
        total = fmaf(w, l, total);
        sum = fmaf(w, acc, sum);
    }
    return sum / total;
}

static void chunks_have_maxima_of_their_own(void **state)
{
    (void)state;
    struct numbers numbers = {32};
    const float one = 1.0f;
    for (int n = 1; n <= 256; n += 17) {
        float *k = random_floats(&numbers, 256), *v = random_floats(&numbers, 256), out;
        float scores[256];
        for (int p = 0; p < 256; p++)
            scores[p] = k[p] * 0.75f;
        const struct batch_row row = {0, n - 1, 0};
        struct attention_args args = {
            .cache = {k, v, KV_F32, 1, 1, 256}, .rows = &row, .q = &one, .q_stride = 1,
            .q_head_stride = 1, .n_heads = 1, .scale = 0.75f, .out = &out, .n_rows = 1,
        };
        ops->attention(backend, &args);
        assert_float(out, attended_by_rule(scores, v, n));
        free(k);
        free(v);
    }
}

/* ---- the others ------------------------------------------------------------------------------ */

static void experts_add_in_rank_order_and_the_shared_one_last(void **state)
{
    (void)state;
    const float ones[4] = {1, 1, 1, 1}, gate = 200.0f; /* sigmoid(200) = 1 */
    float out;
    struct moe_combine_args args = {.weights = ones, .shared_gate = &gate, .dst = &out, .n = 1,
                                    .n_used = 4, .n_rows = 1};
    args.y = (float[4]){BIG, 1, -BIG, 1};
    ops->moe_combine(backend, &args);
    assert_float(out, 1.0f);
    args.y = (float[4]){1, 1, BIG, -BIG};
    ops->moe_combine(backend, &args);
    assert_float(out, 2.0f);
    args.y = (float[4]){BIG, 0, 0, 1};
    args.shared = (float[1]){-BIG};
    ops->moe_combine(backend, &args);
    assert_float(out, 0.0f); /* the shared expert first would keep the 1 */
    args.shared = NULL;
    args.weights = (float[4]){1, 1.0f + 0x1p-12f, 0, 0};
    args.y = (float[4]){-1, 1.0f + 0x1p-12f, 0, 0};
    ops->moe_combine(backend, &args);
    assert_float(out, 0x1p-11f + 0x1p-24f);
}

static void convolution_adds_the_oldest_tap_first(void **state)
{
    (void)state;
    const struct batch_row rows[4] = {{0, 0, 0}, {0, 1, 0}, {0, 2, 0}, {0, 3, 0}};
    const float w[4] = {1, 1, 1, 1};
    float carried[3] = {0}, out[4];
    struct conv_args args = {rows, (float[4]){BIG, 1, -BIG, 1}, w, carried, out, 1, 4, 1, 4};
    ops->conv(backend, &args);
    assert_float(out[3], mtp_siluf(1.0f));
    assert_float(carried[0], 1.0f);
    assert_float(carried[1], -BIG);
    assert_float(carried[2], 1.0f);
    memset(carried, 0, sizeof carried);
    args.x = (float[4]){1, 1, BIG, -BIG};
    ops->conv(backend, &args);
    assert_float(out[3], mtp_siluf(2.0f));
}

static void rotation_rounds_one_product_and_fuses_the_other(void **state)
{
    (void)state;
    struct numbers numbers = {33};
    for (int i = 0; i < 1000; i++) {
        float x[2] = {next_float(&numbers), next_float(&numbers)}, a = x[0], b = x[1];
        float c = next_unit(&numbers), s = next_unit(&numbers);
        ops->rope(backend, &(struct rope_args){x, 2, 2, 1, 1, (float[2]){c, s}, 1});
        assert_float(x[0], fmaf(a, c, -(b * s)));
        assert_float(x[1], fmaf(a, s, b * c));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partials_fold_from_distance_32_down_to_1),
        cmocka_unit_test(partial_i_takes_elements_64_apart_in_ascending_order),
        cmocka_unit_test(products_are_added_unrounded),
        cmocka_unit_test(norms_use_the_same_order_and_multiply_by_the_weight_last),
        cmocka_unit_test(segments_fold_in_pairs_of_neighbours),
        cmocka_unit_test(super_blocks_of_a_segment_add_in_sequence),
        cmocka_unit_test(sub_blocks_with_float_scales_have_a_partial_each),
        cmocka_unit_test(quantised_products_follow_the_rule_at_every_size),
        cmocka_unit_test(sums_of_a_super_block_fit_32_bits),
        cmocka_unit_test(the_largest_sum_of_all_is_exact),
        cmocka_unit_test(values_add_in_order_inside_chunks_of_64_positions),
        cmocka_unit_test(chunks_merge_in_order_from_the_first),
        cmocka_unit_test(chunks_have_maxima_of_their_own),
        cmocka_unit_test(experts_add_in_rank_order_and_the_shared_one_last),
        cmocka_unit_test(convolution_adds_the_oldest_tap_first),
        cmocka_unit_test(rotation_rounds_one_product_and_fuses_the_other),
    };
    return cmocka_run_group_tests(tests, open_backend, close_backend);
}
