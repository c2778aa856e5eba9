/* bench_common.c - see bench_common.h. */
#define _GNU_SOURCE
#include "bench_common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

double bench_now(uint32_t n_threads)
{
    struct timespec t;
    clock_gettime(n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

uint32_t bench_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void *or_end(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "%s: out of memory\n", program_invocation_short_name);
        exit(1);
    }
    return memory;
}

void *bench_need(size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes > 0 ? bytes : 64) != 0)
        memory = NULL;
    return or_end(memory);
}

void *bench_map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    or_end(memory == MAP_FAILED ? NULL : memory);
#ifdef MADV_HUGEPAGE
    madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
}

void bench_unmap(void *memory, size_t bytes)
{
    munmap(memory, bytes);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare_doubles);
    return values[n / 2];
}

void bench_fill_weights(uint32_t type, uint8_t *data, size_t bytes)
{
    const struct type_info *info = type_info(type);
    size_t block = info->block_bytes, chunk = (1 << 20) / block * block;
    size_t at = type == MTP_TYPE_Q2_K ? 80 : type == MTP_TYPE_Q3_K ? 108
                : type == MTP_TYPE_Q6_K ? 208 : 0;
    uint64_t state = type + 1;
    chunk = chunk < bytes ? chunk : bytes;
    for (size_t i = 0; i < chunk; i++)
        data[i] = (uint8_t)bench_random(&state);
    for (size_t b = 0; b + block <= chunk; b += block)
        for (size_t i = 0; i < (info->has_min ? 2u : 1u) && block > 2; i++) {
            uint16_t half = (uint16_t)(0x1400 | (bench_random(&state) & 0x3ff));
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

static void repeat(void *rows, size_t row_bytes, size_t made, size_t n)
{
    uint8_t *bytes = rows;
    for (size_t r = made; r < n; r++)
        memcpy(bytes + r * row_bytes, bytes + (r - made) * row_bytes, row_bytes);
}

struct bench_rows bench_make_rows(uint32_t n_in, size_t n_floats, size_t n_quantised)
{
    enum { DIFFERENT = 64 };
    size_t blocks = act_blocks(n_in), row = n_in * sizeof(float);
    size_t floats = n_floats < DIFFERENT ? DIFFERENT : n_floats;
    size_t quantised = n_quantised < DIFFERENT ? DIFFERENT : n_quantised;
    struct bench_rows rows = {bench_need(floats * row),
                              bench_need(quantised * blocks * sizeof(struct act_block))};
    uint64_t state = 5;
    for (size_t i = 0; i < (size_t)DIFFERENT * n_in; i++)
        rows.x[i] = ((float)(bench_random(&state) & 0xffff) - 32768.0f) * 0x1p-15f;
    struct backend *backend = or_end(cpu_backend_open(cpu_kernels_scalar(), 1));
    backend->ops->quantize(backend,
                           &(struct quantize_args){rows.x, rows.act, n_in, DIFFERENT});
    backend->ops->close(backend);
    repeat(rows.x, row, DIFFERENT, floats);
    repeat(rows.act, blocks * sizeof(struct act_block), DIFFERENT, quantised);
    return rows;
}

const struct cpu_kernels *bench_kernels_named(const char *name)
{
    if (strcmp(name, "scalar") == 0)
        return cpu_kernels_scalar();
#ifdef MTP_HAVE_AVX2
    if (strcmp(name, "avx2") == 0 && cpu_has_avx2())
        return cpu_kernels_avx2();
#endif
#ifdef MTP_HAVE_AVX512
    if (strcmp(name, "avx512") == 0 && cpu_has_avx512())
        return cpu_kernels_avx512();
#endif
    return NULL;
}
