/* strict_search.h - where two runs of the same rows first part. */
#ifndef MTP_VERIFY_STRICT_SEARCH_H
#define MTP_VERIFY_STRICT_SEARCH_H

#include "session.h"

struct strict {
    mtp_session *shadow;
    struct mtp_strict_report report;
    /* The pass under check, and both states before it. */
    struct batch_row *rows;      /* [n_batch] */
    int32_t n_rows;              /* of the main session's pass */
    uint32_t first, kept;        /* position of the first row; rows that stayed */
    bool speculative, auditing;
    uint64_t step;               /* number of the step, UINT64_MAX in the prompt */
    uint8_t *before, *shadow_before;
    size_t state_bytes;
    uint32_t mtp_compared;       /* rows of the MTP cache found equal so far */
};

/* Runs the pass again on both sides with taps and writes report.first_difference: layer, operation,
 * row and element; or that the difference did not come again. Leaves the session unusable. */
void strict_search(mtp_session *session);

#endif
