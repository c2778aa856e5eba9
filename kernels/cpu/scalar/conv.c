/* conv.c - depthwise causal convolution with carried state, then SiLU: the definition. */
#include "kernels/cpu/kernels.h"
#include "kernels/fmath.h"

static void convolve_row(const struct conv_args *args, size_t row, size_t channel, float *state)
{
    size_t n = args->n_channels, kept = args->n_taps - 1;
    const float *w = args->w + channel * args->n_taps;
    float x = args->x[row * n + channel];
    float sum = 0.0f;
    for (size_t tap = 0; tap < kept; tap++)
        sum = fmaf(w[tap], state[tap * n + channel], sum);
    sum = fmaf(w[kept], x, sum);
    args->out[row * n + channel] = mtp_siluf(sum);
    for (size_t tap = 0; tap + 1 < kept; tap++)
        state[tap * n + channel] = state[(tap + 1) * n + channel];
    if (kept > 0)
        state[(kept - 1) * n + channel] = x;
}

void conv_scalar(const struct conv_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)task;
    size_t state_size = (size_t)(args->n_taps - 1) * args->n_channels;
    for (int32_t r = 0; r < args->n_rows; r++) {
        float *state = args->state + (size_t)args->rows[r].sequence * state_size;
        for (int64_t c = begin; c < end; c++)
            convolve_row(args, (size_t)r, (size_t)c, state);
    }
}
