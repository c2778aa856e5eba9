/* model_fixture.c - see model_fixture.h. */
#include "model_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void full_path(const char *path, char *out, size_t size)
{
    snprintf(out, size, "%s/%s", TEST_SRCDIR, path);
}

mtp_model *fixture_model_with(const char *path, const char *mtp_path)
{
    char full[1024], mtp_full[1024];
    full_path(path, full, sizeof full);
    struct mtp_model_options options = {0};
    if (mtp_path != NULL) {
        full_path(mtp_path, mtp_full, sizeof mtp_full);
        options.mtp_path = mtp_full;
    }
    mtp_model *model = NULL;
    struct mtp_error error = {0};
    if (mtp_model_open(&model, full, &options, &error) != MTP_OK)
        fail_msg("%s", error.message);
    return model;
}

mtp_model *fixture_model(const char *path)
{
    return fixture_model_with(path, NULL);
}

json_t *fixture_json(const char *path)
{
    char full[1024];
    full_path(path, full, sizeof full);
    json_error_t error;
    json_t *json = json_load_file(full, 0, &error);
    if (json == NULL)
        fail_msg("%s: line %d: %s", full, error.line, error.text);
    return json;
}

mtp_session *fixture_session(mtp_model *model, const struct mtp_session_options *options,
                             uint32_t n_sequences)
{
    mtp_session *session = NULL;
    struct mtp_error error = {0};
    struct mtp_session_options on_cpu = {0};
    if (options != NULL)
        on_cpu = *options;
    on_cpu.device = MTP_DEVICE_CPU; /* tests read its memory */
    if (session_open(&session, model, &on_cpu, n_sequences, &error) != MTP_OK)
        fail_msg("%s", error.message);
    return session;
}

int32_t *fixture_ids(const json_t *array, size_t *n)
{
    *n = json_array_size(array);
    int32_t *ids = calloc(*n + 1, sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < *n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return ids;
}

static void run_chunk(mtp_session *session, int32_t sequence, const int32_t *ids, int32_t n,
                      float *logits)
{
    struct batch_row *rows = calloc((size_t)n, sizeof *rows);
    int32_t *wanted = calloc((size_t)n, sizeof *wanted);
    assert_true(rows != NULL && wanted != NULL);
    int32_t first = (int32_t)session->lengths[sequence];
    for (int32_t r = 0; r < n; r++) {
        rows[r] = (struct batch_row){ids[r], first + r, sequence};
        wanted[r] = r;
    }
    const struct forward_batch batch = {rows, n, wanted, logits != NULL ? n : 0};
    struct mtp_error error = {0};
    if (session_forward(session, &batch, &error) != MTP_OK)
        fail_msg("%s", error.message);
    if (logits != NULL)
        memcpy(logits, session->work.logits,
               (size_t)n * session->model->hparams.n_vocab * sizeof *logits);
    free(rows);
    free(wanted);
}

void fixture_run(mtp_session *session, int32_t sequence, const int32_t *ids, size_t n, size_t chunk,
                 float *logits)
{
    size_t n_vocab = session->model->hparams.n_vocab;
    for (size_t done = 0; done < n; done += chunk) {
        size_t take = n - done < chunk ? n - done : chunk;
        run_chunk(session, sequence, ids + done, (int32_t)take,
                  logits != NULL ? logits + done * n_vocab : NULL);
    }
}

void fixture_random_ids(int32_t *ids, size_t n, uint32_t n_vocab, uint32_t seed)
{
    uint64_t state = 0x9e3779b97f4a7c15ull ^ ((uint64_t)seed << 17);
    for (size_t i = 0; i < n; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ids[i] = (int32_t)((state >> 11) % n_vocab);
    }
}
