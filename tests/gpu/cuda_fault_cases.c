/* cuda_fault_cases.c - values that are not finite are reported as the CPU reports them; memory moves as it
 * should; a call that fails is kept and named. */
#include "tests/gpu/cuda_ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cuda/backend.h"

enum { ROWS = 9, BAD_ROW = 5, N = 300, D = 64 };

/* ROWS rows of n finite numbers, but for one element of the bad row and of the last. */
static struct array spoilt(struct two_backends *t, size_t n, float value)
{
    float *x = malloc(ROWS * n * sizeof *x);
    if (x == NULL)
        abort();
    for (size_t i = 0; i < ROWS * n; i++)
        x[i] = next_unit(&t->numbers);
    x[BAD_ROW * n + next_below(&t->numbers, (uint32_t)n)] = value;
    x[(ROWS - 1) * n + next_below(&t->numbers, (uint32_t)n)] = value;
    struct array array = copied(t, x, ROWS * n * sizeof *x);
    free(x);
    return array;
}

static void faults_of_rows(struct two_backends *t, float value)
{
    struct array x = spoilt(t, N, value), out = unset(t, ROWS * N * sizeof(float));
    struct array act = unset(t, ROWS * 2 * sizeof(struct act_block)), index = unset(t, ROWS * 4);
    struct array w = floats(t, N, ORDINARY);
    struct array experts = unset(t, ROWS * 8 * 4), weights = unset(t, ROWS * 8 * 4);
    struct array order = unset(t, ROWS * 8 * 4), start = unset(t, (N + 1) * 4);
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->quantize(t->side[s], &(struct quantize_args){x.at[s], act.at[s], N, ROWS});
    compare(t, "super-blocks beside a fault", &act, 1, 2 * sizeof(struct act_block));
    compare_faults(t, "quantize", BAD_ROW);
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->rms_norm(t->side[s], &(struct rms_norm_args){x.at[s], out.at[s], w.at[s], N,
                                                                      1, N, N, N, N, 1e-6f, ROWS});
    compare(t, "norms beside a fault", &out, 4, N);
    compare_faults(t, "rms_norm", BAD_ROW);
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->argmax(t->side[s], &(struct argmax_args){x.at[s], index.at[s], N, ROWS});
    compare(t, "indices beside a fault", &index, 4, 1);
    compare_faults(t, "argmax", BAD_ROW);
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->route(t->side[s],
                               &(struct route_args){x.at[s], experts.at[s], weights.at[s],
                                                    order.at[s], start.at[s], N, 8, ROWS});
    compare_faults(t, "route", BAD_ROW);
}

static void faults_of_caches(struct two_backends *t, float value)
{
    struct array rows = batch(t, ROWS, 2, 0, 1), bad = spoilt(t, D, value);
    struct array good = floats(t, ROWS * D, ORDINARY), k = unset(t, 2 * ROWS * D * 4);
    struct array v = unset(t, 2 * ROWS * D * 4);
    for (int type = KV_F16; type <= KV_F32; type++)
        for (int of_v = 0; of_v < 2; of_v++) {
            for (int s = 0; s < N_SIDES; s++) {
                struct kv_cache cache = {k.at[s], v.at[s], (enum kv_type)type, 1, D, ROWS};
                t->side[s]->ops->kv_store(
                    t->side[s], &(struct kv_store_args){cache, rows.at[s],
                                                        of_v ? good.at[s] : bad.at[s],
                                                        of_v ? bad.at[s] : good.at[s], ROWS});
            }
            bool faulty = type == KV_F16 || !isfinite(value);
            compare_faults(t, faulty ? "kv_store" : NULL, BAD_ROW);
        }
}

/* One head; a number is too large for the square to be finite, or no number. */
static void faults_of_norms(struct two_backends *t, float value)
{
    float *x = malloc(ROWS * 3 * D * sizeof *x);
    if (x == NULL)
        abort();
    for (int in_q = 0; in_q < 2; in_q++) {
        for (size_t i = 0; i < ROWS * 3 * D; i++)
            x[i] = next_unit(&t->numbers);
        x[BAD_ROW * 3 * D + (in_q ? 3 : D + 3)] = value;
        x[(ROWS - 1) * 3 * D + (in_q ? 5 : D + 5)] = value;
        struct array inputs = copied(t, x, ROWS * 3 * D * sizeof *x);
        struct array rows = batch(t, ROWS, 1, 0, 1), out = unset(t, ROWS * D * 4);
        struct array gates = floats(t, ROWS, ORDINARY), a = floats(t, 1, TIES);
        struct array state = floats(t, D * D, ORDINARY);
        for (int s = 0; s < N_SIDES; s++)
            t->side[s]->ops->delta_net(
                t->side[s],
                &(struct delta_net_args){.rows = rows.at[s], .x = inputs.at[s],
                                         .alpha = gates.at[s], .beta = gates.at[s], .a = a.at[s],
                                         .dt = a.at[s], .state = state.at[s], .out = out.at[s],
                                         .n_k_heads = 1, .n_v_heads = 1, .d = D, .n_sequences = 1,
                                         .n_rows = ROWS});
        compare_faults(t, "delta_net", BAD_ROW);
    }
    free(x);
}

