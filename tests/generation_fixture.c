/* generation_fixture.c - see generation_fixture.h. */
#include "generation_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static bool take(void *user, int32_t id, uint32_t position)
{
    struct run *run = user;
    (void)position;
    assert_true(run->n < RUN_MOST);
    run->tokens[run->n++] = id;
    run->stopped = run->n == run->most || id == run->stop_at;
    return !run->stopped;
}

void generation_go_on(struct run *run, mtp_session *session,
                      const struct mtp_generation *generation)
{
    run->status = MTP_OK;
    run->stopped = false;
    while (!run->stopped && run->status == MTP_OK)
        run->status = mtp_session_step(session, generation, take, run, &run->error);
    mtp_session_get_draft_stats(session, &run->stats);
    mtp_session_get_strict_report(session, &run->strict);
    run->digest = run->stats.digest;
    run->last_digest = mtp_session_logits_digest(session);
    run->length = mtp_session_length(session);
}

void generation_run(struct run *run, mtp_model *model, const struct mtp_session_options *options,
                    const struct mtp_generation *generation, const int32_t *prompt, size_t n_prompt)
{
    mtp_session *session = fixture_session(model, options, 1);
    run->n = 0;
    run->status = mtp_session_append(session, prompt, n_prompt, &run->error);
    if (run->status == MTP_OK)
        generation_go_on(run, session, generation);
    mtp_session_close(session);
}
