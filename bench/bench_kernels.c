/* bench_kernels.c - speed of the matrix products of each weight type.
 *
 *     bench/bench_kernels [--isa scalar|avx2|avx512] [--unpacked] [--threads N] [--mb N] [--n-in N]
 *                         [TYPE...]
 *
 * A matrix larger than the caches (--mb, default 128) is passed over once for each measurement, as a
 * session does it (packed where the type has a packed form), for 1, 2, 4, 8, 16 and 256 batch rows.
 * Three rounds over all types and widths, interleaved; the median of each is printed: GB/s of weights,
 * GMAC/s. The first lines are this core's ceilings (ceilings.h).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ceilings.h"

enum { ROUNDS = 3, N_WIDTHS = 6, MOST_ROWS = 256 };
static const int widths[N_WIDTHS] = {1, 2, 4, 8, 16, 256};

struct options {
    const struct cpu_kernels *kernels;
    size_t bytes;
    uint32_t n_in, n_threads;
    bool unpacked;
    bool types[MTP_TYPE_LIMIT];
};

/* The matrix of this type that fills `bytes`. */
static struct weight matrix_of(const struct options *options, uint32_t type, const uint8_t *data)
{
    const struct type_info *info = type_info(type);
    size_t row = (size_t)options->n_in / info->block_elements * info->block_bytes;
    uint32_t n_out = (uint32_t)(options->bytes / row) / 64 * 64;
    return (struct weight){data, type, options->n_in, n_out, 1, row, row * n_out};
}

/* One pass over the matrix; few rows of output are kept, a product of many rows takes a part of it. */
static double pass_seconds(const struct options *options, struct backend *backend, struct weight w,
                           const struct bench_rows *batch, float *y, int n)
{
    uint32_t most = n <= 16 ? w.n_out : w.n_out / 16;
    uint32_t whole = w.n_out;
    w.n_out = most;
    double start = bench_now(options->n_threads);
    backend->ops->matmul(backend, &(struct matmul_args){w, batch->x, batch->act, y, most, n});
    return (bench_now(options->n_threads) - start) * (double)whole / (double)most;
}

static void print_ceilings(const struct options *options, const uint8_t *data)
{
    double read[ROUNDS], int8[ROUNDS];
    struct ceilings *ceilings = ceilings_open(options->kernels, 1);
    for (int round = 0; round < ROUNDS; round++) {
        read[round] = ceilings_read(ceilings, data, options->bytes, 0.0);
        int8[round] = ceilings_int8(ceilings, 0.02);
    }
    ceilings_close(ceilings);
    printf("reading, one thread %10.1f GB/s\n", bench_median(read, ROUNDS) / 1e9);
    printf("int8, one thread    %10.1f GMAC/s\n", bench_median(int8, ROUNDS) / 1e9);
}

/* Leaves the times as they are. */
static double median(const double *times)
{
    double sorted[ROUNDS];
    memcpy(sorted, times, sizeof sorted);
    return bench_median(sorted, ROUNDS);
}

static void print_row(const struct options *options, struct weight w, double (*times)[ROUNDS])
{
    double weights = (double)w.n_out * options->n_in, bytes = (double)w.n_out * (double)w.row_bytes;
    printf("%-8s", type_info(w.type)->name);
    for (int i = 0; i < N_WIDTHS; i++) {
        double seconds = median(times[i]);
        printf(" %6.2f %6.1f %5.2f", bytes / seconds / 1e9, weights * widths[i] / seconds / 1e9,
               seconds / median(times[0]));
    }
    printf("\n");
}

static void measure_type(const struct options *options, struct backend *backend, uint32_t type,
                         uint8_t *data, uint8_t *packed, int round,
                         double (*times)[ROUNDS])
{
    bench_fill_weights(type, data, options->bytes);
    struct weight w = matrix_of(options, type, data);
    struct bench_rows batch = bench_make_rows(options->n_in, MOST_ROWS, MOST_ROWS);
    float *y = bench_need((size_t)MOST_ROWS * w.n_out * sizeof *y);
    struct packed_weight form = {packed};
    if (!options->unpacked && backend->ops->packed_bytes(backend, &w) > 0) {
        pack_whole(backend, &w, packed);
        w.packed = &form;
    }
    for (int i = 0; i < N_WIDTHS; i++)
        times[i][round] = pass_seconds(options, backend, w, &batch, y, widths[i]);
    free(batch.x);
    free(batch.act);
    free(y);
}

static void measure(const struct options *options)
{
    static double times[MTP_TYPE_LIMIT][N_WIDTHS][ROUNDS];
    uint8_t *data = bench_need(options->bytes), *packed = bench_need(options->bytes);
    struct backend *backend = cpu_backend_open(options->kernels, options->n_threads);
    if (backend == NULL)
        exit(1);
    bench_fill_weights(MTP_TYPE_Q8_0, data, options->bytes);
    print_ceilings(options, data);
    for (int round = 0; round < ROUNDS; round++)
        for (uint32_t type = 0; type < MTP_TYPE_LIMIT; type++)
            if (options->types[type])
                measure_type(options, backend, type, data, packed, round, times[type]);
    printf("%s, %u threads, n_in %u: GB/s, GMAC/s and cost against one row, by batch rows\n%-8s",
           options->kernels->name, options->n_threads, options->n_in, "");
    for (int i = 0; i < N_WIDTHS; i++)
        printf(" %19d", widths[i]);
    printf("\n");
    for (uint32_t type = 0; type < MTP_TYPE_LIMIT; type++)
        if (options->types[type])
            print_row(options, matrix_of(options, type, data), times[type]);
    backend->ops->close(backend);
    free(data);
    free(packed);
}

static void choose_type(struct options *options, const char *name)
{
    for (uint32_t type = 0; type < MTP_TYPE_LIMIT; type++)
        if (type_info(type) != NULL && type_info(type)->weight_class != WEIGHT_NONE &&
            (name == NULL || strcmp(name, type_info(type)->name) == 0))
            options->types[type] = true;
}

static const struct cpu_kernels *kernels_named(const char *name)
{
    const struct cpu_kernels *kernels = bench_kernels_named(name);
    if (kernels == NULL) {
        fprintf(stderr, "bench_kernels: no %s kernels here\n", name);
        exit(2);
    }
    return kernels;
}

int main(int argc, char **argv)
{
    struct options options = {cpu_kernels_best(), 128u << 20, 2048, 1, false, {false}};
    bool all = true;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--unpacked") == 0) {
            options.unpacked = true;
        } else if (strcmp(argv[i], "--isa") == 0 && more) {
            options.kernels = kernels_named(argv[++i]);
        } else if (strcmp(argv[i], "--threads") == 0 && more) {
            options.n_threads = (uint32_t)atol(argv[++i]);
        } else if (strcmp(argv[i], "--mb") == 0 && more) {
            options.bytes = (size_t)atol(argv[++i]) << 20;
        } else if (strcmp(argv[i], "--n-in") == 0 && more) {
            options.n_in = (uint32_t)atol(argv[++i]) / 256 * 256;
        } else {
            choose_type(&options, argv[i]);
            all = false;
        }
    }
    if (all)
        choose_type(&options, NULL);
    measure(&options);
    return 0;
}
