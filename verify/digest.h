/* digest.h - digests of rows of floats that any backend computes in parallel (docs/arithmetic.md,
 * "Digests"). */
#ifndef MTP_VERIFY_DIGEST_H
#define MTP_VERIFY_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* Sum modulo 2^64 over i of mix(i, bits of x[i]): order plays no part, every bit does. mix is the
 * finaliser of splitmix64 over (i << 32 | bits) + 0x9e3779b97f4a7c15. */
uint64_t digest_row(const float *x, size_t n);

/* Digest of a run so far and the next row's, in position order. */
uint64_t digest_chain(uint64_t run, uint64_t row);

/* Digest of a run so far and n bytes: the chain over n and then the bytes as little-endian 64-bit
 * words, the last one filled up with zeros. */
uint64_t digest_bytes(uint64_t run, const void *bytes, size_t n);

#endif
