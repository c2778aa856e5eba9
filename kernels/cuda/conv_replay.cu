/* conv_replay.cu - the convolution's state after some rows: copies only. */
#include "kernels/cuda/replay.cuh"

enum { THREADS = 128 };

/* Tap t of the new state is the input n_rows + t - (n_taps - 1) rows ago. */
static __global__ void conv_replay_kernel(struct conv_replay_args args)
{
    begin_kernel();
    size_t n = args.n_channels, kept = args.n_taps - 1, tap = blockIdx.y;
    size_t c = (size_t)blockIdx.x * THREADS + threadIdx.x;
    int32_t rows = replayed_rows(args.more, args.n_rows);
    size_t input = (size_t)rows + tap; /* counted over the old state's taps, then the rows */
    if (c >= n || rows < 0)
        return;
    const float *from = of_layer(args.state_from, args.more.state_bytes);
    const float *x = of_layer(args.x, args.more.rows_bytes);
    float *state = of_layer(args.state, args.more.state_bytes);
    state[tap * n + c] = input < kept ? from[input * n + c] : x[(input - kept) * n + c];
}

cudaError_t cuda_launch_conv_replay(const struct conv_replay_args *args, cudaStream_t stream)
{
    if (args->n_taps == 1)
        return cudaSuccess;
    dim3 grid(blocks_for(args->n_channels, THREADS), args->n_taps - 1, 1 + args->more.n_layers);
    return LAUNCH(conv_replay_kernel, grid, THREADS, stream, *args);
}
