/* delta_net_replay.cu - the state of the delta rule after some rows, from their updates: a thread an
 * element of the state. */
#include "kernels/cuda/replay.cuh"

enum { THREADS = 128 };

static __global__ void delta_net_replay_kernel(struct delta_net_replay_args args)
{
    begin_kernel();
    size_t d = args.d, t = (size_t)blockIdx.x * THREADS + threadIdx.x;
    size_t j = t % d, i = t / d % d, head = t / d / d;
    int32_t rows = replayed_rows(args.more, args.n_rows);
    if (head >= args.n_v_heads || rows < 0)
        return;
    size_t apart = args.more.rows_bytes;
    const float *k = of_layer(args.journal.k, apart) + head % args.n_k_heads * d + i;
    const float *delta = of_layer(args.journal.delta, apart) + j;
    const float *decay = of_layer(args.journal.decay, apart);
    float s = of_layer(args.state_from, args.more.state_bytes)[t];
    for (int32_t r = 0; r < rows; r++) {
        size_t at = (size_t)r * args.n_v_heads + head;
        float decayed = __fmul_rn(s, decay[at]);
        s = __fmaf_rn(k[(size_t)r * args.n_k_heads * d], delta[at * d], decayed);
    }
    of_layer(args.state, args.more.state_bytes)[t] = s;
}

cudaError_t cuda_launch_delta_net_replay(const struct delta_net_replay_args *args,
                                         cudaStream_t stream)
{
    size_t elements = (size_t)args->n_v_heads * args->d * args->d;
    dim3 grid(blocks_for(elements, THREADS), 1, 1 + args->more.n_layers);
    return LAUNCH(delta_net_replay_kernel, grid, THREADS, stream, *args);
}
