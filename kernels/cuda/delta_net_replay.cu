/* delta_net_replay.cu - the state of the delta rule after some rows, from their updates: a thread WIDTH
 * neighbours of a row of the state. */
#include "kernels/cuda/replay.cuh"

enum { THREADS = 128 };

template <int WIDTH>
static __device__ void read(const float *from, float to[WIDTH])
{
    if (WIDTH == 4) {
        const float4 four = *(const float4 *)(const void *)from;
        to[0] = four.x, to[1 % WIDTH] = four.y, to[2 % WIDTH] = four.z, to[3 % WIDTH] = four.w;
    } else {
        to[0] = from[0];
    }
}

template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
delta_net_replay_kernel(const __grid_constant__ struct delta_net_replay_args args)
{
    begin_kernel();
    size_t d = args.d, t = ((size_t)blockIdx.x * THREADS + threadIdx.x) * WIDTH;
    size_t j = t % d, i = t / d % d, head = t / d / d;
    int32_t rows = replayed_rows(args.more, args.n_rows);
    if (head >= args.n_v_heads || rows < 0)
        return;
    size_t apart = args.more.rows_bytes, n_k = args.n_k_heads;
    const float *k = of_layer(args.journal.k, apart) + head % n_k * d + i;
    const float *delta = of_layer(args.journal.delta, apart) + head * d + j;
    const float *decay = of_layer(args.journal.decay, apart) + head;
    float s[WIDTH];
    read<WIDTH>(of_layer(args.state_from, args.more.state_bytes) + t, s);
#pragma unroll 4
    for (int32_t r = 0; r < rows; r++) {
        float of_row[WIDTH], key = k[(size_t)r * n_k * d], keeps = decay[(size_t)r * args.n_v_heads];
        read<WIDTH>(delta + (size_t)r * args.n_v_heads * d, of_row);
#pragma unroll
        for (int e = 0; e < WIDTH; e++)
            s[e] = __fmaf_rn(key, of_row[e], __fmul_rn(s[e], keeps));
    }
    float *to = of_layer(args.state, args.more.state_bytes) + t;
    if (WIDTH == 4)
        *(float4 *)(void *)to = make_float4(s[0], s[1 % WIDTH], s[2 % WIDTH], s[3 % WIDTH]);
    else
        to[0] = s[0];
}

static bool in_fours(const struct delta_net_replay_args *args)
{
    uintptr_t places = (uintptr_t)args->state | (uintptr_t)args->state_from | (uintptr_t)args->journal.delta;
    return args->d % 4 == 0 && (places | args->more.state_bytes | args->more.rows_bytes) % 16 == 0;
}

cudaError_t cuda_launch_delta_net_replay(const struct delta_net_replay_args *args,
                                         cudaStream_t stream)
{
    size_t elements = (size_t)args->n_v_heads * args->d * args->d;
    const bool fours = in_fours(args);
    dim3 grid(blocks_for(fours ? elements / 4 : elements, THREADS), 1, 1 + args->more.n_layers);
    return fours ? LAUNCH(delta_net_replay_kernel<4>, grid, THREADS, stream, *args)
                 : LAUNCH(delta_net_replay_kernel<1>, grid, THREADS, stream, *args);
}
