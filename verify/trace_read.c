/* trace_read.c - reading traces, which may be cut, damaged or hostile (trace.h). */
#include "trace_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <zstd.h>

#include "digest.h"

enum { IN_BYTES = 64 * 1024 };

struct trace_reader {
    char *label;
    FILE *stream;
    ZSTD_DStream *zstd;
    ZSTD_inBuffer in;
    bool input_ended, frame_ended;
    uint8_t *record;             /* the record last read: head, payload, tail */
    size_t record_bytes;         /* allocated */
    uint64_t run;
    struct trace_header header;
    int32_t *prompt;
    struct trace_totals totals;
    struct mtp_step_record step; /* the last one */
    uint32_t rows_read;          /* of its rows */
    float *row;
    bool header_read;
    uint8_t buffer[IN_BYTES];
};

static enum mtp_status fail_damaged(const struct trace_reader *r, const char *problem,
                                    struct mtp_error *error)
{
    if (!r->header_read)
        return mtp_fail(error, MTP_ERR_FORMAT, "%s: damaged in its header: %s", r->label, problem);
    return mtp_fail(error, MTP_ERR_FORMAT, "%s: damaged after step %" PRIu64 ": %s", r->label,
                    r->totals.steps, problem);
}

static enum mtp_status fail_cut(const struct trace_reader *r, struct mtp_error *error)
{
    if (!r->header_read)
        return mtp_fail(error, MTP_ERR_FORMAT, "%s is truncated: it ends inside its header",
                        r->label);
    return mtp_fail(error, MTP_ERR_FORMAT,
                    "%s is truncated: after step %" PRIu64 " its end is missing, as when a recording "
                    "was killed", r->label, r->totals.steps);
}

/* ---- bytes ------------------------------------------------------------------------------- */

static enum mtp_status fill(struct trace_reader *r, struct mtp_error *error)
{
    size_t n = fread(r->buffer, 1, sizeof r->buffer, r->stream);
    if (n == 0 && ferror(r->stream))
        return mtp_fail(error, MTP_ERR_IO, "%s cannot be read: %s", r->label, strerror(errno));
    r->in = (ZSTD_inBuffer){r->buffer, n, 0};
    r->input_ended = n == 0;
    return MTP_OK;
}

/* n bytes out of the compressed stream. */
static enum mtp_status read_bytes(struct trace_reader *r, void *bytes, size_t n,
                                  struct mtp_error *error)
{
    ZSTD_outBuffer out = {bytes, n, 0};
    while (out.pos < n) {
        if (r->frame_ended)
            return fail_damaged(r, "the data end without an end record", error);
        size_t before = out.pos + r->in.pos;
        size_t result = ZSTD_decompressStream(r->zstd, &out, &r->in);
        if (ZSTD_isError(result))
            return fail_damaged(r, ZSTD_getErrorName(result), error);
        r->frame_ended = result == 0;
        if (out.pos < n && !r->frame_ended && r->in.pos == r->in.size &&
            out.pos + r->in.pos == before) {
            if (r->input_ended)
                return fail_cut(r, error);
            enum mtp_status status = fill(r, error);
            if (status != MTP_OK)
                return status;
        }
    }
    return MTP_OK;
}

/* After the end record: the frame must close, with the right checksum, and be the last thing. */
static enum mtp_status read_frame_end(struct trace_reader *r, struct mtp_error *error)
{
    uint8_t extra;
    while (!r->frame_ended) {
        ZSTD_outBuffer out = {&extra, 1, 0};
        size_t before = r->in.pos;
        size_t result = ZSTD_decompressStream(r->zstd, &out, &r->in);
        if (ZSTD_isError(result))
            return fail_damaged(r, ZSTD_getErrorName(result), error);
        if (out.pos > 0)
            return fail_damaged(r, "more data follow the end record", error);
        r->frame_ended = result == 0;
        if (!r->frame_ended && r->in.pos == r->in.size && r->in.pos == before) {
            if (r->input_ended)
                return fail_cut(r, error);
            enum mtp_status status = fill(r, error);
            if (status != MTP_OK)
                return status;
        }
    }
    if (r->in.pos == r->in.size) {
        enum mtp_status status = fill(r, error);
        if (status != MTP_OK)
            return status;
    }
    if (r->in.pos < r->in.size)
        return fail_damaged(r, "more bytes follow the compressed data", error);
    return MTP_OK;
}

