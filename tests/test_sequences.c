/* Operations that carry state: the cache with attention, the convolution and the delta rule.
 * Several sequences, cut into batches of any sizes and interleaved in any way, on any number of
 * threads, give the outputs and the final states that each sequence gives alone, one row at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/backends.h"
#include "tests/op_inputs.h"

enum {
    SEQUENCES = 3, LENGTH = 135, MOST_ROWS = 33,
    Q_HEADS = 4, KV_HEADS = 2, HEAD = 32, KV = KV_HEADS * HEAD, Q = Q_HEADS * 2 * HEAD,
    ATTENDED = Q_HEADS * HEAD,
    K_HEADS = 2, V_HEADS = 4, D = 32, CHANNELS = (2 * K_HEADS + V_HEADS) * D, READ = V_HEADS * D,
    TAPS = 4, WIDE = 520, /* channels enough for several threads */
};

/* Everything a sequence's position brings and gives. */
struct step_in {
    float q[Q], k[KV], v[KV], x[WIDE], alpha[V_HEADS], beta[V_HEADS];
};
struct step_out {
    float attended[ATTENDED], convolved[WIDE], read[READ];
};

/* State of n sequences. */
struct memory {
    uint32_t n_sequences;
    void *k, *v;
    float *taps, *s;
};

struct weights {
    float taps[WIDE * TAPS], a[V_HEADS], dt[V_HEADS];
};

static size_t cache_size(enum kv_type type)
{
    return (size_t)LENGTH * KV * (type == KV_F16 ? 2 : 4);
}
static const size_t taps_size = (TAPS - 1) * WIDE * sizeof(float);
static const size_t s_size = V_HEADS * D * D * sizeof(float);

static struct memory new_memory(uint32_t n, enum kv_type type)
{
    return (struct memory){n, need(n * cache_size(type)), need(n * cache_size(type)),
                           need(n * taps_size), need(n * s_size)};
}

static void free_memory(struct memory *m)
{
    free(m->k);
    free(m->v);
    free(m->taps);
    free(m->s);
}

/* A batch, its inputs side by side. */
struct batch {
    int32_t n;
    struct batch_row rows[MOST_ROWS];
    float q[MOST_ROWS][Q], k[MOST_ROWS][KV], v[MOST_ROWS][KV], x[MOST_ROWS][WIDE];
    float alpha[MOST_ROWS][V_HEADS], beta[MOST_ROWS][V_HEADS];
    float attended[MOST_ROWS][ATTENDED], convolved[MOST_ROWS][WIDE], read[MOST_ROWS][READ];
    float mixed[MOST_ROWS][CHANNELS];
};

static void gather(struct batch *b, const struct step_in *in, int32_t as_sequence)
{
    for (int r = 0; r < b->n; r++) {
        struct batch_row *row = &b->rows[r];
        const struct step_in *step = &in[row->sequence * LENGTH + row->position];
        memcpy(b->q[r], step->q, sizeof step->q);
        memcpy(b->k[r], step->k, sizeof step->k);
        memcpy(b->v[r], step->v, sizeof step->v);
        memcpy(b->x[r], step->x, sizeof step->x);
        memcpy(b->alpha[r], step->alpha, sizeof step->alpha);
        memcpy(b->beta[r], step->beta, sizeof step->beta);
        if (as_sequence >= 0)
            row->sequence = as_sequence;
    }
}

