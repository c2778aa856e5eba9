/* mtpsynth_check.c - runs a synthetic model and compares it with what its cycle says. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "kernels/blocks.h"
#include "mtp/mtp_head.h"
#include "mtpsynth.h"
#include "verify/digest.h"

enum { PROMPT = 8, UNION_PASSES = 16, MOST_ROWS = 8 };
/* Far above anything that chance gives among 250,000 ids (4.5). */
static const double lowest_margin = 10.0;

struct checker {
    const struct synth_check *options;
    struct synth_spec spec;
    struct synth_cycle cycle;
    mtp_model *model;
    struct mtp_error *error;
    bool wrong;
};

/* Opens a session that has read the first PROMPT ids of the cycle from 0 on; *last: the last of them. */
static enum mtp_status begin(struct checker *c, bool draft, uint32_t n_more, mtp_session **session,
                             uint32_t *last)
{
    struct mtp_session_options options = {.device = MTP_DEVICE_CPU, .n_ctx = PROMPT + n_more,
                                          .n_threads = c->options->n_threads,
                                          .n_batch = 64, .draft = draft};
    enum mtp_status status = mtp_session_open(session, c->model, &options, c->error);
    int32_t ids[PROMPT] = {0};
    for (int i = 1; i < PROMPT; i++)
        ids[i] = (int32_t)synth_next(&c->cycle, (uint32_t)ids[i - 1]);
    *last = (uint32_t)ids[PROMPT - 1];
    if (status == MTP_OK)
        status = mtp_session_append(*session, ids, PROMPT, c->error);
    return status;
}

/* ---- successors ---------------------------------------------------------------------------------- */

struct margins {
    double successor, next_best; /* lowest of the one, highest of the other, in sigmas of the rest */
    double branches, embeddings; /* sums of squares over the rows */
    uint32_t right;
};

static void measure_row(const float *logits, uint32_t n, uint32_t successor, struct margins *margins)
{
    double sum = 0.0, squares = 0.0, best = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        if (i == successor)
            continue;
        sum += (double)logits[i];
        squares += (double)logits[i] * (double)logits[i];
        best = fmax(best, (double)logits[i]);
    }
    double mean = sum / (n - 1), sigma = sqrt(squares / (n - 1) - mean * mean);
    margins->right += (double)logits[successor] > best;
    margins->successor = fmin(margins->successor, ((double)logits[successor] - mean) / sigma);
    margins->next_best = fmax(margins->next_best, (best - mean) / sigma);
}

/* What the last row's branches added to its embedding. */
static void measure_branches(const mtp_session *session, uint32_t id, struct margins *margins)
{
    const struct weight *table = &session->model->weights.embedding;
    const uint8_t *row = (const uint8_t *)table->data + id * table->row_bytes;
    for (uint32_t first = 0; first + SUPER_BLOCK <= table->n_in; first += SUPER_BLOCK) {
        float embedding[SUPER_BLOCK];
        dequantize_row(table->type, row + table->row_bytes * first / table->n_in, embedding, SUPER_BLOCK);
        for (uint32_t i = 0; i < SUPER_BLOCK; i++) {
            double whole = (double)session->work.x[first + i], part = (double)embedding[i];
            margins->branches += (whole - part) * (whole - part);
            margins->embeddings += part * part;
        }
    }
}

static enum mtp_status check_successors(struct checker *c)
{
    mtp_session *session = NULL;
    struct margins margins = {INFINITY, -INFINITY, 0.0, 0.0, 0};
    uint32_t id, n = c->options->n_tokens;
    enum mtp_status status = begin(c, false, n, &session, &id);
    for (uint32_t i = 0; status == MTP_OK && i < n; i++) {
        id = synth_next(&c->cycle, id);
        measure_row(mtp_session_logits(session), c->cycle.n_vocab, id, &margins);
        status = mtp_session_append(session, (const int32_t[]){(int32_t)id}, 1, c->error);
        if (status == MTP_OK)
            measure_branches(session, id, &margins);
    }
    if (status == MTP_OK) {
        printf("successors    %" PRIu32 " of %" PRIu32 " right\n", margins.right, n);
        printf("margin        %.1f sigma at the least; the next best at most %.1f\n", margins.successor,
               margins.next_best);
        printf("branches      %.2f times the embedding\n", sqrt(margins.branches / margins.embeddings));
        c->wrong |= margins.right != n || !(margins.successor > lowest_margin);
    }
    mtp_session_close(session);
    return status;
}

/* ---- drafts -------------------------------------------------------------------------------------- */

struct walk {
    const struct synth_cycle *cycle;
    uint32_t id;
    uint64_t n, strayed;
};

