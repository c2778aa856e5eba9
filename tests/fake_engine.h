/* fake_engine.h - the model and session functions of mtp.h without a model, for tests of mtpgen's
 * own logic. A token is a byte; four more are <|im_start|>, <|im_end|>, <think>, </think>. What a
 * session "generates" is a script. Every append is recorded. How many drafts a step accepts is a
 * script, too. */
#ifndef TESTS_FAKE_ENGINE_H
#define TESTS_FAKE_ENGINE_H

#include "chat.h"

enum { FAKE_IM_START = 256, FAKE_IM_END, FAKE_THINK, FAKE_UNTHINK, FAKE_N_VOCAB };

struct fake_engine {
    enum chat_template template;
    const char *script;       /* what is generated, <|im_end|> and so on as text; then it ends */
    size_t script_at;
    bool think_is_control;    /* the decoder gives nothing for <think> and </think> */
    size_t n_appended;        /* tokens read, generated ones included */
    size_t n_restored, n_opened, n_taken;
    int32_t held[65536];      /* what the session holds */
    size_t n_held;
    size_t prefix_errors;     /* a checkpoint was restored that does not agree with held */
    const char *accepts;      /* "203": accepted drafts of the steps, over and over; NULL: all */
    int32_t rejected;         /* the id of drafts that are not accepted */
    struct mtp_step_outcome last_step;
    bool cannot_draft;
    bool synthetic;           /* what the model says of itself */
    size_t n_traces, n_traces_open, n_traced_prompt; /* traces; ids of the last one's prompt */
    enum mtp_status fail_after; /* what a step fails with once it has given its first token */
    struct mtp_draft_stats stats;       /* of the open session */
    struct mtp_strict_report strict;    /* likewise, as the test sets it */
    struct mtp_profile profile[MTP_PROFILE_PHASES]; /* likewise */
    uint64_t inexact_products;          /* likewise */
};
extern struct fake_engine fake;

#endif
