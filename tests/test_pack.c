/* Packed weights through the backend: products with matrices and experts are those of the file's layout
 * for any number of outputs, rows and threads, and packing in pieces is packing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/pack.h"
#include "tests/op_inputs.h"

static const uint32_t types[] = {MTP_TYPE_Q3_K, MTP_TYPE_Q4_K, MTP_TYPE_Q5_K,
                                 MTP_TYPE_Q6_K, MTP_TYPE_Q8_0, MTP_TYPE_Q4_0};
enum { N_TYPES = sizeof types / sizeof *types, MOST_ROWS = 21, N_OUT = 133, N_EXPERTS = 5, USED = 3 };

static struct backend *open_best(uint32_t n_threads)
{
    struct backend *backend = cpu_backend_open(cpu_kernels_best(), n_threads);
    assert_non_null(backend);
    return backend;
}

/* The packed form of w as this backend makes it; NULL on a processor that has none. */
static void *packed_by(struct backend *backend, const struct weight *w)
{
    size_t bytes = backend->ops->packed_bytes(backend, w);
    assert_int_equal(bytes > 0, cpu_has_avx2());
    if (bytes == 0)
        return NULL;
    void *packed = need(bytes);
    memset(packed, 0xa5, bytes);
    pack_whole(backend, w, packed);
    return packed;
}

static void check_matrix(uint32_t type, uint32_t n_in, int32_t n_rows, uint32_t n_threads)
{
    struct numbers numbers = {type + n_in + (uint64_t)n_rows};
    struct weight w = random_weight(&numbers, type, n_in, N_OUT, 1);
    float *x = random_floats(&numbers, (size_t)n_rows * n_in);
    struct act_block *act = quantised(x, n_in, n_rows);
    float *wanted = need((size_t)n_rows * N_OUT * sizeof *wanted);
    float *got = need((size_t)n_rows * N_OUT * sizeof *got);
    struct backend *scalar = cpu_backend_open(cpu_kernels_scalar(), 1);
    struct backend *backend = open_best(n_threads);
    assert_int_equal(scalar->ops->packed_bytes(scalar, &w), 0);
    struct packed_weight packed = {packed_by(backend, &w)};
    w.packed = &packed;
    scalar->ops->matmul(scalar, &(struct matmul_args){w, NULL, act, wanted, N_OUT, n_rows});
    backend->ops->matmul(backend, &(struct matmul_args){w, NULL, act, got, N_OUT, n_rows});
    assert_memory_equal(wanted, got, (size_t)n_rows * N_OUT * sizeof *got);
    struct backend_counters counters;
    backend->ops->counters(backend, &counters);
    assert_int_equal(counters.packed_calls, cpu_has_avx2());
    backend->ops->close(backend);
    scalar->ops->close(scalar);
    free((void *)packed.data);
    free(wanted);
    free(got);
    free(act);
    free(x);
    free((void *)w.data);
}

static void matrices_equal_the_definition(void **state)
{
    (void)state;
    for (int t = 0; t < N_TYPES; t++) {
        uint32_t block = type_info(types[t])->block_elements;
        check_matrix(types[t], block == 32 ? 352 : 512, 1, 2);
        check_matrix(types[t], block == 32 ? 2048 : 2304, 3, 1);
        check_matrix(types[t], 256, MOST_ROWS, 16);
    }
}

/* Pairs of the rows with experts, listed by expert as the router does. */
static void list_pairs(struct numbers *numbers, int32_t n_pairs, int32_t *order, int32_t *start)
{
    int32_t expert[MOST_ROWS * USED], n = 0;
    for (int32_t p = 0; p < n_pairs; p++) /* the last one gets none */
        expert[p] = (int32_t)next_below(numbers, N_EXPERTS - 1);
    for (int32_t e = 0; e < N_EXPERTS; e++) {
        start[e] = n;
        for (int32_t p = 0; p < n_pairs; p++)
            if (expert[p] == e)
                order[n++] = p;
    }
    start[N_EXPERTS] = n;
}

