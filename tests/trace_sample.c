/* trace_sample.c - see trace_sample.h. */
#include "tests/trace_sample.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "verify/digest.h"
#include "verify/trace_format.h"

static const int32_t sample_prompt[SAMPLE_PROMPT] = {1, 19, 7};

struct trace_header trace_sample_header(bool logits)
{
    return (struct trace_header){
        .model_digest = 0x0123456789abcdefull,
        .arithmetic_version = 1,
        .library_version = "0.1.0",
        .file_name = "toy\x1b[1m.gguf",
        .isa_name = "scalar",
        .n_vocab = SAMPLE_VOCABULARY,
        .n_ctx = 64,
        .n_batch = 16,
        .n_threads = 2,
        .kv_type = MTP_KV_F32,
        .moe_mode = MTP_MOE_PER_TOKEN,
        .strict = MTP_STRICT_SAMPLE,
        .generation = {{0.75f, 40, 0.95f, 0.05f, 0xfedcba9876543210ull}, 3, 11, 0},
        .logits = logits,
        .n_prompt = SAMPLE_PROMPT,
        .prompt = sample_prompt,
    };
}

/* Steps of 1, 3, 2 and 2 tokens; the last one was stopped before all it could give. */
void trace_sample_step(struct mtp_step_record *step, uint32_t i,
                       float rows[MTP_MAX_DRAFT + 1][SAMPLE_VOCABULARY])
{
    static const struct {
        uint32_t position, n_drafts, n_accepted, n_tokens;
    } shapes[SAMPLE_STEPS] = {{3, 0, 0, 1}, {4, 2, 2, 3}, {7, 3, 1, 2}, {9, 8, 4, 2}};
    memset(step, 0, sizeof *step);
    step->position = shapes[i].position;
    step->n_drafts = shapes[i].n_drafts;
    step->n_accepted = shapes[i].n_accepted;
    step->n_tokens = shapes[i].n_tokens;
    for (uint32_t d = 0; d < step->n_drafts; d++)
        step->drafts[d] = (int32_t)((i + 3 * d + 2) % SAMPLE_VOCABULARY);
    for (uint32_t t = 0; t < step->n_tokens; t++) {
        step->tokens[t] = t == 0 ? (int32_t)i : step->drafts[t - 1];
        for (uint32_t v = 0; v < SAMPLE_VOCABULARY; v++)
            rows[t][v] = (float)(int)(v * 7 % 11) - 0.125f * (float)(step->position + t);
        rows[t][step->tokens[t]] = 50.0f;
        step->digests[t] = digest_row(rows[t], SAMPLE_VOCABULARY);
    }
}

enum mtp_status trace_sample_write(const char *path, bool logits, struct mtp_error *error)
{
    const struct trace_header header = trace_sample_header(logits);
    struct trace_writer *writer;
    enum mtp_status status = trace_create(&writer, path, &header, error);
    if (status != MTP_OK)
        return status;
    for (uint32_t i = 0; i < SAMPLE_STEPS; i++) {
        float rows[MTP_MAX_DRAFT + 1][SAMPLE_VOCABULARY];
        const float *pointers[MTP_MAX_DRAFT + 1];
        struct mtp_step_record step;
        trace_sample_step(&step, i, rows);
        for (size_t t = 0; t <= MTP_MAX_DRAFT; t++)
            pointers[t] = rows[t];
        trace_write_step(writer, &step, pointers, SAMPLE_VOCABULARY);
    }
    return trace_close(writer, error);
}

unsigned char *read_whole_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    *size = 0;
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        return NULL;
    long length = ftell(file);
    rewind(file);
    unsigned char *bytes = length < 0 ? NULL : malloc((size_t)length + 1);
    if (bytes != NULL)
        *size = fread(bytes, 1, (size_t)length, file);
    fclose(file);
    return bytes;
}

unsigned char *trace_to_records(const unsigned char *trace, size_t n, size_t *records_size)
{
    enum { MOST = 1 << 20 };
    unsigned char *plain = malloc(MOST), *records = malloc(MOST);
    ZSTD_DCtx *zstd = ZSTD_createDCtx();
    ZSTD_inBuffer in = {trace + TRACE_PREFIX_BYTES, n - TRACE_PREFIX_BYTES, 0};
    ZSTD_outBuffer out = {plain, MOST, 0};
    size_t left = plain != NULL && records != NULL ? ZSTD_decompressStream(zstd, &out, &in) : 1;
    *records_size = 0;
    for (size_t at = 0; left == 0 && at < out.pos;) {
        size_t record = TRACE_RECORD_HEAD + (size_t)trace_load(plain + at + 1, 4);
        memcpy(records + *records_size, plain + at, record);
        *records_size += record;
        at += record + TRACE_RECORD_TAIL;
    }
    ZSTD_freeDCtx(zstd);
    free(plain);
    if (left == 0)
        return records;
    free(records);
    return NULL;
}

