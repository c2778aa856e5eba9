/* delta_net_replay.cu - the state of the delta rule after some rows, from their updates: a thread an
 * element of the state. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 128 };

static __global__ void delta_net_replay_kernel(struct delta_net_replay_args args)
{
    size_t d = args.d, t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    size_t j = t % d, i = t / d % d, head = t / d / d;
    if (head >= args.n_v_heads)
        return;
    const struct delta_net_journal *journal = &args.journal;
    const float *k = journal->k + head % args.n_k_heads * d + i;
    float s = args.state_from[t];
    for (int32_t r = 0; r < args.n_rows; r++) {
        size_t at = (size_t)r * args.n_v_heads + head;
        float decayed = __fmul_rn(s, journal->decay[at]);
        s = __fmaf_rn(k[(size_t)r * args.n_k_heads * d], journal->delta[at * d + j], decayed);
    }
    args.state[t] = s;
}

cudaError_t cuda_launch_delta_net_replay(const struct delta_net_replay_args *args,
                                         cudaStream_t stream)
{
    size_t elements = (size_t)args->n_v_heads * args->d * args->d;
    return LAUNCH(delta_net_replay_kernel, blocks_for(elements, THREADS), THREADS, stream, *args);
}
