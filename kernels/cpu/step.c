/* step.c - the operations between the passes of a step, on the CPU: copies and counting, no arithmetic.
 * They are their own definition. */
#include "kernels/cpu/step.h"

#include <string.h>

void cpu_chain_rows(struct backend *backend, const struct chain_rows_args *args)
{
    (void)backend;
    for (int32_t r = 0; r < args->n_rows; r++)
        args->rows[r] = (struct batch_row){args->tokens[r], args->first[0] + args->offset + r, 0};
}

void cpu_accept(struct backend *backend, const struct accept_args *args)
{
    (void)backend;
    args->n_kept[0] = accepted_rows(args->tokens, args->top, args->n_rows);
    memcpy(args->seen, args->tokens, (size_t)args->n_rows * sizeof *args->seen);
}

/* Copies only: tap t of the new state is the input n_rows + t - (n_taps - 1) rows ago. */
static void replay_taps(const struct conv_replay_args *args)
{
    size_t n = args->n_channels, kept = args->n_taps - 1, rows = (size_t)args->n_rows;
    for (size_t tap = 0; tap < kept; tap++) {
        size_t input = rows + tap; /* counted over the old state's taps, then the rows */
        const float *from =
            input < kept ? args->state_from + input * n : args->x + (input - kept) * n;
        memcpy(args->state + tap * n, from, n * sizeof *args->state);
    }
}

void cpu_conv_replay(struct backend *backend, const struct conv_replay_args *args)
{
    (void)backend;
    struct conv_replay_args layer = *args;
    if (!replay_rows(&args->more, &layer.n_rows))
        return;
    for (uint32_t i = 0; i <= args->more.n_layers; i++) {
        replay_taps(&layer);
        layer.x = replay_next(layer.x, args->more.rows_bytes);
        layer.state_from = replay_next(layer.state_from, args->more.state_bytes);
        layer.state = replay_next(layer.state, args->more.state_bytes);
    }
}

void cpu_delta_net_replay_each(struct backend *backend, const struct delta_net_replay_args *args,
                               void (*one)(struct backend *, const struct delta_net_replay_args *))
{
    struct delta_net_replay_args layer = *args;
    const struct replay_more *more = &args->more;
    if (!replay_rows(more, &layer.n_rows))
        return;
    for (uint32_t i = 0; i <= more->n_layers; i++) {
        one(backend, &layer);
        layer.journal.k = replay_next(layer.journal.k, more->rows_bytes);
        layer.journal.delta = replay_next(layer.journal.delta, more->rows_bytes);
        layer.journal.decay = replay_next(layer.journal.decay, more->rows_bytes);
        layer.state_from = replay_next(layer.state_from, more->state_bytes);
        layer.state = replay_next(layer.state, more->state_bytes);
    }
}
