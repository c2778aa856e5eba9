/* selftest.h - known answers of every operation, checked when a session opens: a compiler, a flag
 * or a processor that computes otherwise is found before it can give a wrong text. */
#ifndef MTP_KERNELS_SELFTEST_H
#define MTP_KERNELS_SELFTEST_H

#include "kernels/cpu/kernels.h"

/* Runs every operation on small fixed inputs and compares digests of what they give with pinned
 * ones. False with the name of the first that differs ("matmul Q4_K", or "memory" when there is
 * none). Takes under 2 ms; safe to call from several threads. */
bool kernels_selftest(const struct cpu_kernels *kernels, const char **failed_operation);

struct selftest_result {
    const char *operation;
    uint64_t digest, pinned;
};
enum { SELFTEST_LIMIT = 48 };
/* All results, for tests and for whoever pins new constants; their number, 0 without memory. */
size_t kernels_selftest_results(const struct cpu_kernels *kernels,
                                struct selftest_result results[SELFTEST_LIMIT]);

#endif
