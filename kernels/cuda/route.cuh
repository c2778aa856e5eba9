/* route.cuh - what the routers of a few rows share. */
#ifndef MTP_KERNELS_CUDA_ROUTE_CUH
#define MTP_KERNELS_CUDA_ROUTE_CUH

#include "kernels/cuda/common.cuh"

/* The pairs by expert, by a block of THREADS threads: they are so few that each expert looks at all. pairs:
 * the expert of each, in shared memory. */
template <int THREADS>
static __device__ void list_pairs(const struct route_args *args, const int32_t *pairs)
{
    const int32_t n_pairs = args->n_rows * (int32_t)args->n_used;
    if (threadIdx.x == 0)
        args->start[args->n_experts] = n_pairs;
    for (int32_t e = (int32_t)threadIdx.x; e < (int32_t)args->n_experts; e += THREADS) {
        int32_t start = 0, own = 0;
#pragma unroll 8
        for (int32_t pair = 0; pair < n_pairs; pair++) {
            start += pairs[pair] < e;
            own += pairs[pair] == e;
        }
        args->start[e] = start;
        for (int32_t pair = 0; own > 0; pair++)
            if (pairs[pair] == e) {
                args->order[start++] = pair;
                own--;
            }
    }
}

#endif
