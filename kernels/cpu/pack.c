/* pack.c - see pack.h. Moves bits only; runs once a model. */
#include "kernels/cpu/pack.h"

#include <string.h>

#include "kernels/blocks.h"

/* How the bits of a type's quants are laid in lines. */
struct bit_plan {
    int offset;       /* quants are stored as q + offset */
    bool whole;       /* 8 lines of bytes */
    bool nibbles;     /* 4 lines of the low four bits */
    int two_at;       /* 2 lines of two bits each from this bit on; -1 none */
    int one_at;       /* 1 line of a bit each; -1 none */
    const struct block_codec *codec;
};

static bool plan_of(uint32_t type, struct bit_plan *plan)
{
    switch (type) {
    case MTP_TYPE_Q3_K: *plan = (struct bit_plan){4, false, false, 0, 2}; return true;
    case MTP_TYPE_Q4_K: *plan = (struct bit_plan){0, false, true, -1, -1}; return true;
    case MTP_TYPE_Q5_K: *plan = (struct bit_plan){0, false, true, -1, 4}; return true;
    case MTP_TYPE_Q6_K: *plan = (struct bit_plan){32, false, true, 4, -1}; return true;
    case MTP_TYPE_Q8_0: *plan = (struct bit_plan){0, true, false, -1, -1}; return true;
    case MTP_TYPE_Q4_0: *plan = (struct bit_plan){8, false, true, -1, -1}; return true;
    default: return false;
    }
}

bool pack_supported(uint32_t type)
{
    struct bit_plan plan;
    return plan_of(type, &plan);
}

static void put(uint8_t *at, uint32_t quad)
{
    memcpy(at, &quad, sizeof quad);
}

/* Puts the 32 quants of one row into its places of the lines; gives the end of the lines. */
static uint8_t *put_quants(const struct bit_plan *plan, const uint32_t quad[8], size_t row,
                           uint8_t *lines)
{
    uint8_t *at = lines + 4 * row;
    for (int q = 0; plan->whole && q < 8; q++, at += PACK_LINE)
        put(at, quad[q]);
    for (int q = 0; plan->nibbles && q < 4; q++, at += PACK_LINE)
        put(at, (quad[q] & 0x0f0f0f0f) | (quad[q + 4] & 0x0f0f0f0f) << 4);
    for (int half = 0; plan->two_at >= 0 && half < 2; half++, at += PACK_LINE) {
        uint32_t bits = 0;
        for (int q = 0; q < 4; q++)
            bits |= (quad[4 * half + q] >> plan->two_at & 0x03030303) << 2 * q;
        put(at, bits);
    }
    if (plan->one_at >= 0) {
        uint32_t bits = 0;
        for (int q = 0; q < 8; q++)
            bits |= (quad[q] >> plan->one_at & 0x01010101) << q;
        put(at, bits);
        at += PACK_LINE;
    }
    return at - 4 * row;
}

/* A super-block's quants of sixteen rows. */
struct group_quants {
    uint32_t quad[PACK_ROWS][8][8]; /* [row][sub-block][quad] */
};

static void take_quants(struct group_quants *g, size_t row, const int8_t *q, int offset)
{
    uint8_t shifted[SUPER_BLOCK];
    for (int i = 0; i < SUPER_BLOCK; i++)
        shifted[i] = (uint8_t)(q[i] + offset);
    memcpy(g->quad[row], shifted, sizeof shifted);
}

/* ---- scales ------------------------------------------------------------------------------ */

static void put_scales_and_minima(struct k_scales *s, size_t row, const struct kblock *k)
{
    for (int j = 0; j < 4; j++) {
        int scale = k->scale[2 * j], scale_4 = k->scale[2 * j + 8];
        int min = k->min[2 * j], min_4 = k->min[2 * j + 8];
        s->low_a[j][row] = (uint8_t)((scale & 15) | (scale_4 & 15) << 4);
        s->low_b[j][row] = (uint8_t)((min & 15) | (min_4 & 15) << 4);
        s->high[j][row] =
            (uint8_t)(scale >> 4 | scale_4 >> 4 << 2 | min >> 4 << 4 | min_4 >> 4 << 6);
    }
}

static void put_sixteen_scales(struct k_scales *s, size_t row, const struct kblock *k)
{
    for (int j = 0; j < 4; j++) {
        int v[4];
        for (int i = 0; i < 4; i++)
            v[i] = k->scale[j + 4 * i] + 32;
        s->low_a[j][row] = (uint8_t)((v[0] & 15) | (v[2] & 15) << 4);
        s->low_b[j][row] = (uint8_t)((v[1] & 15) | (v[3] & 15) << 4);
        s->high[j][row] = (uint8_t)(v[0] >> 4 | v[1] >> 4 << 2 | v[2] >> 4 << 4 | v[3] >> 4 << 6);
    }
}