static void run_batch(struct backend *backend, struct batch *b, const struct weights *w,
                      struct memory *m, enum kv_type type)
{
    const struct ops *ops = backend->ops;
    struct kv_cache cache = {m->k, m->v, type, KV_HEADS, HEAD, LENGTH};
    assert_true(ops->reserve(backend, LENGTH));
    ops->kv_store(backend, &(struct kv_store_args){cache, b->rows, b->k[0], b->v[0], b->n});
    ops->attention(backend, &(struct attention_args){
        .cache = cache, .rows = b->rows, .q = b->q[0], .gate = b->q[0] + HEAD, .q_stride = Q,
        .q_head_stride = 2 * HEAD, .n_heads = Q_HEADS, .scale = 0.25f, .out = b->attended[0],
        .n_rows = b->n});
    ops->conv(backend, &(struct conv_args){b->rows, b->x[0], w->taps, m->taps, b->convolved[0],
                                           WIDE, TAPS, m->n_sequences, b->n});
    for (int r = 0; r < b->n; r++)
        memcpy(b->mixed[r], b->convolved[r], sizeof b->mixed[r]);
    ops->delta_net(backend, &(struct delta_net_args){
        b->rows, b->mixed[0], b->alpha[0], b->beta[0], w->a, w->dt, m->s, b->read[0], K_HEADS,
        V_HEADS, D, m->n_sequences, b->n});
}

/* Compares row r with what its sequence gave alone. */
static void check_row(const struct batch *b, int r, const struct step_out *wanted,
                      const char *when)
{
    const struct step_out *out = &wanted[b->rows[r].sequence * LENGTH + b->rows[r].position];
    const char *bad = NULL;
    if (memcmp(b->attended[r], out->attended, sizeof out->attended) != 0)
        bad = "attention";
    if (memcmp(b->convolved[r], out->convolved, sizeof out->convolved) != 0)
        bad = "conv";
    if (memcmp(b->read[r], out->read, sizeof out->read) != 0)
        bad = "delta_net";
    if (bad != NULL)
        fail_msg("%s, %s: row %d of %d (sequence %d, position %d) differs", bad, when, r, b->n,
                 b->rows[r].sequence, b->rows[r].position);
}

struct world {
    struct step_in in[SEQUENCES * LENGTH];
    struct step_out out[SEQUENCES * LENGTH];
    struct weights w;
    struct memory alone[SEQUENCES];
    struct batch batch;
    enum kv_type type;
};

/* Inputs, and each sequence alone as the only one, one row a batch, one thread, scalar. */
static struct world *new_world(enum kv_type type)
{
    struct world *world = need(sizeof *world);
    struct numbers numbers = {60};
    world->type = type;
    for (int i = 0; i < SEQUENCES * LENGTH; i++)
        fill_floats(&numbers, (float *)&world->in[i], sizeof world->in[i] / sizeof(float));
    fill_floats(&numbers, world->w.taps, WIDE * TAPS);
    for (int h = 0; h < V_HEADS; h++) {
        world->w.a[h] = -fabsf(next_unit(&numbers)) * 0.2f;
        world->w.dt[h] = next_float(&numbers);
    }
    struct batch *b = &world->batch;
    for (int s = 0; s < SEQUENCES; s++) {
        world->alone[s] = new_memory(1, type);
        for (int p = 0; p < LENGTH; p++) {
            struct step_out *out = &world->out[s * LENGTH + p];
            b->n = 1;
            b->rows[0] = (struct batch_row){0, p, s};
            gather(b, world->in, 0);
            run_batch(backends[SCALAR][0], b, &world->w, &world->alone[s], type);
            memcpy(out->attended, b->attended[0], sizeof out->attended);
            memcpy(out->convolved, b->convolved[0], sizeof out->convolved);
            memcpy(out->read, b->read[0], sizeof out->read);
        }
    }
    return world;
}

static void free_world(struct world *world)
{
    for (int s = 0; s < SEQUENCES; s++)
        free_memory(&world->alone[s]);
    free(world);
}

static void check_states(const struct world *world, const struct memory *m)
{
    size_t bytes = cache_size(world->type);
    for (size_t s = 0; s < SEQUENCES; s++) {
        const struct memory *alone = &world->alone[s];
        assert_memory_equal((char *)m->k + s * bytes, alone->k, bytes);
        assert_memory_equal((char *)m->v + s * bytes, alone->v, bytes);
        assert_memory_equal((char *)m->taps + s * taps_size, alone->taps, taps_size);
        assert_memory_equal((char *)m->s + s * s_size, alone->s, s_size);
    }
}

