/* bench_products.c - see bench_products.h. */
#include "bench_products.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/types.h"

/* The copies, and the arguments that a pass chooses from. */
struct rotation {
    const struct product_plan *plan;
    const struct bench_shape *shape;
    struct weight w;      /* without data */
    bool packed;          /* copies are in the backend's arrangement */
    uint8_t *copies;
    size_t copy_bytes, n_copies, map_bytes;
    struct bench_rows inputs;
    size_t n_inputs;      /* rows */
    float *y;
    int32_t *order, *start; /* of the width at hand */
    uint64_t pass;        /* how many there have been */
};

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static struct weight weight_of(const struct bench_shape *shape, uint32_t type)
{
    const struct type_info *info = type_info(type);
    size_t row = (size_t)shape->n_in / info->block_elements * info->block_bytes;
    return (struct weight){NULL, type, shape->n_in, shape->n_out, shape->n_experts, row,
                           row * shape->n_out};
}

/* Experts that a pass reads: the mean number of different ones when every row chooses by itself. */
static uint32_t experts_read(const struct bench_shape *shape, int32_t n)
{
    double e = shape->n_experts, missed = 1.0;
    for (int32_t i = 0; i < n; i++)
        missed *= 1.0 - shape->n_used / e;
    uint32_t read = (uint32_t)(e * (1.0 - missed) + 0.5);
    return read < shape->n_used ? shape->n_used : read;
}

static size_t input_row_bytes(const struct weight *w)
{
    if (type_info(w->type)->weight_class == WEIGHT_FLOAT)
        return w->n_in * sizeof(float);
    return act_blocks(w->n_in) * sizeof(struct act_block);
}

static size_t inputs_of(const struct bench_shape *shape, int32_t n)
{
    return (size_t)n * (shape->input_per_expert ? shape->n_used : 1);
}

static size_t pairs_of(const struct bench_shape *shape, int32_t n)
{
    return (size_t)n * shape->n_used;
}

/* Rows of input so that none is used again before the rotation's bytes have passed, at any width. */
static size_t input_rows(const struct product_plan *plan, const struct bench_shape *shape,
                         const struct weight *w)
{
    size_t most = 0;
    for (size_t i = 0; i < plan->n_widths; i++) {
        size_t rows = inputs_of(shape, plan->widths[i]);
        size_t pass = experts_read(shape, plan->widths[i]) * w->expert_bytes +
                      rows * input_row_bytes(w);
        size_t needed = rows * ((plan->rotation_bytes + pass - 1) / pass);
        most = needed > most ? needed : most;
    }
    return most;
}

static int32_t widest(const struct product_plan *plan)
{
    int32_t most = 1;
    for (size_t i = 0; i < plan->n_widths; i++)
        most = plan->widths[i] > most ? plan->widths[i] : most;
    return most;
}

static void size_copies(struct rotation *r)
{
    size_t all = r->w.n_experts * r->w.expert_bytes;
    size_t packed = r->plan->backend->ops->packed_bytes(r->plan->backend, &r->w);
    r->packed = packed > 0;
    r->copy_bytes = round_up(r->packed ? packed : all, 64);
    r->n_copies = (r->plan->rotation_bytes + all - 1) / all;
    r->map_bytes = r->copy_bytes * r->n_copies;
    r->n_inputs = input_rows(r->plan, r->shape, &r->w);
}

size_t product_memory(const struct product_plan *plan, const struct bench_shape *shape, uint32_t type)
{
    struct rotation r = {.plan = plan, .shape = shape, .w = weight_of(shape, type)};
    size_copies(&r);
    return r.map_bytes + r.n_inputs * input_row_bytes(&r.w) + r.w.n_experts * r.w.expert_bytes +
           pairs_of(shape, widest(plan)) * shape->n_out * sizeof(float);
}

static void make_rotation(struct rotation *r)
{
    size_t all = r->w.n_experts * r->w.expert_bytes;
    bool floats = type_info(r->w.type)->weight_class == WEIGHT_FLOAT;
    size_copies(r);
    r->copies = bench_map(r->map_bytes);
    uint8_t *file = bench_map(all);
    bench_fill_weights(r->w.type, file, all);
    for (size_t i = 0; i < r->n_copies; i++) {
        struct weight w = r->w;
        w.data = file;
        if (r->packed)
            pack_whole(r->plan->backend, &w, r->copies + i * r->copy_bytes);
        else
            memcpy(r->copies + i * r->copy_bytes, file, all);
    }
    bench_unmap(file, all);
    r->inputs = bench_make_rows(r->w.n_in, floats ? r->n_inputs : 0, floats ? 0 : r->n_inputs);
    size_t pairs = pairs_of(r->shape, widest(r->plan));
    r->y = bench_need(pairs * r->w.n_out * sizeof *r->y);
    r->order = bench_need(pairs * sizeof *r->order);
    r->start = bench_need((3 * (size_t)r->w.n_experts + 1) * sizeof *r->start);
}

