/* bench_common.h - what the measuring programs share: clock, memory, medians, weights of any type. */
#ifndef MTP_BENCH_COMMON_H
#define MTP_BENCH_COMMON_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cpu/backend.h"

/* Seconds. Of one thread its own time: what else the machine does costs cache and bandwidth, but not the
 * wait; of more threads a clock that does not jump. */
double bench_now(uint32_t n_threads);

uint32_t bench_random(uint64_t *state);

/* 64-byte aligned, to be freed with free(); ends the program with a sentence when there is none. */
void *bench_need(size_t bytes);
/* The same with the pages that weights are given (src/model_pack.c). */
void *bench_map(size_t bytes);
void bench_unmap(void *memory, size_t bytes);

/* Sorts the values. */
double bench_median(double *values, size_t n);

/* Random bits with ordinary scales, a megabyte repeated. */
void bench_fill_weights(uint32_t type, uint8_t *data, size_t bytes);

/* At least so many rows of n_in activations, random ones repeated; both are the caller's to free. */
struct bench_rows {
    float *x;
    struct act_block *act;
};
struct bench_rows bench_make_rows(uint32_t n_in, size_t n_floats, size_t n_quantised);

/* "scalar", "avx2", "avx512"; NULL where this build or processor has none. */
const struct cpu_kernels *bench_kernels_named(const char *name);

#endif
