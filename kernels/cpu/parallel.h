/* parallel.h - one range of tasks over the backend's threads.
 *
 * A pool of our own rather than OpenMP: a step has some hundred parallel operations of 5 to 50
 * microseconds, so waiting threads must spin a little, but a library cannot choose how libgomp waits
 * (only the environment can), and libgomp's default spins for milliseconds: with other work on the
 * machine decoding fell to a tenth (docs/performance.md).
 */
#ifndef MTP_KERNELS_CPU_PARALLEL_H
#define MTP_KERNELS_CPU_PARALLEL_H

#include "kernels/cpu/kernels.h"

typedef void range_fn(const void *work, int64_t begin, int64_t end, struct cpu_task *task);

struct cpu_pool;

/* n_threads >= 1, the caller's own among them. NULL when threads or memory are short. */
struct cpu_pool *cpu_pool_open(uint32_t n_threads, struct cpu_fault *fault);
void cpu_pool_close(struct cpu_pool *pool);

uint32_t cpu_pool_size(const struct cpu_pool *pool);
/* Attention room: thread i may use n_scores floats at scores + i * n_scores. */
void cpu_pool_set_scores(struct cpu_pool *pool, float *scores, size_t n_scores);

/* Calls fn over [0, n_tasks) in contiguous ranges of at least a grain, a few a thread; jobs of less than
 * two grains stay on the caller's thread. Which thread takes which range never shows in the results. One
 * caller at a time. */
void parallel_ranges(struct cpu_pool *pool, int64_t n_tasks, int64_t grain, range_fn *fn,
                     const void *work);

#endif
