/* compare.c - see compare.h. */
#include "verify/compare.h"

/* Bytes that are copied at a time. */
enum { PIECE = 4 << 20 };

struct host_view host_view_open(struct backend *backend, const void *memory, size_t bytes)
{
    if (backend->ops->host_memory)
        return (struct host_view){memory, NULL};
    void *copy = malloc(bytes > 0 ? bytes : 1);
    if (copy != NULL)
        backend->ops->download(backend, copy, memory, bytes);
    return (struct host_view){copy, copy};
}

static bool same_piece(struct backend *a, const void *in_a, struct backend *b, const void *in_b,
                       size_t bytes)
{
    struct host_view of_a = host_view_open(a, in_a, bytes), of_b = host_view_open(b, in_b, bytes);
    bool same = of_a.data != NULL && of_b.data != NULL && memcmp(of_a.data, of_b.data, bytes) == 0;
    host_view_close(&of_a);
    host_view_close(&of_b);
    return same;
}

bool same_bytes(struct backend *a, const void *in_a, struct backend *b, const void *in_b, size_t bytes)
{
    if (a->ops->host_memory && b->ops->host_memory)
        return memcmp(in_a, in_b, bytes) == 0;
    for (size_t at = 0; at < bytes; at += PIECE) {
        size_t n = bytes - at < PIECE ? bytes - at : PIECE;
        if (!same_piece(a, (const uint8_t *)in_a + at, b, (const uint8_t *)in_b + at, n))
            return false;
    }
    return true;
}
