/* block_data.h - weight blocks for tests: the golden ones, and reproducible random ones (the
 * generator of tests/golden/scripts/make_blocks.py). */
#ifndef MTP_TESTS_BLOCK_DATA_H
#define MTP_TESTS_BLOCK_DATA_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/blocks.h"

static const uint32_t matrix_types[] = {
    MTP_TYPE_F32, MTP_TYPE_F16, MTP_TYPE_BF16, MTP_TYPE_Q8_0, MTP_TYPE_Q4_0, MTP_TYPE_Q4_1,
    MTP_TYPE_Q5_0, MTP_TYPE_Q5_1, MTP_TYPE_IQ4_NL, MTP_TYPE_MXFP4, MTP_TYPE_Q2_K, MTP_TYPE_Q3_K,
    MTP_TYPE_Q4_K, MTP_TYPE_Q5_K, MTP_TYPE_Q6_K, MTP_TYPE_IQ4_XS, MTP_TYPE_IQ2_XXS,
    MTP_TYPE_IQ2_XS, MTP_TYPE_IQ2_S, MTP_TYPE_IQ3_XXS, MTP_TYPE_IQ3_S,
};
enum { N_MATRIX_TYPES = sizeof matrix_types / sizeof *matrix_types };

static inline uint64_t mix64(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline void random_bytes(uint64_t seed, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t word = mix64(seed + (i / 8 + 1) * 0x9e3779b97f4a7c15u);
        out[i] = (uint8_t)(word >> i % 8 * 8);
    }
}

static inline uint64_t digest_add(uint64_t digest, uint64_t index, uint32_t bits)
{
    return digest + mix64(index << 32 | bits);
}

/* Where the lowest exponent bit of a float lies in a block: at most two, offset -1 for none. */
struct exponent_bit {
    int offset;
    uint8_t mask;
};

static inline void exponent_bits(uint32_t type, struct exponent_bit bits[2])
{
    static const struct {
        uint32_t type;
        struct exponent_bit bits[2];
    } special[] = {
        {MTP_TYPE_F32, {{2, 0x80}, {-1, 0}}},    {MTP_TYPE_BF16, {{0, 0x80}, {-1, 0}}},
        {MTP_TYPE_MXFP4, {{-1, 0}, {-1, 0}}},    {MTP_TYPE_Q4_1, {{1, 4}, {3, 4}}},
        {MTP_TYPE_Q5_1, {{1, 4}, {3, 4}}},       {MTP_TYPE_Q2_K, {{81, 4}, {83, 4}}},
        {MTP_TYPE_Q3_K, {{109, 4}, {-1, 0}}},    {MTP_TYPE_Q4_K, {{1, 4}, {3, 4}}},
        {MTP_TYPE_Q5_K, {{1, 4}, {3, 4}}},       {MTP_TYPE_Q6_K, {{209, 4}, {-1, 0}}},
    };
    bits[0] = (struct exponent_bit){1, 4};
    bits[1] = (struct exponent_bit){-1, 0};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        if (special[i].type == type)
            memcpy(bits, special[i].bits, sizeof special[i].bits);
    }
}

/* Clears the lowest exponent bit of every float of n blocks: none is infinite or NaN then. */
static inline void make_finite(uint32_t type, uint8_t *blocks, size_t n)
{
    struct exponent_bit bits[2];
    exponent_bits(type, bits);
    size_t size = type_info(type)->block_bytes;
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < 2; k++) {
            if (bits[k].offset >= 0)
                blocks[i * size + (size_t)bits[k].offset] &= (uint8_t)~bits[k].mask;
        }
    }
}

/* The first n random blocks of a type; freed by the caller. */
static inline uint8_t *random_blocks(uint32_t type, size_t n)
{
    size_t bytes = n * type_info(type)->block_bytes;
    uint8_t *blocks = malloc(bytes);
    if (blocks == NULL)
        abort();
    random_bytes((uint64_t)type << 32, blocks, bytes);
    make_finite(type, blocks, n);
    return blocks;
}

struct golden_blocks {
    uint32_t n;
    uint8_t *blocks;
    uint32_t *weights; /* bits of the floats */
};

/* Reads tests/golden/blocks/TYPE.bin; false when it is missing or not as long as it says. */
static inline bool golden_open(uint32_t type, struct golden_blocks *golden)
{
    char path[4096];
    const struct type_info *info = type_info(type);
    snprintf(path, sizeof path, "%s/tests/golden/blocks/%s.bin", TEST_SRCDIR, info->name);
    *golden = (struct golden_blocks){0, NULL, NULL};
    FILE *file = fopen(path, "rb");
    if (file == NULL || fread(&golden->n, 4, 1, file) != 1 || golden->n > 100000)
        return false;
    size_t n_weights = (size_t)golden->n * info->block_elements;
    golden->blocks = malloc((size_t)golden->n * info->block_bytes);
    golden->weights = malloc(n_weights * 4);
    bool whole = fread(golden->blocks, info->block_bytes, golden->n, file) == golden->n &&
                 fread(golden->weights, 4, n_weights, file) == n_weights && fgetc(file) == EOF;
    fclose(file);
    return whole;
}

static inline void golden_close(struct golden_blocks *golden)
{
    free(golden->blocks);
    free(golden->weights);
}

#endif
