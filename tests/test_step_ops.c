/* test_step_ops.c - the operations between a step's passes: rows whose tokens lie in memory, greedy
 * acceptance, and replays over several layers of a number of rows that lies in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/backend.h"

enum { ROWS = 8, LAYERS = 3 };

static void rows_follow_the_tokens(void **state)
{
    (void)state;
    struct backend *backend = cpu_backend_open(cpu_kernels_best(), 1);
    const int32_t tokens[ROWS] = {9, 8, 7, 6, 5, 4, 3, 2}, first = 100;
    struct batch_row rows[ROWS + 1];
    memset(rows, 0x55, sizeof rows);
    for (int32_t n = 1; n <= ROWS; n++) {
        backend->ops->chain_rows(backend, &(struct chain_rows_args){tokens, &first, n, rows, n});
        for (int32_t r = 0; r < n; r++) {
            assert_int_equal(rows[r].token, tokens[r]);
            assert_int_equal(rows[r].position, 100 + n + r);
            assert_int_equal(rows[r].sequence, 0);
        }
        assert_int_equal(rows[n].token, 0x55555555);
    }
    backend->ops->close(backend);
}

/* A draft counts when it and all before it are what the rows before them give. */
static void drafts_are_accepted_up_to_the_first_that_differs(void **state)
{
    (void)state;
    struct backend *backend = cpu_backend_open(cpu_kernels_best(), 1);
    for (int32_t n = 1; n <= ROWS; n++)
        for (int32_t wrong = 1; wrong <= n; wrong++)
            for (int again = 0; again < 2; again++) {
                int32_t tokens[ROWS], top[ROWS], seen[ROWS + 1], kept = -1;
                for (int32_t r = 0; r < n; r++) {
                    tokens[r] = 10 + r;
                    top[r] = r + 1 == wrong || (again && r > wrong) ? 99 : 11 + r;
                }
                seen[n] = -7;
                backend->ops->accept(backend, &(struct accept_args){tokens, top, &kept, seen, n});
                assert_int_equal(kept, wrong);
                assert_int_equal(kept, accepted_rows(tokens, top, n));
                assert_memory_equal(seen, tokens, (size_t)n * sizeof *seen);
                assert_int_equal(seen[n], -7);
            }
    backend->ops->close(backend);
}

static float *values(size_t n, uint32_t seed)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
    return x;
}

/* Several layers at once, kept rows by pointer, against a layer at a time. */
struct replays {
    struct backend *backend;
    float *from, *rows, *one, *all;
    size_t state, noted; /* floats of a layer's state and noted rows */
};

static void replay_conv(const struct replays *t, int32_t n, const int32_t *kept)
{
    enum { CHANNELS = 33, TAPS = 4 };
    for (size_t l = 0; l < LAYERS && kept == NULL; l++)
        t->backend->ops->conv_replay(t->backend, &(struct conv_replay_args){
            t->rows + l * t->noted, t->from + l * t->state, t->one + l * t->state, CHANNELS, TAPS, n, {0}});
    t->backend->ops->conv_replay(t->backend, &(struct conv_replay_args){
        t->rows, t->from, t->all, CHANNELS, TAPS, kept != NULL ? ROWS : n,
        {LAYERS - 1, t->state * sizeof(float), t->noted * sizeof(float), kept}});
}

static void replay_delta(const struct replays *t, int32_t n, const int32_t *kept)
{
    enum { K = 2, V = 4, D = 20 };
    for (size_t l = 0; l < LAYERS && kept == NULL; l++) {
        float *k = t->rows + l * t->noted, *delta = k + ROWS * K * D, *decay = delta + ROWS * V * D;
        t->backend->ops->delta_net_replay(t->backend, &(struct delta_net_replay_args){
            {k, delta, decay}, t->from + l * t->state, t->one + l * t->state, K, V, D, n, {0}});
    }
    float *k = t->rows, *delta = k + ROWS * K * D, *decay = delta + ROWS * V * D;
    t->backend->ops->delta_net_replay(t->backend, &(struct delta_net_replay_args){
        {k, delta, decay}, t->from, t->all, K, V, D, kept != NULL ? ROWS : n,
        {LAYERS - 1, t->state * sizeof(float), t->noted * sizeof(float), kept}});
}

static void check_replays(size_t state_floats, size_t noted,
                          void (*replay)(const struct replays *, int32_t, const int32_t *))
{
    const struct cpu_kernels *tables[] = {cpu_kernels_scalar(), cpu_kernels_best()};
    size_t bytes = LAYERS * state_floats * sizeof(float);
    for (int i = 0; i < 2; i++) {
        struct replays t = {cpu_backend_open(tables[i], 2), values(LAYERS * state_floats, 1),
                            values(LAYERS * noted, 2), values(LAYERS * state_floats, 4),
                            values(LAYERS * state_floats, 4), state_floats, noted};
        float *before = values(LAYERS * state_floats, 4);
        for (int32_t kept = 1; kept <= ROWS; kept++) {
            memcpy(t.all, before, bytes);
            replay(&t, kept, NULL);
            assert_memory_equal(t.one, t.all, bytes);
            memcpy(t.all, before, bytes);
            replay(&t, 0, &kept);
            assert_memory_equal(t.all, kept < ROWS ? t.one : before, bytes); /* all: nothing to do */
        }
        t.backend->ops->close(t.backend);
        float *arrays[] = {t.from, t.rows, t.one, t.all, before};
        for (size_t a = 0; a < sizeof arrays / sizeof *arrays; a++)
            free(arrays[a]);
    }
}

static void replays_take_several_layers_and_a_number_in_memory(void **state)
{
    (void)state;
    check_replays(3 * 33 + 13, ROWS * 33 + 3, replay_conv);
    check_replays(4 * 20 * 20 + 16, ROWS * (2 * 20 + 4 * 20 + 4) + 4, replay_delta);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_follow_the_tokens),
        cmocka_unit_test(drafts_are_accepted_up_to_the_first_that_differs),
        cmocka_unit_test(replays_take_several_layers_and_a_number_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
