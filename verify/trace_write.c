/* trace_write.c - writing a trace while a run goes (trace.h). */
#include "trace_format.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "digest.h"

enum { OUT_BYTES = 64 * 1024, COMPRESSION_LEVEL = 3 };

struct trace_writer {
    char *path;
    int file;
    ZSTD_CCtx *zstd;
    uint8_t *record;            /* head, payload, tail */
    size_t record_bytes;        /* allocated */
    uint64_t run;               /* digest of all records so far */
    uint32_t n_vocab;
    bool logits;
    uint64_t next_position;
    struct trace_totals totals;
    struct mtp_error failure;   /* the first; MTP_OK when all went well */
    uint8_t out[OUT_BYTES];
};

static void fail_write(struct trace_writer *w, int reason)
{
    mtp_fail(&w->failure, MTP_ERR_IO, "%s: the trace cannot be written: %s", w->path,
             strerror(reason));
}

static void write_bytes(struct trace_writer *w, const uint8_t *bytes, size_t n)
{
    while (n > 0 && w->failure.status == MTP_OK) {
        ssize_t written = write(w->file, bytes, n);
        if (written > 0) {
            bytes += written;
            n -= (size_t)written;
        } else if (written == 0 || errno != EINTR) {
            fail_write(w, written == 0 ? ENOSPC : errno);
        }
    }
}

/* Compresses n bytes; flush and end leave nothing behind in zstd's buffers. */
static void compress(struct trace_writer *w, const void *bytes, size_t n, ZSTD_EndDirective how)
{
    ZSTD_inBuffer in = {bytes, n, 0};
    for (bool more = true; more && w->failure.status == MTP_OK;) {
        ZSTD_outBuffer out = {w->out, sizeof w->out, 0};
        size_t left = ZSTD_compressStream2(w->zstd, &out, &in, how);
        if (ZSTD_isError(left)) {
            mtp_fail(&w->failure, MTP_ERR_INTERNAL, "%s: the trace cannot be compressed: %s",
                     w->path, ZSTD_getErrorName(left));
            return;
        }
        write_bytes(w, w->out, out.pos);
        more = how == ZSTD_e_continue ? in.pos < in.size : left > 0;
    }
}

/* Where a record's payload of n bytes is to be put, or NULL after a failure. */
static uint8_t *begin(struct trace_writer *w, enum trace_kind kind, size_t n)
{
    if (w->failure.status != MTP_OK)
        return NULL;
    size_t needed = TRACE_RECORD_HEAD + n + TRACE_RECORD_TAIL;
    if (needed > w->record_bytes) {
        uint8_t *grown = realloc(w->record, needed);
        if (grown == NULL) {
            mtp_fail_memory(&w->failure, "a trace", needed);
            return NULL;
        }
        w->record = grown;
        w->record_bytes = needed;
    }
    trace_store(w->record, (uint64_t)kind, 1);
    trace_store(w->record + 1, n, 4);
    return w->record + TRACE_RECORD_HEAD;
}

/* Writes the record whose payload of n bytes begin's answer has. */
static void finish(struct trace_writer *w, size_t n)
{
    w->run = digest_bytes(w->run, w->record, TRACE_RECORD_HEAD + n);
    trace_store(w->record + TRACE_RECORD_HEAD + n, w->run, TRACE_RECORD_TAIL);
    compress(w, w->record, TRACE_RECORD_HEAD + n + TRACE_RECORD_TAIL, ZSTD_e_continue);
}

/* ---- header ------------------------------------------------------------------------------ */

static uint8_t *put(uint8_t *at, uint64_t value, size_t bytes)
{
    trace_store(at, value, bytes);
    return at + bytes;
}

static uint8_t *put_string(uint8_t *at, const char *text)
{
    size_t length = strnlen(text, TRACE_NAME_BYTES - 1);
    at = put(at, length, 1);
    memcpy(at, text, length);
    return at + length;
}

