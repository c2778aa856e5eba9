/* test_cuda_fast.c - the products of --fast: which are computed so, that they are the products of operands
 * rounded to bfloat16, and how far from the exact ones they lie.
 *     test_cuda_fast [--time]
 * --time prints the times of both by batch rows instead. Status 77 without a device; cuBLAS must be there. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "kernels/blocks.h"
#include "kernels/cuda/backend.h"
#include "tests/op_inputs.h"

/* Root of the sum of squares of the difference, as a share of that of y. The first is what float32 sums in
 * another order give; the second comes of the eight bits that activations have in the exact product, and all
 * operands in the other. */
#define NEAR_ROUNDED 1e-4
#define NEAR_EXACT 0.02

static struct backend *exact, *fast, *piecewise;
static double largest_from_rounded, largest_from_exact;

/* A product on the device, and on the host what it is made of. */
struct product_case {
    struct weight w;
    struct packed_weight packed;
    const void *host_weights;
    float *host_x;
    void *tiles, *x, *act, *y;
    size_t tile_bytes, x_bytes, act_bytes, y_bytes, y_stride;
    int32_t n_rows;
};

static void *on_device(size_t bytes, const void *from)
{
    void *memory = exact->ops->alloc(exact, bytes, MEMORY_WHOLE);
    assert_non_null(memory);
    if (from != NULL)
        exact->ops->upload(exact, memory, from, bytes);
    return memory;
}

static void make(struct product_case *c, uint32_t type, uint32_t n_in, uint32_t n_out, int32_t n_rows)
{
    struct numbers numbers = {1000 * type + n_in + n_out + (uint64_t)n_rows};
    memset(c, 0, sizeof *c);
    c->w = random_weight(&numbers, type, n_in, n_out, 1);
    c->host_weights = c->w.data;
    c->n_rows = n_rows;
    c->y_stride = n_out + 3;
    c->host_x = random_floats(&numbers, (size_t)n_rows * n_in);
    struct act_block *act = quantised(c->host_x, n_in, n_rows);
    c->x_bytes = (size_t)n_rows * n_in * sizeof(float);
    c->act_bytes = (size_t)n_rows * act_blocks(n_in) * sizeof *act;
    c->y_bytes = (size_t)n_rows * c->y_stride * sizeof(float);
    c->x = on_device(c->x_bytes, c->host_x);
    c->act = on_device(c->act_bytes, act);
    c->y = on_device(c->y_bytes, NULL);
    free(act);
    size_t file_bytes = c->w.row_bytes * n_out;
    c->tile_bytes = exact->ops->packed_bytes(exact, &c->w);
    void *file = on_device(file_bytes, c->host_weights);
    c->w.data = file;
    c->w.packed = &c->packed;
    if (c->tile_bytes > 0) {
        c->tiles = on_device(c->tile_bytes, NULL);
        pack_whole(exact, &c->w, c->tiles);
        c->packed.data = c->tiles;
    }
    exact->ops->synchronize(exact);
}

static void drop(struct product_case *c)
{
    void *const memory[] = {(void *)(uintptr_t)c->w.data, c->tiles, c->x, c->act, c->y};
    for (int i = 0; i < 5; i++)
        exact->ops->free(exact, memory[i], 0);
    free((void *)(uintptr_t)c->host_weights);
    free(c->host_x);
}

static struct matmul_args args_of(const struct product_case *c)
{
    return (struct matmul_args){c->w, c->x, c->act, c->y, c->y_stride, c->n_rows};
}

static uint64_t inexact_calls(struct backend *backend)
{
    struct backend_counters counters;
    backend->ops->counters(backend, &counters);
    return counters.inexact_calls;
}

/* What a backend makes of it; freed by the caller. What lies between the rows of y stays. */
static float *result(struct backend *backend, const struct product_case *c)
{
    const struct matmul_args args = args_of(c);
    float *y = need(c->y_bytes);
    backend->ops->fill(backend, c->y, 0x5a, c->y_bytes);
    backend->ops->matmul(backend, &args);
    backend->ops->download(backend, y, c->y, c->y_bytes);
    assert_null(backend->ops->error(backend));
    for (int32_t r = 0; r < c->n_rows; r++)
        for (size_t i = c->w.n_out; i < c->y_stride; i++) {
            uint32_t bits;
            memcpy(&bits, y + (size_t)r * c->y_stride + i, sizeof bits);
            assert_int_equal(bits, 0x5a5a5a5a);
        }
    return y;
}

