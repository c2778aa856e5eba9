/* instrument.h - a backend around another: records what every operation gives (taps, to find where two
 * runs part) and, for tests, flips one bit of one operation's output. */
#ifndef MTP_VERIFY_INSTRUMENT_H
#define MTP_VERIFY_INSTRUMENT_H

#include "error.h"
#include "kernels/ops.h"

/* One operation of a pass: its output cut into the pass's rows. */
struct tap {
    const char *operation;
    int32_t layer;
    size_t row_bytes;
    size_t at;             /* of row 0 in tap_log.bytes */
};
struct tap_log {
    struct tap *taps;
    size_t n, capacity;
    uint8_t *bytes;
    size_t used, size;
    int32_t n_rows;        /* rows of the pass being recorded */
    bool short_of_memory;
};
void tap_log_free(struct tap_log *log);

/* A backend that owns `inner`; NULL when memory is short (inner is then untouched). head_outputs: the
 * vocabulary, which tells the output head from other products. */
struct backend *instrument_open(struct backend *inner, uint32_t head_outputs);
/* Records into log (NULL stops) the operations of passes of n_rows rows. */
void instrument_record(struct backend *instrument, struct tap_log *log, int32_t n_rows);

/* "operation:step", the operation one of those that instrument_flip_names lists. */
enum mtp_status instrument_plan_flip(struct backend *instrument, const char *text,
                                     struct mtp_error *error);
/* The pass that follows is a checking pass, number `step` from 0: flips there when planned. */
void instrument_arm(struct backend *instrument, uint64_t step);
void instrument_disarm(struct backend *instrument);
/* Times a bit was flipped. */
uint64_t instrument_flips(const struct backend *instrument);
const char *instrument_flip_names(void);

#endif
