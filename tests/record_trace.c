/* record_trace - records the golden traces and those of test_mtptrace.sh through the public interface.
 *     record_trace [options] OUT MODEL PROMPT
 * Generates exactly -n tokens: end tokens do not end it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "mtp.h"

struct arguments {
    const char *files[3]; /* OUT MODEL PROMPT */
    const char *mtp_path;
    uint32_t n_tokens;
    bool logits;
    struct mtp_generation generation;
    struct mtp_session_options session;
};

/* Options with a number. */
static bool set_number(struct arguments *a, const char *name, const char *value)
{
    uint32_t n = (uint32_t)strtoul(value, NULL, 10);
    if (strcmp(name, "-n") == 0)
        a->n_tokens = n;
    else if (strcmp(name, "--draft") == 0)
        a->generation.n_draft = (int32_t)n;
    else if (strcmp(name, "--temp") == 0)
        a->generation.sampling.temperature = strtof(value, NULL);
    else if (strcmp(name, "--seed") == 0)
        a->generation.sampling.seed = n;
    else if (strcmp(name, "-t") == 0)
        a->session.n_threads = n;
    else if (strcmp(name, "--batch") == 0)
        a->session.n_batch = n;
    else if (strcmp(name, "--mtp-model") == 0)
        a->mtp_path = value;
    else
        return false;
    return true;
}

static bool set_flag(struct arguments *a, const char *name)
{
    if (strcmp(name, "--logits") == 0)
        a->logits = true;
    else if (strcmp(name, "--scalar") == 0)
        a->session.isa = MTP_ISA_SCALAR;
    else if (strcmp(name, "--kv-f32") == 0)
        a->session.kv_type = MTP_KV_F32;
    else if (strcmp(name, "--moe-per-token") == 0)
        a->session.moe_mode = MTP_MOE_PER_TOKEN;
    else
        return false;
    return true;
}

static bool parse(struct arguments *a, int argc, char **argv)
{
    size_t n_files = 0;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-' && n_files < 3)
            a->files[n_files++] = argv[i];
        else if (set_flag(a, argv[i]))
            continue;
        else if (i + 1 < argc && set_number(a, argv[i], argv[i + 1]))
            i++;
        else
            return false;
    }
    return n_files == 3;
}

/* Counts down; the last token ends the run. */
static bool count_down(void *user, int32_t id, uint32_t position)
{
    uint32_t *left = user;
    (void)id;
    (void)position;
    return --*left > 0;
}

static enum mtp_status generate(const struct arguments *a, mtp_session *session,
                                struct mtp_error *error)
{
    uint32_t left = a->n_tokens;
    enum mtp_status status = MTP_OK;
    while (left > 0 && status == MTP_OK)
        status = mtp_session_step(session, &a->generation, count_down, &left, error);
    return status;
}

static enum mtp_status record(const struct arguments *a, mtp_model *model, mtp_session *session,
                              struct mtp_error *error)
{
    int32_t *ids = NULL;
    size_t n = 0;
    mtp_trace *trace = NULL;
    enum mtp_status status = mtp_tokenize(model, a->files[2], strlen(a->files[2]),
                                          MTP_TEXT_SPECIAL, &ids, &n, error);
    if (status == MTP_OK)
        status = mtp_trace_create(&trace, a->files[0], session, &a->generation, ids, n, a->logits,
                                  error);
    if (status == MTP_OK)
        status = mtp_session_append(session, ids, n, error);
    if (status == MTP_OK)
        status = generate(a, session, error);
    enum mtp_status closed = mtp_trace_close(trace, status == MTP_OK ? error : NULL);
    free(ids);
    return status != MTP_OK ? status : closed;
}

int main(int argc, char **argv)
{
    struct arguments a = {.n_tokens = 64};
    a.generation.sampling = (struct mtp_sampling){0.0f, 40, 0.95f, 0.05f, 0};
    if (!parse(&a, argc, argv)) {
        fprintf(stderr, "usage: record_trace [-n N] [--draft N] [--temp T] [--seed N] [--logits] "
                "[--mtp-model FILE] [-t N] [--batch N] [--scalar] [--kv-f32] [--moe-per-token] "
                "OUT MODEL PROMPT\n");
        return 2;
    }
    const struct mtp_model_options model_options = {.mtp_path = a.mtp_path};
    mtp_model *model = NULL;
    mtp_session *session = NULL;
    struct mtp_error error = {MTP_OK, ""};
    a.session.draft = a.generation.n_draft != 0;
    a.session.device = MTP_DEVICE_CPU;
    enum mtp_status status = mtp_model_open(&model, a.files[1], &model_options, &error);
    if (status == MTP_OK)
        status = mtp_session_open(&session, model, &a.session, &error);
    if (status == MTP_OK)
        status = record(&a, model, session, &error);
    mtp_session_close(session);
    mtp_model_close(model);
    if (status != MTP_OK)
        fprintf(stderr, "record_trace: %s\n", error.message);
    return (int)status;
}
