/* product_cases.c - see product_cases.h. */
#include "tests/gpu/product_cases.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/kernels.h"
#include "kernels/fmath.h"
#include "tests/numbers.h"

static void *memory(size_t bytes)
{
    void *at = NULL;
    if (posix_memalign(&at, 64, bytes + 64) != 0) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    memset(at, 0, bytes + 64);
    return at;
}

/* ---- weights --------------------------------------------------------------------------------- */

static uint16_t half_of(struct numbers *numbers, enum case_fill fill)
{
    static const uint16_t special[] = {0x7bff, 0xfbff, 0x0001, 0x8001, 0x0000, 0x8000, 0x03ff,
                                       0x2e66, 0xae66, 0x0400, 0x7c00, 0xfc00, 0x7e01, 0x7d00};
    if (fill == FILL_RANDOM)
        return f32_to_f16(next_unit(numbers) * 0.05f);
    return special[next_below(numbers, fill == FILL_INFINITE ? 14 : 10)];
}

static void fill_block(struct numbers *numbers, uint32_t type, uint8_t *block, enum case_fill fill)
{
    static const int bytes[N_FILLS] = {
        [FILL_ONES] = 255, [FILL_55] = 0x55, [FILL_80] = 0x80, [FILL_7F] = 0x7f};
    const struct type_info *info = type_info(type);
    for (uint32_t i = 0; i < info->block_bytes; i++)
        block[i] = fill >= FILL_ONES ? (uint8_t)bytes[fill] : (uint8_t)next_bits(numbers);
    size_t at = type == MTP_TYPE_Q2_K   ? 80
                : type == MTP_TYPE_Q3_K ? 108
                : type == MTP_TYPE_Q6_K ? 208
                                        : 0;
    if (type == MTP_TYPE_MXFP4) {
        block[0] = (uint8_t)(fill == FILL_RANDOM     ? 118 + next_below(numbers, 8)
                             : fill == FILL_INFINITE ? next_below(numbers, 256)
                                                     : next_below(numbers, 140));
        return;
    }
    for (size_t i = 0; i <= (size_t)info->has_min; i++) {
        uint16_t half = half_of(numbers, fill);
        memcpy(block + at + 2 * i, &half, 2);
    }
}

/* Floats of every exponent, subnormals and zeros of both signs; infinities and NaN where asked. */
static float any_float(struct numbers *numbers, enum case_fill fill)
{
    if (fill == FILL_RANDOM)
        return next_float(numbers);
    switch (next_below(numbers, fill == FILL_INFINITE ? 64 : 8)) {
    case 0: return 0.0f;
    case 1: return -0.0f;
    case 2: return next_unit(numbers) * 0x1p-126f;
    case 3: return next_unit(numbers) * 0x1p-140f;
    case 4: return next_unit(numbers) * 0x1p60f;
    case 9: return INFINITY;
    case 10: return -INFINITY;
    case 11: return NAN;
    default: return next_float(numbers);
    }
}

static void fill_float(struct numbers *numbers, uint32_t type, uint8_t *at, enum case_fill fill)
{
    float value = any_float(numbers, fill);
    uint32_t bits = f32_bits(value);
    uint16_t half = type == MTP_TYPE_F16 ? f32_to_f16(fill == FILL_RANDOM ? value : value * 0x1p-50f)
                                         : (uint16_t)(bits >> 16);
    if (fill == FILL_SPECIAL && type == MTP_TYPE_F16 && next_below(numbers, 2) == 0)
        half = half_of(numbers, fill);
    memcpy(at, type == MTP_TYPE_F32 ? (void *)&bits : (void *)&half, type == MTP_TYPE_F32 ? 4 : 2);
}

static struct weight make_weight(struct numbers *numbers, uint32_t type, uint32_t n_in, uint32_t n_out,
                                 uint32_t n_experts, enum case_fill fill)
{
    const struct type_info *info = type_info(type);
    size_t row = n_in / info->block_elements * info->block_bytes, bytes = row * n_out * n_experts;
    uint8_t *data = memory(bytes);
    for (size_t at = 0; at < bytes; at += info->block_bytes) {
        if (info->weight_class == WEIGHT_FLOAT)
            fill_float(numbers, type, data + at, fill);
        else
            fill_block(numbers, type, data + at, fill);
    }
    return (struct weight){data, type, n_in, n_out, n_experts, row, row * n_out, NULL};
}