/* Runs all sequences to their ends in batches of at most `width` rows (0: of changing widths). */
static void run_all(struct world *world, struct backend *backend, int32_t width, int n_threads)
{
    struct numbers numbers = {(uint64_t)width};
    struct memory m = new_memory(SEQUENCES, world->type);
    struct batch *b = &world->batch;
    int32_t next[SEQUENCES] = {0}, left = SEQUENCES * LENGTH;
    char when[80];
    snprintf(when, sizeof when, "%s, width %d, %d threads", backend->ops->name, width, n_threads);
    while (left > 0) {
        int32_t most = width > 0 ? width : 1 + (int32_t)next_below(&numbers, MOST_ROWS);
        b->n = most < left ? most : left;
        uint32_t favourite = next_below(&numbers, SEQUENCES);
        for (int r = 0; r < b->n; r++) {
            uint32_t s = next_below(&numbers, 3) > 0 ? favourite : next_below(&numbers, SEQUENCES);
            while (next[s] == LENGTH)
                s = (s + 1) % SEQUENCES;
            b->rows[r] = (struct batch_row){0, next[s]++, (int32_t)s};
        }
        left -= b->n;
        gather(b, world->in, -1);
        run_batch(backend, b, &world->w, &m, world->type);
        for (int r = 0; r < b->n; r++)
            check_row(b, r, world->out, when);
    }
    check_states(world, &m);
    free_memory(&m);
}

static void check_world(enum kv_type type)
{
    static const int32_t widths[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,
                                     33};
    struct world *world = new_world(type);
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (int isa = SCALAR; isa <= BEST; isa++) {
            /* With both caches and both kernels every thread count meets several widths. */
            int threads = (int)(i * 7 + (size_t)type * 5) % MOST_THREADS;
            if (isa == BEST || i % 6 == 0)
                run_all(world, backends[isa][threads], widths[i], threads + 1);
        }
    free_world(world);
}

static void interleaved_sequences_with_a_half_cache_equal_each_alone(void **state)
{
    (void)state;
    check_world(KV_F16);
}

static void interleaved_sequences_with_a_float_cache_equal_each_alone(void **state)
{
    (void)state;
    check_world(KV_F32);
}

static void a_sequence_absent_from_the_batch_keeps_its_state(void **state)
{
    (void)state;
    struct world *world = new_world(KV_F32);
    struct memory m = new_memory(SEQUENCES, KV_F32);
    struct numbers numbers = {61};
    fill_floats(&numbers, m.s, SEQUENCES * s_size / 4);
    fill_floats(&numbers, m.taps, SEQUENCES * taps_size / 4);
    float *s = need(SEQUENCES * s_size), *taps = need(SEQUENCES * taps_size);
    memcpy(s, m.s, SEQUENCES * s_size);
    memcpy(taps, m.taps, SEQUENCES * taps_size);
    world->batch.n = 2;
    for (int isa = SCALAR; isa <= BEST; isa++) {
        for (int r = 0; r < 2; r++)
            world->batch.rows[r] = (struct batch_row){0, r, 1};
        gather(&world->batch, world->in, -1);
        run_batch(backends[isa][3], &world->batch, &world->w, &m, KV_F32);
        for (size_t other = 0; other < SEQUENCES; other += 2) {
            assert_memory_equal((char *)m.s + other * s_size, (char *)s + other * s_size, s_size);
            assert_memory_equal((char *)m.taps + other * taps_size,
                                (char *)taps + other * taps_size, taps_size);
        }
        assert_memory_not_equal((char *)m.s + s_size, (char *)s + s_size, s_size);
    }
    free(s);
    free(taps);
    free_memory(&m);
    free_world(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interleaved_sequences_with_a_half_cache_equal_each_alone),
        cmocka_unit_test(interleaved_sequences_with_a_float_cache_equal_each_alone),
        cmocka_unit_test(a_sequence_absent_from_the_batch_keeps_its_state),
    };
    return cmocka_run_group_tests(tests, open_backends, close_backends);
}
