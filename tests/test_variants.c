/* The AVX2 products and activations equal their scalar definitions bit for bit: every type, 1..16
 * batch rows, odd sizes, and values chosen to reach every bound of docs/arithmetic.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/pack.h"
#include "kernels/fmath.h"
#include "tests/op_inputs.h"

static const struct cpu_kernels *scalar, *variant;

static int choose_kernels(void **state)
{
    (void)state;
    scalar = cpu_kernels_scalar();
    variant = cpu_kernels_best();
    return 0;
}

/* A processor without AVX2 has nothing to compare: only then may the table be the definition. */
static void the_processor_runs_every_variant(void **state)
{
    (void)state;
    if (!cpu_has_avx2())
        return;
    assert_string_equal(variant->name, cpu_has_avx512() ? "avx512" : "avx2");
    assert_non_null(variant->dot_packed);
#ifdef MTP_HAVE_AVX512
    if (cpu_has_avx512()) {
        assert_ptr_not_equal(variant->dot_packed, cpu_kernels_avx2()->dot_packed);
        assert_ptr_not_equal(variant->attention, cpu_kernels_avx2()->attention);
    }
#endif
    assert_ptr_not_equal(variant->dot, scalar->dot);
    assert_ptr_not_equal(variant->quantize, scalar->quantize);
    assert_ptr_not_equal(variant->embed, scalar->embed);
    assert_ptr_not_equal(variant->rms_norm, scalar->rms_norm);
    assert_ptr_not_equal(variant->add, scalar->add);
    assert_ptr_not_equal(variant->rope, scalar->rope);
    assert_ptr_not_equal(variant->kv_store, scalar->kv_store);
    assert_ptr_not_equal(variant->attention, scalar->attention);
    assert_ptr_not_equal(variant->conv, scalar->conv);
    assert_ptr_not_equal(variant->delta_net, scalar->delta_net);
    assert_ptr_not_equal(variant->mul_silu, scalar->mul_silu);
    assert_ptr_not_equal(variant->route, scalar->route);
    assert_ptr_not_equal(variant->moe_combine, scalar->moe_combine);
    assert_ptr_not_equal(variant->argmax, scalar->argmax);
    assert_ptr_not_equal(variant->digest, scalar->digest);
}

/* ---- products -------------------------------------------------------------------------------- */

enum { MOST_OUT = 17 };

/* Row r of the batch as the kernels take it. */
struct batch {
    const float *x[DOT_TILE];
    const struct act_block *act[DOT_TILE];
};

static void run_dot(const struct cpu_kernels *kernels, const struct weight *w,
                    const struct batch *batch, int32_t n, float out[DOT_TILE][MOST_OUT])
{
    float *y[DOT_TILE];
    memset(out, 0x5a, sizeof(float[DOT_TILE][MOST_OUT]));
    for (int r = 0; r < DOT_TILE; r++)
        y[r] = out[r];
    kernels->dot(&(struct dot_args){w->type, w->data, w->row_bytes, w->n_in, (int32_t)w->n_out,
                                    batch->x, batch->act, y, n});
}

static void compare_outputs(const struct weight *w, int32_t n, const char *what,
                            float wanted[DOT_TILE][MOST_OUT], float got[DOT_TILE][MOST_OUT])
{
    for (int r = 0; r < DOT_TILE; r++)
        for (int o = 0; o < MOST_OUT; o++)
            if (f32_bits(wanted[r][o]) != f32_bits(got[r][o]))
                fail_msg("%s %s: n_in %u n_out %u, %d rows: row %d output %d is %a, not %a", what,
                         type_info(w->type)->name, w->n_in, w->n_out, n, r, o, (double)got[r][o],
                         (double)wanted[r][o]);
}

static uint64_t packed_products[MTP_TYPE_LIMIT];

