/* session.h - a timeline over a model: KV caches, recurrent state, workspace (see mtp.h).
 *
 * Inside the library a session may hold several sequences; the public interface uses sequence 0.
 */
#ifndef MTP_SRC_SESSION_H
#define MTP_SRC_SESSION_H

#include "exchange.h"
#include "memory_plan.h"
#include "model.h"
#include "workspace.h"

/* What one layer remembers. Recurrent state exists twice in sessions that draft: a speculative pass
 * reads the live copy and writes the other, so that the state before it is still there when drafts
 * are rejected; it is then advanced again by the noted updates of the accepted rows. */
struct layer_state {
    struct kv_cache kv;   /* full-attention layers */
    float *conv[2];       /* DeltaNet layers: [n_sequences][conv_taps - 1][channels] */
    float *delta[2];      /* DeltaNet layers: [n_sequences][n_v_heads][state_dim][state_dim] */
    float *conv_rows;     /* [MAX_STEP_ROWS][channels] inputs of the convolution in that pass */
    struct delta_net_journal journal; /* [MAX_STEP_ROWS] updates of that pass */
};

struct mtp_session {
    mtp_model *model;
    const struct backend_source *source; /* of backend, and of a shadow's */
    struct backend *backend;
    const struct model_weights *weights; /* in the backend's memory */
    struct mtp_session_options options; /* every default filled in */
    uint32_t context_least;             /* 0: it was given; else a device may have it as short as this */
    uint32_t n_sequences;
    struct layer_state *layers;         /* [n_layers] */
    struct arena kv_arena, work_arena;
    struct arena state_arenas[2];       /* the second only in sessions that draft */
    struct arena journal_arena;
    int live;                           /* which state arena holds the present state */
    uint32_t pending;                   /* rows of a speculative pass that awaits session_keep... */
    uint32_t settled;                   /* ...after how many of them the other copy is the state */
    struct workspace work;
    struct exchange exchange;
    double *rope_frequencies;           /* [n_rot / 2] */
    uint32_t *lengths;                  /* [n_sequences] */
    bool have_logits;                   /* sequence 0 has logits after its last position... */
    uint32_t logits_row;                /* ...in this row of work.logits */
    struct mtp_error why_cpu;           /* why MTP_DEVICE_AUTO took the CPU; no message: it did not... */
    bool gpu_there;                     /* ...though a device or driver is there */
    bool broken;                        /* a fault left the state undefined */
    uint64_t rows, passes;
    uint64_t uncounted_reads, uncounted_rows; /* of experts, by passes that were timed at the start */
    struct profile *profile;            /* of options.profile, else NULL; the backend owns it (profile.h) */
    bool instrumented;                  /* backend is verify/instrument.h's around the real one */
    struct mtp_state *mtp;              /* sessions that draft, of models that can (mtp/mtp_head.h) */
    struct mtp_draft_stats stats;
    struct draft_policy *policy;        /* mtp/draft_policy.h */
    struct ngram *ngram;                /* the text so far, in sessions that draft (mtp/ngram.h) */
    struct strict *strict;              /* the check against a shadow session, or NULL (verify/strict.h) */
    struct mtp_step_outcome last_step;
    float *first_row;                   /* [n_vocab] for observers of steps */
    mtp_step_fn on_step;
    void *on_step_user;
    mtp_step_fn observer;               /* the same for the library's own trace */
    void *observer_user;
};

/* A batch: rows of kernels/ops.h, and which of them want logits. */
struct forward_batch {
    const struct batch_row *rows;
    int32_t n_rows;                     /* 1..options.n_batch */
    const int32_t *logit_rows;          /* ascending indices into rows */
    int32_t n_logit_rows;
    bool speculative;                   /* rows may be taken back: session_keep must follow */
    bool chained;                       /* tokens are those of work.board, not of rows */
    bool settle;                        /* as well, what greedy acceptance keeps is the state at once */
};

/* Takes all memory of a session whose backend is open; gives back the parts that lie in arenas. */
enum mtp_status session_allocate(mtp_session *session, struct mtp_error *error);
void session_free_arenas(mtp_session *session);

/* Puts verify/instrument.h around the session's backend. */
enum mtp_status session_instrument(mtp_session *session, struct mtp_error *error);

/* Fills zeros by their defaults and checks ranges. */
enum mtp_status session_complete_options(const mtp_model *model,
                                         const struct mtp_session_options *given,
                                         struct mtp_session_options *out, struct mtp_error *error);

enum mtp_status session_open(mtp_session **out, mtp_model *model,
                             const struct mtp_session_options *options, uint32_t n_sequences,
                             struct mtp_error *error);
/* The same over backends of a given source, which must outlive the model; options->device is not read. */
enum mtp_status session_open_on(mtp_session **out, mtp_model *model, const struct backend_source *source,
                                const struct mtp_session_options *options, uint32_t n_sequences,
                                struct mtp_error *error);

/* What the backend says has failed, and then the session cannot go on. */
enum mtp_status session_check_backend(mtp_session *session, struct mtp_error *error);

/* Whether a session has met what it cannot go on from, and then what that was. */
enum mtp_status session_check_broken(mtp_session *session, struct mtp_error *error);

/* Puts the batch through trunk and head: state advances by its rows, work.logits holds n_logit_rows
 * rows of n_vocab. Every row's position must be its sequence's next. */
enum mtp_status session_forward(mtp_session *session, const struct forward_batch *batch,
                                struct mtp_error *error);

/* The state after the first n_kept[0] (NULL: n_rows) of n_rows rows of the speculative pass, from the live
 * copy into the other. n_kept is the backend's; all n_rows are no work then. */
void session_replay(mtp_session *session, int32_t n_rows, const int32_t *n_kept);

/* Ends a speculative pass: its first n_rows rows stay, the others never were. KV, convolution and
 * recurrent state are those of a pass over just the rows kept. */
void session_keep(mtp_session *session, uint32_t n_rows);

/* Tells the MTP block that the rows of the pass just made, at positions first.., are read. */
enum mtp_status session_note(mtp_session *session, const int32_t *ids, uint32_t first, uint32_t n,
                             struct mtp_error *error);

/* Logits after the last position (when have_logits), for the host to read until the next pass. */
const float *session_logits(const mtp_session *session);

/* The recurrent state of the present. */
const struct arena *session_state(const mtp_session *session);

#endif