static double rounded(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

/* The product of the rounded operands. */
static double *wanted(const struct product_case *c)
{
    size_t n_in = c->w.n_in;
    double *y = need((size_t)c->n_rows * c->w.n_out * sizeof *y);
    float *row = need(n_in * sizeof *row);
    double *x = need((size_t)c->n_rows * n_in * sizeof *x);
    for (size_t i = 0; i < (size_t)c->n_rows * n_in; i++)
        x[i] = rounded(c->host_x[i]);
    for (size_t o = 0; o < c->w.n_out; o++) {
        dequantize_row(c->w.type, (const uint8_t *)c->host_weights + o * c->w.row_bytes, row, n_in);
        for (size_t i = 0; i < n_in; i++)
            row[i] = (float)rounded(row[i]);
        for (int32_t r = 0; r < c->n_rows; r++)
            for (size_t i = 0; i < n_in; i++)
                y[(size_t)r * c->w.n_out + o] += (double)row[i] * x[(size_t)r * n_in + i];
    }
    free(row);
    free(x);
    return y;
}

/* How far a lies from b, as a share of b. */
static double distance(const struct product_case *c, const float *a, const float *b, const double *b_wide)
{
    double difference = 0.0, whole = 0.0;
    for (int32_t r = 0; r < c->n_rows; r++)
        for (size_t o = 0; o < c->w.n_out; o++) {
            double right = b_wide != NULL ? b_wide[(size_t)r * c->w.n_out + o]
                                          : (double)b[(size_t)r * c->y_stride + o];
            double error = (double)a[(size_t)r * c->y_stride + o] - right;
            difference += error * error;
            whole += right * right;
        }
    return sqrt(difference / whole);
}

static void check_case(uint32_t type, uint32_t n_in, uint32_t n_out, int32_t n_rows)
{
    struct product_case c;
    make(&c, type, n_in, n_out, n_rows);
    uint64_t before[3] = {inexact_calls(exact), inexact_calls(fast), inexact_calls(piecewise)};
    float *is = result(exact, &c), *quick = result(fast, &c), *cut = result(piecewise, &c);
    double *right = wanted(&c);
    assert_int_equal(inexact_calls(exact), before[0]);
    assert_int_equal(inexact_calls(fast), before[1] + 1);
    assert_int_equal(inexact_calls(piecewise), before[2] + 1);
    double from_rounded = distance(&c, quick, NULL, right), cut_off = distance(&c, cut, NULL, right);
    double from_exact = distance(&c, quick, is, NULL);
    if (!(from_rounded < NEAR_ROUNDED && cut_off < NEAR_ROUNDED && from_exact < NEAR_EXACT))
        fail_msg("%s, %u x %u, %d rows: %.2g from the rounded product, in pieces %.2g, %.2g from the exact",
                 type_info(type)->name, n_out, n_in, n_rows, from_rounded, cut_off, from_exact);
    largest_from_rounded = fmax(largest_from_rounded, fmax(from_rounded, cut_off));
    largest_from_exact = fmax(largest_from_exact, from_exact);
    free(is);
    free(quick);
    free(cut);
    free(right);
    drop(&c);
}

/* ---- the tests ------------------------------------------------------------------------------- */

static void products_of_every_type_are_those_of_rounded_operands(void **state)
{
    (void)state;
    static const uint32_t sizes[][2] = {{80, 37}, {500, 600}, {2300, 300}};
    static const int32_t rows[] = {64, 77, 130};
    for (int t = 0; t < N_WEIGHT_TYPES; t++)
        for (int i = 0; i < 3 && type_info(weight_types[t])->weight_class != WEIGHT_FLOAT; i++)
            check_case(weight_types[t], whole_blocks(weight_types[t], sizes[i][0]), sizes[i][1],
                       rows[(i + t) % 3]);
    printf("at most %.2g from the products of rounded operands, %.2g from the exact ones\n",
           largest_from_rounded, largest_from_exact);
}

static void equal_bytes(uint32_t type, uint32_t n_in, int32_t n_rows)
{
    struct product_case c;
    make(&c, type, n_in, 100, n_rows);
    uint64_t before = inexact_calls(fast);
    float *a = result(exact, &c), *b = result(fast, &c);
    assert_memory_equal(a, b, c.y_bytes);
    assert_int_equal(inexact_calls(fast), before);
    free(a);
    free(b);
    drop(&c);
}

static void few_rows_and_float_weights_stay_exact(void **state)
{
    (void)state;
    const struct cuda_fast_limits usual = CUDA_FAST_LIMITS;
    equal_bytes(MTP_TYPE_Q4_K, 512, 1);
    equal_bytes(MTP_TYPE_Q4_K, 512, 9);
    equal_bytes(MTP_TYPE_Q6_K, 512, usual.least_rows - 1);
    equal_bytes(MTP_TYPE_BF16, 512, 64);
    equal_bytes(MTP_TYPE_F32, 512, 64);
}

static void the_same_product_gives_the_same_bits_again(void **state)
{
    (void)state;
    struct product_case c;
    make(&c, MTP_TYPE_Q5_K, 2048, 1000, 200);
    float *first = result(fast, &c);
    for (int i = 0; i < 5; i++) {
        float *again = result(fast, &c);
        assert_memory_equal(first, again, c.y_bytes);
        free(again);
    }
    free(first);
    drop(&c);
}

/* ---- times ----------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Microseconds of a product among n put on the stream together. */
static double time_of(struct backend *backend, const struct product_case *c, int n)
{
    const struct matmul_args args = args_of(c);
    backend->ops->synchronize(backend);
    double start = now();
    for (int i = 0; i < n; i++)
        backend->ops->matmul(backend, &args);
    backend->ops->synchronize(backend);
    return 1e6 * (now() - start) / n;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Medians of five, in turns. */
static void print_times(struct backend *const backends[3], uint32_t type, uint32_t n_out, uint32_t n_in)
{
    static const int32_t rows[] = {16, 32, 40, 48, 56, 64, 128, 512, 2048};
    printf("%s %u x %u, us exact / fast / fast in pieces of 48 MiB\n", type_info(type)->name, n_out, n_in);
    struct product_case c;
    make(&c, type, n_in, n_out, 2048);
    for (int i = 0; i < 9; i++) {
        double times[3][6];
        c.n_rows = rows[i];
        for (int turn = 0; turn < 6; turn++)
            for (int b = 0; b < 3; b++)
                times[b][turn] = time_of(backends[b], &c, 4);
        for (int b = 0; b < 3; b++)
            qsort(times[b] + 1, 5, sizeof times[b][0], by_size);
        printf("  %4d rows %8.1f %8.1f %8.1f   %5.2f\n", (int)rows[i], times[0][3], times[1][3], times[2][3],
               times[0][3] / times[1][3]);
    }
    drop(&c);
}

static int print_all_times(void)
{
    struct cuda_message why;
    const struct cuda_fast_limits whole = {1, 192 << 20, 64 << 20}, pieces = {1, 48 << 20, 64 << 20};
    struct backend *backends[] = {exact, cuda_backend_open(0, &why), cuda_backend_open(0, &why)};
    if (backends[1] == NULL || backends[2] == NULL ||
        !cuda_backend_allow_fast(backends[1], &whole, &why) ||
        !cuda_backend_allow_fast(backends[2], &pieces, &why)) {
        printf("%s\n", why.text);
        return 1;
    }
    print_times(backends, MTP_TYPE_Q4_K, 2048, 2048);
    print_times(backends, MTP_TYPE_Q4_K, 17408, 5120);
    print_times(backends, MTP_TYPE_Q6_K, 5120, 17408);
    for (int b = 1; b < 3; b++)
        backends[b]->ops->close(backends[b]);
    return 0;
}

int main(int argc, char **argv)
{
    struct cuda_message why;
    const struct cuda_fast_limits small = {64, 2 * 256 * 2304, 2 * 40 * 2304};
    bool there;
    if (cuda_device_count(&there, &why) == 0) {
        printf("%s\n", why.text);
        return 77;
    }
    exact = cuda_backend_open(0, &why);
    fast = cuda_backend_open(0, &why);
    piecewise = cuda_backend_open(0, &why);
    if (exact == NULL || fast == NULL || piecewise == NULL) {
        printf("%s\n", why.text);
        return 1;
    }
    if (!cuda_backend_allow_fast(fast, NULL, &why) || !cuda_backend_allow_fast(piecewise, &small, &why)) {
        printf("%s\n", why.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_every_type_are_those_of_rounded_operands),
        cmocka_unit_test(few_rows_and_float_weights_stay_exact),
        cmocka_unit_test(the_same_product_gives_the_same_bits_again),
    };
    bool timing = argc > 1 && strcmp(argv[1], "--time") == 0;
    int failed = timing ? print_all_times() : cmocka_run_group_tests(tests, NULL, NULL);
    exact->ops->close(exact);
    fast->ops->close(fast);
    piecewise->ops->close(piecewise);
    return failed;
}
