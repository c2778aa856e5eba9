/* mtpsynth_random.h - the counter-based generator: any word of any stream at once, in any order. */
#ifndef MTP_BENCH_MTPSYNTH_RANDOM_H
#define MTP_BENCH_MTPSYNTH_RANDOM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SYNTH_GOLDEN 0x9e3779b97f4a7c15u

/* The finaliser of splitmix64. */
static inline uint64_t synth_mix64(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Word i of the stream of key; also the key of its i-th sub-stream. */
static inline uint64_t synth_word(uint64_t key, uint64_t i)
{
    return synth_mix64(key + (i + 1) * SYNTH_GOLDEN);
}

/* A stream's key from a name. */
static inline uint64_t synth_key(uint64_t seed, const char *name)
{
    uint64_t key = synth_word(seed, 0);
    for (; *name != '\0'; name++)
        key = synth_mix64((key ^ (uint8_t)*name) * SYNTH_GOLDEN);
    return key;
}

/* n_words words of the stream as bytes. */
static inline void synth_fill(uint64_t key, uint8_t *out, size_t n_words)
{
    for (size_t i = 0; i < n_words; i++) {
        uint64_t word = synth_word(key, i);
        memcpy(out + 8 * i, &word, 8);
    }
}

/* Uniform in (-1, 1), never 0, symmetric, exactly a float. */
static inline double synth_symmetric(uint64_t word)
{
    return ((double)(2 * (word >> 41)) + 1.0) / 8388608.0 - 1.0;
}

/* Uniform in (0, 1). */
static inline double synth_unit(uint64_t word)
{
    return ((double)(word >> 12) + 0.5) / 4503599627370496.0;
}

#endif
