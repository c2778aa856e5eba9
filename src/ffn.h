/* ffn.h - feed-forward parts of a block: dense SwiGLU, and mixture of experts with a shared expert. */
#ifndef MTP_SRC_FFN_H
#define MTP_SRC_FFN_H

#include "session.h"

/* work.mixed = ffn(work.normed) for n_rows rows; of a mixture of experts what ffn_combine makes that of.
 * quantised: work.act has the rows, which it must if ffn_wants_act. */
void ffn_forward(mtp_session *session, const struct layer *layer, int32_t n_rows, bool quantised);
bool ffn_wants_act(const mtp_session *session, const struct layer *layer);

/* The experts' sum of n_rows rows, into work.mixed: for the caller to run before it reads that. */
struct moe_combine_args ffn_combine(const mtp_session *session, int32_t n_rows);

#endif
