/* bench_rollback.c - what it costs to be able to take drafts back: a ring of snapshots of the DeltaNet
 * state (one after every row) against noting each row's update and replaying those that stay. Both
 * paths give the same bytes, which is checked. Times are medians of ROUNDS, interleaved.
 *
 *     bench/bench_rollback [threads]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/cpu/backend.h"

enum { ROUNDS = 15, D = 128, ROWS = 4 };

struct shape {
    const char *name;
    uint32_t n_k, n_v;
};

struct bench {
    struct backend *backend;
    struct shape shape;
    float *x, *alpha, *beta, *a, *out;
    float *state, *spare, *ring;
    struct delta_net_journal journal;
    struct batch_row rows[ROWS];
    size_t state_floats;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static float *filled(size_t n)
{
    float *x = malloc(n * sizeof *x);
    if (x == NULL)
        exit(1);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((i * 2654435761u) >> 8 & 0xffff) / 65536.0f - 0.5f;
    return x;
}

static struct delta_net_args pass(const struct bench *b, int32_t first, int32_t n)
{
    uint32_t width = (2 * b->shape.n_k + b->shape.n_v) * D;
    return (struct delta_net_args){
        .rows = b->rows, .x = b->x + (size_t)first * width,
        .alpha = b->alpha + (size_t)first * b->shape.n_v,
        .beta = b->beta + (size_t)first * b->shape.n_v, .a = b->a, .dt = b->a, .state = b->state,
        .out = b->out, .n_k_heads = b->shape.n_k, .n_v_heads = b->shape.n_v, .d = D,
        .n_sequences = 1, .n_rows = n};
}

/* Rows one after another, a copy of the state after each; the copy of row `kept` comes back. */
static double with_ring(struct bench *b, int32_t kept)
{
    double start = now();
    for (int32_t r = 0; r < ROWS; r++) {
        struct delta_net_args args = pass(b, r, 1);
        b->backend->ops->delta_net(b->backend, &args);
        memcpy(b->ring + (size_t)r * b->state_floats, b->state, b->state_floats * sizeof(float));
    }
    if (kept < ROWS)
        memcpy(b->state, b->ring + (size_t)(kept - 1) * b->state_floats,
               b->state_floats * sizeof(float));
    return now() - start;
}

/* From the live copy into the spare one, updates noted; those kept are replayed. */
static double with_journal(struct bench *b, int32_t kept)
{
    double start = now();
    struct delta_net_args args = pass(b, 0, ROWS);
    args.state_from = b->state;
    args.state = b->spare;
    args.journal = b->journal;
    b->backend->ops->delta_net(b->backend, &args);
    if (kept < ROWS) {
        const struct delta_net_replay_args replay = {b->journal, b->state, b->spare, b->shape.n_k,
                                                     b->shape.n_v, D, kept};
        b->backend->ops->delta_net_replay(b->backend, &replay);
    }
    return now() - start;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void compare(struct bench *b, int32_t kept)
{
    double ring[ROUNDS], journal[ROUNDS];
    float *origin = filled(b->state_floats);
    for (int round = 0; round < ROUNDS; round++) {
        memcpy(b->state, origin, b->state_floats * sizeof(float));
        journal[round] = with_journal(b, kept);
        ring[round] = with_ring(b, kept);
        if (memcmp(b->state, b->spare, b->state_floats * sizeof(float)) != 0) {
            fprintf(stderr, "the two states differ\n");
            exit(1);
        }
    }
    qsort(ring, ROUNDS, sizeof *ring, by_value);
    qsort(journal, ROUNDS, sizeof *journal, by_value);
    printf("| %s | %d of %d | %.1f | %.1f | %.2f |\n", b->shape.name, kept, ROWS, ring[ROUNDS / 2],
           journal[ROUNDS / 2], ring[ROUNDS / 2] / journal[ROUNDS / 2]);
    free(origin);
}

int main(int argc, char **argv)
{
    static const struct shape shapes[] = {{"63M (4 heads)", 2, 4}, {"35B-A3B (32 heads)", 16, 32},
                                          {"27B (48 heads)", 16, 48}};
    uint32_t threads = argc > 1 ? (uint32_t)atoi(argv[1]) : 1;
    printf("One DeltaNet layer, %d rows, %u threads, microseconds (median of %d)\n\n", ROWS, threads,
           ROUNDS);
    printf("| layer | kept | ring of snapshots | journal and replay | ratio |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct shape *s = &shapes[i];
        struct bench b = {.shape = *s, .state_floats = (size_t)s->n_v * D * D};
        b.backend = cpu_backend_open(cpu_kernels_best(), threads);
        if (b.backend == NULL)
            return 1;
        b.x = filled((size_t)ROWS * (2 * s->n_k + s->n_v) * D);
        b.alpha = filled((size_t)ROWS * s->n_v);
        b.beta = filled((size_t)ROWS * s->n_v);
        b.a = filled(s->n_v);
        b.out = filled((size_t)ROWS * s->n_v * D);
        b.state = filled(b.state_floats);
        b.spare = filled(b.state_floats);
        b.ring = filled(b.state_floats * ROWS);
        b.journal = (struct delta_net_journal){filled((size_t)ROWS * s->n_k * D),
                                               filled((size_t)ROWS * s->n_v * D),
                                               filled((size_t)ROWS * s->n_v)};
        for (int32_t r = 0; r < ROWS; r++)
            b.rows[r] = (struct batch_row){0, r, 0};
        for (int32_t kept = 1; kept <= ROWS; kept++)
            compare(&b, kept);
        float *all[] = {b.x, b.alpha, b.beta, b.a, b.out, b.state, b.spare, b.ring, b.journal.k,
                        b.journal.delta, b.journal.decay};
        for (size_t f = 0; f < sizeof all / sizeof all[0]; f++)
            free(all[f]);
        b.backend->ops->close(b.backend);
    }
    return 0;
}
