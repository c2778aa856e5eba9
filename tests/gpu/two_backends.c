/* two_backends.c - see two_backends.h. */
#include "tests/gpu/two_backends.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernels/cpu/backend.h"
#include "kernels/cuda/backend.h"

static void *need(size_t bytes)
{
    void *memory = malloc(bytes > 0 ? bytes : 1);
    if (memory == NULL) {
        fprintf(stderr, "memory is short\n");
        exit(1);
    }
    return memory;
}

bool two_backends_open(struct two_backends *t, uint32_t n_ctx)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t n_threads = processors < 1 ? 1 : processors > 16 ? 16 : (uint32_t)processors;
    struct cuda_message message = {"", false};
    memset(t, 0, sizeof *t);
    t->scalar = cpu_backend_open(cpu_kernels_scalar(), 1);
    t->fast = cpu_backend_open(cpu_kernels_best(), n_threads);
    t->side[GPU] = cuda_backend_open(0, &message);
    if (t->side[GPU] == NULL) {
        fprintf(stderr, "%s\n", message.text);
        return false;
    }
    struct backend *all[] = {t->scalar, t->fast, t->side[GPU]};
    for (int b = 0; b < 3; b++)
        if (all[b] == NULL || !all[b]->ops->reserve(all[b], n_ctx)) {
            fprintf(stderr, "memory is short\n");
            return false;
        }
    t->side[CPU] = t->scalar;
    return true;
}

void two_backends_close(struct two_backends *t)
{
    t->scalar->ops->close(t->scalar);
    t->fast->ops->close(t->fast);
    t->side[GPU]->ops->close(t->side[GPU]);
}

void begin_case(struct two_backends *t, bool large, uint64_t seed, const char *shape, ...)
{
    va_list arguments;
    va_start(arguments, shape);
    vsnprintf(t->shape, sizeof t->shape, shape, arguments);
    va_end(arguments);
    t->seed = seed;
    t->numbers.state = seed * 1000003;
    t->side[CPU] = large ? t->fast : t->scalar;
}

static void mismatch(struct two_backends *t)
{
    t->mismatches++;
    printf("MISMATCH %s, %s, seed %llu: ", t->operation, t->shape, (unsigned long long)t->seed);
}

/* A GPU that has failed computes nothing more: there is no use in going on. */
static void stop_after_error(struct two_backends *t)
{
    const char *error = t->side[GPU]->ops->error(t->side[GPU]);
    if (error == NULL)
        return;
    mismatch(t);
    printf("%s\n", error);
    exit(1);
}

void end_case(struct two_backends *t)
{
    compare_faults(t, NULL, 0);
    stop_after_error(t);
    for (int i = 0; i < t->n_arrays; i++) {
        free(t->arrays[i].at[CPU]);
        t->side[GPU]->ops->free(t->side[GPU], t->arrays[i].at[GPU], t->arrays[i].bytes);
    }
    t->n_arrays = 0;
}

/* Takes over the memory, which is 64-byte aligned or need not be. */
static struct array both(struct two_backends *t, void *memory, size_t bytes)
{
    struct backend *gpu = t->side[GPU];
    struct array array = {{memory, gpu->ops->alloc(gpu, bytes, MEMORY_WHOLE)}, bytes};
    if (array.at[GPU] == NULL || t->n_arrays == MAX_ARRAYS) {
        fprintf(stderr, "no room for an array of %s, %s\n", t->operation, t->shape);
        exit(1);
    }
    gpu->ops->upload(gpu, array.at[GPU], memory, bytes);
    t->arrays[t->n_arrays++] = array;
    return array;
}

struct array copied(struct two_backends *t, const void *source, size_t bytes)
{
    void *memory = need(bytes);
    memcpy(memory, source, bytes);
    return both(t, memory, bytes);
}

struct array unset(struct two_backends *t, size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 64) / 64 * 64);
    if (memory == NULL)
        memory = need(bytes);
    memset(memory, 0x5a, bytes);
    return both(t, memory, bytes);
}