/* ---- activations ------------------------------------------------------------------------------ */

/* Every |q| 127 and every multiplier 15 in most super-blocks, signs alike or not. */
static void extreme_block(struct numbers *numbers, struct act_block *act)
{
    static const float scales[] = {0x1p-111f, 0x1p100f, 1.0f, 0.0f, 0.0137f, 0.5f, 2.0f};
    uint32_t signs = next_below(numbers, 4);
    memset(act, 0, sizeof *act);
    act->d = scales[next_below(numbers, 7)];
    for (int j = 0; j < 8; j++)
        act->mul[j] = signs == 3 ? (uint8_t)(1 + next_below(numbers, 15)) : 15;
    for (int i = 0; i < SUPER_BLOCK; i++) {
        bool negative = signs == 0 ? false : signs == 1 ? true : (next_bits(numbers) & 1) != 0;
        act->q[i] = (int8_t)(negative ? -127 : 127);
        if (signs == 3)
            act->q[i] = (int8_t)((int)next_below(numbers, 255) - 127);
        act->bsum[i / 16] = (int16_t)(act->bsum[i / 16] + act->mul[i / 32] * act->q[i]);
    }
}

static void make_inputs(struct product_case *c, struct numbers *numbers, enum case_fill fill)
{
    size_t n = c->w.n_in, rows = (size_t)c->n_inputs, blocks = act_blocks(n);
    float *x = memory(rows * n * sizeof *x);
    struct act_block *act = memory(rows * blocks * sizeof *act);
    bool floats = type_info(c->w.type)->weight_class == WEIGHT_FLOAT;
    for (size_t i = 0; i < rows * n; i++)
        x[i] = any_float(numbers, floats ? fill : FILL_RANDOM);
    if (!floats) {
        const struct cpu_kernels *cpu = cpu_kernels_best();
        struct quantize_args args = {x, act, n, c->n_inputs};
        cpu->quantize(&args, 0, (int64_t)(rows * blocks), &(struct cpu_task){NULL, NULL});
        for (size_t b = 0; fill != FILL_RANDOM && b < rows * blocks; b++)
            extreme_block(numbers, &act[b]);
    }
    c->x = floats ? x : NULL;
    c->act = floats ? NULL : act;
    free(floats ? (void *)act : (void *)x);
}

/* ---- answers ---------------------------------------------------------------------------------- */

/* Rows of weights under this many multiplications are left to the definition. */
enum { SCALAR_PRODUCTS = 200000 };

static void answer_row(const struct product_case *c, int32_t y_row, uint32_t expert)
{
    double products = (double)c->w.n_in * c->w.n_out * c->n;
    const struct cpu_kernels *cpu =
        products < SCALAR_PRODUCTS ? cpu_kernels_scalar() : cpu_kernels_best();
    size_t input = (size_t)(y_row / c->pairs_per_input);
    const float *x = c->x == NULL ? NULL : c->x + input * c->w.n_in;
    const struct act_block *act = c->act == NULL ? NULL : c->act + input * act_blocks(c->w.n_in);
    float *y = c->wanted + (size_t)y_row * c->y_stride;
    cpu->dot(&(struct dot_args){c->w.type, (const uint8_t *)c->w.data + expert * c->w.expert_bytes,
                                c->w.row_bytes, c->w.n_in, (int32_t)c->w.n_out, &x, &act, &y, 1});
}

static void make_room(struct product_case *c)
{
    c->y_stride = c->w.n_out + 3;
    c->y_bytes = (size_t)c->n * c->y_stride * sizeof *c->wanted;
    c->wanted = memory(c->y_bytes);
    memset(c->wanted, 0x5a, c->y_bytes);
}