/* ---- records ----------------------------------------------------------------------------- */

static enum mtp_status reserve(struct trace_reader *r, size_t bytes, struct mtp_error *error)
{
    if (bytes <= r->record_bytes)
        return MTP_OK;
    uint8_t *grown = realloc(r->record, bytes);
    if (grown == NULL)
        return mtp_fail_memory(error, "a trace", bytes);
    r->record = grown;
    r->record_bytes = bytes;
    return MTP_OK;
}

static size_t longest(const struct trace_reader *r, uint8_t kind)
{
    switch (kind) {
    case TRACE_HEADER:
        return TRACE_MAX_HEADER;
    case TRACE_PROMPT:
        return 4 * TRACE_PROMPT_CHUNK;
    case TRACE_STEP:
        return TRACE_MAX_STEP;
    case TRACE_ROW:
        return 4 * (size_t)r->header.n_vocab;
    case TRACE_END:
        return TRACE_END_BYTES;
    default:
        return 0;
    }
}

/* The next record: its kind, and its payload in r->record after the head. */
static enum mtp_status read_record(struct trace_reader *r, uint8_t *kind, size_t *length,
                                   struct mtp_error *error)
{
    enum mtp_status status = reserve(r, TRACE_RECORD_HEAD, error);
    if (status == MTP_OK)
        status = read_bytes(r, r->record, TRACE_RECORD_HEAD, error);
    if (status != MTP_OK)
        return status;
    *kind = r->record[0];
    *length = (size_t)trace_load(r->record + 1, 4);
    if (*length == 0 || *length > longest(r, *kind))
        return fail_damaged(r, "a record has an impossible kind or length", error);
    status = reserve(r, TRACE_RECORD_HEAD + *length + TRACE_RECORD_TAIL, error);
    if (status == MTP_OK)
        status = read_bytes(r, r->record + TRACE_RECORD_HEAD, *length + TRACE_RECORD_TAIL, error);
    if (status != MTP_OK)
        return status;
    r->run = digest_bytes(r->run, r->record, TRACE_RECORD_HEAD + *length);
    if (trace_load(r->record + TRACE_RECORD_HEAD + *length, TRACE_RECORD_TAIL) != r->run)
        return fail_damaged(r, "a record does not have the digest written after it", error);
    return MTP_OK;
}

static enum mtp_status read_record_of(struct trace_reader *r, enum trace_kind wanted,
                                      size_t *length, struct mtp_error *error)
{
    uint8_t kind;
    enum mtp_status status = read_record(r, &kind, length, error);
    if (status == MTP_OK && kind != (uint8_t)wanted)
        return fail_damaged(r, "a record stands where another kind belongs", error);
    return status;
}

/* Fields of a payload, in order; reading beyond the end gives zeros and is remembered. */
struct fields {
    const uint8_t *at;
    size_t left;
    bool short_of;
};

static uint64_t take(struct fields *f, size_t bytes)
{
    if (bytes > f->left) {
        f->short_of = true;
        return 0;
    }
    uint64_t value = trace_load(f->at, bytes);
    f->at += bytes;
    f->left -= bytes;
    return value;
}

