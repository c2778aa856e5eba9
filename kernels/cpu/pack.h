/* pack.h - weights with the rows of sixteen outputs interleaved, so that lane i of a vector belongs to
 * row i and no sum crosses lanes. The bytes are the file's, in another order: a packed matrix is as
 * large as the one in the file (but for rows of zeros that fill up the last sixteen).
 *
 * A group is PACK_ROWS rows; its super-blocks (class K) or blocks of 32 (class S) follow each other.
 * Below, [16] counts rows, "line" is 64 bytes: byte 4 r + i belongs to row r, and quad q of 32 weights
 * is its weights 4 q .. 4 q + 3. Low four bits of quad v + 4 share the bytes of quad v, v = 0..3.
 *
 *   Q4_K  d f16[16], dmin f16[16], 192 bytes of scales (struct k_scales), 8 x {4 lines of nibbles}
 *   Q5_K  the same, 8 x {4 lines of nibbles, 1 line: bit q is the fifth bit of quad q}
 *   Q6_K  d f16[16], scale i8[8][16][2], 8 x {4 lines of nibbles, 2 lines: bits 2 q, 2 q + 1 of the
 *         first are bits 4, 5 of quad q, of the second those of quad q + 4}; quants are q + 32
 *   Q3_K  d f16[16], 192 bytes of scales, 8 x {2 lines: bits 0, 1 as in Q6_K, 1 line: bit 2 as in
 *         Q5_K}; quants are q + 4
 *   Q8_0  d f16[16], 8 lines, line q is quad q
 *   Q4_0  d f16[16], 4 lines of nibbles; quants are q + 8
 */
#ifndef MTP_KERNELS_CPU_PACK_H
#define MTP_KERNELS_CPU_PACK_H

#include "kernels/blocks.h"
#include "kernels/ops.h"

enum { PACK_ROWS = 16, PACK_LINE = 64 };

/* Six-bit scales of a super-block, 192 bytes. Q4_K, Q5_K: low nibbles of low_a[j] are bits 0..3 of
 * scale j, high nibbles of scale j + 4; low_b likewise of the minima; bits 0-1, 2-3, 4-5, 6-7 of
 * high[j] are bits 4-5 of scale j, scale j + 4, minimum j, minimum j + 4. Q3_K has sixteen scales + 32
 * and no minima: low_a[j]: scales j and j + 8, low_b[j]: scales j + 4 and j + 12, high[j]: scales j,
 * j + 4, j + 8, j + 12. */
struct k_scales {
    uint8_t low_a[4][PACK_ROWS], low_b[4][PACK_ROWS], high[4][PACK_ROWS];
};

/* Whether the type has a packed form. */
bool pack_supported(uint32_t type);

static inline size_t pack_groups(const struct weight *w)
{
    return ((size_t)w->n_out + PACK_ROWS - 1) / PACK_ROWS;
}

/* Bytes of one expert, packed, and of all. */
static inline size_t pack_expert_bytes(const struct weight *w)
{
    return pack_groups(w) * PACK_ROWS * w->row_bytes;
}
static inline size_t pack_bytes(const struct weight *w)
{
    return w->n_experts * pack_expert_bytes(w);
}

/* The group that a row counted over all experts is in. */
static inline int64_t pack_group_of(const struct weight *w, uint64_t row)
{
    return (int64_t)(row / w->n_out * pack_groups(w) + row % w->n_out / PACK_ROWS);
}

/* Packs groups [begin, end), counted over all experts, of the piece's; codec is that of the type. */
void pack_weights(const struct pack_args *args, const struct block_codec *codec, int64_t begin,
                  int64_t end);

#endif
