/* conv.cu - depthwise causal convolution with carried state, then SiLU. Rows are taken in parallel: a
 * row finds the inputs before it in the batch, and in the old state where the batch does not reach
 * that far; a second kernel then writes the new state. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 128, USUAL_TAPS = 4, FEW_ROWS = 16 };

struct conv_work {
    struct conv_args args;
    const float *old_state;
};

/* The last `most` rows of a sequence before row `end`: how many there are, and the first of them. */
struct tail {
    int32_t first;
    uint32_t n;
};
static __device__ struct tail tail_of(const struct batch_row *rows, int32_t end, int32_t sequence,
                                      uint32_t most)
{
    struct tail tail = {end, 0};
    for (int32_t r = end - 1; r >= 0 && tail.n < most; r--)
        if (rows[r].sequence == sequence) {
            tail.first = r;
            tail.n++;
        }
    return tail;
}

static __global__ void conv_kernel(struct conv_work work)
{
    begin_kernel();
    const struct conv_args *args = &work.args;
    size_t n = args->n_channels, c = (size_t)blockIdx.x * THREADS + threadIdx.x;
    uint32_t kept = args->n_taps - 1;
    int32_t row = (int32_t)blockIdx.y;
    if (c >= n)
        return;
    int32_t sequence = args->rows[row].sequence;
    struct tail tail = tail_of(args->rows, row, sequence, kept);
    const float *state = work.old_state + (size_t)sequence * kept * n + c;
    const float *w = args->w + c * args->n_taps;
    float sum = 0.0f;
    for (uint32_t tap = tail.n; tap < kept; tap++)
        sum = __fmaf_rn(*w++, state[tap * n], sum);
    for (int32_t r = tail.first; r < row; r++)
        if (args->rows[r].sequence == sequence)
            sum = __fmaf_rn(*w++, args->x[(size_t)r * n + c], sum);
    sum = __fmaf_rn(*w, args->x[(size_t)row * n + c], sum);
    args->out[(size_t)row * n + c] = mtp_siluf(sum);
}

/* In place too: a tap takes the value of a later one, in ascending order. */
static __global__ void state_kernel(struct conv_work work)
{
    begin_kernel();
    const struct conv_args *args = &work.args;
    size_t n = args->n_channels, c = (size_t)blockIdx.x * THREADS + threadIdx.x;
    uint32_t kept = args->n_taps - 1;
    int32_t sequence = (int32_t)blockIdx.y;
    if (c >= n)
        return;
    struct tail tail = tail_of(args->rows, args->n_rows, sequence, kept);
    const float *from = work.old_state + (size_t)sequence * kept * n + c;
    float *state = args->state + (size_t)sequence * kept * n + c;
    uint32_t tap = 0;
    for (; tap + tail.n < kept; tap++)
        state[tap * n] = from[(tap + tail.n) * n];
    for (int32_t r = tail.first; r < args->n_rows; r++)
        if (args->rows[r].sequence == sequence)
            state[tap++ * n] = args->x[(size_t)r * n + c];
}

/* Both at once for a few rows, a thread a channel of a sequence, with the state in registers. */
template <int TAPS>
static __global__ void __launch_bounds__(THREADS) few_rows_kernel(struct conv_work work)
{
    let_next_begin();
    const struct conv_args *args = &work.args;
    size_t n = args->n_channels, c = (size_t)blockIdx.x * THREADS + threadIdx.x;
    int32_t sequence = (int32_t)blockIdx.y;
    float w[TAPS], kept[TAPS - 1];
    for (int tap = 0; tap < TAPS; tap++)
        w[tap] = c < n ? args->w[c * TAPS + (size_t)tap] : 0.0f;
    const float *from = work.old_state + (size_t)sequence * (TAPS - 1) * n + c;
    for (int tap = 0; tap < TAPS - 1 && c < n; tap++)
        if (threadIdx.x % WARP == 0)
            bring_near(from + (size_t)tap * n);
    wait_for_earlier();
    if (c >= n)
        return;
    float *state = args->state + (size_t)sequence * (TAPS - 1) * n + c;
    for (int tap = 0; tap < TAPS - 1; tap++)
        kept[tap] = from[(size_t)tap * n];
#pragma unroll 4
    for (int32_t r = 0; r < args->n_rows; r++) {
        float x = args->x[(size_t)r * n + c], sum = 0.0f;
        if (args->rows[r].sequence != sequence)
            continue;
        for (int tap = 0; tap < TAPS - 1; tap++)
            sum = __fmaf_rn(w[tap], kept[tap], sum);
        args->out[(size_t)r * n + c] = mtp_siluf(__fmaf_rn(w[TAPS - 1], x, sum));
        for (int tap = 0; tap < TAPS - 2; tap++)
            kept[tap] = kept[tap + 1];
        kept[TAPS - 2] = x;
    }
    for (int tap = 0; tap < TAPS - 1; tap++)
        state[(size_t)tap * n] = kept[tap];
}

cudaError_t cuda_launch_conv(const struct conv_args *args, cudaStream_t stream)
{
    struct conv_work work = {*args, args->state_from != NULL ? args->state_from : args->state};
    unsigned blocks = blocks_for(args->n_channels, THREADS);
    cudaError_t status = cudaSuccess;
    if (args->n_taps == USUAL_TAPS && args->n_rows <= FEW_ROWS)
        return LAUNCH(few_rows_kernel<USUAL_TAPS>, dim3(blocks, args->n_sequences), THREADS, stream, work);
    if (args->n_rows > 0)
        status = LAUNCH(conv_kernel, dim3(blocks, (unsigned)args->n_rows), THREADS, stream, work);
    if (status != cudaSuccess || args->n_taps == 1)
        return status;
    return LAUNCH(state_kernel, dim3(blocks, args->n_sequences), THREADS, stream, work);
}
