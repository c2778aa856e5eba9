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

size_t exchange_rotary_bytes(const struct hparams *hparams, uint32_t n_ctx)
{
    return (size_t)n_ctx * hparams->n_rot * sizeof(float);
}

static bool open_image(mtp_session *session, size_t n)
{
    struct exchange *ex = &session->exchange;
    const struct hparams *h = &session->model->hparams;
    ex->image = calloc(1, BOARD_BYTES + n * sizeof *ex->rows);
    ex->rotary_part = calloc((size_t)ROTARY_PART * h->n_rot, sizeof *ex->rotary_part);
    ex->rotary = session->backend->ops->alloc(
        session->backend, exchange_rotary_bytes(h, session->options.n_ctx), MEMORY_PARTS);
    if (ex->image == NULL || ex->rotary_part == NULL || ex->rotary == NULL)
        return false;
    ex->board = (struct step_board *)(void *)ex->image;
    ex->rows = (struct batch_row *)(void *)(ex->image + BOARD_BYTES);
    return true;
}

enum mtp_status exchange_open(mtp_session *session, struct mtp_error *error)
{
    struct exchange *ex = &session->exchange;
    size_t n = session->options.n_batch, n_vocab = session->model->hparams.n_vocab;
    size_t logits = (size_t)EXCHANGE_LOGITS * n_vocab;
    ex->results_bytes = n * RESULT_BYTES;
    ex->results = calloc(n, RESULT_BYTES);
    bool enough = open_image(session, n) && ex->results != NULL;
    if (enough && !session->backend->ops->host_memory) {
        ex->logits = malloc(logits * sizeof *ex->logits);
        ex->logits_rows = calloc(EXCHANGE_LOGITS, sizeof *ex->logits_rows);
        enough = ex->logits != NULL && ex->logits_rows != NULL;
    }
    if (!enough)
        return backend_fail_memory(session->backend, error, "the rows of a batch",
                                   logits * sizeof *ex->logits);
    forget_logits(ex);
    return MTP_OK;
}

void exchange_close(mtp_session *session)
{
    struct exchange *ex = &session->exchange;
    if (session->backend != NULL)
        session->backend->ops->free(session->backend, ex->rotary,
                                    exchange_rotary_bytes(&session->model->hparams, session->options.n_ctx));
    free(ex->image);
    free(ex->rotary_part);
    free(ex->results);
    free(ex->logits);
    free(ex->logits_rows);
}

void exchange_rotary_until(mtp_session *session, uint32_t n)
{
    struct exchange *ex = &session->exchange;
    uint32_t n_rot = session->model->hparams.n_rot, n_ctx = session->options.n_ctx;
    while (ex->n_rotary < n && ex->n_rotary < n_ctx) {
        struct batch_row rows[ROTARY_PART];
        uint32_t left = n_ctx - ex->n_rotary, part = left < ROTARY_PART ? left : ROTARY_PART;
        for (uint32_t r = 0; r < part; r++)
            rows[r] = (struct batch_row){0, (int32_t)(ex->n_rotary + r), 0};
        rope_table(ex->rotary_part, rows, (int32_t)part, session->rope_frequencies, n_rot / 2);
        session->backend->ops->upload(session->backend, ex->rotary + (size_t)ex->n_rotary * n_rot,
                                      ex->rotary_part, (size_t)part * n_rot * sizeof *ex->rotary_part);
        ex->n_rotary += part;
    }
}

void exchange_upload_rows(mtp_session *session, int32_t n)
{
    struct exchange *ex = &session->exchange;
    int32_t last = 0;
    for (int32_t r = 0; r < n; r++)
        last = ex->rows[r].position > last ? ex->rows[r].position : last;
    exchange_rotary_until(session, (uint32_t)last + 1);
    session->backend->ops->upload(session->backend, session->work.board, ex->image,
                                  BOARD_BYTES + (size_t)n * sizeof *ex->rows);
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
    ex->tokens = results_tokens(ex->results, n);
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
