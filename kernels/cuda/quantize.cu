/* quantize.cu - activations to int8 super-blocks, a warp each: a lane has 8 neighbours, 4 lanes a
 * sub-block of 32 (docs/arithmetic.md, "Activations"). */
#include "kernels/cuda/common.cuh"

enum { THREADS = 128, LANE_ELEMENTS = SUPER_BLOCK / WARP };

struct quantize_work {
    struct quantize_args args;
    struct cuda_fault fault;
};

static __device__ uint32_t largest_of_lanes(uint32_t bits, int from, int to)
{
    for (int distance = from; distance <= to; distance *= 2) {
        uint32_t other = __shfl_xor_sync(ALL_LANES, bits, distance);
        bits = other > bits ? other : bits;
    }
    return bits;
}

/* Smallest multiplier 1..15 that lets the sub-block's amax reach no further than 127. */
static __device__ int multiplier(float amax, float d)
{
    float wanted = __fdiv_rn(amax, __fmul_rn(d, 127.0f));
    int whole = (int)wanted;
    if ((float)whole < wanted)
        whole++;
    return whole < 1 ? 1 : whole > 15 ? 15 : whole;
}

/* This lane's 8 elements, and the sums of 16 with its neighbour. */
static __device__ void quantize_lane(const float *x, float inverse, int mul, struct act_block *out)
{
    unsigned lane = threadIdx.x % WARP;
    int sum = 0;
    uint32_t packed[2] = {0, 0};
    for (int i = 0; i < LANE_ELEMENTS; i++) {
        int v = (int)f32_round_even(__fmul_rn(x[i], inverse));
        v = v > 127 ? 127 : v < -127 ? -127 : v;
        packed[i / 4] |= (uint32_t)(v & 255) << i % 4 * 8;
        sum += v;
    }
    uint32_t *q = (uint32_t *)(void *)(out->q + lane * LANE_ELEMENTS);
    q[0] = packed[0];
    q[1] = packed[1];
    sum += __shfl_xor_sync(ALL_LANES, sum, 1);
    if (lane % 2 == 0)
        out->bsum[lane / 2] = (int16_t)(sum * mul);
    if (lane % 4 == 0)
        out->mul[lane / 4] = (uint8_t)mul;
}

static __device__ void empty_lane(struct act_block *out)
{
    unsigned lane = threadIdx.x % WARP;
    uint32_t *q = (uint32_t *)(void *)(out->q + lane * LANE_ELEMENTS);
    q[0] = 0;
    q[1] = 0;
    if (lane % 2 == 0)
        out->bsum[lane / 2] = 0;
    if (lane % 4 == 0)
        out->mul[lane / 4] = 1;
}

static __global__ void quantize_kernel(struct quantize_work work)
{
    const struct quantize_args *args = &work.args;
    size_t blocks = (args->n + SUPER_BLOCK - 1) / SUPER_BLOCK;
    size_t task = ((size_t)blockIdx.x * THREADS + threadIdx.x) / WARP;
    size_t row = task / blocks, block = task % blocks;
    if (row >= (size_t)args->n_rows)
        return;
    unsigned lane = threadIdx.x % WARP;
    struct act_block *out = &args->act[task];
    float x[LANE_ELEMENTS];
    uint32_t bits = 0;
    for (int i = 0; i < LANE_ELEMENTS; i++) {
        size_t at = block * SUPER_BLOCK + lane * LANE_ELEMENTS + (size_t)i;
        x[i] = at < args->n ? args->x[row * args->n + at] : 0.0f;
        uint32_t magnitude = f32_bits(x[i]) & 0x7fffffffu;
        bits = magnitude > bits ? magnitude : bits;
    }
    uint32_t bits32 = largest_of_lanes(bits, 1, 2), bits256 = largest_of_lanes(bits32, 4, 16);
    float amax = f32_from_bits(bits256), d = 0.0f;
    if (bits256 >= 0x7f800000u) {
        empty_lane(out);
        if (lane == 0)
            report_fault(work.fault, CUDA_QUANTIZE, row);
    } else if (amax >= 0x1p-100f) {
        d = __fdiv_rn(amax, 1905.0f);
        int mul = multiplier(f32_from_bits(bits32), d);
        quantize_lane(x, __fdiv_rn(1.0f, __fmul_rn(d, (float)mul)), mul, out);
    } else {
        empty_lane(out);
    }
    if (lane == 0)
        out->d = d;
    if (lane < sizeof out->pad)
        out->pad[lane] = 0;
}

cudaError_t cuda_launch_quantize(const struct quantize_args *args, struct cuda_fault fault,
                                 cudaStream_t stream)
{
    struct quantize_work work = {*args, fault};
    size_t tasks = (size_t)args->n_rows * act_blocks(args->n);
    return LAUNCH(quantize_kernel, blocks_for(tasks, THREADS / WARP), THREADS, stream, work);
}
