/* A row's result is a function of that row alone: the same bits for every batch width, place in the
 * batch, thread count and instruction set, whatever other rows share the batch. The reference is
 * always the scalar definition on one thread, one row at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "kernels/activation.h"
#include "tests/backends.h"
#include "tests/op_inputs.h"

enum { MOST_ROWS = 33 };
static const int32_t widths[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 33};
enum { N_WIDTHS = sizeof widths / sizeof *widths };

/* An operation on rows of in_size floats giving rows of out_size bytes. */
struct row_operation {
    const char *name;
    size_t in_size, out_size;
    void (*run)(struct backend *, const struct row_operation *, const float *in, void *out,
                int32_t n);
    struct weight w;
};

static void run_quantize(struct backend *b, const struct row_operation *op, const float *in,
                         void *out, int32_t n)
{
    struct act_block *act = NULL;
    assert_int_equal(posix_memalign((void **)&act, 64, op->out_size * (size_t)n), 0);
    b->ops->quantize(b, &(struct quantize_args){in, act, op->in_size, n});
    memcpy(out, act, op->out_size * (size_t)n);
    free(act);
}

static void run_matmul(struct backend *b, const struct row_operation *op, const float *in,
                       void *out, int32_t n)
{
    struct act_block *act = NULL;
    if (type_info(op->w.type)->weight_class != WEIGHT_FLOAT)
        act = quantised(in, op->in_size, n);
    b->ops->matmul(b, &(struct matmul_args){op->w, in, act, out, op->w.n_out, n});
    free(act);
}

static void run_embed(struct backend *b, const struct row_operation *op, const float *in, void *out,
                      int32_t n)
{
    struct batch_row rows[MOST_ROWS];
    for (int32_t r = 0; r < n; r++)
        rows[r] = (struct batch_row){(int32_t)fabsf(in[r] * 1000.0f) % 7, r, 0};
    b->ops->embed(b, &(struct embed_args){op->w, rows, out, n});
}

static void run_rms_norm(struct backend *b, const struct row_operation *op, const float *in,
                         void *out, int32_t n)
{
    size_t size = op->in_size, group = size / 8;
    b->ops->rms_norm(b, &(struct rms_norm_args){in, out, op->w.data, group, 8, size, group, size,
                                                group, 1e-6f, n});
}

static void run_add(struct backend *b, const struct row_operation *op, const float *in, void *out,
                    int32_t n)
{
    b->ops->add(b, &(struct add_args){in, in, out, op->in_size, n});
}

static void run_rope(struct backend *b, const struct row_operation *op, const float *in, void *out,
                     int32_t n)
{
    size_t heads = op->out_size / 4, table = op->in_size - heads;
    float *x = out, *tables = need((size_t)n * table * sizeof *tables);
    for (size_t r = 0; r < (size_t)n; r++) {
        memcpy(x + r * heads, in + r * op->in_size, heads * sizeof *x);
        memcpy(tables + r * table, in + r * op->in_size + heads, table * sizeof *tables);
    }
    b->ops->rope(b, &(struct rope_args){x, heads, heads / 16, 16, (uint32_t)table / 2, tables, n});
    free(tables);
}

static void run_mul_silu(struct backend *b, const struct row_operation *op, const float *in,
                         void *out, int32_t n)
{
    size_t half = op->in_size / 2;
    b->ops->mul_silu(b, &(struct mul_silu_args){in, in + half, out, half, op->in_size, op->in_size,
                                                half, n});
}

static void run_argmax(struct backend *b, const struct row_operation *op, const float *in,
                       void *out, int32_t n)
{
    b->ops->argmax(b, &(struct argmax_args){in, out, op->in_size, n});
}

static void run_digest(struct backend *b, const struct row_operation *op, const float *in,
                       void *out, int32_t n)
{
    b->ops->digest(b, &(struct digest_args){in, out, op->in_size, n});
}

static void run_route(struct backend *b, const struct row_operation *op, const float *in, void *out,
                      int32_t n)
{
    uint32_t used = (uint32_t)op->out_size / 8, experts = (uint32_t)op->in_size;
    int32_t chosen[MOST_ROWS * 8], order[MOST_ROWS * 8], start[257];
    float weights[MOST_ROWS * 8];
    b->ops->route(b, &(struct route_args){in, chosen, weights, order, start, experts, used, n});
    for (size_t r = 0; r < (size_t)n; r++) {
        char *row = (char *)out + r * op->out_size;
        memcpy(row, chosen + r * used, used * 4);
        memcpy(row + used * 4, weights + r * used, used * 4);
    }
}

