/* digest_mix.h - what a digest of floats adds up (docs/arithmetic.md, "Digests"). */
#ifndef MTP_KERNELS_DIGEST_MIX_H
#define MTP_KERNELS_DIGEST_MIX_H

#include "fmath.h"

#define DIGEST_OFFSET 0x9e3779b97f4a7c15ull
#define DIGEST_FIRST 0xbf58476d1ce4e5b9ull
#define DIGEST_SECOND 0x94d049bb133111ebull

/* The finaliser of splitmix64 over z + DIGEST_OFFSET. */
static inline MTP_HOST_DEVICE uint64_t digest_word(uint64_t z)
{
    z += DIGEST_OFFSET;
    z = (z ^ (z >> 30)) * DIGEST_FIRST;
    z = (z ^ (z >> 27)) * DIGEST_SECOND;
    return z ^ (z >> 31);
}

/* Element i of a row. */
static inline MTP_HOST_DEVICE uint64_t digest_mix(uint64_t i, float x)
{
    return digest_word(i << 32 | f32_bits(x));
}

#endif