static void check_experts(uint32_t type, int32_t n_rows, bool grouped, uint32_t n_threads)
{
    enum { N_IN = 512 };
    struct numbers numbers = {type + (uint64_t)n_rows};
    struct weight w = random_weight(&numbers, type, N_IN, N_OUT, N_EXPERTS);
    int32_t order[MOST_ROWS * USED], start[N_EXPERTS + 1], n_pairs = n_rows * USED;
    list_pairs(&numbers, n_pairs, order, start);
    float *x = random_floats(&numbers, (size_t)n_rows * N_IN);
    struct act_block *act = quantised(x, N_IN, n_rows);
    float *wanted = need((size_t)n_pairs * N_OUT * sizeof *wanted);
    float *got = need((size_t)n_pairs * N_OUT * sizeof *got);
    struct backend *scalar = cpu_backend_open(cpu_kernels_scalar(), 1);
    struct backend *backend = open_best(n_threads);
    struct packed_weight packed = {packed_by(backend, &w)};
    w.packed = &packed;
    struct expert_matmul_args args = {w, NULL, act, wanted, N_OUT, n_pairs, USED,
                                      order, start, grouped};
    scalar->ops->expert_matmul(scalar, &args);
    args.y = got;
    backend->ops->expert_matmul(backend, &args);
    assert_memory_equal(wanted, got, (size_t)n_pairs * N_OUT * sizeof *got);
    backend->ops->close(backend);
    scalar->ops->close(scalar);
    free((void *)packed.data);
    free(wanted);
    free(got);
    free(act);
    free(x);
    free((void *)w.data);
}

static void experts_equal_the_definition(void **state)
{
    (void)state;
    for (int t = 0; t < N_TYPES; t++) {
        check_experts(types[t], 1, true, 2);
        check_experts(types[t], 4, false, 3);
        check_experts(types[t], MOST_ROWS, true, 16);
    }
}

static void pieces_make_the_whole(void **state)
{
    (void)state;
    struct numbers numbers = {5};
    for (int t = 0; t < N_TYPES; t++) {
        struct weight w = random_weight(&numbers, types[t], 512, 45, 2);
        const struct block_codec *codec = block_codec_scalar(types[t]);
        size_t bytes = pack_bytes(&w);
        assert_int_equal(bytes, 2 * 48 * w.row_bytes); /* the file's, and three rows of zeros twice */
        uint8_t *whole = need(bytes), *pieces = need(bytes);
        memset(pieces, 0xa5, bytes);
        struct pack_args args = {w, w.data, 0, 2 * 45, whole};
        pack_weights(&args, codec, 0, 6);
        args.dst = pieces;
        for (int64_t g = 5; g >= 0; g--)
            pack_weights(&args, codec, g, g + 1);
        assert_memory_equal(whole, pieces, bytes);
        free(whole);
        free(pieces);
        free((void *)w.data);
    }
}

/* Rows of the file as they come through a staging buffer: of each expert the last 13, then the first 32. */
static void pieces_of_the_file_make_the_whole(void **state)
{
    (void)state;
    struct numbers numbers = {6};
    struct backend *backend = open_best(2);
    for (int t = 0; t < N_TYPES; t++) {
        struct weight w = random_weight(&numbers, types[t], 512, 45, 2);
        void *whole = packed_by(backend, &w);
        uint8_t *pieces = need(pack_bytes(&w)), *staging = need(32 * w.row_bytes);
        memset(pieces, 0xa5, pack_bytes(&w));
        struct pack_args args = {.w = w, .rows = staging, .dst = pieces};
        args.w.data = NULL;
        for (uint64_t piece = 0; whole != NULL && piece < 4; piece++) {
            uint64_t first = piece % 2 == 0 ? 32 : 0;
            args.first_row = piece / 2 * 45 + first;
            args.n_rows = piece % 2 == 0 ? 13 : 32;
            memcpy(staging, (const uint8_t *)w.data + piece / 2 * w.expert_bytes + first * w.row_bytes,
                   args.n_rows * w.row_bytes);
            backend->ops->pack(backend, &args);
        }
        if (whole != NULL)
            assert_memory_equal(whole, pieces, pack_bytes(&w));
        free(whole);
        free(pieces);
        free(staging);
        free((void *)w.data);
    }
    backend->ops->close(backend);
}

static void other_types_have_no_packed_form(void **state)
{
    (void)state;
    static const uint32_t others[] = {MTP_TYPE_F32, MTP_TYPE_F16, MTP_TYPE_IQ4_XS, MTP_TYPE_Q2_K};
    for (size_t i = 0; i < 4; i++)
        assert_false(pack_supported(others[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrices_equal_the_definition),
        cmocka_unit_test(experts_equal_the_definition),
        cmocka_unit_test(pieces_make_the_whole),
        cmocka_unit_test(pieces_of_the_file_make_the_whole),
        cmocka_unit_test(other_types_have_no_packed_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