/* Of two faulty launches the first is reported, until it is cleared. */
static void first_of_two(struct two_backends *t)
{
    struct array x = spoilt(t, N, INFINITY), act = unset(t, ROWS * 2 * sizeof(struct act_block));
    struct array index = unset(t, ROWS * 4);
    for (int s = 0; s < N_SIDES; s++) {
        const struct ops *ops = t->side[s]->ops;
        const float *all = x.at[s];
        /* BAD_ROW is row 0 of the first launch, and row 5 of the second */
        ops->argmax(t->side[s], &(struct argmax_args){all + BAD_ROW * N, index.at[s], N, 2});
        ops->quantize(t->side[s], &(struct quantize_args){all, act.at[s], N, ROWS});
        (void)ops->fault(t->side[s]);
        ops->quantize(t->side[s], &(struct quantize_args){all + BAD_ROW * N, act.at[s], N, 1});
    }
    compare_faults(t, "argmax", 0);
    compare_faults(t, NULL, 0);
}

void fault_cases(struct two_backends *t)
{
    static const float values[] = {INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < 3; i++) {
        begin_case(t, false, i + 1, "%d rows, one with %g", (int)ROWS, (double)values[i]);
        faults_of_rows(t, values[i]);
        faults_of_caches(t, values[i]);
        faults_of_norms(t, values[i]);
        end_case(t);
    }
    begin_case(t, false, 4, "65520 in a cache, 1e30 in a norm");
    faults_of_caches(t, 65520.0f);
    faults_of_norms(t, 1e30f);
    end_case(t);
    begin_case(t, false, 5, "two faulty launches");
    first_of_two(t);
    end_case(t);
}

void memory_cases(struct two_backends *t)
{
    begin_case(t, false, 1, "%d floats", (int)N);
    struct array a = floats(t, N, WIDE), b = unset(t, N * sizeof(float));
    struct array zeros = unset(t, 7);
    for (int s = 0; s < N_SIDES; s++) {
        const struct ops *ops = t->side[s]->ops;
        float *x = a.at[s], *y = b.at[s];
        ops->copy(t->side[s], y, x + 1, (N - 1) * sizeof *x);
        ops->fill(t->side[s], y + 10, 0x7f, 13);
        ops->copy(t->side[s], y, x, 0);
        ops->synchronize(t->side[s]);
        uint8_t *fresh = ops->alloc(t->side[s], 7, MEMORY_PARTS);
        ops->copy(t->side[s], zeros.at[s], fresh, 7);
        ops->free(t->side[s], fresh, 7);
    }
    compare(t, "copied and filled", &b, 4, N);
    compare(t, "fresh memory", &zeros, 1, 7);
    end_case(t);
}

void error_cases(struct two_backends *t)
{
    struct cuda_message message = {"", false};
    begin_case(t, false, 1, "attention over more than there is room for");
    t->comparisons += 3;
    struct backend *other = cuda_backend_open(0, &message);
    if (other == NULL || other->ops->error(other) != NULL) {
        t->mismatches++;
        printf("MISMATCH errors: a second backend cannot be opened: %s\n", message.text);
        return;
    }
    struct attention_args args = {.cache = {.n_kv_heads = 1, .head_dim = 512, .n_ctx = 1u << 30},
                                  .n_heads = 1, .n_rows = 1};
    other->ops->attention(other, &args);
    const char *error = other->ops->error(other);
    if (error == NULL || strstr(error, "attention") == NULL) {
        t->mismatches++;
        printf("MISMATCH errors: attention is not named: %s\n", error == NULL ? "none" : error);
    }
    other->ops->close(other);
    if (cuda_backend_open(999, &message) != NULL || strstr(message.text, "999") == NULL) {
        t->mismatches++;
        printf("MISMATCH errors: device 999 is not refused: %s\n", message.text);
    }
    end_case(t);
}
