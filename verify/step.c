/* step.c - one step of generation: draw, draft, verify in one pass, keep what plain decoding would have
 * given (mtp.h, mtp_session_step). Plain decoding is the same code with no drafts. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/fpcontrol.h"
#include "mtp/draft_policy.h"
#include "mtp/mtp_head.h"
#include "mtp/ngram.h"
#include "profile.h"
#include "sampler.h"
#include "session.h"
#include "verify/digest.h"
#include "verify/instrument.h"
#include "verify/strict.h"

struct step {
    mtp_session *s;
    const struct mtp_generation *generation;
    mtp_token_fn fn;
    void *user;
    struct mtp_error *error;
    struct mtp_step_record record;
    const float *rows[MAX_STEP_ROWS]; /* logits that record.tokens were drawn from */
    bool stopped;                     /* fn ended the run at the last token given */
    uint32_t n_given_drafts;
    bool counted;                     /* in the session's statistics... */
    uint32_t n_compared;              /* ...with so many drafts compared */
    struct draft_choice choice;
    int32_t foretold[MTP_MAX_DRAFT]; /* n-gram drafts */
    uint32_t n_foretold;
    double catch_up_seconds;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The token that follows logits row `row` at `position`. */
static enum mtp_status draw(const struct step *step, uint32_t row, uint32_t position, int32_t *id)
{
    const mtp_session *s = step->s;
    if (step->generation->sampling.temperature == 0.0f) {
        *id = s->exchange.top[row];
        return MTP_OK;
    }
    return sampler_draw(exchange_logits(s, row), s->model->hparams.n_vocab, &step->generation->sampling,
                        position, id, step->error);
}

/* Gives a token to the caller and notes it. */
static void give(struct step *step, int32_t id, uint64_t digest, const float *row)
{
    struct mtp_step_record *record = &step->record;
    uint32_t n = record->n_tokens++;
    record->tokens[n] = id;
    record->digests[n] = digest;
    step->rows[n] = row;
    step->s->stats.tokens++;
    step->s->stats.digest = digest_chain(step->s->stats.digest, digest);
    if (step->s->policy != NULL)
        draft_policy_saw(step->s->policy, id, step->s->model->hparams.n_vocab);
    step->stopped = !step->fn(step->user, id, record->position + n);
}

/* Drafts that there is room for. */
static uint32_t room(const mtp_session *s)
{
    uint32_t left = s->options.n_ctx - s->lengths[0] - 1;
    uint32_t rows = s->options.n_batch - 1;
    return !s->options.draft ? 0 : left < rows ? left : rows;
}

/* Which sources the caller allows and the session has. */
static bool has_source(const struct step *step, enum mtp_draft_source source)
{
    const mtp_session *s = step->s;
    unsigned first = s->mtp != NULL ? MTP_DRAFT_HEAD : MTP_DRAFT_NGRAM;
    unsigned allowed = step->generation->draft_sources != 0 ? step->generation->draft_sources : 1u << first;
    bool is_there = source == MTP_DRAFT_HEAD ? s->mtp != NULL : s->ngram != NULL;
    return is_there && (allowed & 1u << source) != 0;
}

/* How many drafts the step takes, and where from. */
static struct draft_choice choose(struct step *step)
{
    mtp_session *s = step->s;
    struct draft_offer offer = {room(s), has_source(step, MTP_DRAFT_HEAD), 0};
    bool automatic = step->generation->n_draft == MTP_DRAFT_AUTO;
    uint32_t asked = automatic ? MTP_MAX_DRAFT : (uint32_t)step->generation->n_draft;
    if (asked == 0 || offer.most == 0)
        return (struct draft_choice){0, MTP_DRAFT_HEAD};
    if (has_source(step, MTP_DRAFT_NGRAM))
        step->n_foretold = ngram_draft(s->ngram, step->record.tokens[0], MTP_MAX_DRAFT, step->foretold,
                                       &offer.matched);
    if (automatic) {
        draft_policy_foretold(s->policy, offer.matched, step->foretold, step->n_foretold);
        return draft_policy_choose(s->policy, &offer);
    }
    bool found = offer.matched >= NGRAM_LONGEST || (offer.matched > 0 && !offer.head);
    enum mtp_draft_source source = found ? MTP_DRAFT_NGRAM : MTP_DRAFT_HEAD;
    uint32_t n = found || offer.head ? asked : 0;
    return (struct draft_choice){n < offer.most ? n : offer.most, source};
}

