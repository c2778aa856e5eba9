/* mtp_head.h - the draft head: the model's MTP block with its own KV cache.
 *
 * Row i of the block joins the token at position i + 1 with the trunk's hidden row (after output_norm)
 * of position i, and predicts the token at position i + 2:
 *   c = eh_proj [rms(embedding(x_{i+1}), enorm); rms(h_i, hnorm)]       (embedding first)
 *   c -> the block (full attention over rows 0..i of its own cache, feed-forward)
 *   m = rms(c, head_norm);  draft = argmax(head m), or with noise where the text is drawn with it
 * Chaining feeds m in the place of the next hidden row. Rows whose token the trunk has read are
 * committed; they wait in a queue and are put through eh_proj, keys and values together with the next
 * row that is to draft ("catch-up": rows that do not draft need no attention). Nothing here can change
 * a token that is given, only how many drafts are accepted.
 *
 * While plain steps are faster and drafts are only tried now and then, filling every row would cost
 * more than the trials: then all waiting rows but the latest are skipped, and the rows that follow close up.
 * Rotary embedding is relative; the block sees a text with a gap.
 */
#ifndef MTP_MTP_HEAD_H
#define MTP_MTP_HEAD_H

#include "session.h"

enum { MTP_QUEUE_ROWS = 512, MTP_TRIAL_ROWS = 32 };

struct mtp_state {
    struct kv_cache kv;       /* the block's own */
    uint32_t filled;          /* rows 0..filled-1 of it are final */
    uint32_t n_queued;        /* rows filled..filled+n_queued-1 wait */
    uint32_t skipped;         /* row i stands for position i + skipped */
    bool may_skip;            /* a full queue is shortened, not filled */
    int32_t *tokens;          /* [MTP_QUEUE_ROWS], the host's; what follows is the backend's */
    float *hidden;            /* [MTP_QUEUE_ROWS][n_embd] */
    float *last_hidden;       /* [n_embd] hidden row of the last position read */
    float *out;               /* [n_embd] m of the last row that drafted */
    float *logits;            /* [n_vocab] its draft logits */
    int32_t *top;             /* on work.board: the last pass's draft, or the drafts of a chain */
};

/* The state of a session that drafts; NULL and an error when memory is short. */
enum mtp_status mtp_state_open(mtp_session *session, struct mtp_error *error);
void mtp_state_close(mtp_session *session);

/* Bytes of the block's cache for the session's context. */
uint64_t mtp_state_kv_bytes(const mtp_model *model, const struct mtp_session_options *options,
                            uint32_t n_sequences);

/* Bytes of the rows that it keeps beside. */
uint64_t mtp_state_row_bytes(const mtp_model *model);

/* The trunk has read tokens at positions first.. whose hidden rows are these: queues their rows. */
enum mtp_status mtp_note(mtp_session *session, const int32_t *tokens, const float *hidden,
                         uint32_t first, uint32_t n, struct mtp_error *error);

/* Whether more rows wait than a step leaves behind: steps without drafts were taken. */
static inline bool mtp_is_behind(const struct mtp_state *state)
{
    return state->n_queued > MAX_STEP_ROWS;
}

/* Skips the queue's rows but the last MTP_TRIAL_ROWS. */
void mtp_skip(mtp_session *session);

/* Puts the queue through keys and values. */
enum mtp_status mtp_catch_up(mtp_session *session, struct mtp_error *error);

/* Drafts n tokens to follow `token`, which is to stand at the session's next position: they are left on
 * work.board behind it, for a chained pass (struct forward_batch). The queue is caught up in the first of the
 * passes. n_head rows of the head are read (ids 0..n_head-1). Where noise is set each
 * draft is drawn as the sampler would draw at its position from the draft's logits: by the same noise the two
 * choose the same token more often than the target draws the likeliest one. Does not wait for a device. */
enum mtp_status mtp_draft(mtp_session *session, int32_t token, uint32_t n, uint32_t n_head,
                          const struct draw_noise *noise, struct mtp_error *error);
/* The n drafts, for the host; waits for a device. */
enum mtp_status mtp_drafts(mtp_session *session, uint32_t n, int32_t *drafts, struct mtp_error *error);

/* One row of the block: tokens[i], hidden[i] as rows first.., keys and values of all; the last one's
 * output goes to state->out, state->logits (n_head of them) and state->top. For tests and mtp_draft. */
enum mtp_status mtp_rows(mtp_session *session, const int32_t *tokens, const float *hidden,
                         uint32_t first, uint32_t n, uint32_t n_head, struct mtp_error *error);

/* Cuts the state back to a session of n positions; last_hidden is the caller's to restore. */
void mtp_cut(mtp_session *session, uint32_t n_positions);

#endif