/* The packed form of w with every table that reads it. */
static void compare_packed(const struct weight *w, const struct batch *batch, int32_t n,
                           const char *what, float wanted[DOT_TILE][MOST_OUT])
{
    static float got[DOT_TILE][MOST_OUT];
    const struct cpu_kernels *tables[] = {NULL, NULL};
#ifdef MTP_HAVE_AVX2
    tables[0] = cpu_has_avx2() ? cpu_kernels_avx2() : NULL;
#endif
#ifdef MTP_HAVE_AVX512
    tables[1] = cpu_has_avx512() ? cpu_kernels_avx512() : NULL;
#endif
    if (!pack_supported(w->type))
        return;
    uint8_t *packed = need(pack_bytes(w));
    memset(packed, 0xa5, pack_bytes(w)); /* nothing of it may be left */
    const struct block_codec *codec = n % 2 == 0 ? block_codec_scalar(w->type)
                                                 : cpu_kernels_best()->codec(w->type);
    const struct pack_args args = {*w, w->data, 0, w->n_out, packed};
    pack_weights(&args, codec, 0, (int64_t)pack_groups(w));
    for (int i = 0; i < 2; i++) {
        if (tables[i] == NULL)
            continue;
        struct cpu_kernels kernels = *tables[i];
        kernels.dot = kernels.dot_packed;
        struct weight as_packed = *w;
        as_packed.data = packed;
        run_dot(&kernels, &as_packed, batch, n, got);
        compare_outputs(w, n, what, wanted, got);
        packed_products[w->type]++;
    }
    free(packed);
}

static void compare_dots(const struct weight *w, const struct batch *batch, int32_t n,
                         const char *what)
{
    static float wanted[DOT_TILE][MOST_OUT], got[DOT_TILE][MOST_OUT];
    run_dot(scalar, w, batch, n, wanted);
    run_dot(variant, w, batch, n, got);
    compare_outputs(w, n, what, wanted, got);
    compare_packed(w, batch, n, what, wanted);
}

/* Runs last. */
static void packed_products_were_compared(void **state)
{
    (void)state;
    static const uint32_t types[] = {MTP_TYPE_Q3_K, MTP_TYPE_Q4_K, MTP_TYPE_Q5_K,
                                     MTP_TYPE_Q6_K, MTP_TYPE_Q8_0, MTP_TYPE_Q4_0};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        assert_int_equal(packed_products[types[i]] > 0, cpu_has_avx2());
}

static size_t sizes_of(uint32_t type, uint32_t sizes[16])
{
    static const uint32_t by_1[] = {1, 7, 63, 64, 65, 100, 128, 300, 1024};
    static const uint32_t by_32[] = {32, 96, 256, 288, 1056, 2048, 2336, 4128};
    static const uint32_t by_256[] = {256, 512, 768, 1024, 2048, 2304, 4608};
    uint32_t block = type_info(type)->block_elements;
    size_t n = block == 1 ? 9 : block == 32 ? 8 : 7;
    memcpy(sizes, block == 1 ? by_1 : block == 32 ? by_32 : by_256, n * sizeof *sizes);
    return n;
}

static void point_batch(struct batch *batch, const float *x, const struct act_block *act, size_t n)
{
    for (size_t r = 0; r < DOT_TILE; r++) {
        batch->x[r] = x + r * n;
        batch->act[r] = act + r * act_blocks(n);
    }
}

static void check_random_dots(uint32_t type, uint32_t n_in, uint32_t n_out)
{
    struct numbers numbers = {type * 7919 + n_in * 31 + n_out};
    struct weight w = random_weight(&numbers, type, n_in, n_out, 1);
    float *x = random_floats(&numbers, (size_t)DOT_TILE * n_in);
    struct act_block *act = quantised(x, n_in, DOT_TILE);
    struct batch batch;
    point_batch(&batch, x, act, n_in);
    for (int32_t n = 1; n <= DOT_TILE; n++)
        compare_dots(&w, &batch, n, "random");
    free(act);
    free(x);
    free((void *)w.data);
}

static void products_of_every_type_and_width_equal_the_definition(void **state)
{
    (void)state;
    static const uint32_t outputs[] = {1, 3, 5, 17};
    for (int t = 0; t < N_WEIGHT_TYPES; t++) {
        uint32_t sizes[16];
        size_t n = sizes_of(weight_types[t], sizes);
        for (size_t s = 0; s < n; s++)
            check_random_dots(weight_types[t], sizes[s], outputs[(s + (size_t)t) % 4]);
    }
}

