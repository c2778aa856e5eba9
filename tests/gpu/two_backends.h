/* two_backends.h - a CPU backend, whose kernels are the definition or equal it, beside the CUDA backend:
 * arrays that both have, and their comparison bit for bit. */
#ifndef MTP_TESTS_GPU_TWO_BACKENDS_H
#define MTP_TESTS_GPU_TWO_BACKENDS_H

#include "kernels/ops.h"
#include "tests/numbers.h"

enum { CPU, GPU, N_SIDES };

/* The same bytes on both sides. */
struct array {
    void *at[N_SIDES];
    size_t bytes;
};

enum { MAX_ARRAYS = 32 };
struct two_backends {
    struct backend *side[N_SIDES]; /* CPU: of the two below, the one to compare with */
    struct backend *scalar, *fast;
    struct numbers numbers;
    uint64_t seed;
    const char *operation;
    char shape[96];
    struct array arrays[MAX_ARRAYS];
    int n_arrays;
    uint64_t comparisons, mismatches; /* of this operation */
};

/* Backends with room for attention over n_ctx positions; false and a message on stderr where one cannot
 * be had. */
bool two_backends_open(struct two_backends *t, uint32_t n_ctx);
void two_backends_close(struct two_backends *t);

/* Begins a case: what it is called in messages, its random numbers, and whether it is too large for the
 * definition itself, which then gives way to the fastest kernels. */
void begin_case(struct two_backends *t, bool large, uint64_t seed, const char *shape, ...)
    __attribute__((format(printf, 4, 5)));
/* Frees its arrays, and counts a mismatch if either side has a fault. */
void end_case(struct two_backends *t);

/* Until end_case. Of `bytes` bytes copied from source; of bytes that no operation would write; and of
 * random floats by kind. */
struct array copied(struct two_backends *t, const void *source, size_t bytes);
struct array unset(struct two_backends *t, size_t bytes);
enum kind_of_float {
    ORDINARY, /* a few large among many small */
    ODD,      /* zeros of both signs, subnormals, up to 2^40 */
    TIES,     /* few values, -0 and 0 among them */
    WIDE,     /* every magnitude whose products stay finite */
    N_KINDS,
};
struct array floats(struct two_backends *t, size_t n, enum kind_of_float kind);
/* Rows of sequences 0..n_sequences-1 in any order, positions ascending from `first`. */
struct array batch(struct two_backends *t, int32_t n_rows, uint32_t n_sequences, int32_t first,
                   uint32_t n_vocabulary);

/* Compares elements of `size` bytes (1, 2 or 4); prints the first that differs, rows being `row`
 * elements long. */
void compare(struct two_backends *t, const char *what, const struct array *array, size_t size,
             size_t row);
/* Both have this fault, or none if operation is NULL; clears it. */
void compare_faults(struct two_backends *t, const char *operation, int32_t row);
/* One line; adds to the sums. */
void report(struct two_backends *t, uint64_t *comparisons, uint64_t *mismatches);

#endif