static bool follow(void *user, int32_t id, uint32_t position)
{
    struct walk *walk = user;
    (void)position;
    walk->id = synth_next(walk->cycle, walk->id);
    walk->strayed += walk->id != (uint32_t)id;
    walk->n++;
    return true;
}

static enum mtp_status check_drafts(struct checker *c)
{
    mtp_session *session = NULL;
    const struct mtp_generation generation = {.n_draft = (int32_t)c->options->n_draft};
    bool draft = mtp_model_can_draft(c->model, &(struct mtp_error){0}) && generation.n_draft > 0;
    struct walk walk = {.cycle = &c->cycle};
    enum mtp_status status = begin(c, draft, c->options->n_tokens + MTP_MAX_DRAFT + 1, &session, &walk.id);
    uint32_t start = walk.id;
    uint64_t drafts = 0, n_vocab = c->cycle.n_vocab;
    while (status == MTP_OK && walk.n < c->options->n_tokens) {
        status = mtp_session_step(session, &generation, follow, &walk, c->error);
        if (status == MTP_OK && draft)
            drafts = digest_chain(drafts, digest_row(session->mtp->logits, n_vocab));
    }
    if (status == MTP_OK) {
        struct mtp_draft_stats stats;
        mtp_session_get_draft_stats(session, &stats);
        uint64_t expected = draft ? synth_expected(&c->cycle, start, stats.steps, generation.n_draft) : 0;
        if (draft)
            printf("drafts        %" PRIu64 " drafted, %" PRIu64 " accepted, %" PRIu64 " expected\n"
                   "draft digest  %016" PRIx64 "\n", stats.drafted, stats.accepted, expected, drafts);
        printf("digest        %016" PRIx64 "\n", stats.digest);
        c->wrong |= walk.strayed > 0 || stats.accepted != expected;
    }
    mtp_session_close(session);
    return status;
}

/* ---- experts ------------------------------------------------------------------------------------- */

/* Experts a layer reads in a pass over n_rows neighbours, mean over layers and passes. */
static enum mtp_status measure_union(struct checker *c, uint32_t n_rows, double *mean)
{
    mtp_session *session = NULL;
    uint32_t id;
    enum mtp_status status = begin(c, false, UNION_PASSES * n_rows, &session, &id);
    struct mtp_counters before, after;
    if (status == MTP_OK)
        mtp_session_get_counters(session, &before);
    for (int pass = 0; status == MTP_OK && pass < UNION_PASSES; pass++) {
        int32_t ids[MOST_ROWS];
        for (uint32_t row = 0; row < n_rows; row++) {
            id = synth_next(&c->cycle, id);
            ids[row] = (int32_t)id;
        }
        status = mtp_session_append(session, ids, n_rows, c->error);
    }
    if (status == MTP_OK) {
        mtp_session_get_counters(session, &after);
        double matrices = 3.0 * c->model->hparams.n_layers * UNION_PASSES; /* gate, up and down */
        *mean = (double)(after.expert_reads - before.expert_reads) / matrices;
    }
    mtp_session_close(session);
    return status;
}

static enum mtp_status check_experts(struct checker *c)
{
    const struct hparams *h = &c->model->hparams;
    enum mtp_status status = MTP_OK;
    if (h->arch != ARCH_QWEN35MOE)
        return MTP_OK;
    for (uint32_t n = 1; status == MTP_OK && n <= MOST_ROWS; n *= 2) {
        double mean = 0.0, share = (double)h->n_experts_used / h->n_experts;
        status = measure_union(c, n, &mean);
        double independent = h->n_experts * (1.0 - pow(1.0 - share, n));
        if (status == MTP_OK)
            printf("experts       %" PRIu32 " row%s use %.2f of %" PRIu32 " (independent rows: %.2f)\n", n,
                   n == 1 ? " " : "s", mean, h->n_experts, independent);
    }
    return status;
}

/* ---- all of it ----------------------------------------------------------------------------------- */

int synth_check(const struct synth_check *check, struct mtp_error *error)
{
    struct checker c = {.options = check, .error = error};
    enum mtp_status status = synth_read_spec(&c.spec, check->path, error);
    if (status == MTP_OK)
        status = synth_cycle_open(&c.cycle, &c.spec, error);
    if (status == MTP_OK)
        status = mtp_model_open(&c.model, check->path, NULL, error);
    if (status == MTP_OK && !check->digests_only)
        status = check_successors(&c);
    if (status == MTP_OK)
        status = check_drafts(&c);
    if (status == MTP_OK && !check->digests_only)
        status = check_experts(&c);
    mtp_model_close(c.model);
    synth_cycle_close(&c.cycle);
    if (status != MTP_OK || !c.wrong)
        return (int)status;
    mtp_fail(error, MTP_ERR_INTERNAL, "%s does not do what it should", check->path);
    return SYNTH_CHECK_FAILED;
}