static float take_float(struct fields *f)
{
    uint32_t bits = (uint32_t)take(f, 4);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void take_string(struct fields *f, char text[TRACE_NAME_BYTES])
{
    size_t length = (size_t)take(f, 1);
    if (length > f->left) {
        f->short_of = true;
        return;
    }
    memcpy(text, f->at, length);
    text[length] = '\0';
    f->at += length;
    f->left -= length;
}

/* ---- header ------------------------------------------------------------------------------ */

static enum mtp_status check_prefix(struct trace_reader *r, struct mtp_error *error)
{
    uint8_t prefix[TRACE_PREFIX_BYTES];
    enum mtp_status status = fill(r, error);
    if (status != MTP_OK)
        return status;
    size_t n = r->in.size < TRACE_MAGIC_BYTES ? r->in.size : TRACE_MAGIC_BYTES;
    if (n == 0)
        return mtp_fail(error, MTP_ERR_FORMAT, "%s is empty, not a trace", r->label);
    if (memcmp(r->buffer, TRACE_MAGIC, n) != 0)
        return mtp_fail(error, MTP_ERR_FORMAT, "%s is not a trace: it does not begin with "
                        TRACE_MAGIC, r->label);
    if (r->in.size < sizeof prefix)
        return fail_cut(r, error);
    memcpy(prefix, r->buffer, sizeof prefix);
    uint32_t version = (uint32_t)trace_load(prefix + TRACE_MAGIC_BYTES, 4);
    if (version == 0 || version > TRACE_FORMAT_VERSION)
        return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                        "%s is a trace of format version %" PRIu32 ", and this program knows version "
                        "%d only: read it with the release that wrote it", r->label, version,
                        TRACE_FORMAT_VERSION);
    r->in.pos = sizeof prefix;
    r->run = digest_bytes(0, prefix, sizeof prefix);
    return MTP_OK;
}

static void parse_header(struct trace_header *h, struct fields *f)
{
    struct mtp_generation *g = &h->generation;
    h->model_digest = take(f, 8);
    h->arithmetic_version = (uint32_t)take(f, 4);
    h->n_vocab = (uint32_t)take(f, 4);
    h->n_ctx = (uint32_t)take(f, 4);
    h->n_batch = (uint32_t)take(f, 4);
    h->n_threads = (uint32_t)take(f, 4);
    h->kv_type = (enum mtp_kv_type)take(f, 1);
    h->moe_mode = (enum mtp_moe_mode)take(f, 1);
    h->strict = (enum mtp_strict_mode)take(f, 1);
    f->short_of |= f->left > 0 && f->at[0] > 1;
    h->logits = take(f, 1) == 1;
    g->n_draft = (int32_t)(uint32_t)take(f, 4);
    g->draft_head_rows = (uint32_t)take(f, 4);
    g->sampling.temperature = take_float(f);
    g->sampling.top_k = (uint32_t)take(f, 4);
    g->sampling.top_p = take_float(f);
    g->sampling.min_p = take_float(f);
    g->sampling.seed = take(f, 8);
    h->n_prompt = (size_t)take(f, 4);
    take_string(f, h->library_version);
    take_string(f, h->file_name);
    take_string(f, h->isa_name);
}

static bool header_is_possible(const struct trace_header *h)
{
    return h->n_vocab >= 1 && h->n_vocab <= TRACE_MAX_VOCABULARY &&
           h->n_prompt <= TRACE_MAX_PROMPT && h->kv_type <= MTP_KV_F32 &&
           h->moe_mode <= MTP_MOE_PER_TOKEN && h->strict <= MTP_STRICT_SAMPLE &&
           h->generation.n_draft >= MTP_DRAFT_AUTO && h->generation.n_draft <= MTP_MAX_DRAFT;
}

static bool is_id(const struct trace_reader *r, int32_t id)
{
    return id >= 0 && (uint32_t)id < r->header.n_vocab;
}

/* The room grows with what was read, never with what the header claims. */
static enum mtp_status read_prompt(struct trace_reader *r, struct mtp_error *error)
{
    size_t allocated = 0;
    for (size_t done = 0; done < r->header.n_prompt;) {
        size_t length;
        enum mtp_status status = read_record_of(r, TRACE_PROMPT, &length, error);
        if (status != MTP_OK)
            return status;
        size_t n = length / 4;
        if (length % 4 != 0 || n > r->header.n_prompt - done)
            return fail_damaged(r, "the prompt has another length than announced", error);
        if (done + n > allocated) {
            allocated = 2 * done + n;
            int32_t *grown = realloc(r->prompt, allocated * sizeof *grown);
            if (grown == NULL)
                return mtp_fail_memory(error, "the prompt of a trace", allocated * sizeof *grown);
            r->prompt = grown;
        }
        for (size_t i = 0; i < n; i++) {
            int32_t id = (int32_t)(uint32_t)trace_load(r->record + TRACE_RECORD_HEAD + 4 * i, 4);
            if (!is_id(r, id))
                return fail_damaged(r, "the prompt has an id beyond the vocabulary", error);
            r->prompt[done + i] = id;
        }
        done += n;
    }
    r->header.prompt = r->prompt;
    return MTP_OK;
}