/* The largest finite half, the smallest, zeros of both signs, ordinary ones. */
static const uint16_t special_halves[] = {0x7bff, 0xfbff, 0x0001, 0x8001, 0x0000, 0x8000,
                                          0x03ff, 0x2e66, 0xae66, 0x0400};
enum { N_SPECIAL_HALVES = sizeof special_halves / sizeof *special_halves };

/* Overwrites the scales of every block with special ones; the rest of each block with fill, unless
 * it is negative. */
static void spoil_blocks(struct numbers *numbers, const struct weight *w, int fill)
{
    uint32_t bytes = type_info(w->type)->block_bytes;
    size_t at = w->type == MTP_TYPE_Q2_K ? 80 : w->type == MTP_TYPE_Q3_K ? 108
                : w->type == MTP_TYPE_Q6_K ? 208 : 0;
    uint8_t *data = (uint8_t *)(uintptr_t)w->data, *end = data + w->row_bytes * w->n_out;
    for (; data < end; data += bytes) {
        if (fill >= 0)
            memset(data, fill, bytes);
        for (size_t i = 0; i < (type_info(w->type)->has_min ? 2u : 1u); i++)
            memcpy(data + at + 2 * i, &special_halves[next_below(numbers, N_SPECIAL_HALVES)], 2);
        if (w->type == MTP_TYPE_MXFP4)
            data[0] = (uint8_t)next_below(numbers, 140); /* 2^-128 .. 2^11 */
    }
}

/* Activations at their bounds: every |q| 127 and every multiplier 15, signs by `signs`. */
static void extreme_activations(struct numbers *numbers, struct act_block *act, size_t blocks,
                                int signs)
{
    static const float scales[] = {0x1p-111f, 0x1p100f, 1.0f, 0.0f, 0.0137f};
    for (size_t b = 0; b < blocks; b++) {
        memset(&act[b], 0, sizeof act[b]);
        memset(act[b].mul, 15, sizeof act[b].mul);
        act[b].d = scales[next_below(numbers, 5)];
        for (int i = 0; i < SUPER_BLOCK; i++) {
            bool negative = signs == 0 ? false : signs == 1 ? true
                            : signs == 2 ? i % 2 == 1 : (next_bits(numbers) & 1) != 0;
            act[b].q[i] = negative ? -127 : 127;
            act[b].bsum[i / 16] = (int16_t)(act[b].bsum[i / 16] + 15 * act[b].q[i]);
        }
    }
}

static void products_at_the_bounds_of_the_integers_equal_the_definition(void **state)
{
    (void)state;
    static const int fills[] = {-1, 0x00, 0xff, 0x80, 0x7f, 0x88, 0x0f, 0xf0, 0x55, 0x40};
    enum { N_IN = 2304, N_OUT = 3 };
    struct numbers numbers = {77};
    for (int t = 0; t < N_WEIGHT_TYPES; t++) {
        if (type_info(weight_types[t])->weight_class == WEIGHT_FLOAT)
            continue;
        struct act_block *act = quantised(NULL, N_IN, 0);
        free(act);
        size_t blocks = DOT_TILE * act_blocks(N_IN);
        assert_int_equal(posix_memalign((void **)&act, 64, blocks * sizeof *act), 0);
        struct batch batch;
        point_batch(&batch, NULL, act, N_IN);
        for (size_t f = 0; f < sizeof fills / sizeof *fills; f++) {
            struct weight w = random_weight(&numbers, weight_types[t], N_IN, N_OUT, 1);
            spoil_blocks(&numbers, &w, fills[f]);
            for (int signs = 0; signs < 4; signs++) {
                extreme_activations(&numbers, act, blocks, signs);
                compare_dots(&w, &batch, 1 + signs, "extreme");
                compare_dots(&w, &batch, 13 + signs, "extreme");
            }
            free((void *)w.data);
        }
        free(act);
    }
}

/* Floats of every exponent, subnormals and zeros of both signs included; sums may overflow, but no
 * NaN arises: the positive and negative parts never both become infinite. */
static float any_float(struct numbers *numbers)
{
    switch (next_below(numbers, 8)) {
    case 0: return 0.0f;
    case 1: return -0.0f;
    case 2: return next_unit(numbers) * 0x1p-126f;
    case 3: return next_unit(numbers) * 0x1p-140f;
    case 4: return next_unit(numbers) * 0x1p60f;
    default: return next_float(numbers);
    }
}