static uint32_t head_rows(const struct step *step)
{
    uint32_t n_vocab = step->s->model->hparams.n_vocab;
    uint32_t asked = step->generation->draft_head_rows;
    if (asked == 0)
        return draft_policy_head_rows(step->s->policy, n_vocab);
    return asked < n_vocab ? asked : n_vocab;
}

/* Whether the drafts are drawn by the target's noise: where the sampler uses any. Of its filters min_p is
 * the one that needs no ranking; it stands in for top_k and top_p too (docs/performance.md). */
static bool draft_noise(const struct mtp_generation *g, struct draw_noise *noise)
{
    const struct mtp_sampling *s = &g->sampling;
    bool ranked = s->top_k > 0 || s->top_p < 1.0f;
    float min_p = ranked && s->min_p < 0.05f ? 0.05f : s->min_p;
    *noise = (struct draw_noise){s->seed, s->temperature, min_p};
    return s->temperature > 0.0f && s->top_k != 1 && s->top_p > 0.0f && !g->draft_likeliest;
}

/* Drafts that the host knows go to the board, as those of the MTP block would stand there. */
static void post(const struct step *step)
{
    mtp_session *s = step->s;
    struct step_board *board = s->exchange.board;
    uint32_t n = step->choice.n;
    *board = (struct step_board){.trunk_first = (int32_t)step->record.position,
                                 .tokens = {step->record.tokens[0]}};
    memcpy(board->tokens + 1, step->foretold, n * sizeof *board->tokens);
    exchange_rotary_until(s, step->record.position + n + 1);
    exchange_upload_rows(s, 0);
}

static enum mtp_status draft(struct step *step)
{
    struct mtp_step_record *record = &step->record;
    uint32_t n = step->choice.n;
    if (n == 0)
        return MTP_OK;
    fp_control saved = fp_control_enter();
    enum mtp_status status = MTP_OK;
    struct draw_noise noise;
    bool drawn = draft_noise(step->generation, &noise);
    if (step->choice.source == MTP_DRAFT_HEAD)
        status = mtp_draft(step->s, record->tokens[0], n, head_rows(step), drawn ? &noise : NULL,
                           step->error);
    else
        post(step);
    fp_control_leave(saved);
    record->n_drafts = n;
    return status;
}

/* One pass over the drawn token and its drafts, logits of every row. Which tokens the drafts are is known
 * when its results come. */
static enum mtp_status verify_pass(struct step *step)
{
    struct mtp_step_record *record = &step->record;
    struct batch_row rows[MAX_STEP_ROWS];
    int32_t wanted[MAX_STEP_ROWS];
    int32_t n = (int32_t)record->n_drafts + 1;
    for (int32_t r = 0; r < n; r++) {
        rows[r] = (struct batch_row){r == 0 ? record->tokens[0] : -1, (int32_t)record->position + r, 0};
        wanted[r] = r;
    }
    bool greedy = step->generation->sampling.temperature == 0.0f;
    const struct forward_batch batch = {rows, n, wanted, n, n > 1, n > 1, n > 1 && greedy};
    mtp_session *s = step->s;
    if (s->strict != NULL)
        strict_before_step(s, &batch);
    if (s->instrumented)
        instrument_arm(s->backend, s->stats.steps);
    enum mtp_status status = session_forward(s, &batch, step->error);
    if (s->instrumented)
        instrument_disarm(s->backend);
    for (uint32_t i = 0; status == MTP_OK && i < record->n_drafts; i++)
        record->drafts[i] = s->exchange.tokens[1 + i];
    return status;
}

static bool is_observed(const mtp_session *s)
{
    return s->observer != NULL || s->on_step != NULL;
}

/* Gives drafts as long as each is what its row draws; *kept receives the rows that stay. */
static enum mtp_status accept(struct step *step, uint32_t *kept)
{
    struct mtp_step_record *record = &step->record;
    const mtp_session *s = step->s;
    uint32_t row = 0;
    for (; row < record->n_drafts && !step->stopped; row++) {
        int32_t id;
        enum mtp_status status = draw(step, row, record->position + 1 + row, &id);
        if (status != MTP_OK)
            return status;
        if (id != record->drafts[row])
            break;
        give(step, id, s->exchange.digests[row], is_observed(s) ? exchange_logits(s, row) : NULL);
        step->n_given_drafts++;
        if (step->stopped)
            break;
    }
    *kept = row + 1;
    return MTP_OK;
}

