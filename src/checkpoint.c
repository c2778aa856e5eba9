/* checkpoint.c - remembering a session's length and recurrent state. KV rows need no copy: positions
 * before the length are never rewritten. */
#include <stdlib.h>
#include <string.h>

#include "session.h"

struct mtp_checkpoint {
    const mtp_session *session; /* the only one it fits */
    uint32_t length;
    size_t bytes;
    uint8_t state[];
};

enum mtp_status mtp_checkpoint_take(mtp_checkpoint **out, const mtp_session *session,
                                    struct mtp_error *error)
{
    size_t bytes = session->state_arena.used;
    *out = malloc(sizeof **out + bytes);
    if (*out == NULL)
        return mtp_fail_memory(error, "a checkpoint", bytes);
    (*out)->session = session;
    (*out)->length = session->lengths[0];
    (*out)->bytes = bytes;
    memcpy((*out)->state, session->state_arena.base, bytes);
    return MTP_OK;
}

enum mtp_status mtp_checkpoint_restore(mtp_session *session, const mtp_checkpoint *checkpoint,
                                       struct mtp_error *error)
{
    if (checkpoint->session != session || checkpoint->length > session->lengths[0])
        return mtp_fail(error, MTP_ERR_USAGE,
                        "a checkpoint fits only the session it was taken from, at a later position");
    memcpy(session->state_arena.base, checkpoint->state, checkpoint->bytes);
    session->lengths[0] = checkpoint->length;
    session->have_logits = false;
    session->broken = false;
    return MTP_OK;
}

void mtp_checkpoint_free(mtp_checkpoint *checkpoint)
{
    free(checkpoint);
}
