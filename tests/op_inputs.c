/* op_inputs.c - see op_inputs.h. */
#include "tests/op_inputs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

const uint32_t weight_types[N_WEIGHT_TYPES] = {
    MTP_TYPE_F32,     MTP_TYPE_F16,    MTP_TYPE_Q4_0,    MTP_TYPE_Q4_1,   MTP_TYPE_Q5_0,
    MTP_TYPE_Q5_1,    MTP_TYPE_Q8_0,   MTP_TYPE_Q2_K,    MTP_TYPE_Q3_K,   MTP_TYPE_Q4_K,
    MTP_TYPE_Q5_K,    MTP_TYPE_Q6_K,   MTP_TYPE_IQ2_XXS, MTP_TYPE_IQ2_XS, MTP_TYPE_IQ3_XXS,
    MTP_TYPE_IQ4_NL,  MTP_TYPE_IQ3_S,  MTP_TYPE_IQ2_S,   MTP_TYPE_IQ4_XS, MTP_TYPE_BF16,
    MTP_TYPE_MXFP4,
};

void *need(size_t bytes)
{
    void *memory = calloc(1, bytes > 0 ? bytes : 1);
    assert_non_null(memory);
    return memory;
}

float *random_floats(struct numbers *numbers, size_t n)
{
    float *x = need(n * sizeof *x);
    fill_floats(numbers, x, n);
    return x;
}

size_t weight_bytes(uint32_t type, size_t n)
{
    const struct type_info *info = type_info(type);
    return n / info->block_elements * info->block_bytes;
}

uint32_t whole_blocks(uint32_t type, uint32_t n)
{
    uint32_t block = type_info(type)->block_elements;
    return (n + block - 1) / block * block;
}

/* Where a block keeps its half-precision scale, and how many halves there are. */
static size_t scale_offset(uint32_t type, int *n)
{
    *n = type_info(type)->has_min ? 2 : 1;
    switch (type) {
    case MTP_TYPE_Q2_K: return 80;
    case MTP_TYPE_Q3_K: return 108;
    case MTP_TYPE_Q6_K: return 208;
    default: return 0;
    }
}

static void fill_block(struct numbers *numbers, uint32_t type, uint8_t *block)
{
    const struct type_info *info = type_info(type);
    for (uint32_t i = 0; i < info->block_bytes; i++)
        block[i] = (uint8_t)next_bits(numbers);
    if (type == MTP_TYPE_MXFP4) {
        block[0] = (uint8_t)(118 + next_below(numbers, 8)); /* 2^-9 .. 2^-2 */
        return;
    }
    int n;
    size_t at = scale_offset(type, &n);
    for (int i = 0; i < n; i++) {
        uint16_t half = f32_to_f16(next_unit(numbers) * 0.05f);
        memcpy(block + at + 2 * (size_t)i, &half, sizeof half);
    }
}

struct weight random_weight(struct numbers *numbers, uint32_t type, uint32_t n_in, uint32_t n_out,
                            uint32_t n_experts)
{
    const struct type_info *info = type_info(type);
    size_t row = weight_bytes(type, n_in), n_rows = (size_t)n_out * n_experts;
    uint8_t *data = need(row * n_rows);
    for (size_t at = 0; at < row * n_rows; at += info->block_bytes) {
        float value = next_float(numbers);
        uint16_t half = f32_to_f16(value);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        uint16_t top = (uint16_t)(bits >> 16);
        if (type == MTP_TYPE_F32)
            memcpy(data + at, &value, sizeof value);
        else if (info->weight_class == WEIGHT_FLOAT)
            memcpy(data + at, type == MTP_TYPE_F16 ? &half : &top, sizeof half);
        else
            fill_block(numbers, type, data + at);
    }
    return (struct weight){data, type, n_in, n_out, n_experts, row, row * n_out};
}

struct act_block *quantised(const float *x, size_t n, int32_t n_rows)
{
    struct act_block *act = NULL;
    size_t blocks = (size_t)n_rows * act_blocks(n);
    assert_int_equal(posix_memalign((void **)&act, 64, (blocks > 0 ? blocks : 1) * sizeof *act), 0);
    struct backend *backend = cpu_backend_open(cpu_kernels_scalar(), 1);
    assert_non_null(backend);
    backend->ops->quantize(backend, &(struct quantize_args){x, act, n, n_rows});
    assert_false(backend->ops->fault(backend).found);
    backend->ops->close(backend);
    return act;
}
