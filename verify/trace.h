/* trace.h - recordings of runs: what was computed, so that another machine can compute it again and
 * compare (docs/traces.md has the bytes).
 *
 * A trace is written as the run goes and can be read up to the last whole step after a crash. Reading
 * trusts nothing: every length is checked, memory is bounded whatever the file says.
 */
#ifndef MTP_VERIFY_TRACE_H
#define MTP_VERIFY_TRACE_H

#include <stdio.h>

#include "error.h"

enum {
    TRACE_FORMAT_VERSION = 1,
    TRACE_NAME_BYTES = 256,         /* with the terminating zero */
    TRACE_MAX_PROMPT = 1 << 24,     /* ids; no session holds more */
    TRACE_MAX_VOCABULARY = 1 << 22, /* so that a row stays below 16 MiB */
};

struct trace_header {
    uint64_t model_digest;          /* mtp_model_digest */
    uint32_t arithmetic_version;    /* mtp_arithmetic_version */
    char library_version[TRACE_NAME_BYTES];
    char file_name[TRACE_NAME_BYTES]; /* of the model, without folders; any bytes but zero */
    char isa_name[TRACE_NAME_BYTES];
    uint32_t n_vocab, n_ctx, n_batch, n_threads;
    enum mtp_kv_type kv_type;
    enum mtp_moe_mode moe_mode;
    enum mtp_strict_mode strict;
    struct mtp_generation generation;
    bool logits;                    /* the logits rows follow each step */
    size_t n_prompt;
    const int32_t *prompt;          /* positions 0 .. n_prompt - 1; the first step follows them */
};

struct trace_totals {
    uint64_t steps, tokens, drafted, accepted;
    uint64_t digest;                /* chain of the digests of the rows tokens were drawn from */
};

/* ---- writing ------------------------------------------------------------------------------ */

struct trace_writer;

/* Creates path, or empties it, and writes the header. A model file is not overwritten. */
enum mtp_status trace_create(struct trace_writer **out, const char *path,
                             const struct trace_header *header, struct mtp_error *error);
/* rows: as many as tokens, n_vocab floats each; not looked at unless the header promised logits. What
 * goes wrong is remembered for trace_close, and nothing is written after it. */
void trace_write_step(struct trace_writer *writer, const struct mtp_step_record *step,
                      const float *const *rows, uint32_t n_vocab);
/* Writes the totals, closes the file and frees the writer (NULL: nothing). The status is that of the
 * first thing that went wrong. */
enum mtp_status trace_close(struct trace_writer *writer, struct mtp_error *error);

/* ---- reading ------------------------------------------------------------------------------ */

struct trace_reader;

/* Reads the header and the prompt. */
enum mtp_status trace_open(struct trace_reader **out, const char *path, struct mtp_error *error);
/* As trace_open, from a stream that becomes the reader's, also on failure; label names it. */
enum mtp_status trace_open_stream(struct trace_reader **out, FILE *stream, const char *label,
                                  struct mtp_error *error);
void trace_reader_close(struct trace_reader *reader);

const char *trace_label(const struct trace_reader *reader);
const struct trace_header *trace_get_header(const struct trace_reader *reader);
/* Of the steps read so far; all of them once trace_next has said *ended. */
const struct trace_totals *trace_get_totals(const struct trace_reader *reader);

/* The next step, or *ended after the last one, when the totals and checksums were found right. A file
 * that is cut or damaged gives the steps before the fault first, then MTP_ERR_FORMAT. */
enum mtp_status trace_next(struct trace_reader *reader, struct mtp_step_record *step, bool *ended,
                           struct mtp_error *error);
/* The row that the step's next token was drawn from: to be called at most n_tokens times a step, only
 * when the header promised logits. n_vocab floats, valid until the next call of this reader. */
enum mtp_status trace_next_row(struct trace_reader *reader, const float **row,
                               struct mtp_error *error);

#endif
