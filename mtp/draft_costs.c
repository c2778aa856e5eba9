/* draft_costs.c - see draft_costs.h. */
#include "draft_costs.h"

#include <time.h>

#include "draft_policy.h"
#include "kernels/fpcontrol.h"
#include "mtp_head.h"

/* Every pass is made REPEATS times, and the fastest counts: the first one meets cold caches. */
enum { REPEATS = 3 };
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

/* False when there is no time left, or something failed. */
static bool time_one(mtp_session *s, bool drafts, uint32_t n, double end)
{
    struct mtp_error error;
    double least = 0.0;
    for (uint32_t i = 0; i < REPEATS; i++) {
        double start = now();
        if (start > end)
            return false;
        enum mtp_status status = drafts ? draft(s, n, i, &error) : pass(s, n, i, &error);
        double seconds = now() - start;
        if (status != MTP_OK)
            return false;
        least = i == 0 || seconds < least ? seconds : least;
    }
    draft_policy_timed(s->policy, drafts, n, least);
    return true;
}

void draft_costs_measure(mtp_session *session)
{
    static const struct {
        bool drafts;
        uint32_t n;
    } ways[] = {{false, 1}, {true, 1}, {false, 2}, {false, 4}, {true, 3}, {false, 8}};
    struct mtp_counters before;
    uint64_t rows = session->rows, passes = session->passes;
    double end = now() + most_seconds;
    mtp_session_get_counters(session, &before);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        uint32_t most = session->options.n_batch < session->options.n_ctx ? session->options.n_batch
                                                                           : session->options.n_ctx;
        bool fits = ways[i].n + 2 <= most && (session->mtp != NULL || !ways[i].drafts);
        if (fits && !time_one(session, ways[i].drafts, ways[i].n, end))
            break;
    }
    struct mtp_counters after;
    mtp_session_get_counters(session, &after);
    session->uncounted_reads += after.expert_reads - before.expert_reads;
    session->uncounted_rows += after.expert_rows - before.expert_rows;
    session->rows = rows;
    session->passes = passes;
    session->broken = false; /* if that was a fault of the model, the prompt will meet it */
    take_back(session);
}