static size_t put_k_scales(uint32_t type, size_t row, const struct kblock *k, uint8_t *at)
{
    if (type == MTP_TYPE_Q6_K) {
        for (size_t j = 0; j < 16; j++)
            at[j / 2 * 2 * PACK_ROWS + 2 * row + j % 2] = (uint8_t)(int8_t)k->scale[j];
        return 16 * PACK_ROWS;
    }
    if (type == MTP_TYPE_Q3_K)
        put_sixteen_scales((struct k_scales *)(void *)at, row, k);
    else
        put_scales_and_minima((struct k_scales *)(void *)at, row, k);
    return sizeof(struct k_scales);
}

/* Where a block keeps its halves d and dmin. */
static size_t half_at(uint32_t type)
{
    return type == MTP_TYPE_Q6_K ? 208 : type == MTP_TYPE_Q3_K ? 108 : 0;
}

static uint8_t *put_half(const uint8_t *from, size_t row, uint8_t *dst)
{
    memcpy(dst + 2 * row, from, 2);
    return dst + 2 * PACK_ROWS;
}

/* ---- groups ------------------------------------------------------------------------------ */

/* The super-block of rows rows[0..n-1] at byte offset `at`; absent rows are zeros already. */
static uint8_t *pack_k_block(uint32_t type, const struct bit_plan *plan, const uint8_t *const *rows,
                             size_t n, size_t at, uint8_t *dst)
{
    decode_k_fn *decode = plan->codec->decode_k;
    struct group_quants quants;
    uint8_t *lines = dst;
    for (size_t r = 0; r < n; r++) {
        struct kblock k;
        const uint8_t *block = rows[r] + at;
        decode(block, &k);
        take_quants(&quants, r, k.q, plan->offset);
        uint8_t *next = put_half(block + half_at(type), r, dst);
        if (type_info(type)->has_min)
            next = put_half(block + 2, r, next);
        lines = next + put_k_scales(type, r, &k, next);
    }
    for (int j = 0; j < 8; j++) {
        uint8_t *end = lines;
        for (size_t r = 0; r < n; r++)
            end = put_quants(plan, quants.quad[r][j], r, lines);
        lines = end;
    }
    return lines;
}

static uint8_t *pack_s_block(const struct bit_plan *plan, const uint8_t *const *rows,
                             size_t n, size_t at, uint8_t *dst)
{
    uint8_t *end = dst;
    for (size_t r = 0; r < n; r++) {
        struct sblock s;
        uint32_t quad[8];
        uint8_t shifted[SUB_BLOCK];
        plan->codec->decode_s(rows[r] + at, 1, &s);
        for (int i = 0; i < SUB_BLOCK; i++)
            shifted[i] = (uint8_t)(s.q[i] + plan->offset);
        memcpy(quad, shifted, sizeof quad);
        end = put_quants(plan, quad, r, put_half(rows[r] + at, r, dst));
    }
    return end;
}

static void pack_group(const struct weight *w, const struct bit_plan *plan, const uint8_t *first,
                       size_t n, uint8_t *dst)
{
    const struct type_info *type = type_info(w->type);
    const uint8_t *rows[PACK_ROWS];
    for (size_t r = 0; r < n; r++)
        rows[r] = first + r * w->row_bytes;
    if (n < PACK_ROWS)
        memset(dst, 0, PACK_ROWS * w->row_bytes);
    for (size_t at = 0; at < w->row_bytes; at += type->block_bytes)
        dst = type->weight_class == WEIGHT_K ? pack_k_block(w->type, plan, rows, n, at, dst)
                                             : pack_s_block(plan, rows, n, at, dst);
}

/* Bytes from the matrix's beginning in the file to a row. */
static size_t place_in_file(const struct weight *w, uint64_t expert, uint64_t row)
{
    return expert * w->expert_bytes + row * w->row_bytes;
}

void pack_weights(const struct pack_args *args, const struct block_codec *codec, int64_t begin,
                  int64_t end)
{
    const struct weight *w = &args->w;
    struct bit_plan plan;
    if (!plan_of(w->type, &plan))
        return;
    plan.codec = codec;
    size_t groups = pack_groups(w);
    size_t before = place_in_file(w, args->first_row / w->n_out, args->first_row % w->n_out);
    uint8_t *dst = args->dst;
    for (size_t g = (size_t)begin; g < (size_t)end; g++) {
        size_t expert = g / groups, row = g % groups * PACK_ROWS;
        size_t left = w->n_out - row;
        const uint8_t *first = (const uint8_t *)args->rows + place_in_file(w, expert, row) - before;
        pack_group(w, &plan, first, left < PACK_ROWS ? left : PACK_ROWS,
                   dst + g * PACK_ROWS * w->row_bytes);
    }
}
