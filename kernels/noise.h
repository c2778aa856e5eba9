/* noise.h - the noise by which tokens are drawn, a function of (seed, position, token id) alone
 * (Philox4x32-10, one 32-bit word an id), the same bits on every machine. The sampler draws the text
 * with it and argmax the drafts, on the CPU and on CUDA devices (docs/arithmetic.md, "Sampling").
 */
#ifndef MTP_KERNELS_NOISE_H
#define MTP_KERNELS_NOISE_H

#include "fmath.h"

/* The four words of Philox4x32-10 for a counter and a key. */
static inline MTP_HOST_DEVICE void noise_philox(uint32_t words[4], const uint32_t counter[4],
                                                const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * c0;
        uint64_t p1 = (uint64_t)0xcd9e8d57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

/* The words of ids 4 * block .. 4 * block + 3. */
static inline MTP_HOST_DEVICE void noise_words(uint32_t words[4], uint64_t seed, uint64_t position,
                                               uint32_t block)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {block, 0, (uint32_t)position, (uint32_t)(position >> 32)};
    noise_philox(words, counter, key);
}

/* No noise is larger: -log of the smallest e below, 2^-33. */
#define NOISE_GUMBEL_MAX 22.875f

/* -log(-log(u)) for the u that a word stands for, u = 1 - (word + 1/2) / 2^32. */
static inline MTP_HOST_DEVICE float noise_gumbel(uint32_t word)
{
    float e; /* -log(u), exponentially distributed */
    if (word < 1u << 27) {
        /* u is near 1, where 1 - v would lose the bits that tell large noises apart: with
         * v = 1 - u < 2^-5, -log(1 - v) = v + v^2/2 + v^3/3 + ... */
        float v = ((float)word + 0.5f) * 0x1p-32f;
        float p = fmaf(v, 1.0f / 6.0f, 0.2f);
        p = fmaf(p, v, 0.25f);
        p = fmaf(p, v, 1.0f / 3.0f);
        p = fmaf(p, v, 0.5f);
        e = fmaf(p * v, v, v);
    } else {
        float u = ((float)~word + 0.5f) * 0x1p-32f;
        e = -mtp_logf(u);
    }
    return -mtp_logf(e);
}

/* Logits below this take no part where the largest is this. */
static inline MTP_HOST_DEVICE float noise_least(float largest, float min_p)
{
    return min_p > 0.0f ? largest + mtp_logf(min_p) : -INFINITY;
}

/* What a token is drawn by: the largest wins. */
static inline MTP_HOST_DEVICE float noise_score(float logit, float temperature, uint32_t word)
{
    return logit / temperature + noise_gumbel(word);
}

#endif
