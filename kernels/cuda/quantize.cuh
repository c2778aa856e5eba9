/* quantize.cuh - a super-block of activations by a warp: a lane has 8 neighbours, 4 lanes a sub-block of 32
 * (docs/arithmetic.md, "Activations"). */
#ifndef MTP_KERNELS_CUDA_QUANTIZE_CUH
#define MTP_KERNELS_CUDA_QUANTIZE_CUH

#include "kernels/cuda/common.cuh"

enum { LANE_ELEMENTS = SUPER_BLOCK / WARP };

/* Elements from `at` on of a row of n, zeros behind its end; and those back to their places. */
static __device__ inline void load_lane(const float *x, size_t at, size_t n, float out[LANE_ELEMENTS])
{
    if (at + LANE_ELEMENTS <= n && (uintptr_t)(x + at) % 16 == 0) {
        const float4 *vectors = (const float4 *)(const void *)(x + at);
        float4 low = vectors[0], high = vectors[1];
        out[0] = low.x, out[1] = low.y, out[2] = low.z, out[3] = low.w;
        out[4] = high.x, out[5] = high.y, out[6] = high.z, out[7] = high.w;
        return;
    }
#pragma unroll
    for (size_t i = 0; i < LANE_ELEMENTS; i++)
        out[i] = at + i < n ? x[at + i] : 0.0f;
}
static __device__ inline void store_lane(const float x[LANE_ELEMENTS], size_t at, size_t n, float *out)
{
    if (at + LANE_ELEMENTS <= n && (uintptr_t)(out + at) % 16 == 0) {
        *(float4 *)(void *)(out + at) = make_float4(x[0], x[1], x[2], x[3]);
        *(float4 *)(void *)(out + at + 4) = make_float4(x[4], x[5], x[6], x[7]);
        return;
    }
#pragma unroll
    for (size_t i = 0; i < LANE_ELEMENTS; i++)
        if (at + i < n)
            out[at + i] = x[i];
}

static __device__ inline uint32_t largest_of_lanes(uint32_t bits, int from, int to)
{
    for (int distance = from; distance <= to; distance *= 2) {
        uint32_t other = __shfl_xor_sync(ALL_LANES, bits, distance);
        bits = other > bits ? other : bits;
    }
    return bits;
}

/* Smallest multiplier 1..15 that lets the sub-block's amax reach no further than 127. */
static __device__ inline int multiplier(float amax, float d)
{
    float wanted = __fdiv_rn(amax, __fmul_rn(d, 127.0f));
    int whole = (int)wanted;
    if ((float)whole < wanted)
        whole++;
    return whole < 1 ? 1 : whole > 15 ? 15 : whole;
}

/* This lane's 8 elements, and the sums of 16 with its neighbour. */
static __device__ inline void quantize_lane(const float *x, float inverse, int mul, struct act_block *out)
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
    *(uint2 *)(void *)(out->q + lane * LANE_ELEMENTS) = make_uint2(packed[0], packed[1]);
    sum += __shfl_xor_sync(ALL_LANES, sum, 1);
    if (lane % 2 == 0)
        out->bsum[lane / 2] = (int16_t)(sum * mul);
    if (lane % 4 == 0)
        out->mul[lane / 4] = (uint8_t)mul;
}

static __device__ inline void empty_lane(struct act_block *out)
{
    unsigned lane = threadIdx.x % WARP;
    *(uint2 *)(void *)(out->q + lane * LANE_ELEMENTS) = make_uint2(0, 0);
    if (lane % 2 == 0)
        out->bsum[lane / 2] = 0;
    if (lane % 4 == 0)
        out->mul[lane / 4] = 1;
}

/* The super-block of which this lane has x, zeros behind the end of the row. */
static __device__ inline void quantize_lanes(const float x[LANE_ELEMENTS], struct act_block *out,
                                             struct cuda_fault fault, size_t row)
{
    unsigned lane = threadIdx.x % WARP;
    uint32_t bits = 0;
    for (int i = 0; i < LANE_ELEMENTS; i++) {
        uint32_t magnitude = f32_bits(x[i]) & 0x7fffffffu;
        bits = magnitude > bits ? magnitude : bits;
    }
    uint32_t bits32 = largest_of_lanes(bits, 1, 2), bits256 = largest_of_lanes(bits32, 4, 16);
    float amax = f32_from_bits(bits256), d = 0.0f;
    if (bits256 >= 0x7f800000u) {
        empty_lane(out);
        if (lane == 0)
            report_fault(fault, CUDA_QUANTIZE, row);
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

#endif
