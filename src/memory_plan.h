/* memory_plan.h - what a session takes, by part, before anything large is allocated, and the context that
 * fits. On a device all of it is taken at once, so a session is refused, or its context chosen, by this
 * plan; on the host the context's memory is committed as positions are used, and the plan only informs. */
#ifndef MTP_SRC_MEMORY_PLAN_H
#define MTP_SRC_MEMORY_PLAN_H

#include "device.h"
#include "model.h"

struct memory_plan {
    uint64_t weights;   /* mapped from the file, or repacked in place of its pages; on a device the image,
                         * 0 once it is there */
    uint64_t staging;   /* on a device: while weights are uploaded, before the session's own parts */
    uint64_t kv;        /* for the whole context, the MTP block's too */
    uint64_t state;     /* recurrent, with its second copy and the journal where the session drafts */
    uint64_t workspace; /* for a full batch, with the rows that wait for the MTP block */
    uint64_t strict;    /* the shadow session and copies of the state */
    uint64_t backends;  /* on a device: what backends take for themselves */
    uint64_t allowance; /* on a device: for what is not known before (struct backend_memory) */
};

/* The most that is taken at a time. */
uint64_t memory_plan_most(const struct memory_plan *plan);

/* The parts of a session by complete options that do not depend on the backend. */
void session_plan(const mtp_model *model, const struct mtp_session_options *options,
                  uint32_t n_sequences, struct memory_plan *plan);

/* On a device: the plan of a session whose backend is open, and what there is for it. Options are
 * complete. With `least` 0 their context is wanted as it is; else it becomes the longest that fits, in steps
 * of CONTEXT_STEP, no shorter than `least` and no longer than it is. What does not fit is refused with the
 * numbers and what would. Batches become no longer than the context. */
enum { CONTEXT_STEP = 256 };
/* `least` of MTP_DEVICE_AUTO: a GPU that has no room for so much is not taken. */
enum { AUTO_CONTEXT = 4096 };
struct memory_fit {
    struct memory_plan plan;
    uint64_t available;
};
enum mtp_status memory_fit(struct memory_fit *fit, const mtp_model *model,
                           const struct backend_source *source, struct backend *backend,
                           struct mtp_session_options *options, uint32_t least, struct mtp_error *error);

/* mtp_fail for an allocation of a backend that gave NULL: a device that has failed says so itself. */
enum mtp_status backend_fail_memory(struct backend *backend, struct mtp_error *error, const char *what,
                                    uint64_t bytes);

#endif
