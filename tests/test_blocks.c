/* Weight blocks as the gguf package reads them, bit for bit, and the canonical forms' promises. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "block_data.h"
#include "kernels/cpu/scalar/iq_tables.h"
#include "kernels/fmath.h"

enum { RANDOM_WEIGHTS = 1 << 18 };

static uint64_t golden_digest(const char *name)
{
    FILE *file = fopen(TEST_SRCDIR "/tests/golden/blocks/digests.txt", "r");
    assert_non_null(file);
    char key[64];
    unsigned long long value;
    while (fscanf(file, "%63s %llx", key, &value) == 2) {
        if (strcmp(key, name) == 0) {
            fclose(file);
            return value;
        }
    }
    fclose(file);
    fail_msg("no digest of %s", name);
    return 0;
}

static void assert_weight(const char *type, size_t index, uint32_t expected, float actual)
{
    if (f32_bits(actual) != expected)
        fail_msg("%s: weight %zu is %08x, not %08x", type, index, f32_bits(actual), expected);
}

static void rows_of_every_type_equal_the_golden_weights(void **state)
{
    (void)state;
    for (int t = 0; t < N_MATRIX_TYPES; t++) {
        const struct type_info *info = type_info(matrix_types[t]);
        struct golden_blocks golden;
        if (!golden_open(matrix_types[t], &golden))
            fail_msg("cannot read the golden blocks of %s", info->name);
        size_t n = (size_t)golden.n * info->block_elements;
        float *weights = malloc(n * sizeof *weights);
        assert_non_null(weights);
        dequantize_row(matrix_types[t], golden.blocks, weights, n);
        for (size_t i = 0; i < n; i++)
            assert_weight(info->name, i, golden.weights[i], weights[i]);
        free(weights);
        golden_close(&golden);
    }
}

static void many_random_weights_of_every_type_have_the_golden_digest(void **state)
{
    (void)state;
    float *weights = malloc(RANDOM_WEIGHTS * sizeof *weights);
    assert_non_null(weights);
    for (int t = 0; t < N_MATRIX_TYPES; t++) {
        const struct type_info *info = type_info(matrix_types[t]);
        uint8_t *blocks = random_blocks(matrix_types[t], RANDOM_WEIGHTS / info->block_elements);
        dequantize_row(matrix_types[t], blocks, weights, RANDOM_WEIGHTS);
        uint64_t digest = 0;
        for (size_t i = 0; i < RANDOM_WEIGHTS; i++)
            digest = digest_add(digest, i, f32_bits(weights[i]));
        if (digest != golden_digest(info->name))
            fail_msg("%s: digest of random weights is %016llx", info->name,
                     (unsigned long long)digest);
        free(blocks);
    }
    free(weights);
}

static void a_canonical_k_block_means_the_golden_weights(void **state)
{
    (void)state;
    for (int t = 0; t < N_MATRIX_TYPES; t++) {
        const struct type_info *info = type_info(matrix_types[t]);
        if (info->weight_class != WEIGHT_K)
            continue;
        struct golden_blocks golden;
        assert_true(golden_open(matrix_types[t], &golden));
        for (uint32_t b = 0; b < golden.n; b++) {
            struct kblock block;
            memset(&block, 0x5a, sizeof block);
            block_codec_scalar(matrix_types[t])->decode_k(golden.blocks + b * info->block_bytes,
                                                          &block);
            for (size_t i = 0; i < SUPER_BLOCK; i++) {
                float value = block.d * (float)block.scale[i / 16] * (float)block.q[i];
                if (info->has_min)
                    value -= block.dmin * (float)block.min[i / 16];
                else
                    assert_true(block.min[i / 16] == 0 && f32_bits(block.dmin) == 0);
                assert_weight(info->name, b * SUPER_BLOCK + i,
                              golden.weights[b * SUPER_BLOCK + i], value);
            }
        }
        golden_close(&golden);
    }
}

static void check_short_s_block(uint32_t type, const struct golden_blocks *golden, uint32_t first,
                                uint32_t n_sub)
{
    const struct type_info *info = type_info(type);
    struct sblock block;
    memset(&block, 0x5a, sizeof block);
    block_codec_scalar(type)->decode_s(golden->blocks + first * info->block_bytes, n_sub, &block);
    for (size_t i = 0; i < SUPER_BLOCK; i++) {
        size_t sub = i / SUB_BLOCK;
        if (sub >= n_sub) {
            assert_int_equal(block.q[i], 0);
            assert_true(f32_bits(block.d[sub]) == 0 && f32_bits(block.m[sub]) == 0);
            continue;
        }
        float value = block.d[sub] * (float)block.q[i];
        if (info->has_min)
            value += block.m[sub];
        else
            assert_true(f32_bits(block.m[sub]) == 0);
        assert_weight(info->name, first * SUB_BLOCK + i, golden->weights[first * SUB_BLOCK + i],
                      value);
    }
}

static void a_canonical_s_block_of_any_length_means_the_golden_weights(void **state)
{
    (void)state;
    for (int t = 0; t < N_MATRIX_TYPES; t++) {
        const struct type_info *info = type_info(matrix_types[t]);
        if (info->weight_class != WEIGHT_S)
            continue;
        struct golden_blocks golden;
        assert_true(golden_open(matrix_types[t], &golden));
        for (uint32_t n_sub = 1; n_sub <= 8; n_sub++) {
            for (uint32_t first = 0; first + n_sub <= golden.n; first++)
                check_short_s_block(matrix_types[t], &golden, first, n_sub);
        }
        golden_close(&golden);
    }
}

/* Largest magnitudes met in a type's blocks. */
struct extent {
    int32_t q, scale, min;
};

