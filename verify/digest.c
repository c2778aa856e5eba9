/* digest.c - see digest.h. */
#include "digest.h"

#include <string.h>

#include "kernels/digest_mix.h"

uint64_t digest_row(const float *x, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += digest_mix(i, x[i]);
    return sum;
}

uint64_t digest_chain(uint64_t run, uint64_t row)
{
    return digest_word(run * 31 + row);
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
