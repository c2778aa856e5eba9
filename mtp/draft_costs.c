/* draft_costs.c - see draft_costs.h. */
#include "draft_costs.h"

#include <time.h>

#include "draft_policy.h"
#include "kernels/fpcontrol.h"
#include "mtp_head.h"

/* Every pass is made REPEATS times, and the fastest counts: the first one meets cold caches. */
enum { REPEATS = 3, ROUNDS = 4 };
static const double most_seconds = 0.1;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Ids far from each other, others every time: routed experts are then read as a text would. */
static int32_t spread_id(const mtp_session *s, uint32_t i)
{
    return (int32_t)((i * 2654435761u + 40503u) % s->model->hparams.n_vocab);
}

/* What a plain step has written is zero again; rows of the KV cache are not there. */
static void take_back(mtp_session *s)
{
    s->backend->ops->fill(s->backend, s->state_arenas[s->live].base, 0, s->state_arenas[s->live].used);
    s->lengths[0] = 0;
}

/* A pass as verify/step.c makes it over a token and n - 1 drafts, none of which stays. */
static enum mtp_status pass(mtp_session *s, uint32_t n, uint32_t number, struct mtp_error *error)
{
    struct batch_row rows[MAX_STEP_ROWS];
    int32_t wanted[MAX_STEP_ROWS];
    struct step_board *board = s->exchange.board;
    *board = (struct step_board){0};
    for (uint32_t r = 0; r < n; r++) {
        board->tokens[r] = spread_id(s, MAX_STEP_ROWS * number + r);
        rows[r] = (struct batch_row){board->tokens[r], (int32_t)r, 0};
        wanted[r] = (int32_t)r;
    }
    exchange_rotary_until(s, n);
    exchange_upload_rows(s, 0);
    const struct forward_batch batch = {rows, (int32_t)n, wanted, (int32_t)n, n > 1, n > 1, n > 1};
    enum mtp_status status = session_forward(s, &batch, error);
    if (status == MTP_OK && n > 1)
        session_keep(s, 0);
    if (n == 1)
        take_back(s);
    return status;
}

/* n drafts behind the token of the last pass. */
static enum mtp_status draft(mtp_session *s, uint32_t n, uint32_t number, struct mtp_error *error)
{
    struct mtp_state *m = s->mtp;
    int32_t drafts[MTP_MAX_DRAFT];
    uint32_t n_vocab = s->model->hparams.n_vocab;
    s->backend->ops->copy(s->backend, m->last_hidden, s->work.hidden,
                          s->model->hparams.n_embd * sizeof *m->last_hidden);
    s->lengths[0] = 1;
    fp_control saved = fp_control_enter();
    enum mtp_status status =
        mtp_draft(s, spread_id(s, number), n, draft_policy_head_rows(s->policy, n_vocab), NULL, error);
    fp_control_leave(saved);
    if (status == MTP_OK)
        status = mtp_drafts(s, 1, drafts, error);
    if (s->backend->ops->fault(s->backend).found) { /* passes of the trunk may follow only a look */
        s->backend->ops->clear_fault(s->backend);
        status = MTP_ERR_NUMERIC;
    }
    s->lengths[0] = 0;
    m->filled = m->n_queued = m->skipped = 0;
    return status;
}

struct way {
    bool drafts;
    uint32_t n;
    double least; /* seconds; 0 before the first pass */
};

/* False when there is no time left, or something failed. */
static bool time_one(mtp_session *s, struct way *way, uint32_t repeats, double end)
{
    struct mtp_error error;
    for (uint32_t i = 0; i < repeats; i++) {
        double start = now();
        if (start > end)
            return false;
        enum mtp_status status = way->drafts ? draft(s, way->n, i, &error) : pass(s, way->n, i, &error);
        double seconds = now() - start;
        if (status != MTP_OK)
            return false;
        way->least = way->least == 0.0 || seconds < way->least ? seconds : way->least;
    }
    return true;
}

/* What decides is how the times compare, and a machine's speed wavers: after the first times every way is
 * timed again in turn, ROUNDS times while there is time. A way not timed to the end is not known. */
static void time_all(mtp_session *s, struct way *ways, size_t n)
{
    double end = now() + most_seconds;
    size_t known = 0;
    while (known < n && time_one(s, &ways[known], REPEATS, end))
        known++;
    bool more = known == n;
    for (uint32_t round = 0; round < ROUNDS && more; round++)
        for (size_t i = 0; i < n && more; i++)
            more = time_one(s, &ways[i], 1, end);
    for (size_t i = 0; i < known; i++)
        draft_policy_timed(s->policy, ways[i].drafts, ways[i].n, ways[i].least);
}

void draft_costs_measure(mtp_session *session)
{
    static const struct way all[] = {{false, 1, 0.0}, {true, 1, 0.0}, {false, 2, 0.0},
                                     {false, 4, 0.0}, {true, 3, 0.0}, {false, 8, 0.0}};
    struct way ways[sizeof all / sizeof all[0]];
    size_t n = 0;
    struct mtp_counters before;
    uint64_t rows = session->rows, passes = session->passes;
    mtp_session_get_counters(session, &before);
    uint32_t most = session->options.n_batch < session->options.n_ctx ? session->options.n_batch
                                                                       : session->options.n_ctx;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i].n + 2 <= most && (session->mtp != NULL || !all[i].drafts))
            ways[n++] = all[i];
    time_all(session, ways, n);
    struct mtp_counters after;
    mtp_session_get_counters(session, &after);
    session->uncounted_reads += after.expert_reads - before.expert_reads;
    session->uncounted_rows += after.expert_rows - before.expert_rows;
    session->rows = rows;
    session->passes = passes;
    session->broken = false; /* if that was a fault of the model, the prompt will meet it */
    take_back(session);
}
