/* bench_kernels.c - speed of the matrix products of each weight type on one thread.
 *
 *     bench/bench_kernels [--scalar] [--mb N] [--n-in N] [TYPE...]
 *
 * A matrix larger than the caches (--mb, default 128) is passed over once for each measurement, in
 * tiles of 64 weight rows as the backend does, for 1, 2, 4, 8 and 16 batch rows. Three rounds over
 * all types and widths, interleaved; the median of each is printed: GB/s of weights, GMAC/s. The
 * first line is the speed of only reading memory.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/cpu/backend.h"

enum { ROUNDS = 3, N_WIDTHS = 5, TILE = 64, MOST_ROWS = 16 };
static const int widths[N_WIDTHS] = {1, 2, 4, 8, 16};

struct options {
    const struct cpu_kernels *kernels;
    size_t bytes;
    uint32_t n_in;
    bool types[MTP_TYPE_LIMIT];
};

struct batch {
    float *x;
    struct act_block *act;
    float *y;
};

/* The thread's own time: what else the machine does costs cache and bandwidth, but not the wait. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void *need(size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes) != 0) {
        fputs("bench_kernels: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *times)
{
    double sorted[ROUNDS];
    memcpy(sorted, times, sizeof sorted);
    qsort(sorted, ROUNDS, sizeof *sorted, compare_doubles);
    return sorted[ROUNDS / 2];
}

/* Random bits with ordinary scales, a megabyte repeated. */
static void fill_weights(uint32_t type, uint8_t *data, size_t bytes)
{
    const struct type_info *info = type_info(type);
    size_t block = info->block_bytes, chunk = (1 << 20) / block * block;
    size_t at = type == MTP_TYPE_Q2_K ? 80 : type == MTP_TYPE_Q3_K ? 108
                : type == MTP_TYPE_Q6_K ? 208 : 0;
    uint64_t state = type + 1;
    chunk = chunk < bytes ? chunk : bytes;
    for (size_t i = 0; i < chunk; i++)
        data[i] = (uint8_t)next_random(&state);
    for (size_t b = 0; b + block <= chunk; b += block)
        for (size_t i = 0; i < (info->has_min ? 2u : 1u) && block > 2; i++) {
            uint16_t half = (uint16_t)(0x1400 | (next_random(&state) & 0x3ff));
            memcpy(data + b + at + 2 * i, &half, sizeof half);
        }
    if (type == MTP_TYPE_MXFP4)
        for (size_t b = 0; b + block <= chunk; b += block)
            data[b] = 120;
    if (info->weight_class == WEIGHT_FLOAT) /* exponents that keep every sum finite */
        for (size_t b = 0; b + 4 <= chunk; b += 4) {
            data[b + 3] = (uint8_t)((data[b + 3] & 0x83) | 0x30);
            data[b + 1] = (uint8_t)((data[b + 1] & 0x83) | 0x30);
        }
    for (size_t done = chunk; done < bytes; done += chunk)
        memcpy(data + done, data, bytes - done < chunk ? bytes - done : chunk);
}

static struct batch make_batch(uint32_t n_in)
{
    size_t n = (size_t)MOST_ROWS * n_in;
    struct batch batch = {need(n * sizeof(float)),
                          need(MOST_ROWS * act_blocks(n_in) * sizeof(struct act_block)),
                          need(MOST_ROWS * TILE * sizeof(float))};
    uint64_t state = 5;
    for (size_t i = 0; i < n; i++)
        batch.x[i] = ((float)(next_random(&state) & 0xffff) - 32768.0f) * 0x1p-15f;
    struct backend *backend = cpu_backend_open(cpu_kernels_scalar(), 1);
    if (backend == NULL)
        exit(1);
    backend->ops->quantize(backend, &(struct quantize_args){batch.x, batch.act, n_in, MOST_ROWS});
    backend->ops->close(backend);
    return batch;
}

