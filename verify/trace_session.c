/* trace_session.c - the public side of traces: records the steps of a session (mtp.h). */
#include <stdlib.h>
#include <string.h>

#include "session.h"
#include "trace.h"

struct mtp_trace {
    struct trace_writer *writer;
    mtp_session *session;
    uint32_t n_vocab;
};

static void copy_name(char out[TRACE_NAME_BYTES], const char *text)
{
    size_t length = strnlen(text, TRACE_NAME_BYTES - 1);
    memcpy(out, text, length);
    out[length] = '\0';
}

static const char *without_folders(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static void describe(struct trace_header *h, const mtp_session *session,
                     const struct mtp_generation *generation)
{
    const struct mtp_session_options *options = &session->options;
    *h = (struct trace_header){
        .model_digest = mtp_model_digest(session->model),
        .arithmetic_version = (uint32_t)mtp_arithmetic_version(),
        .n_vocab = session->model->hparams.n_vocab,
        .n_ctx = options->n_ctx,
        .n_batch = options->n_batch,
        .n_threads = options->n_threads,
        .kv_type = options->kv_type,
        .moe_mode = options->moe_mode,
        .strict = options->strict,
        .generation = *generation,
    };
    copy_name(h->library_version, mtp_version());
    copy_name(h->file_name, without_folders(gguf_path(session->model->file)));
    copy_name(h->isa_name, mtp_session_isa_name(session));
}

static void record(void *user, const struct mtp_step_record *step, const float *const *rows)
{
    struct mtp_trace *trace = user;
    trace_write_step(trace->writer, step, rows, trace->n_vocab);
}

enum mtp_status mtp_trace_create(mtp_trace **out, const char *path, mtp_session *session,
                                 const struct mtp_generation *generation, const int32_t *prompt,
                                 size_t n_prompt, bool logits, struct mtp_error *error)
{
    *out = NULL;
    if (session->observer != NULL)
        return mtp_fail(error, MTP_ERR_USAGE, "%s: this session is recorded already", path);
    if (session->options.fast)
        return mtp_fail(error, MTP_ERR_USAGE, "%s: a trace records exact bits, which fast gives up: choose "
                        "one of them", path);
    struct trace_header header;
    describe(&header, session, generation);
    header.logits = logits;
    header.prompt = prompt;
    header.n_prompt = n_prompt;
    mtp_trace *trace = calloc(1, sizeof *trace);
    if (trace == NULL)
        return mtp_fail_memory(error, "a trace", sizeof *trace);
    trace->session = session;
    trace->n_vocab = header.n_vocab;
    enum mtp_status status = trace_create(&trace->writer, path, &header, error);
    if (status != MTP_OK) {
        free(trace);
        return status;
    }
    session->observer = record;
    session->observer_user = trace;
    *out = trace;
    return MTP_OK;
}

enum mtp_status mtp_trace_close(mtp_trace *trace, struct mtp_error *error)
{
    if (trace == NULL)
        return MTP_OK;
    trace->session->observer = NULL;
    trace->session->observer_user = NULL;
    enum mtp_status status = trace_close(trace->writer, error);
    free(trace);
    return status;
}
