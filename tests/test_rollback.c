/* test_rollback.c - taking rows back: a pass from one copy of the state into another, and a replay of the
 * rows that stay, leave the bytes that a pass over just those rows leaves; for every variant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/backend.h"

enum { ROWS = 9 };

struct shape {
    uint32_t n_k, n_v, d, channels, taps;
};
static const struct shape shapes[] = {
    {1, 1, 16, 7, 4}, {2, 4, 128, 1024, 4}, {2, 6, 64, 100, 2}, {3, 9, 32, 65, 3}, {1, 2, 20, 33, 1}};

static float *values(size_t n, uint32_t seed)
{
    float *x = malloc((n + 1) * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = ((float)(seed >> 8) / 8388608.0f - 1.0f) * (i % 97 == 0 ? 30.0f : 1.0f);
    }
    return x;
}

static float *copy(const float *x, size_t n)
{
    float *y = malloc((n + 1) * sizeof *y);
    assert_non_null(y);
    memcpy(y, x, n * sizeof *y);
    return y;
}

static void check_delta_net(struct backend *backend, const struct shape *s)
{
    size_t state_n = (size_t)s->n_v * s->d * s->d, width = (2 * s->n_k + s->n_v) * s->d;
    float *x = values(ROWS * width, 1), *gates = values(ROWS * s->n_v, 2), *a = values(s->n_v, 3);
    float *live = values(state_n, 4), *in_place = copy(live, state_n), *spare = values(state_n, 5);
    float *out = values(ROWS * s->n_v * s->d, 6), *out2 = values(ROWS * s->n_v * s->d, 7);
    struct delta_net_journal journal = {values(ROWS * s->n_k * s->d, 8),
                                        values(ROWS * s->n_v * s->d, 9), values(ROWS * s->n_v, 10)};
    struct batch_row rows[ROWS];
    for (int32_t r = 0; r < ROWS; r++)
        rows[r] = (struct batch_row){0, r, 0};
    for (uint32_t h = 0; h < s->n_v; h++)
        a[h] = -0.1f - a[h] * a[h];
    struct delta_net_args args = {.rows = rows, .x = x, .alpha = gates, .beta = gates, .a = a,
                                  .dt = a, .state = spare, .out = out, .n_k_heads = s->n_k,
                                  .n_v_heads = s->n_v, .d = s->d, .n_sequences = 1, .n_rows = ROWS,
                                  .state_from = live, .journal = journal};
    float *before = copy(live, state_n);
    backend->ops->delta_net(backend, &args);
    assert_memory_equal(live, before, state_n * sizeof *live); /* the live copy stays */
    for (int32_t kept = 1; kept <= ROWS; kept++) {
        struct delta_net_args fewer = args;
        memcpy(in_place, before, state_n * sizeof *in_place);
        fewer.state = in_place;
        fewer.state_from = NULL;
        fewer.journal = (struct delta_net_journal){0};
        fewer.n_rows = kept;
        fewer.out = out2;
        backend->ops->delta_net(backend, &fewer);
        assert_memory_equal(out, out2, (size_t)kept * s->n_v * s->d * sizeof *out);
        if (kept == ROWS)
            backend->ops->delta_net(backend, &args);
        else
            backend->ops->delta_net_replay(
                backend, &(struct delta_net_replay_args){journal, live, spare, s->n_k, s->n_v, s->d,
                                                         kept});
        assert_memory_equal(spare, in_place, state_n * sizeof *spare);
    }
    float *all[] = {x, gates, a, live, in_place, spare, out, out2, journal.k, journal.delta,
                    journal.decay, before};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void check_conv(struct backend *backend, const struct shape *s)
{
    size_t state_n = (size_t)(s->taps - 1) * s->channels, n = s->channels;
    float *x = values(ROWS * n, 1), *w = values(n * s->taps, 2), *live = values(state_n, 3);
    float *in_place = copy(live, state_n), *spare = values(state_n, 4), *before = copy(live, state_n);
    float *out = values(ROWS * n, 5), *out2 = values(ROWS * n, 6);
    struct batch_row rows[ROWS];
    for (int32_t r = 0; r < ROWS; r++)
        rows[r] = (struct batch_row){0, r, 0};
    struct conv_args args = {.rows = rows, .x = x, .w = w, .state = spare, .out = out,
                             .n_channels = s->channels, .n_taps = s->taps, .n_sequences = 1,
                             .n_rows = ROWS, .state_from = live};
    backend->ops->conv(backend, &args);
    assert_memory_equal(live, before, state_n * sizeof *live);
    for (int32_t kept = 1; kept <= ROWS; kept++) {
        struct conv_args fewer = args;
        memcpy(in_place, before, state_n * sizeof *in_place);
        fewer.state = in_place;
        fewer.state_from = NULL;
        fewer.n_rows = kept;
        fewer.out = out2;
        backend->ops->conv(backend, &fewer);
        assert_memory_equal(out, out2, (size_t)kept * n * sizeof *out);
        backend->ops->conv_replay(
            backend, &(struct conv_replay_args){x, live, spare, s->channels, s->taps, kept});
        assert_memory_equal(spare, in_place, state_n * sizeof *spare);
    }
    float *all[] = {x, w, live, in_place, spare, before, out, out2};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void each_backend(void (*check)(struct backend *, const struct shape *))
{
    const struct cpu_kernels *tables[] = {cpu_kernels_scalar(), cpu_kernels_best()};
    for (size_t t = 0; t < 2; t++)
        for (uint32_t threads = 1; threads <= 3; threads += 2) {
            struct backend *backend = cpu_backend_open(tables[t], threads);
            assert_non_null(backend);
            for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
                check(backend, &shapes[i]);
            backend->ops->close(backend);
        }
}

static void a_replayed_recurrent_state_is_that_of_the_rows_kept(void **state)
{
    (void)state;
    each_backend(check_delta_net);
}

static void a_replayed_convolution_state_is_that_of_the_rows_kept(void **state)
{
    (void)state;
    each_backend(check_conv);
}

/* Journals and replays of the two tables are interchangeable. */
static void variants_note_and_replay_the_bytes_of_the_definition(void **state)
{
    (void)state;
    const struct shape *s = &shapes[3];
    size_t state_n = (size_t)s->n_v * s->d * s->d, width = (2 * s->n_k + s->n_v) * s->d;
    float *x = values(ROWS * width, 1), *gates = values(ROWS * s->n_v, 2), *a = values(s->n_v, 3);
    float *live = values(state_n, 4), *out = values(ROWS * s->n_v * s->d, 6), *spare[2];
    struct delta_net_journal journal[2];
    struct batch_row rows[ROWS];
    for (int32_t r = 0; r < ROWS; r++)
        rows[r] = (struct batch_row){0, r, 0};
    const struct cpu_kernels *tables[] = {cpu_kernels_scalar(), cpu_kernels_best()};
    if (cpu_has_avx2())
        assert_ptr_not_equal(tables[0]->delta_net_replay, tables[1]->delta_net_replay);
    for (int t = 0; t < 2; t++) {
        struct backend *backend = cpu_backend_open(tables[t], 2);
        assert_non_null(backend);
        spare[t] = values(state_n, 5);
        journal[t] = (struct delta_net_journal){values(ROWS * s->n_k * s->d, 8),
                                                values(ROWS * s->n_v * s->d, 9),
                                                values(ROWS * s->n_v, 10)};
        backend->ops->delta_net(backend, &(struct delta_net_args){
            .rows = rows, .x = x, .alpha = gates, .beta = gates, .a = a, .dt = a, .state = spare[t],
            .out = out, .n_k_heads = s->n_k, .n_v_heads = s->n_v, .d = s->d, .n_sequences = 1,
            .n_rows = ROWS, .state_from = live, .journal = journal[t]});
        backend->ops->delta_net_replay(
            backend,
            &(struct delta_net_replay_args){journal[t], live, spare[t], s->n_k, s->n_v, s->d, 5});
        backend->ops->close(backend);
    }
    assert_memory_equal(spare[0], spare[1], state_n * sizeof(float));
    assert_memory_equal(journal[0].k, journal[1].k, ROWS * s->n_k * s->d * sizeof(float));
    assert_memory_equal(journal[0].delta, journal[1].delta, ROWS * s->n_v * s->d * sizeof(float));
    assert_memory_equal(journal[0].decay, journal[1].decay, ROWS * s->n_v * sizeof(float));
    for (int t = 0; t < 2; t++) {
        free(spare[t]);
        free(journal[t].k);
        free(journal[t].delta);
        free(journal[t].decay);
    }
    float *all[] = {x, gates, a, live, out};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replayed_recurrent_state_is_that_of_the_rows_kept),
        cmocka_unit_test(a_replayed_convolution_state_is_that_of_the_rows_kept),
        cmocka_unit_test(variants_note_and_replay_the_bytes_of_the_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
