/* kept_rows.cuh - activations that a warp of a product keeps in shared memory: the super-blocks of its
 * segment, of all batch rows, read once for all its units of weight rows. Read with every tile from the
 * second cache instead, eight rows would bring as many bytes as the weights, behind waits of their own. */
#ifndef MTP_KERNELS_CUDA_KEPT_ROWS_CUH
#define MTP_KERNELS_CUDA_KEPT_ROWS_CUH

#include "kernels/cuda/sums.cuh"

/* A super-block of W batch rows: quants and their sums row by row, so far apart that the rows a warp reads at
 * a time lie in different banks; then the scales of all rows. Before all super-blocks lie zeros, which lanes
 * read in place of the half of a sub-block that is not theirs: in banks that the others leave free. */
template <int W>
struct kept_rows {
    static constexpr int STRIDE = W == 4 ? 320 : QUANTS_BYTES;
    static constexpr int SCALES_AT = W * STRIDE;
    static constexpr int BYTES = SCALES_AT + W * SCALES_BYTES;
    static constexpr int COPIES = QUANTS_BYTES / 16 + 1; /* of a row */

    static constexpr int ZEROS = 384, ZEROS_AT = W == 8 ? 0 : W == 4 ? 32 : 64;

    /* What is kept of rows of n super-blocks; warps that have the same ones have copies of their own. */
    HOST_DEVICE static uint32_t bytes_of(uint32_t n)
    {
        const uint32_t blocks = n < (uint32_t)PRODUCT_WARPS ? (uint32_t)PRODUCT_WARPS : n;
        return (uint32_t)ZEROS + blocks * (uint32_t)BYTES;
    }
    DEVICE static uint8_t *of_warp(uint8_t *area, uint32_t number)
    {
        return area + ZEROS + number * (uint32_t)BYTES;
    }
    /* By all threads; seen by all when they have met. */
    DEVICE static void write_zeros(uint8_t *area)
    {
        for (int i = (int)threadIdx.x; i < ZEROS / 4; i += PRODUCT_THREADS)
            ((uint32_t *)(void *)area)[i] = 0;
    }

    DEVICE static struct row_at row(const uint8_t *at, int column)
    {
        return {at + column * STRIDE, at + SCALES_AT + column * SCALES_BYTES};
    }

    /* Asks for super-blocks first .. last of rows of n, as one group of copies. */
    DEVICE static void copy(const struct product &p, const struct columns<W> &columns, uint32_t n,
                            uint32_t first, uint32_t last, uint8_t *at, int lane)
    {
        for (uint32_t b = first; b <= last; b++, at += BYTES)
#pragma unroll
            for (int i = lane; i < W * COPIES; i += LANES) {
                const int row = i / COPIES, part = i % COPIES;
                const uint8_t *from = (const uint8_t *)(const void *)(p.act + columns.input[row] * n + b);
                uint8_t *to = part + 1 < COPIES ? at + row * STRIDE + 16 * part : at + SCALES_AT + 16 * row;
                copy_async(to, from + 16 * part);
            }
        copy_commit();
    }
};

#endif