static void count(struct step *step)
{
    struct mtp_draft_stats *stats = &step->s->stats;
    struct mtp_step_record *record = &step->record;
    struct mtp_source_stats *source = &stats->by_source[step->choice.source];
    record->n_accepted = step->n_given_drafts;
    stats->steps++;
    stats->drafted += record->n_drafts;
    stats->accepted += record->n_accepted;
    source->steps += record->n_drafts > 0;
    source->drafted += record->n_drafts;
    source->accepted += record->n_accepted;
    for (uint32_t i = 0; i < record->n_drafts; i++)
        stats->drafted_at[i]++;
    for (uint32_t i = 0; i < record->n_accepted; i++) {
        stats->accepted_at[i]++;
        source->accepted_at[i]++;
    }
    uint32_t judged = record->n_accepted + !step->stopped;
    step->n_compared = judged < record->n_drafts ? judged : record->n_drafts;
    for (uint32_t i = 0; i < step->n_compared; i++) {
        stats->compared_at[i]++;
        source->compared_at[i]++;
    }
    step->counted = true;
    stats->histogram[record->n_accepted]++;
    stats->width_steps[record->n_drafts]++;
}

static enum mtp_status commit(struct step *step, uint32_t kept)
{
    mtp_session *s = step->s;
    const struct mtp_step_record *record = &step->record;
    if (s->pending > 0) {
        fp_control saved = fp_control_enter();
        session_keep(s, kept);
        fp_control_leave(saved);
    }
    s->logits_row = kept - 1;
    s->have_logits = true;
    int32_t ids[MAX_STEP_ROWS];
    for (uint32_t r = 0; r <= record->n_drafts; r++)
        ids[r] = r == 0 ? record->tokens[0] : record->drafts[r - 1];
    enum mtp_status status = MTP_OK;
    if (s->mtp != NULL)
        status = session_note(s, ids, record->position, kept, step->error);
    if (s->ngram != NULL)
        ngram_add(s->ngram, ids, kept);
    if (status == MTP_OK && s->strict != NULL)
        status = strict_after_step(s, ids, kept, step->error);
    return status;
}

/* Rows that plain steps have left to the draft head are no cost of the draft that comes after them. */
static enum mtp_status catch_up(struct step *step)
{
    mtp_session *s = step->s;
    if (step->choice.n == 0 || step->choice.source != MTP_DRAFT_HEAD || !mtp_is_behind(s->mtp))
        return MTP_OK;
    if (s->mtp->may_skip)
        mtp_skip(s);
    fp_control saved = fp_control_enter();
    double start = now();
    enum mtp_status status = mtp_catch_up(s, step->error);
    step->catch_up_seconds = now() - start;
    s->stats.draft_seconds += step->catch_up_seconds;
    fp_control_leave(saved);
    return status;
}

static void mark(const mtp_session *s, int number)
{
    if (s->backend->ops->mark != NULL)
        s->backend->ops->mark(s->backend, number);
}

static void learn(const struct step *step, uint32_t kept, double draft_seconds, double pass_seconds)
{
    const struct draft_outcome outcome = {
        .n_drafts = step->choice.n,
        .n_tokens = kept,
        .source = step->choice.source,
        .draft_seconds = draft_seconds,
        .pass_seconds = pass_seconds,
        .catch_up_seconds = step->catch_up_seconds,
    };
    draft_policy_learn(step->s->policy, &outcome);
}

static enum mtp_status extend(struct step *step)
{
    mtp_session *s = step->s;
    step->choice = choose(step);
    if (s->mtp != NULL)
        s->mtp->may_skip = step->generation->n_draft == MTP_DRAFT_AUTO &&
                           draft_policy_gave_up(s->policy);
    enum mtp_status status = catch_up(step);
    double start = now();
    mark(s, 0);
    if (status == MTP_OK)
        status = draft(step);
    double drafted = now();
    mark(s, 1);
    if (status == MTP_OK)
        status = verify_pass(step);
    if (status != MTP_OK)
        return status;
    double verified = now();
    if (s->backend->ops->between != NULL && step->choice.n > 0) /* the host did not wait for the drafts */
        drafted = start + s->backend->ops->between(s->backend, 0, 1);
    uint32_t kept = 1;
    status = accept(step, &kept);
    if (status != MTP_OK) {
        s->broken = true; /* rows of the pass are neither kept nor taken back */
        return status;
    }
    status = commit(step, kept);
    count(step);
    double end = now();
    s->stats.draft_seconds += drafted - start;
    s->stats.verify_seconds += verified - drafted;
    s->stats.commit_seconds += end - verified;
    if (s->policy != NULL)
        learn(step, kept, drafted - start, end - drafted);
    return status;
}