static enum mtp_status read_header(struct trace_reader *r, struct mtp_error *error)
{
    size_t length;
    enum mtp_status status = read_record_of(r, TRACE_HEADER, &length, error);
    if (status != MTP_OK)
        return status;
    struct fields fields = {r->record + TRACE_RECORD_HEAD, length, false};
    parse_header(&r->header, &fields);
    if (fields.short_of || fields.left > 0 || !header_is_possible(&r->header))
        return fail_damaged(r, "a field is impossible", error);
    status = read_prompt(r, error);
    r->header_read = status == MTP_OK;
    return status;
}

/* ---- opening ----------------------------------------------------------------------------- */

enum mtp_status trace_open_stream(struct trace_reader **out, FILE *stream, const char *label,
                                  struct mtp_error *error)
{
    *out = NULL;
    struct trace_reader *r = calloc(1, sizeof *r);
    if (r == NULL) {
        fclose(stream);
        return mtp_fail_memory(error, "a trace", sizeof *r);
    }
    r->stream = stream;
    r->label = strdup(label);
    r->zstd = ZSTD_createDStream();
    enum mtp_status status = MTP_OK;
    if (r->label == NULL || r->zstd == NULL)
        status = mtp_fail_memory(error, "a trace", sizeof *r);
    else if (ZSTD_isError(ZSTD_DCtx_setParameter(r->zstd, ZSTD_d_windowLogMax,
                                                 TRACE_MAX_WINDOW_LOG)))
        status = mtp_fail(error, MTP_ERR_INTERNAL, "zstd refuses its settings");
    if (status == MTP_OK)
        status = check_prefix(r, error);
    if (status == MTP_OK)
        status = read_header(r, error);
    if (status != MTP_OK) {
        trace_reader_close(r);
        return status;
    }
    *out = r;
    return MTP_OK;
}

enum mtp_status trace_open(struct trace_reader **out, const char *path, struct mtp_error *error)
{
    *out = NULL;
    FILE *stream = fopen(path, "rbe");
    if (stream == NULL)
        return mtp_fail(error, MTP_ERR_IO, "%s cannot be opened: %s", path, strerror(errno));
    return trace_open_stream(out, stream, path, error);
}

void trace_reader_close(struct trace_reader *r)
{
    if (r == NULL)
        return;
    fclose(r->stream);
    ZSTD_freeDStream(r->zstd);
    free(r->label);
    free(r->record);
    free(r->prompt);
    free(r->row);
    free(r);
}

const char *trace_label(const struct trace_reader *r)
{
    return r->label;
}

const struct trace_header *trace_get_header(const struct trace_reader *r)
{
    return &r->header;
}

const struct trace_totals *trace_get_totals(const struct trace_reader *r)
{
    return &r->totals;
}

/* ---- steps ------------------------------------------------------------------------------- */

static enum mtp_status parse_step(struct trace_reader *r, size_t length, struct mtp_error *error)
{
    struct fields f = {r->record + TRACE_RECORD_HEAD, length, false};
    struct mtp_step_record *step = &r->step;
    memset(step, 0, sizeof *step);
    step->position = (uint32_t)take(&f, 4);
    step->n_drafts = (uint32_t)take(&f, 1);
    step->n_accepted = (uint32_t)take(&f, 1);
    step->n_tokens = (uint32_t)take(&f, 1);
    if (step->n_drafts > MTP_MAX_DRAFT || step->n_accepted > step->n_drafts ||
        step->n_tokens < 1 || step->n_tokens > step->n_drafts + 1)
        return fail_damaged(r, "a step counts more than it can hold", error);
    if (step->position != r->header.n_prompt + r->totals.tokens)
        return fail_damaged(r, "a step stands at a wrong position", error);
    bool ids = true;
    for (uint32_t i = 0; i < step->n_drafts; i++)
        ids &= is_id(r, step->drafts[i] = (int32_t)(uint32_t)take(&f, 4));
    for (uint32_t i = 0; i < step->n_tokens; i++)
        ids &= is_id(r, step->tokens[i] = (int32_t)(uint32_t)take(&f, 4));
    for (uint32_t i = 0; i < step->n_tokens; i++)
        step->digests[i] = take(&f, 8);
    if (f.short_of || f.left > 0)
        return fail_damaged(r, "a step has another length than its counts say", error);
    if (!ids)
        return fail_damaged(r, "a step has an id beyond the vocabulary", error);
    return MTP_OK;
}

