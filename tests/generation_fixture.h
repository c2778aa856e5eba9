/* generation_fixture.h - running mtp_session_step to a length and keeping what it gave. */
#ifndef TESTS_GENERATION_FIXTURE_H
#define TESTS_GENERATION_FIXTURE_H

#include "model_fixture.h"

enum { RUN_MOST = 1024 };

/* Sanitizers slow these programs by a factor of ten: there, runs are shorter. */
#ifdef __SANITIZE_ADDRESS__
#define RUN_LENGTH(n) ((n) / 3)
#else
#define RUN_LENGTH(n) (n)
#endif

struct run {
    int32_t tokens[RUN_MOST];
    uint32_t n, most;
    int32_t stop_at;        /* a token that ends the run, -1 none */
    bool stopped;
    uint64_t digest;        /* of all rows tokens were drawn from */
    uint64_t last_digest;   /* of the session's logits afterwards */
    uint32_t length;        /* of the session afterwards */
    struct mtp_draft_stats stats;
    struct mtp_strict_report strict;
    enum mtp_status status;
    struct mtp_error error;
};

/* Reads the prompt and steps until `most` tokens, stop_at, the context's end or an error. */
void generation_run(struct run *run, mtp_model *model, const struct mtp_session_options *options,
                    const struct mtp_generation *generation, const int32_t *prompt, size_t n_prompt);
/* The same on an open session whose prompt was read. */
void generation_go_on(struct run *run, mtp_session *session,
                      const struct mtp_generation *generation);

#endif