static enum mtp_status check_generation(mtp_session *s, const struct mtp_generation *g,
                                        struct mtp_error *error)
{
    enum mtp_status status = session_check_broken(s, error);
    if (status != MTP_OK)
        return status;
    if (!s->have_logits)
        return mtp_fail(error, MTP_ERR_USAGE, "a step needs a prompt to have been read");
    if (g->n_draft != MTP_DRAFT_AUTO && (g->n_draft < 0 || g->n_draft > MTP_MAX_DRAFT))
        return mtp_fail(error, MTP_ERR_USAGE, "%" PRId32 " drafts a step are outside 0..%d",
                        g->n_draft, MTP_MAX_DRAFT);
    return MTP_OK;
}

static void observe(const struct step *step)
{
    mtp_session *s = step->s;
    if (s->observer != NULL)
        s->observer(s->observer_user, &step->record, step->rows);
    if (s->on_step != NULL)
        s->on_step(s->on_step_user, &step->record, step->rows);
}

static void remember(const struct step *step)
{
    struct mtp_step_outcome *last = &step->s->last_step;
    *last = (struct mtp_step_outcome){step->record, step->counted, step->n_compared, step->choice.source};
    if (!step->counted)
        last->step.n_drafts = 0;
}

/* The row that the first token is drawn from is overwritten by the pass: observers get a copy. */
static enum mtp_status keep_first_row(struct step *step)
{
    mtp_session *s = step->s;
    size_t n_vocab = s->model->hparams.n_vocab;
    if (!is_observed(s))
        return MTP_OK;
    if (s->first_row == NULL)
        s->first_row = malloc(n_vocab * sizeof *s->first_row);
    if (s->first_row == NULL)
        return mtp_fail_memory(step->error, "a row of logits", n_vocab * sizeof(float));
    memcpy(s->first_row, session_logits(s), n_vocab * sizeof *s->first_row);
    return MTP_OK;
}

static enum mtp_status take_step(struct step *step)
{
    mtp_session *s = step->s;
    enum mtp_status status = check_generation(s, step->generation, step->error);
    int32_t id = -1;
    step->record.position = s->lengths[0];
    if (status == MTP_OK)
        status = draw(step, s->logits_row, step->record.position, &id);
    if (status == MTP_OK)
        status = keep_first_row(step);
    if (status != MTP_OK)
        return status;
    give(step, id, mtp_session_logits_digest(s), s->first_row);
    if (!step->stopped) {
        if (step->record.position >= s->options.n_ctx)
            return mtp_fail(step->error, MTP_ERR_CONTEXT,
                            "the context of %" PRIu32 " positions is full", s->options.n_ctx);
        status = extend(step);
    }
    observe(step);
    return status;
}

enum mtp_status mtp_session_step(mtp_session *session, const struct mtp_generation *generation,
                                 mtp_token_fn fn, void *user, struct mtp_error *error)
{
    struct step step = {.s = session, .generation = generation, .fn = fn, .user = user, .error = error};
    int outer = profile_enter(session->profile, MTP_PROFILE_STEPS);
    enum mtp_status status = take_step(&step);
    remember(&step);
    profile_enter(session->profile, outer);
    return status;
}

void mtp_session_get_draft_stats(const mtp_session *session, struct mtp_draft_stats *stats)
{
    *stats = session->stats;
}

void mtp_session_get_last_step(const mtp_session *session, struct mtp_step_outcome *outcome)
{
    *outcome = session->last_step;
}

void mtp_session_get_draft_costs(const mtp_session *session, struct mtp_draft_costs *costs)
{
    memset(costs, 0, sizeof *costs);
    for (uint32_t i = 0; session->policy != NULL && i < MTP_COSTS; i++) {
        costs->pass_seconds[i] = draft_policy_pass_seconds(session->policy, i);
        costs->draft_seconds[i] = draft_policy_draft_seconds(session->policy, i);
    }
}

void mtp_session_on_step(mtp_session *session, mtp_step_fn fn, void *user)
{
    session->on_step = fn;
    session->on_step_user = user;
}

bool mtp_model_can_draft(const mtp_model *model, struct mtp_error *why_not)
{
    if (model->weights.mtp.present)
        return true;
    mtp_fail(why_not, MTP_ERR_UNSUPPORTED,
             "%s has no draft head: tensor blk.%" PRIu32 ".nextn.eh_proj.weight is missing; give a "
             "file that holds it with --mtp-model", gguf_path(model->file), model->hparams.n_layers);
    return false;
}