static void extend(struct extent *extent, const struct kblock *block)
{
    for (int i = 0; i < SUPER_BLOCK; i++) {
        int32_t scale = abs(block->scale[i / 16]), q = abs(block->q[i]);
        assert_true(block->min[i / 16] >= 0);
        extent->q = q > extent->q ? q : extent->q;
        extent->scale = scale > extent->scale ? scale : extent->scale;
        extent->min = block->min[i / 16] > extent->min ? block->min[i / 16] : extent->min;
    }
}

static struct extent extent_of(uint32_t type)
{
    enum { N_RANDOM = 400 };
    struct extent extent = {0, 0, 0};
    struct kblock block;
    const struct block_codec *codec = block_codec_scalar(type);
    size_t size = type_info(type)->block_bytes;
    uint8_t *blocks = random_blocks(type, N_RANDOM);
    for (size_t i = 0; i < N_RANDOM; i++) {
        codec->decode_k(blocks + i * size, &block);
        extend(&extent, &block);
    }
    for (int byte = 0; byte < 256; byte++) {
        memset(blocks, byte, size);
        codec->decode_k(blocks, &block);
        extend(&extent, &block);
    }
    free(blocks);
    return extent;
}

static void integer_sums_of_k_types_stay_inside_int32(void **state)
{
    (void)state;
    static const struct {
        uint32_t type;
        struct extent extent;
    } expected[] = {
        {MTP_TYPE_Q2_K, {3, 15, 15}},    {MTP_TYPE_Q3_K, {4, 32, 0}},
        {MTP_TYPE_Q4_K, {15, 63, 63}},   {MTP_TYPE_Q5_K, {31, 63, 63}},
        {MTP_TYPE_Q6_K, {32, 128, 0}},   {MTP_TYPE_IQ4_XS, {127, 32, 0}},
        {MTP_TYPE_IQ2_XXS, {43, 31, 0}}, {MTP_TYPE_IQ2_XS, {43, 31, 0}},
        {MTP_TYPE_IQ2_S, {43, 31, 0}},   {MTP_TYPE_IQ3_XXS, {62, 31, 0}},
        {MTP_TYPE_IQ3_S, {15, 31, 0}},
    };
    const int64_t activation = 15 * 127;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        struct extent extent = extent_of(expected[i].type);
        assert_int_equal(extent.q, expected[i].extent.q);
        assert_int_equal(extent.scale, expected[i].extent.scale);
        assert_int_equal(extent.min, expected[i].extent.min);
        assert_true(SUPER_BLOCK * activation * extent.q * extent.scale < (int64_t)1 << 31);
        assert_true(SUPER_BLOCK * activation * extent.min < (int64_t)1 << 31);
    }
}

