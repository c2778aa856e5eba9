/* delta_net.c - the gated delta rule, token by token: the definition (docs/arithmetic.md, "Gated
 * DeltaNet"). */
#include "kernels/cpu/kernels.h"
#include "kernels/fmath.h"
#include "kernels/reduce.h"

/* False when the squares overflow: dividing by infinity would hide it. */
static bool normalise(const float *x, size_t n, float scale, float *out)
{
    float norm = sqrtf(sum64_dot(x, x, n));
    float inverse = 1.0f / (norm > 1e-6f ? norm : 1e-6f);
    for (size_t i = 0; i < n; i++)
        out[i] = (x[i] * inverse) * scale;
    return !f32_not_finite(norm);
}

/* Partials i mod 8 fold by distance 4, 2, 1. */
static float fold_sum8(const float *p)
{
    return ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]));
}

struct head_step {
    const float *k, *q, *v; /* k and q normalised */
    float decay, beta;
};

/* Column j of the state, from `from` (which may be s) into s. */
static void step_column(const float *from, float *s, size_t d, size_t j,
                        const struct head_step *step, float *out, float *journal)
{
    float predicted[8] = {0}, read[8] = {0};
    for (size_t i = 0; i < d; i++) {
        s[i * d + j] = from[i * d + j] * step->decay;
        predicted[i % 8] = fmaf(s[i * d + j], step->k[i], predicted[i % 8]);
    }
    float delta = (step->v[j] - fold_sum8(predicted)) * step->beta;
    if (journal != NULL)
        journal[j] = delta;
    for (size_t i = 0; i < d; i++) {
        s[i * d + j] = fmaf(step->k[i], delta, s[i * d + j]);
        read[i % 8] = fmaf(s[i * d + j], step->q[i], read[i % 8]);
    }
    out[j] = fold_sum8(read);
}

/* One row through columns DELTA_NET_COLUMNS * block.. of the head's state. */
static void step_block(const struct delta_net_args *args, size_t row, size_t head, size_t block,
                       bool first, struct cpu_task *task)
{
    size_t d = args->d, n_k = args->n_k_heads, n_v = args->n_v_heads;
    const float *x = args->x + row * (2 * n_k + n_v) * d;
    float k[MAX_STATE_DIM], q[MAX_STATE_DIM];
    bool q_finite = normalise(x + (head % n_k) * d, d, 1.0f / sqrtf((float)d), q);
    bool k_finite = normalise(x + (n_k + head % n_k) * d, d, 1.0f, k);
    if (!q_finite || !k_finite)
        cpu_report_fault(task->fault, "delta_net", (int32_t)row);
    float soft = mtp_softplusf(args->alpha[row * n_v + head] + args->dt[head]);
    struct head_step step = {
        .k = k,
        .q = q,
        .v = x + (2 * n_k + head) * d,
        .decay = mtp_expf(args->a[head] * soft),
        .beta = mtp_sigmoidf(args->beta[row * n_v + head]),
    };
    size_t at = ((size_t)args->rows[row].sequence * n_v + head) * d * d;
    const float *from = first && args->state_from != NULL ? args->state_from : args->state;
    float *delta = delta_net_journal_delta(args, row, head);
    if (block == 0)
        delta_net_note(args, row, head, k, step.decay);
    size_t end = (block + 1) * DELTA_NET_COLUMNS;
    for (size_t j = block * DELTA_NET_COLUMNS; j < d && j < end; j++)
        step_column(from + at, args->state + at, d, j, &step, args->out + (row * n_v + head) * d,
                    delta);
}

void delta_net_scalar(const struct delta_net_args *args, int64_t begin, int64_t end,
                      struct cpu_task *task)
{
    size_t blocks = delta_net_blocks(args->d);
    for (int64_t t = begin; t < end; t++) {
        size_t head = (size_t)t / blocks, sequence = head / args->n_v_heads;
        bool first = true;
        for (int32_t r = 0; r < args->n_rows; r++)
            if ((size_t)args->rows[r].sequence == sequence) {
                step_block(args, (size_t)r, head % args->n_v_heads, (size_t)t % blocks, first, task);
                first = false;
            }
    }
}

/* One row of one head's state through all updates. */
static void replay_row(const struct delta_net_replay_args *args, size_t head, size_t i)
{
    size_t d = args->d, at = (head * d + i) * d;
    const struct delta_net_journal *journal = &args->journal;
    for (int32_t r = 0; r < args->n_rows; r++) {
        const float *from = (r == 0 ? args->state_from : args->state) + at;
        const float *delta = journal->delta + ((size_t)r * args->n_v_heads + head) * d;
        float k = journal->k[((size_t)r * args->n_k_heads + head % args->n_k_heads) * d + i];
        float decay = journal->decay[(size_t)r * args->n_v_heads + head];
        for (size_t j = 0; j < d; j++)
            args->state[at + j] = fmaf(k, delta[j], from[j] * decay);
    }
}

void delta_net_replay_scalar(const struct delta_net_replay_args *args, int64_t begin, int64_t end,
                             struct cpu_task *task)
{
    (void)task;
    for (int64_t t = begin; t < end; t++)
        replay_row(args, (size_t)t / args->d, (size_t)t % args->d);
}
