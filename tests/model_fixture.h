/* model_fixture.h - models and golden JSON for tests of the engine. Failures end the test. */
#ifndef TESTS_MODEL_FIXTURE_H
#define TESTS_MODEL_FIXTURE_H

#include <jansson.h>

#include "session.h"

#define REFERENCE_MODEL "models/ref-qwen35moe-Q4_K_M.gguf"

/* Paths are relative to the source tree. */
mtp_model *fixture_model(const char *path);
mtp_model *fixture_model_with(const char *path, const char *mtp_path);
json_t *fixture_json(const char *path);

/* A session of n_sequences; options may be NULL. */
mtp_session *fixture_session(mtp_model *model, const struct mtp_session_options *options,
                             uint32_t n_sequences);

/* Integers of a JSON array; *n receives how many. The caller frees. */
int32_t *fixture_ids(const json_t *array, size_t *n);

/* Appends ids to a sequence in chunks of `chunk`, and writes the logits of every position to
 * logits[n][n_vocab] (NULL: none wanted). */
void fixture_run(mtp_session *session, int32_t sequence, const int32_t *ids, size_t n, size_t chunk,
                 float *logits);

/* Ids that look like nothing in particular, below n_vocab, the same for the same seed. */
void fixture_random_ids(int32_t *ids, size_t n, uint32_t n_vocab, uint32_t seed);

#endif
