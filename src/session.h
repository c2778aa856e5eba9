/* session.h - a timeline over a model: KV caches, recurrent state, workspace (see mtp.h).
 *
 * Inside the library a session may hold several sequences; the public interface uses sequence 0.
 */
#ifndef MTP_SRC_SESSION_H
#define MTP_SRC_SESSION_H

#include "model.h"
#include "workspace.h"

/* What one layer remembers. */
struct layer_state {
    struct kv_cache kv;   /* full-attention layers */
    float *conv;          /* DeltaNet layers: [n_sequences][conv_taps - 1][channels] */
    float *delta;         /* DeltaNet layers: [n_sequences][n_v_heads][state_dim][state_dim] */
};

struct mtp_session {
    mtp_model *model;
    struct backend *backend;
    struct mtp_session_options options; /* every default filled in */
    uint32_t n_sequences;
    struct layer_state *layers;         /* [n_layers] */
    struct arena kv_arena, state_arena, work_arena;
    struct workspace work;
    double *rope_frequencies;           /* [n_rot / 2] */
    uint32_t *lengths;                  /* [n_sequences] */
    bool have_logits;                   /* work.logits row 0 follows the last position of sequence 0 */
    bool broken;                        /* a numeric fault left the state undefined */
    uint64_t rows, passes;
};

/* A batch: rows of kernels/ops.h, and which of them want logits. */
struct forward_batch {
    const struct batch_row *rows;
    int32_t n_rows;                     /* 1..options.n_batch */
    const int32_t *logit_rows;          /* ascending indices into rows */
    int32_t n_logit_rows;
};

/* Bytes a session takes, by part; nothing is allocated. */
struct memory_plan {
    uint64_t weights;   /* mapped from the file */
    uint64_t kv;        /* for the whole context; committed as positions are used */
    uint64_t state;     /* recurrent */
    uint64_t workspace; /* for a full batch; committed as used */
};
void session_plan(const mtp_model *model, const struct mtp_session_options *options,
                  uint32_t n_sequences, struct memory_plan *plan);

/* Fills zeros by their defaults and checks ranges. */
enum mtp_status session_complete_options(const mtp_model *model,
                                         const struct mtp_session_options *given,
                                         struct mtp_session_options *out, struct mtp_error *error);

enum mtp_status session_open(mtp_session **out, mtp_model *model,
                             const struct mtp_session_options *options, uint32_t n_sequences,
                             struct mtp_error *error);

/* Puts the batch through trunk and head: state advances by its rows, work.logits holds n_logit_rows
 * rows of n_vocab. Every row's position must be its sequence's next. */
enum mtp_status session_forward(mtp_session *session, const struct forward_batch *batch,
                                struct mtp_error *error);

/* The trunk of qwen35 and qwen35moe (arch_qwen35.c): work.hidden receives output_norm'ed rows for
 * logit_rows. */
enum mtp_status qwen35_forward(mtp_session *session, const struct forward_batch *batch,
                               struct mtp_error *error);

#endif
