/* ffn.h - feed-forward parts of a block: dense SwiGLU, and mixture of experts with a shared expert. */
#ifndef MTP_SRC_FFN_H
#define MTP_SRC_FFN_H

#include "session.h"

/* work.mixed = ffn(work.normed) for n_rows rows. */
void ffn_forward(mtp_session *session, const struct layer *layer, int32_t n_rows);

#endif
