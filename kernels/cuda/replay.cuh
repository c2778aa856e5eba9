/* replay.cuh - what the replays share: several layers in one launch (blockIdx.z counts them), and numbers of
 * rows that only the device knows. */
#ifndef MTP_KERNELS_CUDA_REPLAY_CUH
#define MTP_KERNELS_CUDA_REPLAY_CUH

#include "kernels/cuda/common.cuh"

/* Rows to replay; -1 when the pass has left the state of all of them. */
static __device__ inline int32_t replayed_rows(const struct replay_more &more, int32_t n_rows)
{
    if (more.n_kept == NULL)
        return n_rows;
    int32_t kept = more.n_kept[0];
    return kept < n_rows ? kept : -1;
}

/* The block's layer's part, of the first layer's and the distance of layers. */
template <class T>
static __device__ inline T *of_layer(T *first, size_t bytes)
{
    return (T *)((uintptr_t)first + blockIdx.z * bytes);
}

#endif
