/* compare.h - whether two pieces of backends' memory hold the same bytes. */
#ifndef MTP_VERIFY_COMPARE_H
#define MTP_VERIFY_COMPARE_H

#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"

/* A piece of a backend's memory, for the host to read. */
struct host_view {
    const void *data; /* NULL when memory is short */
    void *copy;       /* to be freed; NULL where the host reads the memory itself */
};
struct host_view host_view_open(struct backend *backend, const void *memory, size_t bytes);
static inline void host_view_close(struct host_view *view)
{
    free(view->copy);
}

/* False also when memory is too short to compare. */
bool same_bytes(struct backend *a, const void *in_a, struct backend *b, const void *in_b, size_t bytes);

#endif