static void write_header(struct trace_writer *w, const struct trace_header *h)
{
    uint8_t *payload = begin(w, TRACE_HEADER, TRACE_MAX_HEADER);
    if (payload == NULL)
        return;
    const struct mtp_generation *g = &h->generation;
    uint8_t *at = put(payload, h->model_digest, 8);
    at = put(at, h->arithmetic_version, 4);
    at = put(at, h->n_vocab, 4);
    at = put(at, h->n_ctx, 4);
    at = put(at, h->n_batch, 4);
    at = put(at, h->n_threads, 4);
    at = put(at, h->kv_type, 1);
    at = put(at, h->moe_mode, 1);
    at = put(at, h->strict, 1);
    at = put(at, h->logits, 1);
    at = put(at, (uint32_t)g->n_draft, 4);
    at = put(at, g->draft_head_rows, 4);
    at = put(at, trace_float_bits(g->sampling.temperature), 4);
    at = put(at, g->sampling.top_k, 4);
    at = put(at, trace_float_bits(g->sampling.top_p), 4);
    at = put(at, trace_float_bits(g->sampling.min_p), 4);
    at = put(at, g->sampling.seed, 8);
    at = put(at, h->n_prompt, 4);
    at = put_string(at, h->library_version);
    at = put_string(at, h->file_name);
    at = put_string(at, h->isa_name);
    size_t n = (size_t)(at - payload);
    trace_store(w->record + 1, n, 4);
    finish(w, n);
}

static void write_prompt(struct trace_writer *w, const int32_t *ids, size_t n)
{
    for (size_t done = 0; done < n;) {
        size_t take = n - done < TRACE_PROMPT_CHUNK ? n - done : TRACE_PROMPT_CHUNK;
        uint8_t *payload = begin(w, TRACE_PROMPT, 4 * take);
        if (payload == NULL)
            return;
        for (size_t i = 0; i < take; i++)
            trace_store(payload + 4 * i, (uint32_t)ids[done + i], 4);
        finish(w, 4 * take);
        done += take;
    }
}

/* ---- opening ----------------------------------------------------------------------------- */

/* A slip of the command line must not cost a model. */
static enum mtp_status refuse_model_file(const char *path, struct mtp_error *error)
{
    struct stat about;
    if (stat(path, &about) != 0 || !S_ISREG(about.st_mode))
        return MTP_OK;
    char magic[4] = {0};
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = file < 0 ? 0 : read(file, magic, sizeof magic);
    if (file >= 0)
        close(file);
    if (n == (ssize_t)sizeof magic && memcmp(magic, "GGUF", 4) == 0)
        return mtp_fail(error, MTP_ERR_USAGE,
                        "%s is a model file; a trace will not be written over it", path);
    return MTP_OK;
}

static enum mtp_status set_up_zstd(struct trace_writer *w, struct mtp_error *error)
{
    w->zstd = ZSTD_createCCtx();
    if (w->zstd == NULL)
        return mtp_fail_memory(error, "a trace", sizeof *w);
    size_t result = ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, COMPRESSION_LEVEL);
    if (!ZSTD_isError(result))
        result = ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_windowLog, TRACE_WINDOW_LOG);
    if (!ZSTD_isError(result))
        result = ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_checksumFlag, 1);
    if (ZSTD_isError(result))
        return mtp_fail(error, MTP_ERR_INTERNAL, "zstd refuses its settings: %s",
                        ZSTD_getErrorName(result));
    return MTP_OK;
}

static void release(struct trace_writer *w)
{
    if (w->file >= 0)
        close(w->file);
    ZSTD_freeCCtx(w->zstd);
    free(w->record);
    free(w->path);
    free(w);
}

static enum mtp_status open_file(struct trace_writer *w, const char *path, struct mtp_error *error)
{
    w->path = strdup(path);
    if (w->path == NULL)
        return mtp_fail_memory(error, "a trace", strlen(path));
    enum mtp_status status = refuse_model_file(path, error);
    if (status == MTP_OK)
        status = set_up_zstd(w, error);
    if (status != MTP_OK)
        return status;
    w->file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->file < 0)
        return mtp_fail(error, MTP_ERR_IO, "%s: the trace cannot be created: %s", path,
                        strerror(errno));
    return MTP_OK;
}

enum mtp_status trace_create(struct trace_writer **out, const char *path,
                             const struct trace_header *header, struct mtp_error *error)
{
    *out = NULL;
    if (header->n_prompt > TRACE_MAX_PROMPT || header->n_vocab > TRACE_MAX_VOCABULARY)
        return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                        "%s: a trace holds at most %d prompt ids and a vocabulary of %d", path,
                        TRACE_MAX_PROMPT, TRACE_MAX_VOCABULARY);
    struct trace_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return mtp_fail_memory(error, "a trace", sizeof *w);
    w->file = -1;
    w->n_vocab = header->n_vocab;
    w->logits = header->logits;
    w->next_position = header->n_prompt;
    enum mtp_status status = open_file(w, path, error);
    if (status == MTP_OK) {
        uint8_t prefix[TRACE_PREFIX_BYTES] = TRACE_MAGIC;
        trace_store(prefix + TRACE_MAGIC_BYTES, TRACE_FORMAT_VERSION, 4);
        w->run = digest_bytes(0, prefix, sizeof prefix);
        write_bytes(w, prefix, sizeof prefix);
        write_header(w, header);
        write_prompt(w, header->prompt, header->n_prompt);
        compress(w, NULL, 0, ZSTD_e_flush);
        status = w->failure.status;
        if (status != MTP_OK && error != NULL)
            *error = w->failure;
    }
    if (status != MTP_OK) {
        release(w);
        return status;
    }
    *out = w;
    return MTP_OK;
}

