/* backend.h - the CPU backend: kernels of one instruction set, spread over a pool of threads. */
#ifndef MTP_KERNELS_CPU_BACKEND_H
#define MTP_KERNELS_CPU_BACKEND_H

#include "kernels/cpu/kernels.h"

/* NULL when memory or threads are short. kernels as chosen by cpu_kernels_best or by name; n_threads >= 1. */
struct backend *cpu_backend_open(const struct cpu_kernels *kernels, uint32_t n_threads);

/* Fastest kernels this processor runs. */
const struct cpu_kernels *cpu_kernels_best(void);
/* True when the AVX2 variants were built and this processor runs them. */
bool cpu_has_avx2(void);
/* The same of the AVX-512 VNNI variants. */
bool cpu_has_avx512(void);

#endif