/* Every record is followed by the digest of everything before; the last may be short. */
static unsigned char *sign(const unsigned char *records, size_t n, size_t *signed_size)
{
    uint8_t prefix[TRACE_PREFIX_BYTES] = TRACE_MAGIC;
    trace_store(prefix + TRACE_MAGIC_BYTES, TRACE_FORMAT_VERSION, 4);
    uint64_t run = digest_bytes(0, prefix, sizeof prefix);
    unsigned char *out = malloc(n + TRACE_RECORD_TAIL * (n / TRACE_RECORD_HEAD + 1));
    size_t used = 0;
    for (size_t at = 0; out != NULL && n - at >= TRACE_RECORD_HEAD;) {
        size_t length = (size_t)trace_load(records + at + 1, 4);
        size_t left = n - at - TRACE_RECORD_HEAD;
        size_t take = TRACE_RECORD_HEAD + (length < left ? length : left);
        memcpy(out + used, records + at, take);
        run = digest_bytes(run, records + at, take);
        trace_store(out + used + take, run, TRACE_RECORD_TAIL);
        used += take + TRACE_RECORD_TAIL;
        at += take;
    }
    *signed_size = used;
    return out;
}

unsigned char *trace_from_records(const unsigned char *records, size_t n, size_t *trace_size)
{
    size_t size;
    unsigned char *plain = sign(records, n, &size);
    size_t bound = TRACE_PREFIX_BYTES + ZSTD_compressBound(size);
    unsigned char *trace = malloc(bound);
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    if (plain == NULL || trace == NULL || zstd == NULL)
        abort();
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
    memcpy(trace, TRACE_MAGIC, TRACE_MAGIC_BYTES);
    trace_store(trace + TRACE_MAGIC_BYTES, TRACE_FORMAT_VERSION, 4);
    size_t compressed = ZSTD_compress2(zstd, trace + TRACE_PREFIX_BYTES,
                                       bound - TRACE_PREFIX_BYTES, plain, size);
    ZSTD_freeCCtx(zstd);
    free(plain);
    if (ZSTD_isError(compressed))
        abort();
    *trace_size = TRACE_PREFIX_BYTES + compressed;
    return trace;
}

static enum mtp_status read_steps(struct trace_reader *reader, struct trace_outcome *outcome)
{
    for (;;) {
        struct mtp_step_record step;
        bool ended;
        enum mtp_status status = trace_next(reader, &step, &ended, &outcome->error);
        if (status == MTP_OK && ended)
            outcome->digest = trace_get_totals(reader)->digest;
        if (status != MTP_OK || ended)
            return status;
        outcome->steps++;
        outcome->tokens += step.n_tokens;
        /* Every other step leaves its rows to trace_next. */
        for (uint32_t i = 0; trace_get_header(reader)->logits && i < step.n_tokens &&
                             outcome->steps % 2 == 1; i++) {
            const float *row;
            status = trace_next_row(reader, &row, &outcome->error);
            if (status != MTP_OK)
                return status;
            outcome->rows++;
        }
    }
}

void trace_read_bytes(struct trace_outcome *outcome, const unsigned char *bytes, size_t n)
{
    memset(outcome, 0, sizeof *outcome);
    /* fmemopen takes no empty buffer */
    FILE *stream = n > 0 ? fmemopen((void *)(uintptr_t)bytes, n, "rb") : fopen("/dev/null", "rb");
    struct trace_reader *reader;
    if (stream == NULL)
        abort();
    outcome->status = trace_open_stream(&reader, stream, "a.trace", &outcome->error);
    outcome->opened = outcome->status == MTP_OK;
    if (outcome->opened) {
        outcome->status = read_steps(reader, outcome);
        trace_reader_close(reader);
    }
    if (outcome->status != MTP_OK &&
        (outcome->error.status != outcome->status || strlen(outcome->error.message) < 10 ||
         strchr(outcome->error.message, '\n') != NULL))
        abort(); /* a failure owes a sentence */
}