static void float_products_of_any_magnitude_equal_the_definition(void **state)
{
    (void)state;
    static const uint32_t types[] = {MTP_TYPE_F32, MTP_TYPE_F16, MTP_TYPE_BF16};
    enum { N_IN = 333, N_OUT = 5 };
    struct numbers numbers = {78};
    for (size_t t = 0; t < 3; t++) {
        struct weight w = random_weight(&numbers, types[t], N_IN, N_OUT, 1);
        uint8_t *data = (uint8_t *)(uintptr_t)w.data;
        for (size_t i = 0; i < (size_t)N_IN * N_OUT; i++) {
            uint32_t bits = f32_bits(any_float(&numbers));
            uint16_t half = f32_to_f16(any_float(&numbers) * 0x1p-50f);
            uint16_t top = (uint16_t)(bits >> 16);
            if (types[t] == MTP_TYPE_F32)
                memcpy(data + 4 * i, &bits, 4);
            else
                memcpy(data + 2 * i, types[t] == MTP_TYPE_F16 ? &half : &top, 2);
        }
        float *x = need(sizeof(float[DOT_TILE * N_IN]));
        for (size_t i = 0; i < (size_t)DOT_TILE * N_IN; i++)
            x[i] = any_float(&numbers);
        struct batch batch;
        point_batch(&batch, x, NULL, N_IN);
        for (int32_t n = 1; n <= DOT_TILE; n++)
            compare_dots(&w, &batch, n, "any float");
        free(x);
        free(data);
    }
}

/* Through the backend: tiles of rows, threads, the counter of variant calls. */
static void compare_matmul(uint32_t type, int32_t n_rows, uint32_t n_threads)
{
    enum { N_OUT = 133 };
    uint32_t n_in = whole_blocks(type, 288);
    struct numbers numbers = {type + (uint64_t)n_rows};
    struct weight w = random_weight(&numbers, type, n_in, N_OUT, 1);
    float *x = random_floats(&numbers, (size_t)n_rows * n_in);
    struct act_block *act = quantised(x, n_in, n_rows);
    float *y[2];
    for (int k = 0; k < 2; k++) {
        struct backend *backend =
            cpu_backend_open(k == 0 ? scalar : variant, k == 0 ? 1 : n_threads);
        assert_non_null(backend);
        y[k] = need((size_t)n_rows * N_OUT * sizeof *y[k]);
        struct backend_counters counters;
        backend->ops->matmul(backend, &(struct matmul_args){w, x, act, y[k], N_OUT, n_rows});
        backend->ops->counters(backend, &counters);
        assert_int_equal(counters.variant_calls, k == 1 && cpu_has_avx2());
        backend->ops->close(backend);
    }
    assert_memory_equal(y[0], y[1], (size_t)n_rows * N_OUT * sizeof *y[0]);
    free(y[0]);
    free(y[1]);
    free(act);
    free(x);
    free((void *)w.data);
}

static void matrix_products_equal_the_definition_for_any_batch_and_threads(void **state)
{
    (void)state;
    for (int t = 0; t < N_WEIGHT_TYPES; t++) {
        compare_matmul(weight_types[t], 17, 1);
        compare_matmul(weight_types[t], 33, 3);
        compare_matmul(weight_types[t], 1, 16);
    }
}

/* ---- activations ----------------------------------------------------------------------------- */

static void compare_quantised(const float *x, size_t n, const char *what)
{
    size_t blocks = act_blocks(n);
    struct act_block *act[2];
    for (int k = 0; k < 2; k++) {
        assert_int_equal(posix_memalign((void **)&act[k], 64, blocks * sizeof *act[k]), 0);
        memset(act[k], 0xa5, blocks * sizeof *act[k]);
        struct backend *backend = cpu_backend_open(k == 0 ? scalar : variant, 1);
        backend->ops->quantize(backend, &(struct quantize_args){x, act[k], n, 1});
        backend->ops->close(backend);
    }
    for (size_t i = 0; i < blocks * sizeof *act[0]; i++)
        if (((uint8_t *)act[0])[i] != ((uint8_t *)act[1])[i])
            fail_msg("quantize, %s, %zu elements: byte %zu of block %zu is %d, not %d", what, n,
                     i % sizeof *act[0], i / sizeof *act[0], ((uint8_t *)act[1])[i],
                     ((uint8_t *)act[0])[i]);
    free(act[0]);
    free(act[1]);
}