/* Rows: 4 experts' outputs, the shared one's, 4 weights, the shared gate. */
static void run_moe_combine(struct backend *b, const struct row_operation *op, const float *in,
                            void *out, int32_t n)
{
    size_t size = op->out_size / 4;
    float *y = need((size_t)n * 4 * size * 4), *shared = need((size_t)n * size * 4);
    float weights[MOST_ROWS * 4], gates[MOST_ROWS];
    for (size_t r = 0; r < (size_t)n; r++) {
        const float *row = in + r * op->in_size;
        memcpy(y + r * 4 * size, row, 4 * size * 4);
        memcpy(shared + r * size, row + 4 * size, size * 4);
        memcpy(weights + r * 4, row + 5 * size, 16);
        gates[r] = row[5 * size + 4];
    }
    b->ops->moe_combine(b, &(struct moe_combine_args){y, weights, shared, gates, out, size, 4, n});
    free(y);
    free(shared);
}

/* ---- the check ------------------------------------------------------------------------------- */

struct samples {
    float *in;  /* MOST_ROWS rows */
    char *out;  /* each row's result alone */
};

static void check_batch(struct backend *b, const struct row_operation *op,
                        const struct samples *samples, int32_t n, struct numbers *numbers)
{
    int32_t pick[MOST_ROWS];
    float *in = need((size_t)n * op->in_size * sizeof *in);
    char *out = need((size_t)n * op->out_size);
    for (int32_t r = 0; r < n; r++) {
        pick[r] = (int32_t)next_below(numbers, MOST_ROWS);
        memcpy(in + (size_t)r * op->in_size, samples->in + (size_t)pick[r] * op->in_size,
               op->in_size * sizeof *in);
    }
    op->run(b, op, in, out, n);
    for (int32_t r = 0; r < n; r++)
        if (memcmp(out + (size_t)r * op->out_size, samples->out + (size_t)pick[r] * op->out_size,
                   op->out_size) != 0)
            fail_msg("%s %s, %s: row %d of %d differs", op->name,
                     op->w.data ? type_info(op->w.type)->name : "", b->ops->name, r, n);
    free(in);
    free(out);
}

/* All widths with few and many threads; all thread counts with 17 rows. `every` thins widths. */
static void check_rows(const struct row_operation *op, int every)
{
    struct numbers numbers = {op->in_size};
    struct samples samples = {random_floats(&numbers, MOST_ROWS * op->in_size),
                              need(MOST_ROWS * op->out_size)};
    for (size_t r = 0; r < MOST_ROWS; r++)
        op->run(backends[SCALAR][0], op, samples.in + r * op->in_size,
                samples.out + r * op->out_size, 1);
    for (int isa = SCALAR; isa <= BEST; isa++) {
        for (int i = 0; i < N_WIDTHS; i += every) {
            check_batch(backends[isa][0], op, &samples, widths[i], &numbers);
            check_batch(backends[isa][1 + widths[i] * 5 % 15], op, &samples, widths[i], &numbers);
        }
        for (int threads = 1; threads <= MOST_THREADS; threads += every)
            check_batch(backends[isa][threads - 1], op, &samples, 17, &numbers);
    }
    free(samples.in);
    free(samples.out);
}

static void rows_of_small_operations_ignore_their_batch(void **state)
{
    (void)state;
    struct numbers numbers = {50};
    float *norm = random_floats(&numbers, 64);
    const struct weight none = {0};
    const struct row_operation operations[] = {
        {"quantize", 900, 4 * sizeof(struct act_block), run_quantize, none},
        {"rms_norm", 512, 2048, run_rms_norm, {.data = norm}},
        {"add", 2001, 8004, run_add, none},
        {"rope", 16 * 24 + 16, 16 * 24 * 4, run_rope, none},
        {"mul_silu", 666, 333 * 4, run_mul_silu, none},
        {"argmax", 1003, 4, run_argmax, none},
        {"digest", 5003, 8, run_digest, none},
        {"route", 200, 64, run_route, none},
        {"moe_combine", 5 * 77 + 5, 77 * 4, run_moe_combine, none},
    };
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        check_rows(&operations[i], 1);
    free(norm);
}

