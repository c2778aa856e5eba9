/* strict.h - proof while running: a shadow session that shares only the weights reads the tokens given,
 * one row at a time by the plain path, and every logits row and all committed state are compared byte
 * for byte. Uncommitted KV rows, spare state and workspace are poisoned on both sides, so that a stale
 * read shows. On a difference the pass is run again with taps to name where it begins. */
#ifndef MTP_VERIFY_STRICT_H
#define MTP_VERIFY_STRICT_H

#include "session.h"

enum { STRICT_SAMPLE_EVERY = 16 };

/* Of a session's options, those of its shadow. */
void strict_shadow_options(struct mtp_session_options *options);
/* Bytes of the copies of the state that both keep. */
uint64_t strict_copies_bytes(uint64_t state_bytes);

enum mtp_status strict_open(mtp_session *session, struct mtp_error *error);
void strict_close(mtp_session *session);

/* True when the prompt is checked too, and so needs logits of every row. */
bool strict_checks_prompt(const mtp_session *session);

/* session_forward for a prompt chunk, checked. */
enum mtp_status strict_prompt(mtp_session *session, const struct forward_batch *batch,
                              struct mtp_error *error);

/* Around a step: before its pass, and after it was committed with its first `kept` tokens; tokens are those
 * of all rows of the pass. */
void strict_before_step(mtp_session *session, const struct forward_batch *batch);
enum mtp_status strict_after_step(mtp_session *session, const int32_t *tokens, uint32_t kept,
                                  struct mtp_error *error);

/* Checkpoints take the shadow along. */
enum mtp_status strict_checkpoint_take(mtp_checkpoint **out, const mtp_session *session,
                                       struct mtp_error *error);
enum mtp_status strict_checkpoint_restore(mtp_session *session, const mtp_checkpoint *checkpoint,
                                          struct mtp_error *error);

#endif