void make_case(struct product_case *c, uint32_t type, uint32_t n_in, uint32_t n_out, int32_t n_rows,
               uint64_t seed, enum case_fill fill)
{
    struct numbers numbers = {seed * 1000003 + type * 7919 + n_in * 31 + n_out + (uint64_t)n_rows};
    memset(c, 0, sizeof *c);
    c->w = make_weight(&numbers, type, n_in, n_out, 1, fill);
    c->n = c->n_inputs = n_rows;
    c->pairs_per_input = 1;
    make_inputs(c, &numbers, fill);
    make_room(c);
    for (int32_t r = 0; r < n_rows; r++)
        answer_row(c, r, 0);
}

void answer_with(struct product_case *c, const float *x)
{
    memcpy((void *)(uintptr_t)c->x, x, (size_t)c->n_inputs * c->w.n_in * sizeof *x);
    for (int32_t r = 0; r < c->n; r++)
        answer_row(c, r, 0);
}

void make_expert_case(struct product_case *c, uint32_t type, uint32_t n_in, uint32_t n_out,
                      uint32_t n_experts, int32_t n_rows, uint32_t n_used, bool own_inputs, uint64_t seed)
{
    struct numbers numbers = {seed * 1000003 + type * 7919 + n_in * 31 + n_out + n_experts};
    memset(c, 0, sizeof *c);
    c->w = make_weight(&numbers, type, n_in, n_out, n_experts, FILL_RANDOM);
    c->n = n_rows * (int32_t)n_used;
    c->pairs_per_input = own_inputs ? 1 : (int32_t)n_used;
    c->n_inputs = own_inputs ? c->n : n_rows;
    make_inputs(c, &numbers, FILL_RANDOM);
    make_room(c);
    int32_t *chosen = memory((size_t)c->n * sizeof *chosen);
    int32_t *order = memory((size_t)c->n * sizeof *order),
            *start = memory((n_experts + 1) * sizeof *start);
    for (int32_t p = 0; p < c->n; p++) {
        uint32_t rank = (uint32_t)p % n_used,
                 first = p % (int32_t)n_used == 0 ? 0 : (uint32_t)chosen[p - (int32_t)rank];
        if (rank == 0) /* every third seed: the lower the number, the more rows */
            first = next_below(&numbers, seed % 3 == 2 ? 1 + next_below(&numbers, n_experts) : n_experts);
        chosen[p] = (int32_t)((first + rank) % n_experts);
        answer_row(c, p, (uint32_t)chosen[p]);
    }
    for (uint32_t e = 0; e < n_experts; e++) {
        start[e + 1] = start[e];
        for (int32_t p = 0; p < c->n; p++)
            if (chosen[p] == (int32_t)e)
                order[start[e + 1]++] = p;
    }
    c->order = order;
    c->start = start;
    if (seed % 2 != 0)
        c->experts = chosen;
    else
        free(chosen);
}

void free_case(struct product_case *c)
{
    free((void *)(uintptr_t)c->w.data);
    free((void *)(uintptr_t)c->act);
    free((void *)(uintptr_t)c->x);
    free((void *)(uintptr_t)c->order);
    free((void *)(uintptr_t)c->start);
    free((void *)(uintptr_t)c->experts);
    free(c->wanted);
}

static bool is_nan(uint32_t bits)
{
    return (bits & 0x7fffffff) > 0x7f800000;
}

bool report_difference(const struct product_case *c, const float *y, const char *how)
{
    for (int32_t r = 0; r < c->n; r++)
        for (size_t o = 0; o < c->y_stride; o++) {
            uint32_t wanted = f32_bits(c->wanted[(size_t)r * c->y_stride + o]);
            uint32_t got = f32_bits(y[(size_t)r * c->y_stride + o]);
            if (wanted == got || (is_nan(wanted) && is_nan(got)))
                continue;
            printf("MISMATCH %s %s: n_in %u, n_out %u, %d rows, %u experts: row %d, output %zu%s: wanted "
                   "%08x (%a), got %08x (%a)\n",
                   type_info(c->w.type)->name, how, c->w.n_in, c->w.n_out, c->n, c->w.n_experts, r, o,
                   o >= c->w.n_out ? " (past the end)" : "", wanted, (double)f32_from_bits(wanted), got,
                   (double)f32_from_bits(got));
            return false;
        }
    return true;
}
