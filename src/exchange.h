/* exchange.h - what passes between the host and the backend's memory in a pass: the batch's rows on the
 * way in, the likeliest tokens and digests on the way out, logits only when somebody asks for them. */
#ifndef MTP_SRC_EXCHANGE_H
#define MTP_SRC_EXCHANGE_H

#include "workspace.h"

struct exchange {
    uint8_t *image;           /* as uploaded to work.board and work.rows... */
    struct step_board *board; /* ...its parts */
    struct batch_row *rows;   /* [R] */
    uint8_t *results;         /* [R] of RESULT_BYTES as downloaded from work.results... */
    const uint64_t *digests;  /* ...and in them, of the last pass that wanted logits: [n_results] */
    const int32_t *top;       /* [n_results] */
    const int32_t *tokens;    /* [n_results] of a pass that was chained */
    uint32_t n_results;
    float *logits;            /* [EXCHANGE_LOGITS][n_vocab] where the host cannot read the backend's */
    uint32_t *logits_rows;    /* [EXCHANGE_LOGITS] which row of work.logits each is; NO_ROW */
    size_t results_bytes;
    float *rotary;            /* [n_ctx][n_rot] the backend's: rope_table of every position... */
    uint32_t n_rotary;        /* ...so far */
    float *rotary_part;       /* [ROTARY_PART][n_rot] the host's, for what is to be added */
};
/* Rows of logits that are kept apart: as many as a step has. */
enum { EXCHANGE_LOGITS = MAX_STEP_ROWS, ROTARY_PART = 64 };

enum mtp_status exchange_open(mtp_session *session, struct mtp_error *error);
void exchange_close(mtp_session *session);
/* Bytes of the rotary tables of n_ctx positions. */
size_t exchange_rotary_bytes(const struct hparams *hparams, uint32_t n_ctx);

/* The board and the first n of exchange.rows to the backend, and rotary tables of their positions. */
void exchange_upload_rows(mtp_session *session, int32_t n);
/* Rotary tables of positions 0..n - 1 (of n_ctx at most). */
void exchange_rotary_until(mtp_session *session, uint32_t n);
/* The results of a pass that wanted logits of n rows. */
void exchange_fetch(mtp_session *session, int32_t n);
/* Fills the last results with 0xff bytes, as workspace_poison does. */
void exchange_poison(mtp_session *session);

/* Row `row` of work.logits, for the host to read until the next pass. */
const float *exchange_logits(const mtp_session *session, uint32_t row);

#endif
