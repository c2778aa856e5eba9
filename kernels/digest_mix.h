/* digest_mix.h - what a digest of floats adds up (docs/arithmetic.md, "Digests"). */
#ifndef MTP_KERNELS_DIGEST_MIX_H
#define MTP_KERNELS_DIGEST_MIX_H

#include "fmath.h"

/* The finaliser of splitmix64 over z + 0x9e3779b97f4a7c15. */
static inline MTP_HOST_DEVICE uint64_t digest_word(uint64_t z)
{
    z += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* Element i of a row. */
static inline MTP_HOST_DEVICE uint64_t digest_mix(uint64_t i, float x)
{
    return digest_word(i << 32 | f32_bits(x));
}

#endif
