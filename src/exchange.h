/* exchange.h - what passes between the host and the backend's memory in a pass: the batch's rows on the
 * way in, the likeliest tokens and digests on the way out, logits only when somebody asks for them. */
#ifndef MTP_SRC_EXCHANGE_H
#define MTP_SRC_EXCHANGE_H

#include "workspace.h"

struct exchange {
    struct batch_row *rows;   /* [R] as uploaded to work.rows */
    float *cos_sin;           /* [R][n_rot] the same of work.cos_sin */
    uint8_t *results;         /* [R] of RESULT_BYTES as downloaded from work.results... */
    const uint64_t *digests;  /* ...and in them, of the last pass that wanted logits: [n_results] */
    const int32_t *top;       /* [n_results] */
    uint32_t n_results;
    float *logits;            /* [EXCHANGE_LOGITS][n_vocab] where the host cannot read the backend's */
    uint32_t *logits_rows;    /* [EXCHANGE_LOGITS] which row of work.logits each is; NO_ROW */
    size_t results_bytes;
};
/* Rows of logits that are kept apart: as many as a step has. */
enum { EXCHANGE_LOGITS = MTP_MAX_DRAFT + 1 };

enum mtp_status exchange_open(mtp_session *session, struct mtp_error *error);
void exchange_close(mtp_session *session);

/* The first n of exchange.rows to work.rows, and their rotary tables to work.cos_sin. */
void exchange_upload_rows(mtp_session *session, int32_t n);
/* The results of a pass that wanted logits of n rows. */
void exchange_fetch(mtp_session *session, int32_t n);
/* Fills the last results with 0xff bytes, as workspace_poison does. */
void exchange_poison(mtp_session *session);

/* Row `row` of work.logits, for the host to read until the next pass. */
const float *exchange_logits(const mtp_session *session, uint32_t row);

#endif
