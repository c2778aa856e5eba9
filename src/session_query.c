/* session_query.c - what a session tells: sizes, logits, counters; and sampling from them. */
#include "kernels/fpcontrol.h"
#include "kernels/version.h"
#include "profile.h"
#include "sampler.h"
#include "session.h"

uint32_t mtp_session_length(const mtp_session *session)
{
    return session->lengths[0];
}

uint32_t mtp_session_n_ctx(const mtp_session *session)
{
    return session->options.n_ctx;
}

uint32_t mtp_session_n_threads(const mtp_session *session)
{
    return session->options.n_threads;
}

const char *mtp_session_isa_name(const mtp_session *session)
{
    return session->backend->ops->name;
}

const char *mtp_session_device_name(const mtp_session *session)
{
    return session->source->name;
}

const char *mtp_session_why_cpu(const mtp_session *session, bool *there)
{
    if (there != NULL)
        *there = session->gpu_there;
    return session->why_cpu.message;
}

const float *mtp_session_logits(const mtp_session *session)
{
    return session->have_logits ? session_logits(session) : NULL;
}

uint64_t mtp_session_logits_digest(const mtp_session *session)
{
    return session->have_logits ? session->exchange.digests[session->logits_row] : 0;
}

void mtp_session_get_counters(const mtp_session *session, struct mtp_counters *counters)
{
    struct backend_counters backend;
    session->backend->ops->counters(session->backend, &backend);
    *counters = (struct mtp_counters){session->rows, session->passes,
                                      backend.expert_reads - session->uncounted_reads,
                                      backend.expert_rows - session->uncounted_rows,
                                      backend.inexact_calls};
}

void mtp_session_get_profile(const mtp_session *session, enum mtp_profile_phase phase,
                             struct mtp_profile *profile)
{
    profile_get(session->profile, phase, profile);
}

int mtp_arithmetic_version(void)
{
    return MTP_ARITHMETIC_VERSION;
}

enum mtp_status mtp_session_sample(const mtp_session *session, const struct mtp_sampling *sampling,
                                   int32_t *id, struct mtp_error *error)
{
    if (!session->have_logits)
        return mtp_fail(error, MTP_ERR_USAGE, "there are no logits to sample from yet");
    fp_control saved = fp_control_enter();
    enum mtp_status status =
        sampler_draw(session_logits(session), session->model->hparams.n_vocab, sampling,
                     session->lengths[0], id, error);
    fp_control_leave(saved);
    return status;
}
