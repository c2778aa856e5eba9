/* checkpoint.c - remembering a session's length and recurrent state. KV rows need no copy: positions
 * before the length are never rewritten. */
#include <stdlib.h>

#include "mtp/mtp_head.h"
#include "mtp/ngram.h"
#include "session.h"
#include "verify/strict.h"

struct mtp_checkpoint {
    const mtp_session *session; /* the only one it fits */
    mtp_checkpoint *shadow;     /* of a strict session's shadow, or NULL */
    uint32_t length;
    size_t bytes, hidden_bytes; /* recurrent state, then the MTP block's last hidden row */
    uint8_t state[];
};

enum mtp_status mtp_checkpoint_take(mtp_checkpoint **out, const mtp_session *session,
                                    struct mtp_error *error)
{
    size_t bytes = session_state(session)->used;
    size_t hidden_bytes =
        session->mtp != NULL ? session->model->hparams.n_embd * sizeof(float) : 0;
    *out = malloc(sizeof **out + bytes + hidden_bytes);
    if (*out == NULL)
        return mtp_fail_memory(error, "a checkpoint", bytes);
    (*out)->session = session;
    (*out)->length = session->lengths[0];
    (*out)->bytes = bytes;
    (*out)->hidden_bytes = hidden_bytes;
    struct backend *backend = session->backend;
    backend->ops->download(backend, (*out)->state, session_state(session)->base, bytes);
    if (hidden_bytes > 0)
        backend->ops->download(backend, (*out)->state + bytes, session->mtp->last_hidden, hidden_bytes);
    return strict_checkpoint_take(&(*out)->shadow, session, error);
}

enum mtp_status mtp_checkpoint_restore(mtp_session *session, const mtp_checkpoint *checkpoint,
                                       struct mtp_error *error)
{
    if (checkpoint->session != session || checkpoint->length > session->lengths[0])
        return mtp_fail(error, MTP_ERR_USAGE,
                        "a checkpoint fits only the session it was taken from, at a later position");
    struct backend *backend = session->backend;
    backend->ops->upload(backend, session_state(session)->base, checkpoint->state, checkpoint->bytes);
    if (session->mtp != NULL) {
        mtp_cut(session, checkpoint->length);
        backend->ops->upload(backend, session->mtp->last_hidden, checkpoint->state + checkpoint->bytes,
                             checkpoint->hidden_bytes);
    }
    if (session->ngram != NULL)
        ngram_cut(session->ngram, checkpoint->length);
    session->lengths[0] = checkpoint->length;
    session->have_logits = false;
    session->broken = false;
    return strict_checkpoint_restore(session, checkpoint->shadow, error);
}

void mtp_checkpoint_free(mtp_checkpoint *checkpoint)
{
    if (checkpoint == NULL)
        return;
    mtp_checkpoint_free(checkpoint->shadow);
    free(checkpoint);
}
