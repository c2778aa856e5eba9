/* exchange.c - see exchange.h. */
#include "exchange.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/rope.h"
#include "session.h"

enum { NO_ROW = UINT32_MAX };

static void forget_logits(struct exchange *ex)
{
    for (uint32_t i = 0; ex->logits != NULL && i < EXCHANGE_LOGITS; i++)
        ex->logits_rows[i] = NO_ROW;
}

enum mtp_status exchange_open(mtp_session *session, struct mtp_error *error)
{
    struct exchange *ex = &session->exchange;
    const struct hparams *h = &session->model->hparams;
    size_t n = session->options.n_batch, logits = (size_t)EXCHANGE_LOGITS * h->n_vocab;
    ex->rows = calloc(n, sizeof *ex->rows);
    ex->cos_sin = calloc(n * h->n_rot, sizeof *ex->cos_sin);
    ex->results_bytes = n * RESULT_BYTES;
    ex->results = calloc(n, RESULT_BYTES);
    bool enough = ex->rows != NULL && ex->cos_sin != NULL && ex->results != NULL;
    if (enough && !session->backend->ops->host_memory) {
        ex->logits = malloc(logits * sizeof *ex->logits);
        ex->logits_rows = calloc(EXCHANGE_LOGITS, sizeof *ex->logits_rows);
        enough = ex->logits != NULL && ex->logits_rows != NULL;
    }
    if (!enough)
        return mtp_fail_memory(error, "the rows of a batch", logits * sizeof *ex->logits);
    forget_logits(ex);
    return MTP_OK;
}

void exchange_close(mtp_session *session)
{
    struct exchange *ex = &session->exchange;
    free(ex->rows);
    free(ex->cos_sin);
    free(ex->results);
    free(ex->logits);
    free(ex->logits_rows);
}

void exchange_upload_rows(mtp_session *session, int32_t n)
{
    struct exchange *ex = &session->exchange;
    uint32_t n_rot = session->model->hparams.n_rot;
    session->backend->ops->upload(session->backend, session->work.rows, ex->rows,
                                  (size_t)n * sizeof *session->work.rows);
    rope_table(ex->cos_sin, ex->rows, n, session->rope_frequencies, n_rot / 2);
    session->backend->ops->upload(session->backend, session->work.cos_sin, ex->cos_sin,
                                  (size_t)n * n_rot * sizeof *ex->cos_sin);
}

void exchange_fetch(mtp_session *session, int32_t n)
{
    struct exchange *ex = &session->exchange;
    struct workspace *work = &session->work;
    if (n == 0)
        return;
    session->backend->ops->download(session->backend, ex->results, work->results,
                                    (size_t)n * RESULT_BYTES);
    ex->n_results = (uint32_t)n;
    ex->digests = results_digests(ex->results);
    ex->top = results_top(ex->results, n);
    forget_logits(ex);
}

void exchange_poison(mtp_session *session)
{
    memset(session->exchange.results, 0xff, session->exchange.results_bytes);
}

const float *exchange_logits(const mtp_session *session, uint32_t row)
{
    const struct exchange *ex = &session->exchange;
    size_t n_vocab = session->model->hparams.n_vocab;
    const float *logits = session->work.logits + row * n_vocab;
    if (ex->logits == NULL)
        return logits;
    uint32_t slot = row % EXCHANGE_LOGITS;
    float *copy = ex->logits + slot * n_vocab;
    if (ex->logits_rows[slot] != row)
        session->backend->ops->download(session->backend, copy, logits, n_vocab * sizeof *copy);
    ex->logits_rows[slot] = row;
    return copy;
}
