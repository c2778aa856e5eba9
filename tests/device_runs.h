/* device_runs.h - sessions whose backend's memory the host cannot touch give what sessions on the CPU give:
 * tokens, digests, logits, checks, profiles. */
#ifndef TESTS_DEVICE_RUNS_H
#define TESTS_DEVICE_RUNS_H

#include "generation_fixture.h"

/* The tests, on backends of a source: how many failed. */
int device_runs(const struct backend_source *source, const char *name);

mtp_session *device_session(const struct backend_source *source, mtp_model *model,
                            const struct mtp_session_options *options);

/* Ids of the text that a run reads first. */
struct prompt {
    int32_t ids[700];
    size_t n;
};
struct prompt device_prompt(const mtp_model *model, size_t n);

#endif
