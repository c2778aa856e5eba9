/* parallel.h - one range of tasks over the backend's threads. */
#ifndef MTP_KERNELS_CPU_PARALLEL_H
#define MTP_KERNELS_CPU_PARALLEL_H

#include "kernels/cpu/kernels.h"

typedef void range_fn(const void *work, int64_t begin, int64_t end, struct cpu_task *task);

struct cpu_threads {
    uint32_t n;
    float *scores;         /* n * n_scores, the threads' attention rooms */
    size_t n_scores;
    struct cpu_fault *fault;
};

/* Calls fn over [0, n_tasks) in contiguous ranges, one a thread, each at least `grain` tasks; small
 * jobs stay on the caller's thread. Which thread takes which range never shows in the results. */
void parallel_ranges(const struct cpu_threads *threads, int64_t n_tasks, int64_t grain, range_fn *fn,
                     const void *work);

#endif
