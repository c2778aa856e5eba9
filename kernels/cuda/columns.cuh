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
    const int32_t *experts;       /* likewise; NULL too where they are not given */
    int32_t n;                    /* batch rows, or pairs */
    int32_t pairs_per_input;
    int32_t most;                 /* batch rows that share a read of the weights */
    uint32_t n_in, n_out, n_experts;
    uint32_t stages;              /* of a warp's ring where activations are kept; 0: they are not */
};

/* Which part of a product is a block's: of slot `slot`, share `number` of `count`. */
struct place {
    uint32_t slot, number, count;
};
DEVICE struct place place_in_grid()
{
    struct place place = {blockIdx.x, blockIdx.y, gridDim.y};
    return place;
}

/* A slot is up to `most` batch rows of one matrix. Columns past n repeat the last one, so that what is read
 * is always there. */
template <int COLUMNS>
struct columns {
    int32_t n, first;
    uint32_t expert;
    uint32_t input[COLUMNS], output[COLUMNS];
    int32_t slots_of_warp[PRODUCT_WARPS];
};

template <int COLUMNS>
DEVICE struct columns<COLUMNS> *columns_in(uint8_t *shared)
{
    return (struct columns<COLUMNS> *)(void *)shared;
}

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

/* Where a slot is one row: the thread whose expert has it says so. */
template <int COLUMNS>
DEVICE void find_expert_of_row(const struct product &p, int32_t slot, struct columns<COLUMNS> *shared)
{
    for (uint32_t e = threadIdx.x; e < p.n_experts; e += PRODUCT_THREADS)
        if (p.start[e] <= slot && slot < p.start[e + 1]) {
            shared->expert = e;
            shared->first = slot;
            shared->n = 1;
        }
}

/* The same where the experts of pairs are given: a slot is the pair of its number, and one read says all,
 * where looking through the experts and their order takes two that wait for each other. */
template <int COLUMNS>
DEVICE void find_pair(const struct product &p, uint32_t slot, struct columns<COLUMNS> *shared)
{
    if (threadIdx.x == 0) {
        shared->expert = (uint32_t)p.experts[slot];
        shared->n = 1;
    }
    if (threadIdx.x < COLUMNS) {
        shared->output[threadIdx.x] = slot;
        shared->input[threadIdx.x] = slot / (uint32_t)p.pairs_per_input;
    }
    __syncthreads();
}

template <int COLUMNS>
DEVICE void find_expert(const struct product &p, int32_t slot, struct columns<COLUMNS> *shared)
{
    const uint32_t per = (p.n_experts + PRODUCT_THREADS - 1) / PRODUCT_THREADS;
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
DEVICE void find_columns(const struct product &p, uint32_t slot, struct columns<COLUMNS> *shared)
{
    const int32_t c = (int32_t)threadIdx.x;
    int32_t n, first;
    if (p.experts != NULL && p.most == 1) {
        find_pair(p, slot, shared);
        return;
    }
    if (p.start != NULL) {
        if (p.most == 1)
            find_expert_of_row(p, (int32_t)slot, shared);
        else
            find_expert(p, (int32_t)slot, shared);
        __syncthreads();
        n = shared->n;
        first = shared->first;
    } else {
        first = (int32_t)slot * p.most;
        n = p.n - first < p.most ? p.n - first : p.most;
        if (c == 0) {
            shared->expert = 0;
            shared->n = n;
        }
    }
    if (c < COLUMNS && n > 0) {
        int32_t at = first + (c < n ? c : n - 1);
        int32_t row = p.order != NULL ? p.order[at] : at;
        shared->output[c] = (uint32_t)row;
        shared->input[c] = (uint32_t)(row / p.pairs_per_input);
    }
    __syncthreads();
}

template <int COLUMNS>
DEVICE void find_columns(const struct product &p, struct columns<COLUMNS> *shared)
{
    find_columns(p, blockIdx.x, shared);
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
