/* cuda_step_ops.c - the operations between a step's passes: rows from tokens on the device, acceptance,
 * replays of several layers, and rotation by the table of all positions. */
#include "tests/gpu/cuda_ops.h"

enum { STEP_ROWS = 9, LAYERS = 3 };

void chain_rows_cases(struct two_backends *t)
{
    for (int32_t n = 1; n <= STEP_ROWS; n++) {
        const int32_t tokens[STEP_ROWS] = {5, 0, 248319, 7, 7, 1, 2, 3, 4}, first = 1000 * n;
        begin_case(t, false, 1, "%d rows", (int)n);
        struct array from = copied(t, tokens, sizeof tokens), at = copied(t, &first, sizeof first);
        struct array rows = unset(t, (STEP_ROWS + 1) * sizeof(struct batch_row));
        for (int s = 0; s < N_SIDES; s++)
            t->side[s]->ops->chain_rows(
                t->side[s], &(struct chain_rows_args){from.at[s], at.at[s], n - 1, rows.at[s], n});
        compare(t, "rows", &rows, 4, 3);
        end_case(t);
    }
}

void accept_cases(struct two_backends *t)
{
    for (int32_t n = 1; n <= STEP_ROWS; n++)
        for (int32_t wrong = 1; wrong <= n; wrong++) {
            int32_t tokens[STEP_ROWS], top[STEP_ROWS];
            for (int32_t r = 0; r < n; r++) {
                tokens[r] = 10 + r;
                top[r] = r + 1 == wrong ? 99 : 11 + r;
            }
            begin_case(t, false, 1, "%d rows, %d kept", (int)n, (int)wrong);
            struct array from = copied(t, tokens, (size_t)n * 4), likeliest = copied(t, top, (size_t)n * 4);
            struct array kept = unset(t, 8), seen = unset(t, (STEP_ROWS + 1) * 4);
            for (int s = 0; s < N_SIDES; s++)
                t->side[s]->ops->accept(t->side[s],
                                        &(struct accept_args){from.at[s], likeliest.at[s], kept.at[s],
                                                              seen.at[s], n});
            compare(t, "rows kept", &kept, 4, 1);
            compare(t, "tokens", &seen, 4, 1);
            end_case(t);
        }
}

static void replay(struct two_backends *t, const struct model_sizes *m, int32_t n_kept, bool by_pointer)
{
    size_t d = m->state_dim, keys = STEP_ROWS * m->n_k_heads * d, deltas = STEP_ROWS * m->n_v_heads * d;
    size_t noted = keys + deltas + STEP_ROWS * m->n_v_heads + 5, state = m->n_v_heads * d * d + 3;
    uint32_t channels = m->n_v_heads * m->state_dim;
    begin_case(t, false, 1, "%s, %d rows kept, %s", m->name, (int)n_kept, by_pointer ? "pointer" : "number");
    struct array from = floats(t, LAYERS * state, ORDINARY), rows = floats(t, LAYERS * noted, ORDINARY);
    struct array kept = copied(t, &n_kept, sizeof n_kept), to = floats(t, LAYERS * state, ORDINARY);
    struct array taps = floats(t, LAYERS * state, ORDINARY);
    for (int s = 0; s < N_SIDES; s++) {
        const struct replay_more more = {LAYERS - 1, state * 4, noted * 4, by_pointer ? kept.at[s] : NULL};
        float *k = rows.at[s];
        int32_t n = by_pointer ? STEP_ROWS : n_kept;
        t->side[s]->ops->delta_net_replay(
            t->side[s], &(struct delta_net_replay_args){{k, k + keys, k + keys + deltas}, from.at[s],
                                                        to.at[s], m->n_k_heads, m->n_v_heads, m->state_dim,
                                                        n, more});
        t->side[s]->ops->conv_replay(t->side[s],
                                     &(struct conv_replay_args){k, from.at[s], taps.at[s], channels,
                                                                m->n_taps, n, more});
    }
    compare(t, "states", &to, 4, d);
    compare(t, "taps", &taps, 4, channels);
    end_case(t);
}

void replay_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows, uint64_t seed)
{
    if (n_rows > STEP_ROWS || seed > 1)
        return;
    replay(t, m, n_rows, false);
    replay(t, m, n_rows, true);
}

/* The table of all positions, of which rows choose theirs. */
void rope_by_position_cases(struct two_backends *t, const struct model_sizes *m, int32_t n_rows,
                            uint64_t seed)
{
    enum { POSITIONS = 1024 };
    uint32_t pairs = m->n_rot / 2;
    size_t stride = (size_t)m->n_heads * m->head_dim;
    begin_case(t, m->large, seed, "%s, %d rows", m->name, (int)n_rows);
    struct array rows = batch(t, n_rows, 2, 7, 1), x = floats(t, (size_t)n_rows * stride, ORDINARY);
    struct array table = floats(t, (size_t)POSITIONS * 2 * pairs, ORDINARY);
    for (int s = 0; s < N_SIDES; s++)
        t->side[s]->ops->rope(t->side[s], &(struct rope_args){x.at[s], stride, m->head_dim, m->n_heads,
                                                              pairs, table.at[s], n_rows, rows.at[s]});
    compare(t, "rows", &x, 4, stride);
    end_case(t);
}
