/* columns.cuh - what a product kernel is given, and which rows of the batch a block of threads takes. */
#ifndef MTP_KERNELS_CUDA_COLUMNS_CUH
#define MTP_KERNELS_CUDA_COLUMNS_CUH

#include "kernels/cuda/device.cuh"

enum { PRODUCT_THREADS = 256, PRODUCT_WARPS = 8, SEGMENTS = 8 };

/* Pointers are in the device's memory. */
struct product {
    const uint8_t *weights;       /* tiles, or rows as in the file */
    size_t row_bytes, expert_bytes;
    const struct act_block *act;
    const float *x;
    float *y;
    size_t y_stride;
    const int32_t *order, *start; /* as in expert_matmul_args; NULL for an ordinary matrix */
    int32_t n;                    /* batch rows, or pairs */
    int32_t pairs_per_input;
    int32_t most;                 /* batch rows that share a read of the weights */
    uint32_t n_in, n_out, n_experts;
};

/* A slot is up to `most` batch rows of one matrix; slot blockIdx.x is the block's. Columns past n repeat
 * the last one, so that what is read is always there. */
template <int COLUMNS>
struct columns {
    int32_t n, first;
    uint32_t expert;
    uint32_t input[COLUMNS], output[COLUMNS];
    int32_t slots_of_warp[PRODUCT_WARPS];
};

/* No slot of a matrix has more rows than this many. */
DEVICE int32_t slots_of(const struct product &p, uint32_t expert)
{
    return (p.start[expert + 1] - p.start[expert] + p.most - 1) / p.most;
}

/* The slots of the experts before this thread's, and how many its own have: each thread has `per`
 * neighbouring experts. */
template <int COLUMNS>
DEVICE int32_t slots_before(const struct product &p, struct columns<COLUMNS> *shared, uint32_t per,
                            int32_t *own)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    *own = 0;
    for (uint32_t e = threadIdx.x * per; e < (threadIdx.x + 1) * per && e < p.n_experts; e++)
        *own += slots_of(p, e);
    int32_t sum = *own;
    for (int distance = 1; distance < 32; distance *= 2) {
        int32_t other = __shfl_up_sync(~0u, sum, distance);
        sum += lane >= distance ? other : 0;
    }
    if (lane == 31)
        shared->slots_of_warp[warp] = sum;
    __syncthreads();
    for (int w = 0; w < warp; w++)
        sum += shared->slots_of_warp[w];
    return sum - *own;
}

template <int COLUMNS>
DEVICE void find_expert(const struct product &p, struct columns<COLUMNS> *shared)
{
    const uint32_t per = (p.n_experts + PRODUCT_THREADS - 1) / PRODUCT_THREADS;
    const int32_t slot = (int32_t)blockIdx.x;
    if (threadIdx.x == 0)
        shared->n = 0;
    int32_t own, before = slots_before(p, shared, per, &own);
    if (slot < before || slot >= before + own)
        return;
    uint32_t e = threadIdx.x * per;
    for (int32_t slots = slots_of(p, e); slot - before >= slots; slots = slots_of(p, e)) {
        before += slots;
        e++;
    }
    int32_t first = p.start[e] + (slot - before) * p.most, left = p.start[e + 1] - first;
    shared->expert = e;
    shared->first = first;
    shared->n = left < p.most ? left : p.most;
}

/* Fills shared, for all threads of the block; n is 0 where there is nothing to do. */
template <int COLUMNS>
DEVICE void find_columns(const struct product &p, struct columns<COLUMNS> *shared)
{
    const int32_t c = (int32_t)threadIdx.x;
    if (p.start != NULL) {
        find_expert(p, shared);
    } else if (c == 0) {
        int32_t first = (int32_t)blockIdx.x * p.most, left = p.n - first;
        shared->expert = 0;
        shared->first = first;
        shared->n = left < p.most ? left : p.most;
    }
    __syncthreads();
    if (c < COLUMNS && shared->n > 0) {
        int32_t at = shared->first + (c < shared->n ? c : shared->n - 1);
        int32_t row = p.order != NULL ? p.order[at] : at;
        shared->output[c] = (uint32_t)row;
        shared->input[c] = (uint32_t)(row / p.pairs_per_input);
    }
    __syncthreads();
}

/* ((0+1)+(2+3))+((4+5)+(6+7)) of kernels/reduce.h. */
DEVICE float fold_eight(const float v[8])
{
    return __fadd_rn(__fadd_rn(__fadd_rn(v[0], v[1]), __fadd_rn(v[2], v[3])),
                     __fadd_rn(__fadd_rn(v[4], v[5]), __fadd_rn(v[6], v[7])));
}

/* First super-block of segment s of a row of n. */
DEVICE uint32_t first_of_segment(uint32_t n, uint32_t s)
{
    return s * n / SEGMENTS;
}

#endif
