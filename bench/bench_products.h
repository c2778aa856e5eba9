/* bench_products.h - the time of one product whose weights and inputs come from memory: copies of them
 * are used in turn, so many that a copy has left the caches before its turn comes again. */
#ifndef MTP_BENCH_PRODUCTS_H
#define MTP_BENCH_PRODUCTS_H

#include "bench_shapes.h"

enum { MOST_WIDTHS = 16, MOST_ROUNDS = 99, MOST_WIDTH = 4096 };

struct product_plan {
    struct backend *backend;
    uint32_t n_threads;
    size_t rotation_bytes;     /* that pass through the caches between two uses of the same */
    int32_t widths[MOST_WIDTHS]; /* batch rows, 1..MOST_WIDTH */
    size_t n_widths;
    double seconds;            /* a round of a width lasts, at least */
    size_t rounds;             /* 1..MOST_ROUNDS */
};

/* Of one pass: what it must read and multiply, and how long it took. */
struct product_time {
    uint64_t weight_bytes; /* of the matrix, or of the experts chosen, in the bytes of the file */
    uint64_t input_bytes;  /* of the activations, as the kernels read them */
    uint64_t macs;
    uint32_t copies;       /* of the weights */
    uint64_t passes;       /* of all rounds */
    double median, best;   /* of the rounds, seconds */
};

/* Bytes of memory that product_measure takes. */
size_t product_memory(const struct product_plan *plan, const struct bench_shape *shape, uint32_t type);

/* times[i] is of widths[i]. The rows of a pass use as many different experts as independent choices would
 * on average. n_in must be whole blocks of the type. */
void product_measure(const struct product_plan *plan, const struct bench_shape *shape, uint32_t type,
                     struct product_time *times);

#endif
