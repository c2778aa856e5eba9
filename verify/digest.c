/* digest.c - see digest.h. */
#include "digest.h"

#include <string.h>

static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t digest_row(const float *x, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        sum += mix((uint64_t)i << 32 | bits);
    }
    return sum;
}

uint64_t digest_chain(uint64_t run, uint64_t row)
{
    return mix(run * 31 + row);
}

uint64_t digest_bytes(uint64_t run, const void *bytes, size_t n)
{
    const unsigned char *at = bytes;
    run = digest_chain(run, n);
    for (size_t done = 0; done < n; done += 8) {
        size_t take = n - done < 8 ? n - done : 8;
        uint64_t word = 0;
        memcpy(&word, at + done, take);
        run = digest_chain(run, word);
    }
    return run;
}
