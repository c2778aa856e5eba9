/* parallel.c - see parallel.h. */
#include "parallel.h"

#include <omp.h>

#include "kernels/fpcontrol.h"

static void run(const struct cpu_threads *threads, size_t thread, int64_t begin, int64_t end,
                range_fn *fn, const void *work)
{
    struct cpu_task task = {threads->fault, NULL};
    if (threads->scores != NULL)
        task.scores = threads->scores + thread * threads->n_scores;
    fp_control saved = fp_control_enter();
    fn(work, begin, end, &task);
    fp_control_leave(saved);
}

void parallel_ranges(const struct cpu_threads *threads, int64_t n_tasks, int64_t grain, range_fn *fn,
                     const void *work)
{
    int64_t wanted = n_tasks / (grain > 0 ? grain : 1);
    int n = wanted < (int64_t)threads->n ? (int)wanted : (int)threads->n;
    if (n <= 1) {
        run(threads, 0, 0, n_tasks, fn, work);
        return;
    }
#pragma omp parallel num_threads(n)
    {
        /* The runtime may grant fewer threads than asked: cut by what it granted. */
        int64_t granted = omp_get_num_threads(), me = omp_get_thread_num();
        run(threads, (size_t)me, n_tasks * me / granted, n_tasks * (me + 1) / granted, fn, work);
    }
}