static void count_step(struct trace_reader *r)
{
    r->totals.steps++;
    r->totals.tokens += r->step.n_tokens;
    r->totals.drafted += r->step.n_drafts;
    r->totals.accepted += r->step.n_accepted;
    for (uint32_t i = 0; i < r->step.n_tokens; i++)
        r->totals.digest = digest_chain(r->totals.digest, r->step.digests[i]);
}

static enum mtp_status read_end(struct trace_reader *r, size_t length, struct mtp_error *error)
{
    struct fields f = {r->record + TRACE_RECORD_HEAD, length, false};
    const struct trace_totals *t = &r->totals;
    const uint64_t numbers[] = {t->steps, t->tokens, t->drafted, t->accepted, t->digest};
    bool equal = length == TRACE_END_BYTES;
    for (size_t i = 0; i < 5; i++)
        equal &= take(&f, 8) == numbers[i];
    if (!equal)
        return fail_damaged(r, "the totals at the end are not those of the steps", error);
    return read_frame_end(r, error);
}

enum mtp_status trace_next(struct trace_reader *r, struct mtp_step_record *step, bool *ended,
                           struct mtp_error *error)
{
    *ended = false;
    const float *unwanted;
    enum mtp_status status = MTP_OK;
    while (status == MTP_OK && r->header.logits && r->rows_read < r->step.n_tokens)
        status = trace_next_row(r, &unwanted, error);
    uint8_t kind = 0;
    size_t length = 0;
    if (status == MTP_OK)
        status = read_record(r, &kind, &length, error);
    if (status != MTP_OK)
        return status;
    if (kind == TRACE_END) {
        *ended = true;
        return read_end(r, length, error);
    }
    if (kind != TRACE_STEP)
        return fail_damaged(r, "a record stands where another kind belongs", error);
    status = parse_step(r, length, error);
    if (status != MTP_OK)
        return status;
    r->rows_read = 0;
    count_step(r);
    *step = r->step;
    return MTP_OK;
}

enum mtp_status trace_next_row(struct trace_reader *r, const float **row, struct mtp_error *error)
{
    *row = NULL;
    if (!r->header.logits || r->rows_read >= r->step.n_tokens)
        return mtp_fail(error, MTP_ERR_USAGE, "%s: there is no further logits row", r->label);
    size_t length, n_vocab = r->header.n_vocab;
    enum mtp_status status = read_record_of(r, TRACE_ROW, &length, error);
    if (status != MTP_OK)
        return status;
    if (length != 4 * n_vocab)
        return fail_damaged(r, "a logits row is not as long as the vocabulary", error);
    if (r->row == NULL)
        r->row = malloc(n_vocab * sizeof *r->row);
    if (r->row == NULL)
        return mtp_fail_memory(error, "a logits row", n_vocab * sizeof *r->row);
    for (size_t i = 0; i < n_vocab; i++) {
        uint32_t bits = (uint32_t)trace_load(r->record + TRACE_RECORD_HEAD + 4 * i, 4);
        memcpy(&r->row[i], &bits, sizeof bits);
    }
    if (digest_row(r->row, n_vocab) != r->step.digests[r->rows_read])
        return fail_damaged(r, "a logits row does not have the digest of its step", error);
    r->rows_read++;
    *row = r->row;
    return MTP_OK;
}
