/* The AVX2 decoders produce the scalar decoders' blocks, byte for byte, and read nothing else. */
#define _DEFAULT_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "block_data.h"

enum { EXIT_SKIPPED = 77 };

#ifdef MTP_HAVE_AVX2

#include <sys/mman.h>
#include <unistd.h>

/* Memory that ends where an unreadable page begins. */
struct guarded {
    uint8_t *pages;
    size_t length;
    uint8_t *end;
};

static void guarded_open(struct guarded *guarded)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    guarded->length = 2 * page;
    guarded->pages = mmap(NULL, guarded->length, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(guarded->pages != MAP_FAILED);
    guarded->end = guarded->pages + page;
    assert_int_equal(mprotect(guarded->end, page, PROT_NONE), 0);
}

static void guarded_close(struct guarded *guarded)
{
    munmap(guarded->pages, guarded->length);
}

static void compare_k(uint32_t type, const uint8_t *block)
{
    struct kblock scalar, avx2;
    memset(&scalar, 0xa5, sizeof scalar);
    memset(&avx2, 0xa5, sizeof avx2);
    block_codec_scalar(type)->decode_k(block, &scalar);
    block_codec_avx2(type)->decode_k(block, &avx2);
    if (memcmp(&scalar, &avx2, sizeof scalar) != 0)
        fail_msg("%s: the AVX2 block differs", type_info(type)->name);
}

static void compare_s(uint32_t type, const uint8_t *blocks, uint32_t n_sub)
{
    struct sblock scalar, avx2;
    memset(&scalar, 0xa5, sizeof scalar);
    memset(&avx2, 0x5a, sizeof avx2);
    block_codec_scalar(type)->decode_s(blocks, n_sub, &scalar);
    block_codec_avx2(type)->decode_s(blocks, n_sub, &avx2);
    if (memcmp(&scalar, &avx2, sizeof scalar) != 0)
        fail_msg("%s: the AVX2 block of %u differs", type_info(type)->name, n_sub);
}

/* Compares all n blocks, each time with unreadable memory behind the last one read. */
static void compare_all(uint32_t type, const uint8_t *blocks, size_t n,
                        const struct guarded *guarded)
{
    const struct type_info *info = type_info(type);
    for (size_t i = 0; i < n; i++) {
        uint32_t most = info->weight_class == WEIGHT_K || n - i < 8 ? 1 : 8;
        for (uint32_t n_sub = 1; n_sub <= most; n_sub++) {
            size_t bytes = n_sub * info->block_bytes;
            uint8_t *copy = guarded->end - bytes;
            memcpy(copy, blocks + i * info->block_bytes, bytes);
            if (info->weight_class == WEIGHT_K)
                compare_k(type, copy);
            else
                compare_s(type, copy, n_sub);
        }
    }
}

static void compare_type(uint32_t type, const struct guarded *guarded)
{
    enum { N_RANDOM = 1024 };
    size_t size = type_info(type)->block_bytes;
    uint8_t *blocks = random_blocks(type, N_RANDOM);
    compare_all(type, blocks, N_RANDOM, guarded);
    random_bytes(99, blocks, N_RANDOM * size); /* scales of any kind, NaN included */
    compare_all(type, blocks, N_RANDOM, guarded);
    for (size_t byte = 0; byte < 256; byte++)
        memset(blocks + byte * size, (int)byte, size);
    compare_all(type, blocks, 256, guarded);
    free(blocks);
    struct golden_blocks golden;
    assert_true(golden_open(type, &golden));
    compare_all(type, golden.blocks, golden.n, guarded);
    golden_close(&golden);
}

static void blocks_of_every_quantised_type_decode_alike(void **state)
{
    (void)state;
    struct guarded guarded;
    guarded_open(&guarded);
    int compared = 0;
    for (int t = 0; t < N_MATRIX_TYPES; t++) {
        if (block_codec_scalar(matrix_types[t]) == NULL)
            continue;
        compare_type(matrix_types[t], &guarded);
        compared++;
    }
    assert_int_equal(compared, N_MATRIX_TYPES - 3);
    guarded_close(&guarded);
}

static void scales_of_every_bit_pattern_decode_alike(void **state)
{
    (void)state;
    uint8_t k_block[210] = {0}, s_blocks[8 * 34] = {0};
    for (uint32_t half = 0; half < 1 << 16; half++) {
        k_block[208] = (uint8_t)half;
        k_block[209] = (uint8_t)(half >> 8);
        compare_k(MTP_TYPE_Q6_K, k_block);
        s_blocks[34 * (half % 8)] = (uint8_t)half;
        s_blocks[34 * (half % 8) + 1] = (uint8_t)(half >> 8);
        compare_s(MTP_TYPE_Q8_0, s_blocks, 8);
    }
}

static void float_types_have_no_codec(void **state)
{
    (void)state;
    assert_null(block_codec_avx2(MTP_TYPE_F32));
    assert_null(block_codec_avx2(MTP_TYPE_BF16));
    assert_null(block_codec_avx2(MTP_TYPE_I32));
    assert_null(block_codec_avx2(UINT32_MAX));
}

int main(void)
{
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
        fprintf(stderr, "skipped: this processor has no AVX2\n");
        return EXIT_SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_every_quantised_type_decode_alike),
        cmocka_unit_test(scales_of_every_bit_pattern_decode_alike),
        cmocka_unit_test(float_types_have_no_codec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    fprintf(stderr, "skipped: this build has no AVX2 kernels\n");
    return EXIT_SKIPPED;
}

#endif
