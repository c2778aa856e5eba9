/* bench_kernels.c - speed of the matrix products of each weight type.
 *
 *     bench/bench_kernels [--isa scalar|avx2|avx512] [--unpacked] [--threads N] [--mb N] [--n-in N]
 *                         [TYPE...]
 *
 * A matrix larger than the caches (--mb, default 128) is passed over once for each measurement, as a
 * session does it (packed where the type has a packed form), for 1, 2, 4, 8, 16 and 256 batch rows.
 * Three rounds over all types and widths, interleaved; the median of each is printed: GB/s of weights,
 * GMAC/s. The first lines are this core's
 * ceilings: only reading memory, and only multiplying and adding int8 in registers.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef MTP_HAVE_AVX2
#include <immintrin.h>
#endif

#include "kernels/cpu/backend.h"

enum { ROUNDS = 3, N_WIDTHS = 6, MOST_ROWS = 256 };
static const int widths[N_WIDTHS] = {1, 2, 4, 8, 16, 256};

struct options {
    const struct cpu_kernels *kernels;
    size_t bytes;
    uint32_t n_in, n_threads;
    bool unpacked;
    bool types[MTP_TYPE_LIMIT];
};

struct batch {
    float *x;
    struct act_block *act;
    float *y;
};

/* With one thread its own time: what else the machine does costs cache and bandwidth, but not the wait. */
static double now(uint32_t n_threads)
{
    struct timespec t;
    clock_gettime(n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
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

static struct batch make_batch(uint32_t n_in, uint32_t n_out)
{
    size_t n = (size_t)MOST_ROWS * n_in;
    struct batch batch = {need(n * sizeof(float)),
                          need(MOST_ROWS * act_blocks(n_in) * sizeof(struct act_block)),
                          need((size_t)MOST_ROWS * n_out * sizeof(float))};
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
                           const struct batch *batch, int n)
{
    uint32_t most = n <= 16 ? w.n_out : w.n_out / 16;
    uint32_t whole = w.n_out;
    w.n_out = most;
    double start = now(options->n_threads);
    backend->ops->matmul(backend, &(struct matmul_args){w, batch->x, batch->act, batch->y, most, n});
    return (now(options->n_threads) - start) * (double)whole / (double)most;
}

static void print_reading(const uint8_t *data, size_t bytes)
{
    double times[ROUNDS];
    uint64_t sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now(1);
        const uint64_t *words = (const uint64_t *)(const void *)data;
        for (size_t i = 0; i + 8 <= bytes / 8; i += 8)
            sum += words[i] ^ words[i + 1] ^ words[i + 2] ^ words[i + 3] ^ words[i + 4] ^
                   words[i + 5] ^ words[i + 6] ^ words[i + 7];
        times[round] = now(1) - start;
    }
    printf("reading, one thread %10.1f GB/s%s\n", (double)bytes / median(times) / 1e9,
           sum == 1 ? "!" : "");
}

#ifdef MTP_HAVE_AVX2
enum { CHAINS = 12, TURNS = 4000000 };

/* Products of bytes and their sums in 16 bits: what the AVX2 kernels do at least. GMAC/s. */
__attribute__((target("avx2"))) static double avx2_rate(void)
{
    __m256i sums[CHAINS], w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5);
    for (int i = 0; i < CHAINS; i++)
        sums[i] = _mm256_setzero_si256();
    double start = now(1);
    for (int turn = 0; turn < TURNS; turn++) {
        __asm__ volatile("" : "+x"(w), "+x"(x)); /* not loop invariant */
        for (int i = 0; i < CHAINS; i++) {
            sums[i] = _mm256_add_epi16(sums[i], _mm256_maddubs_epi16(w, x));
            __asm__ volatile("" : "+x"(sums[i]));
        }
    }
    return 32.0 * CHAINS * TURNS / (now(1) - start) / 1e9;
}
#endif

#ifdef MTP_HAVE_AVX512
__attribute__((target("avx512f,avx512vnni"))) static double avx512_rate(void)
{
    __m512i sums[CHAINS], w = _mm512_set1_epi8(3), x = _mm512_set1_epi8(5);
    for (int i = 0; i < CHAINS; i++)
        sums[i] = _mm512_setzero_si512();
    double start = now(1);
    for (int turn = 0; turn < TURNS; turn++)
        for (int i = 0; i < CHAINS; i++) {
            sums[i] = _mm512_dpbusd_epi32(sums[i], w, x);
            __asm__ volatile("" : "+v"(sums[i]));
        }
    return 64.0 * CHAINS * TURNS / (now(1) - start) / 1e9;
}
#endif

static void print_int8_rate(const struct cpu_kernels *kernels)
{
    double rate = 0.0;
#ifdef MTP_HAVE_AVX2
    if (strcmp(kernels->name, "avx2") == 0)
        rate = avx2_rate();
#endif
#ifdef MTP_HAVE_AVX512
    if (strcmp(kernels->name, "avx512") == 0)
        rate = avx512_rate();
#endif
    if (rate > 0.0)
        printf("int8, one thread    %10.1f GMAC/s\n", rate);
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
    fill_weights(type, data, options->bytes);
    struct weight w = matrix_of(options, type, data);
    struct batch batch = make_batch(options->n_in, w.n_out);
    struct packed_weight form = {packed};
    if (!options->unpacked && backend->ops->packed_bytes(backend, &w) > 0) {
        backend->ops->pack(backend, &w, packed);
        w.packed = &form;
    }
    for (int i = 0; i < N_WIDTHS; i++)
        times[i][round] = pass_seconds(options, backend, w, &batch, widths[i]);
    free(batch.x);
    free(batch.act);
    free(batch.y);
}

static void measure(const struct options *options)
{
    static double times[MTP_TYPE_LIMIT][N_WIDTHS][ROUNDS];
    uint8_t *data = need(options->bytes), *packed = need(options->bytes);
    struct backend *backend = cpu_backend_open(options->kernels, options->n_threads);
    if (backend == NULL)
        exit(1);
    fill_weights(MTP_TYPE_Q8_0, data, options->bytes);
    print_reading(data, options->bytes);
    print_int8_rate(options->kernels);
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
    if (strcmp(name, "scalar") == 0)
        return cpu_kernels_scalar();
#ifdef MTP_HAVE_AVX2
    if (strcmp(name, "avx2") == 0 && cpu_has_avx2())
        return cpu_kernels_avx2();
#endif
    if (strcmp(name, cpu_kernels_best()->name) == 0)
        return cpu_kernels_best();
    fprintf(stderr, "bench_kernels: no %s kernels here\n", name);
    exit(2);
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
