/* trace_sample.h - a small made-up run, and the files that its traces are, for tests and seeds. */
#ifndef TESTS_TRACE_SAMPLE_H
#define TESTS_TRACE_SAMPLE_H

#include "verify/trace.h"

enum { SAMPLE_VOCABULARY = 20, SAMPLE_PROMPT = 3, SAMPLE_STEPS = 4, SAMPLE_TOKENS = 8 };

/* The header of the run; the prompt is static. */
struct trace_header trace_sample_header(bool logits);
/* Step i of the run, and its rows. */
void trace_sample_step(struct mtp_step_record *step, uint32_t i,
                       float rows[MTP_MAX_DRAFT + 1][SAMPLE_VOCABULARY]);
/* Writes the run to path. */
enum mtp_status trace_sample_write(const char *path, bool logits, struct mtp_error *error);

/* A whole file; the caller frees. NULL when it cannot be read. */
unsigned char *read_whole_file(const char *path, size_t *size);

/* The records of a trace, head and payload, without the digest after each; and the trace of such
 * records, with the digests they need and the checksum right. The caller frees; NULL on failure. */
unsigned char *trace_to_records(const unsigned char *trace, size_t n, size_t *records_size);
unsigned char *trace_from_records(const unsigned char *records, size_t n, size_t *trace_size);

/* Reads a trace of those bytes to its end or fault. status and message tell how it went; the numbers
 * how far. Ends the program when a failure has no sentence. */
struct trace_outcome {
    enum mtp_status status;
    struct mtp_error error;
    uint64_t steps, tokens, rows;
    uint64_t digest; /* of the totals, once the end was read */
    bool opened;
};
void trace_read_bytes(struct trace_outcome *outcome, const unsigned char *bytes, size_t n);

#endif
