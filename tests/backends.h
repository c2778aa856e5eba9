/* backends.h - backends of the scalar definitions and of the best kernels of this processor, with
 * every thread count. */
#ifndef MTP_TESTS_BACKENDS_H
#define MTP_TESTS_BACKENDS_H

#include "kernels/cpu/backend.h"

enum { SCALAR = 0, BEST = 1, MOST_THREADS = 16 };

static struct backend *backends[2][MOST_THREADS]; /* [kernels][threads - 1] */

static inline int open_backends(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < MOST_THREADS; t++) {
        backends[SCALAR][t] = cpu_backend_open(cpu_kernels_scalar(), t + 1);
        backends[BEST][t] = cpu_backend_open(cpu_kernels_best(), t + 1);
        if (backends[SCALAR][t] == NULL || backends[BEST][t] == NULL)
            return 1;
    }
    return 0;
}

static inline int close_backends(void **state)
{
    (void)state;
    int faults = 0;
    for (int isa = SCALAR; isa <= BEST; isa++)
        for (int t = 0; t < MOST_THREADS; t++) {
            struct backend *b = backends[isa][t];
            faults += b->ops->fault(b).found;
            b->ops->close(b);
        }
    return faults;
}

#endif