static void scales_that_are_no_numbers_are_carried_along(void **state)
{
    (void)state;
    for (int t = 0; t < N_MATRIX_TYPES; t++) {
        const struct type_info *info = type_info(matrix_types[t]);
        struct exponent_bit bits[2];
        exponent_bits(matrix_types[t], bits);
        if (info->weight_class == WEIGHT_FLOAT || bits[0].offset < 0)
            continue;
        uint8_t *block = random_blocks(matrix_types[t], 1);
        float weights[SUPER_BLOCK];
        block[bits[0].offset] = 0x7e;
        dequantize_row(matrix_types[t], block, weights, info->block_elements);
        for (size_t i = 0; i < info->block_elements; i++)
            assert_true(weights[i] != weights[i]);
        free(block);
    }
}

static uint64_t fnv1a(const void *words, size_t n, size_t width)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n * width; i++) {
        uint64_t word = width == 8 ? ((const uint64_t *)words)[i / 8]
                                   : ((const uint32_t *)words)[i / 4];
        hash = (hash ^ (word >> i % width * 8 & 255)) * 0x100000001b3u;
    }
    return hash;
}

static void iq_tables_are_those_of_the_file_format(void **state)
{
    (void)state;
    /* tools/make_iq_tables.py --digests */
    assert_true(fnv1a(iq2xxs_grid, 256, 8) == 0xbb4ee025b5ac6e8eu);
    assert_true(fnv1a(iq2xs_grid, 512, 8) == 0xc9b1ee61e79909bdu);
    assert_true(fnv1a(iq2s_grid, 1024, 8) == 0x123edd38a3b62b90u);
    assert_true(fnv1a(iq3xxs_grid, 256, 4) == 0xdfa5dc83d6a155d5u);
    assert_true(fnv1a(iq3s_grid, 512, 4) == 0xfa37020c25b44829u);
    uint64_t signs = 0xcbf29ce484222325u;
    for (uint32_t i = 0; i < 128; i++)
        signs = (signs ^ iq_signs(i)) * 0x100000001b3u;
    assert_true(signs == 0xf19ba8f8c3292ba5u);
}

static void every_half_and_bfloat16_widens_to_its_golden_bits(void **state)
{
    (void)state;
    uint64_t f16 = 0, bf16 = 0;
    for (uint32_t bits = 0; bits < 1 << 16; bits++) {
        f16 = digest_add(f16, bits, f32_bits(f16_to_f32((uint16_t)bits)));
        bf16 = digest_add(bf16, bits, f32_bits(bf16_to_f32((uint16_t)bits)));
    }
    assert_true(f16 == golden_digest("f16_to_f32"));
    assert_true(bf16 == golden_digest("bf16_to_f32"));
}

static void every_half_survives_the_way_to_float_and_back(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 1 << 16; bits++) {
        bool is_nan = (bits & 0x7fff) > 0x7c00;
        uint32_t expected = is_nan ? bits | 0x200 : bits; /* NaN comes back quiet */
        assert_int_equal(f32_to_f16(f16_to_f32((uint16_t)bits)), expected);
    }
}