static void rows_of_products_ignore_their_batch(void **state)
{
    (void)state;
    struct numbers numbers = {51};
    for (int t = 0; t < N_WEIGHT_TYPES; t++) {
        uint32_t type = weight_types[t];
        bool main_type = type == MTP_TYPE_Q4_K || type == MTP_TYPE_Q8_0 || type == MTP_TYPE_F32;
        uint32_t n_in = whole_blocks(type, main_type ? 200 : 480), n_out = main_type ? 259 : 37;
        struct weight w = random_weight(&numbers, type, n_in, n_out, 1);
        struct row_operation product = {"matmul", n_in, n_out * 4, run_matmul, w};
        check_rows(&product, main_type ? 1 : 3);
        free((void *)w.data);
        w = random_weight(&numbers, type, n_in, 7, 1);
        struct row_operation embed = {"embed", 1, n_in * 4, run_embed, w};
        /* A row of embed's input is its token. */
        check_rows(&embed, 5);
        free((void *)w.data);
    }
}

/* ---- experts --------------------------------------------------------------------------------- */

enum { EXPERTS = 24, USED = 4, EXPERT_IN = 256, EXPERT_OUT = 50, PAIRS = MOST_ROWS * USED };

struct routed {
    int32_t experts[PAIRS], order[PAIRS], start[EXPERTS + 1];
    float weights[PAIRS];
    uint64_t distinct;
};

static void route_rows(struct backend *b, const float *logits, int32_t n, struct routed *routed)
{
    b->ops->route(b, &(struct route_args){logits, routed->experts, routed->weights, routed->order,
                                          routed->start, EXPERTS, USED, n});
    routed->distinct = 0;
    for (int e = 0; e < EXPERTS; e++) {
        bool used = false;
        for (int32_t p = 0; p < n * USED; p++)
            used = used || routed->experts[p] == e;
        routed->distinct += used;
    }
}

static void check_experts(struct backend *b, const struct weight *w, const struct act_block *act,
                          const float *wanted, const float *logits, int32_t n, bool grouped)
{
    struct routed routed;
    struct backend_counters before, after;
    float *y = need(PAIRS * EXPERT_OUT * sizeof *y);
    route_rows(b, logits, n, &routed);
    b->ops->counters(b, &before);
    b->ops->expert_matmul(b, &(struct expert_matmul_args){*w, NULL, act, y, EXPERT_OUT, n * USED,
                                                          USED, routed.order, routed.start,
                                                          grouped});
    b->ops->counters(b, &after);
    assert_memory_equal(y, wanted, (size_t)n * USED * EXPERT_OUT * sizeof *y);
    uint64_t pairs = (uint64_t)n * USED;
    assert_int_equal(after.expert_rows - before.expert_rows, pairs);
    assert_int_equal(after.expert_reads - before.expert_reads, grouped ? routed.distinct : pairs);
    assert_true(n < 17 || routed.distinct < pairs);
    free(y);
}

static void grouped_experts_give_the_same_bits_with_fewer_reads(void **state)
{
    (void)state;
    struct numbers numbers = {52};
    static const uint32_t types[] = {MTP_TYPE_Q4_K, MTP_TYPE_MXFP4, MTP_TYPE_Q3_K};
    for (int t = 0; t < 3; t++) {
        struct weight w = random_weight(&numbers, types[t], EXPERT_IN, EXPERT_OUT, EXPERTS);
        float *x = random_floats(&numbers, MOST_ROWS * EXPERT_IN);
        float *logits = random_floats(&numbers, MOST_ROWS * EXPERTS);
        float *wanted = need(PAIRS * EXPERT_OUT * sizeof *wanted);
        struct act_block *act = quantised(x, EXPERT_IN, MOST_ROWS);
        struct backend *b = backends[SCALAR][0];
        for (int32_t r = 0; r < MOST_ROWS; r++) { /* each row alone */
            struct routed routed;
            route_rows(b, logits + r * EXPERTS, 1, &routed);
            b->ops->expert_matmul(b, &(struct expert_matmul_args){
                w, NULL, act + r, wanted + r * USED * EXPERT_OUT, EXPERT_OUT, USED, USED,
                routed.order, routed.start, false});
        }
        for (int isa = SCALAR; isa <= BEST; isa++)
            for (int i = 0; i < N_WIDTHS; i++)
                for (int grouped = 0; grouped < 2; grouped++)
                    check_experts(backends[isa][widths[i] * 3 % MOST_THREADS], &w, act, wanted,
                                  logits, widths[i], grouped);
        free((void *)w.data);
        free(x);
        free(logits);
        free(wanted);
        free(act);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_small_operations_ignore_their_batch),
        cmocka_unit_test(rows_of_products_ignore_their_batch),
        cmocka_unit_test(grouped_experts_give_the_same_bits_with_fewer_reads),
    };
    return cmocka_run_group_tests(tests, open_backends, close_backends);
}