static float float_of_kind(struct numbers *numbers, enum kind_of_float kind)
{
    static const float few[] = {0.0f, -0.0f, 1.0f, -1.0f, 0.5f, -0.5f};
    if (kind == ORDINARY)
        return next_float(numbers);
    if (kind == TIES)
        return few[next_below(numbers, 6)];
    switch (next_below(numbers, 9)) {
    case 0: return 0.0f;
    case 1: return -0.0f;
    case 2: return next_unit(numbers) * 0x1p-126f;
    case 3: return next_unit(numbers) * 0x1p-140f;
    case 4: return next_unit(numbers) * (kind == ODD ? 0x1p40f : 0x1p60f);
    case 5: return next_unit(numbers) * (kind == ODD ? 100.0f : 0x1p-60f);
    default: return next_float(numbers);
    }
}

struct array floats(struct two_backends *t, size_t n, enum kind_of_float kind)
{
    float *x = need(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = float_of_kind(&t->numbers, kind);
    return both(t, x, n * sizeof *x);
}

struct array batch(struct two_backends *t, int32_t n_rows, uint32_t n_sequences, int32_t first,
                   uint32_t n_vocabulary)
{
    struct batch_row *rows = need((size_t)n_rows * sizeof *rows);
    int32_t next[16] = {0};
    for (int32_t r = 0; r < n_rows; r++) {
        uint32_t sequence = next_below(&t->numbers, n_sequences);
        uint32_t token = next_below(&t->numbers, n_vocabulary);
        rows[r] = (struct batch_row){(int32_t)token, first + next[sequence]++, (int32_t)sequence};
    }
    return both(t, rows, (size_t)n_rows * sizeof *rows);
}

/* Prints element i, as bits and, of four bytes, as a float. */
static void print_difference(const uint8_t *wanted, const uint8_t *got, size_t i, size_t size)
{
    uint32_t bits[2] = {0, 0};
    memcpy(&bits[0], wanted + i * size, size);
    memcpy(&bits[1], got + i * size, size);
    float values[2];
    memcpy(values, bits, sizeof values);
    printf("expected %0*x, got %0*x", (int)size * 2, bits[0], (int)size * 2, bits[1]);
    if (size == 4)
        printf(" (%.9g, %.9g)", (double)values[0], (double)values[1]);
    printf("\n");
}

void compare(struct two_backends *t, const char *what, const struct array *array, size_t size,
             size_t row)
{
    struct backend *gpu = t->side[GPU];
    uint8_t *got = need(array->bytes);
    const uint8_t *wanted = array->at[CPU];
    gpu->ops->download(gpu, got, array->at[GPU], array->bytes);
    stop_after_error(t);
    t->comparisons++;
    if (memcmp(wanted, got, array->bytes) != 0) {
        size_t n = array->bytes / size, i = 0, differing = 0;
        for (size_t e = n; e-- > 0;)
            if (memcmp(wanted + e * size, got + e * size, size) != 0) {
                i = e;
                differing++;
            }
        mismatch(t);
        printf("%s: %zu of %zu differ, first row %zu element %zu: ", what, differing, n, i / row,
               i % row);
        print_difference(wanted, got, i, size);
    }
    free(got);
}

void compare_faults(struct two_backends *t, const char *operation, int32_t row)
{
    for (int s = 0; s < N_SIDES; s++) {
        struct numeric_fault fault = t->side[s]->ops->fault(t->side[s]);
        t->side[s]->ops->clear_fault(t->side[s]);
        t->comparisons += operation != NULL;
        if (fault.found != (operation != NULL) ||
            (fault.found && (strcmp(fault.operation, operation) != 0 || fault.row != row))) {
            mismatch(t);
            printf("the %s reports %s in row %d, not %s in row %d\n", s == CPU ? "CPU" : "GPU",
                   fault.found ? fault.operation : "no fault", (int)fault.row,
                   operation != NULL ? operation : "no fault", (int)row);
        }
    }
}

void report(struct two_backends *t, uint64_t *comparisons, uint64_t *mismatches)
{
    printf("%-18s %6llu comparisons, %llu mismatches\n", t->operation,
           (unsigned long long)t->comparisons, (unsigned long long)t->mismatches);
    fflush(stdout);
    *comparisons += t->comparisons;
    *mismatches += t->mismatches;
    t->comparisons = t->mismatches = 0;
}