static void floats_between_two_halves_round_to_the_nearer_and_ties_to_even(void **state)
{
    (void)state;
    for (uint32_t low = 0; low < 0x7c00; low++) {
        double below = f16_to_f32((uint16_t)low);
        double above = low == 0x7bff ? 65536.0 : f16_to_f32((uint16_t)(low + 1));
        uint32_t tie = f32_bits((float)((below + above) / 2));
        for (uint32_t sign = 0; sign < 2; sign++) {
            uint32_t half_sign = sign << 15, sign_bit = sign << 31;
            assert_int_equal(f32_to_f16(f32_from_bits(sign_bit | tie)),
                             half_sign | (low + (low & 1)));
            assert_int_equal(f32_to_f16(f32_from_bits(sign_bit | (tie - 1))), half_sign | low);
            assert_int_equal(f32_to_f16(f32_from_bits(sign_bit | (tie + 1))),
                             half_sign | (low + 1));
        }
    }
}

static void many_random_floats_round_to_golden_halves(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    uint8_t *bytes = malloc(4 * N);
    assert_non_null(bytes);
    random_bytes(7, bytes, 4 * N);
    uint64_t digest = 0;
    for (size_t i = 0; i < N; i++) {
        uint32_t bits = bytes[4 * i] | (uint32_t)bytes[4 * i + 1] << 8 |
                        (uint32_t)bytes[4 * i + 2] << 16 | (uint32_t)bytes[4 * i + 3] << 24;
        if (i % 2 == 1) /* an exponent near those of halves */
            bits = (bits & 0x807fffff) | ((bits >> 23 & 63) + 90) << 23;
        if ((bits & 0x7fffffff) > 0x7f800000)
            bits = 0;
        digest = digest_add(digest, i, f32_to_f16(f32_from_bits(bits)));
    }
    free(bytes);
    assert_true(digest == golden_digest("f32_to_f16"));
    assert_int_equal(f32_to_f16(f32_from_bits(0x7f800000)), 0x7c00);
    assert_int_equal(f32_to_f16(f32_from_bits(0xff800000)), 0xfc00);
    assert_int_equal(f32_to_f16(f32_from_bits(0x7f7fffff)), 0x7c00);
}

static void types_have_names_sizes_and_codecs_that_agree(void **state)
{
    (void)state;
    int usable = 0;
    for (uint32_t type = 0; type < 100; type++) {
        const struct type_info *info = type_info(type);
        const struct block_codec *codec = block_codec_scalar(type);
        if (info == NULL) {
            assert_null(codec);
            continue;
        }
        assert_string_equal(info->name, type_name_any(type));
        assert_int_equal(codec != NULL && codec->decode_k != NULL, info->weight_class == WEIGHT_K);
        assert_int_equal(codec != NULL && codec->decode_s != NULL, info->weight_class == WEIGHT_S);
        if (info->weight_class != WEIGHT_NONE) {
            assert_non_null(strstr(type_supported_list(), info->name));
            usable++;
        }
    }
    assert_int_equal(usable, N_MATRIX_TYPES);
    assert_null(type_info(UINT32_MAX));
    assert_null(type_name_any(UINT32_MAX));
    assert_string_equal(type_name_any(19), "IQ1_S");
    assert_string_equal(type_name_any(40), "NVFP4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_have_names_sizes_and_codecs_that_agree),
        cmocka_unit_test(rows_of_every_type_equal_the_golden_weights),
        cmocka_unit_test(many_random_weights_of_every_type_have_the_golden_digest),
        cmocka_unit_test(a_canonical_k_block_means_the_golden_weights),
        cmocka_unit_test(a_canonical_s_block_of_any_length_means_the_golden_weights),
        cmocka_unit_test(integer_sums_of_k_types_stay_inside_int32),
        cmocka_unit_test(scales_that_are_no_numbers_are_carried_along),
        cmocka_unit_test(iq_tables_are_those_of_the_file_format),
        cmocka_unit_test(every_half_and_bfloat16_widens_to_its_golden_bits),
        cmocka_unit_test(every_half_survives_the_way_to_float_and_back),
        cmocka_unit_test(floats_between_two_halves_round_to_the_nearer_and_ties_to_even),
        cmocka_unit_test(many_random_floats_round_to_golden_halves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