static void free_rotation(struct rotation *r)
{
    bench_unmap(r->copies, r->map_bytes);
    free(r->inputs.x);
    free(r->inputs.act);
    free(r->y);
    free(r->order);
    free(r->start);
}

/* Pairs take the experts read in turn. start begins with as many zeros as there are experts, and ends
 * with as many totals: a pass whose experts begin at `first` sees start + n_experts - first. */
static void list_pairs(struct rotation *r, int32_t n)
{
    size_t read = experts_read(r->shape, n), pairs = pairs_of(r->shape, n), at = 0;
    size_t experts = r->w.n_experts;
    for (size_t e = 0; e < experts; e++)
        r->start[e] = 0;
    for (size_t e = 0; e < read; e++) {
        r->start[experts + e] = (int32_t)at;
        for (size_t pair = e; pair < pairs; pair += read)
            r->order[at++] = (int32_t)pair;
    }
    for (size_t e = experts + read; e < 3 * experts + 1; e++)
        r->start[e] = (int32_t)at;
}

static void run_pass(struct rotation *r, int32_t n)
{
    size_t read = experts_read(r->shape, n), windows = r->w.n_experts / read;
    size_t rows = inputs_of(r->shape, n);
    uint64_t pass = r->pass++;
    size_t first = pass % windows * read;
    size_t input = pass % (r->n_inputs / rows) * rows;
    const uint8_t *copy = r->copies + pass / windows % r->n_copies * r->copy_bytes;
    struct packed_weight packed = {copy};
    struct weight w = r->w;
    w.data = r->packed ? NULL : copy;
    w.packed = r->packed ? &packed : NULL;
    bool floats = type_info(w.type)->weight_class == WEIGHT_FLOAT;
    const float *x = floats ? r->inputs.x + input * w.n_in : NULL;
    const struct act_block *act = floats ? NULL : r->inputs.act + input * act_blocks(w.n_in);
    struct backend *backend = r->plan->backend;
    if (w.n_experts == 1) {
        backend->ops->matmul(backend, &(struct matmul_args){w, x, act, r->y, w.n_out, n});
        return;
    }
    int32_t used = (int32_t)r->shape->n_used;
    const struct expert_matmul_args args = {
        w, x, act, r->y, w.n_out, n * used, r->shape->input_per_expert ? 1 : used, r->order,
        r->start + w.n_experts - first, true};
    backend->ops->expert_matmul(backend, &args);
}

/* Seconds of a pass in one round; the first pass, which wakes the threads, does not count. */
static double run_round(struct rotation *r, int32_t n, uint64_t *passes)
{
    list_pairs(r, n);
    run_pass(r, n);
    double start = bench_now(r->plan->n_threads), taken;
    uint64_t first = r->pass;
    do {
        run_pass(r, n);
        taken = bench_now(r->plan->n_threads) - start;
    } while (taken < r->plan->seconds || taken <= 0.0);
    *passes += r->pass - first;
    return taken / (double)(r->pass - first);
}

void product_measure(const struct product_plan *plan, const struct bench_shape *shape, uint32_t type,
                     struct product_time *times)
{
    double seconds[MOST_WIDTHS][MOST_ROUNDS];
    struct rotation r = {.plan = plan, .shape = shape, .w = weight_of(shape, type)};
    make_rotation(&r);
    for (size_t i = 0; i < plan->n_widths; i++) {
        int32_t n = plan->widths[i];
        times[i] = (struct product_time){
            .weight_bytes = experts_read(shape, n) * r.w.expert_bytes,
            .input_bytes = inputs_of(shape, n) * input_row_bytes(&r.w),
            .macs = (uint64_t)pairs_of(shape, n) * r.w.n_out * r.w.n_in,
            .copies = (uint32_t)r.n_copies,
        };
    }
    for (size_t round = 0; round < plan->rounds; round++)
        for (size_t i = 0; i < plan->n_widths; i++)
            seconds[i][round] = run_round(&r, plan->widths[i], &times[i].passes);
    for (size_t i = 0; i < plan->n_widths; i++) {
        times[i].median = bench_median(seconds[i], plan->rounds);
        times[i].best = seconds[i][0];
    }
    free_rotation(&r);
}
