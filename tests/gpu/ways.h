/* ways.h - many runs on a device, several at a time on threads of their own, each of which must give what
 * a plain run on the CPU gives: tokens, digests of the rows they were drawn from, length. */
#ifndef MTP_TESTS_GPU_WAYS_H
#define MTP_TESTS_GPU_WAYS_H

#include "tests/generation_fixture.h"

/* A model and a text to read from. */
struct subject {
    const char *name;
    mtp_model *model;
    int32_t *ids;
    size_t n_ids;
    uint32_t n_vocab;
    bool drafts, experts;
    uint64_t ways, drafted, accepted; /* on the device, for the line of subjects_report */
};

/* Opens models/ and tests/golden/models; ends the program where one cannot be opened. */
struct subject *subjects_open(size_t *n);
void subjects_close(struct subject *subjects, size_t n);
struct subject *subject_named(struct subject *subjects, size_t n, const char *name);

/* One run: n_prompt of the subject's ids from first_id on, the first `split` of them in a call of their
 * own, then `generate` tokens. */
struct way {
    struct subject *subject;
    struct mtp_session_options options;
    struct mtp_generation generation;
    size_t first_id, n_prompt, split;
    uint32_t generate;
};

struct ways;
/* On a source's backends, n_threads at a time. */
struct ways *ways_open(const struct backend_source *device, uint32_t n_threads);
void ways_close(struct ways *ways);

/* The plain run on the CPU that the ways added from now on must equal: way without its drafts, checks and
 * batches. */
void ways_plain(struct ways *ways, const struct way *way);
void ways_add(struct ways *ways, const struct way *way);

/* Runs all that was added since the last call: first the plain ones, then those on the device. Prints a
 * line for every difference and one of sums; how many differ. */
size_t ways_run(struct ways *ways, const char *what);
/* Of all calls. */
uint64_t ways_compared(const struct ways *ways);

#endif
