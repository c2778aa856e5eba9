/* quantize.c - activations to int8 super-blocks: the definition (docs/arithmetic.md, "Activations"). */
#include "kernels/cpu/kernels.h"
#include "kernels/fmath.h"

/* Largest |x| by unsigned maximum of the bits, so that NaN and infinity win. */
static uint32_t amax_bits(const float *x, size_t n)
{
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = f32_bits(x[i]) & 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    return most;
}

/* Smallest multiplier 1..15 that lets the sub-block's amax reach no further than 127. */
static uint8_t multiplier(float amax, float d)
{
    float wanted = amax / (d * 127.0f);
    int whole = (int)wanted;
    if ((float)whole < wanted)
        whole++;
    return (uint8_t)(whole < 1 ? 1 : whole > 15 ? 15 : whole);
}

static int32_t quantize_16(const float *x, size_t n, float inverse, int8_t *q)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        int v = (int)f32_round_even(x[i] * inverse);
        v = v > 127 ? 127 : v < -127 ? -127 : v;
        q[i] = (int8_t)v;
        sum += v;
    }
    return sum;
}

static void quantize_block(const float *x, size_t n, float d, struct act_block *out)
{
    out->d = d;
    for (size_t j = 0; j < 8; j++) {
        size_t first = j * SUB_BLOCK;
        size_t count = n <= first ? 0 : n - first < SUB_BLOCK ? n - first : SUB_BLOCK;
        out->mul[j] = multiplier(f32_from_bits(amax_bits(x + first, count)), d);
        float inverse = 1.0f / (d * (float)out->mul[j]);
        for (size_t half = 0; half < 2; half++) {
            size_t at = first + half * 16;
            size_t take = n <= at ? 0 : n - at < 16 ? n - at : 16;
            int32_t sum = quantize_16(x + at, take, inverse, out->q + at);
            out->bsum[2 * j + half] = (int16_t)(sum * out->mul[j]);
        }
    }
}

void quantize_scalar(const struct quantize_args *args, int64_t begin, int64_t end,
                     struct cpu_task *task)
{
    size_t blocks = act_blocks(args->n);
    for (int64_t t = begin; t < end; t++) {
        size_t row = (size_t)t / blocks, block = (size_t)t % blocks;
        const float *x = args->x + row * args->n + block * SUPER_BLOCK;
        size_t left = args->n - block * SUPER_BLOCK;
        size_t n = left < SUPER_BLOCK ? left : SUPER_BLOCK;
        struct act_block *out = &args->act[t];
        memset(out, 0, sizeof *out);
        memset(out->mul, 1, sizeof out->mul);
        uint32_t bits = amax_bits(x, n);
        if (bits >= 0x7f800000u) {
            cpu_report_fault(task->fault, "quantize", (int32_t)row);
            continue;
        }
        float amax = f32_from_bits(bits);
        if (amax >= 0x1p-100f)
            quantize_block(x, n, amax / 1905.0f, out);
    }
}