static void quantised_rows_of_any_length_equal_the_definition(void **state)
{
    (void)state;
    struct numbers numbers = {79};
    for (size_t n = 1; n < 800; n += n < 70 ? 1 : 17) {
        float *x = random_floats(&numbers, n);
        compare_quantised(x, n, "random");
        for (size_t i = 0; i < n; i++)
            x[i] = x[i] * 0x1p-110f;
        compare_quantised(x, n, "tiny");
        for (size_t i = 0; i < n; i++)
            x[i] = next_below(&numbers, 3) == 0 ? -0.0f : next_unit(&numbers) * 0x1p-127f;
        compare_quantised(x, n, "subnormal");
        for (size_t i = 0; i < n; i++)
            x[i] = next_unit(&numbers) * 0x1.fffffep127f;
        compare_quantised(x, n, "huge");
        free(x);
    }
}

static void compare_equal_and_spiked(float value)
{
    float x[300];
    for (int i = 0; i < 300; i++)
        x[i] = i % 3 == 0 ? -value : value;
    compare_quantised(x, 300, "all equal");
    for (int at = 0; at < 300; at += 7) {
        memset(x, 0, sizeof x);
        x[at] = value;
        compare_quantised(x, 300, "a single spike");
    }
}

static void quantised_rows_of_special_values_equal_the_definition(void **state)
{
    (void)state;
    static const float values[] = {0.0f, 1.0f, 1905.0f, 0x1p-100f, 0x1.fffffep-101f,
                                   0x1.000002p-100f, 0x1p-149f, 0x1.fffffep127f, 3.0f};
    for (size_t v = 0; v < sizeof values / sizeof *values; v++)
        compare_equal_and_spiked(values[v]);
    /* Ties: amax 127 * 15 makes d exactly 1, and sub-blocks of amax 127 k have multiplier k. */
    struct numbers numbers = {80};
    for (int round = 0; round < 200; round++) {
        float x[SUPER_BLOCK];
        for (int i = 0; i < SUPER_BLOCK; i++) {
            int k = round % 2 == 0 ? 1 + i / SUB_BLOCK : 15;
            x[i] = (float)k * ((float)((int)next_below(&numbers, 253) - 126) + 0.5f);
        }
        x[next_below(&numbers, SUPER_BLOCK)] = 1905.0f;
        compare_quantised(x, SUPER_BLOCK, "ties");
    }
}

static void rows_that_are_not_finite_are_reported_alike(void **state)
{
    (void)state;
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    for (size_t n = 1; n < 520; n += 37)
        for (size_t b = 0; b < 3; b++)
            for (int k = 0; k < 2; k++) {
                float *x = need(2 * n * sizeof *x);
                struct act_block *act = quantised(x, n, 2);
                struct backend *backend = cpu_backend_open(k == 0 ? scalar : variant, 1);
                x[n + n / 2] = bad[b];
                backend->ops->quantize(backend, &(struct quantize_args){x, act, n, 2});
                assert_true(backend->ops->fault(backend).found);
                assert_int_equal(backend->ops->fault(backend).row, 1);
                backend->ops->close(backend);
                free(act);
                free(x);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_processor_runs_every_variant),
        cmocka_unit_test(products_of_every_type_and_width_equal_the_definition),
        cmocka_unit_test(products_at_the_bounds_of_the_integers_equal_the_definition),
        cmocka_unit_test(float_products_of_any_magnitude_equal_the_definition),
        cmocka_unit_test(matrix_products_equal_the_definition_for_any_batch_and_threads),
        cmocka_unit_test(quantised_rows_of_any_length_equal_the_definition),
        cmocka_unit_test(quantised_rows_of_special_values_equal_the_definition),
        cmocka_unit_test(rows_that_are_not_finite_are_reported_alike),
        cmocka_unit_test(packed_products_were_compared),
    };
    return cmocka_run_group_tests(tests, choose_kernels, NULL);
}
