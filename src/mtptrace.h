/* mtptrace.h - what the parts of mtptrace share. It is linked with the library's insides, because
 * traces are read by verify/trace.h and not by the public interface. */
#ifndef MTPTRACE_H
#define MTPTRACE_H

#include "error.h"
#include "verify/trace.h"

struct mtptrace_options {
    const char *files[2];
    const char *model_path, *mtp_path; /* verify */
    uint32_t n_threads;
    enum mtp_isa isa;
    enum mtp_device device;
};

/* The tokens of a trace, one after the other, whatever the steps that gave them. */
struct token_cursor {
    struct trace_reader *reader;
    struct mtp_step_record step;
    uint64_t step_number;  /* from 1 */
    uint32_t in_step;      /* which token of the step */
    bool ended;            /* there is no token any more, and what follows holds for the last one */
    uint32_t position;
    int32_t token;
    uint64_t digest;       /* of the logits row it was drawn from */
    const float *row;      /* that row, or NULL when the trace did not keep it */
};
enum mtp_status cursor_open(struct token_cursor *cursor, const char *path, struct mtp_error *error);
enum mtp_status cursor_next(struct token_cursor *cursor, struct mtp_error *error);
void cursor_close(struct token_cursor *cursor);

/* "at id 7: 1.5 (0x3fc00000) | 1.25 (0x3fa00000), 12 of 512 differ": where rows a and b differ. */
void print_row_difference(FILE *out, const float *a, const float *b, size_t n);

/* The commands. *different is set by what they found; the status tells what went wrong. */
enum mtp_status mtptrace_show(const struct mtptrace_options *options, struct mtp_error *error);
enum mtp_status mtptrace_diff(const struct mtptrace_options *options, bool *different,
                              struct mtp_error *error);
enum mtp_status mtptrace_verify(const struct mtptrace_options *options, bool *different,
                                struct mtp_error *error);

#endif
