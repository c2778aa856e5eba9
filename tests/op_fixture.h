/* op_fixture.h - a backend of the scalar definitions for a group of tests, and comparison with
 * double references. */
#ifndef MTP_TESTS_OP_FIXTURE_H
#define MTP_TESTS_OP_FIXTURE_H

#include <math.h>

#include "kernels/cpu/backend.h"

static const double EPS = 0x1p-24; /* half an ulp of 1 */

static struct backend *backend;
static const struct ops *ops;

static inline int open_backend(void **state)
{
    (void)state;
    backend = cpu_backend_open(cpu_kernels_scalar(), 1);
    if (backend == NULL)
        return 1;
    ops = backend->ops;
    return 0;
}

static inline int close_backend(void **state)
{
    (void)state;
    bool fault = ops->fault(backend).found;
    ops->close(backend);
    return fault;
}

static inline void assert_near(double got, double wanted, double tolerance, const char *what,
                               size_t i)
{
    if (!(fabs(got - wanted) <= tolerance))
        fail_msg("%s: element %zu is %.9g, not %.9g (tolerance %.3g)", what, i, got, wanted,
                 tolerance);
}

#endif
