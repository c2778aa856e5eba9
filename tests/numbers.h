/* numbers.h - test inputs from an integer generator, digests, and distances between floats. */
#ifndef MTP_TESTS_NUMBERS_H
#define MTP_TESTS_NUMBERS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct numbers {
    uint64_t state;
};

/* splitmix64 */
static inline uint64_t next_bits(struct numbers *numbers)
{
    uint64_t z = numbers->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint32_t next_below(struct numbers *numbers, uint32_t limit)
{
    return (uint32_t)(next_bits(numbers) >> 32) % limit;
}

/* Uniform in [-1, 1), a multiple of 2^-23. */
static inline float next_unit(struct numbers *numbers)
{
    return (float)((int32_t)(next_bits(numbers) >> 40) - (1 << 23)) * 0x1p-23f;
}

/* A few large values among many small ones, as activations are. */
static inline float next_float(struct numbers *numbers)
{
    float a = next_unit(numbers), b = next_unit(numbers), c = next_unit(numbers);
    float value = a + b + c;
    return next_below(numbers, 61) == 0 ? 40.0f * value : value;
}

static inline void fill_floats(struct numbers *numbers, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = next_float(numbers);
}

/* FNV-1a, 64 bits, over the floats' bits, low byte first. */
#define FNV_START 0xcbf29ce484222325u
static inline uint64_t fnv_floats(uint64_t digest, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        for (int byte = 0; byte < 4; byte++)
            digest = (digest ^ ((bits >> (8 * byte)) & 255)) * 0x100000001b3u;
    }
    return digest;
}

/* Spacing of floats around a value known in double. */
static inline double float_ulp(double value)
{
    int exponent;
    frexp(value, &exponent);
    return ldexp(1.0, (exponent < -125 ? -125 : exponent) - 24);
}

static inline double ulps(float got, double wanted)
{
    return fabs((double)got - wanted) / float_ulp(wanted);
}

#endif