/* ---- steps ------------------------------------------------------------------------------- */

static bool check_step(struct trace_writer *w, const struct mtp_step_record *step, uint32_t n_vocab)
{
    if (w->failure.status != MTP_OK)
        return false;
    if (step->position != w->next_position)
        mtp_fail(&w->failure, MTP_ERR_USAGE,
                 "%s: a trace is of one prompt and one answer, but a step began at position %" PRIu32
                 " where %" PRIu64 " was next", w->path, step->position, w->next_position);
    else if (step->n_drafts > MTP_MAX_DRAFT || step->n_accepted > step->n_drafts ||
             step->n_tokens < 1 || step->n_tokens > step->n_drafts + 1 || n_vocab != w->n_vocab)
        mtp_fail(&w->failure, MTP_ERR_INTERNAL,
                 "%s: a step of %" PRIu32 " drafts, %" PRIu32 " accepted and %" PRIu32
                 " tokens over a vocabulary of %" PRIu32 " cannot be", w->path, step->n_drafts,
                 step->n_accepted, step->n_tokens, n_vocab);
    return w->failure.status == MTP_OK;
}

static void write_row(struct trace_writer *w, const float *row)
{
    size_t n = 4 * (size_t)w->n_vocab;
    uint8_t *payload = begin(w, TRACE_ROW, n);
    if (payload == NULL)
        return;
    for (size_t i = 0; i < w->n_vocab; i++)
        trace_store(payload + 4 * i, trace_float_bits(row[i]), 4);
    finish(w, n);
}

static void count(struct trace_totals *totals, const struct mtp_step_record *step)
{
    totals->steps++;
    totals->tokens += step->n_tokens;
    totals->drafted += step->n_drafts;
    totals->accepted += step->n_accepted;
    for (uint32_t i = 0; i < step->n_tokens; i++)
        totals->digest = digest_chain(totals->digest, step->digests[i]);
}

void trace_write_step(struct trace_writer *w, const struct mtp_step_record *step,
                      const float *const *rows, uint32_t n_vocab)
{
    if (!check_step(w, step, n_vocab))
        return;
    uint8_t *payload = begin(w, TRACE_STEP, TRACE_MAX_STEP);
    if (payload == NULL)
        return;
    uint8_t *at = put(payload, step->position, 4);
    at = put(at, step->n_drafts, 1);
    at = put(at, step->n_accepted, 1);
    at = put(at, step->n_tokens, 1);
    for (uint32_t i = 0; i < step->n_drafts; i++)
        at = put(at, (uint32_t)step->drafts[i], 4);
    for (uint32_t i = 0; i < step->n_tokens; i++)
        at = put(at, (uint32_t)step->tokens[i], 4);
    for (uint32_t i = 0; i < step->n_tokens; i++)
        at = put(at, step->digests[i], 8);
    size_t n = (size_t)(at - payload);
    trace_store(w->record + 1, n, 4);
    finish(w, n);
    for (uint32_t i = 0; i < step->n_tokens && w->logits; i++)
        write_row(w, rows[i]);
    compress(w, NULL, 0, ZSTD_e_flush); /* so that a crash later on costs nothing of this step */
    w->next_position += step->n_tokens;
    count(&w->totals, step);
}

/* ---- closing ----------------------------------------------------------------------------- */

enum mtp_status trace_close(struct trace_writer *w, struct mtp_error *error)
{
    if (w == NULL)
        return MTP_OK;
    const uint64_t numbers[] = {w->totals.steps, w->totals.tokens, w->totals.drafted,
                                w->totals.accepted, w->totals.digest};
    uint8_t *payload = begin(w, TRACE_END, TRACE_END_BYTES);
    if (payload != NULL) {
        for (size_t i = 0; i < 5; i++)
            trace_store(payload + 8 * i, numbers[i], 8);
        finish(w, TRACE_END_BYTES);
        compress(w, NULL, 0, ZSTD_e_end);
    }
    int file = w->file;
    w->file = -1;
    if (close(file) != 0 && w->failure.status == MTP_OK)
        fail_write(w, errno);
    enum mtp_status status = w->failure.status;
    if (status != MTP_OK && error != NULL)
        *error = w->failure;
    release(w);
    return status;
}