static double pass_seconds(const struct options *options, uint32_t type, const uint8_t *data,
                           const struct batch *batch, int n)
{
    const struct type_info *info = type_info(type);
    uint32_t n_in = options->n_in;
    size_t row = (size_t)n_in / info->block_elements * info->block_bytes;
    const float *x[MOST_ROWS];
    const struct act_block *act[MOST_ROWS];
    float *y[MOST_ROWS];
    for (size_t r = 0; r < MOST_ROWS; r++) {
        x[r] = batch->x + r * n_in;
        act[r] = batch->act + r * act_blocks(n_in);
        y[r] = batch->y + r * TILE;
    }
    double start = now();
    for (size_t at = 0; at + TILE * row <= options->bytes; at += TILE * row)
        options->kernels->dot(
            &(struct dot_args){type, data + at, row, n_in, TILE, x, act, y, n});
    double seconds = now() - start;
    return seconds / (double)(options->bytes / (TILE * row)); /* of one tile */
}

static void print_reading(const uint8_t *data, size_t bytes)
{
    double times[ROUNDS];
    uint64_t sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now();
        const uint64_t *words = (const uint64_t *)(const void *)data;
        for (size_t i = 0; i + 8 <= bytes / 8; i += 8)
            sum += words[i] ^ words[i + 1] ^ words[i + 2] ^ words[i + 3] ^ words[i + 4] ^
                   words[i + 5] ^ words[i + 6] ^ words[i + 7];
        times[round] = now() - start;
    }
    printf("reading %10.1f GB/s%s\n", (double)bytes / median(times) / 1e9, sum == 1 ? "!" : "");
}

static void print_row(const struct options *options, uint32_t type,
                      double (*times)[ROUNDS])
{
    const struct type_info *info = type_info(type);
    double weights = (double)TILE * options->n_in;
    double bytes = weights / info->block_elements * info->block_bytes;
    printf("%-8s", info->name);
    for (int w = 0; w < N_WIDTHS; w++) {
        double seconds = median(times[w]);
        printf(" %6.2f %6.1f", bytes / seconds / 1e9, weights * widths[w] / seconds / 1e9);
    }
    printf("\n");
}

static void measure(const struct options *options)
{
    static double times[MTP_TYPE_LIMIT][N_WIDTHS][ROUNDS];
    uint8_t *data = need(options->bytes);
    struct batch batch = make_batch(options->n_in);
    fill_weights(MTP_TYPE_Q8_0, data, options->bytes);
    print_reading(data, options->bytes);
    for (int round = 0; round < ROUNDS; round++)
        for (uint32_t type = 0; type < MTP_TYPE_LIMIT; type++) {
            if (!options->types[type])
                continue;
            fill_weights(type, data, options->bytes);
            for (int w = 0; w < N_WIDTHS; w++)
                times[type][w][round] = pass_seconds(options, type, data, &batch, widths[w]);
        }
    printf("%s, n_in %u: GB/s and GMAC/s by batch rows\n%-8s", options->kernels->name,
           options->n_in, "");
    for (int w = 0; w < N_WIDTHS; w++)
        printf(" %13d", widths[w]);
    printf("\n");
    for (uint32_t type = 0; type < MTP_TYPE_LIMIT; type++)
        if (options->types[type])
            print_row(options, type, times[type]);
    free(data);
    free(batch.x);
    free(batch.act);
    free(batch.y);
}

static void choose_type(struct options *options, const char *name)
{
    for (uint32_t type = 0; type < MTP_TYPE_LIMIT; type++)
        if (type_info(type) != NULL && type_info(type)->weight_class != WEIGHT_NONE &&
            (name == NULL || strcmp(name, type_info(type)->name) == 0))
            options->types[type] = true;
}

int main(int argc, char **argv)
{
    struct options options = {cpu_kernels_best(), 128u << 20, 2048, {false}};
    bool all = true;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--scalar") == 0) {
            options.kernels = cpu_kernels_scalar();
        } else if (strcmp(argv[i], "--mb") == 0 && i + 1 < argc) {
            options.bytes = (size_t)atol(argv[++i]) << 20;
        } else if (strcmp(argv[i], "--n-in") == 0 && i + 1 < argc) {
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
