/* mtpgen.h - what the parts of the command share. The command sees the library through mtp.h only.
 *
 * options -> prompt -> model and session -> generation (run) or turns (chat) -> report, on standard
 * error (report) and as a file (json, or html with what the steps did: history)
 */
#ifndef MTPGEN_H
#define MTPGEN_H

#include "mtpgen_options.h"

/* Fills *error (may be NULL) and returns status. Control characters become '?'. */
enum mtp_status mtpgen_fail(struct mtp_error *error, enum mtp_status status,
                            const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- text that grows ------------------------------------------------------------------------- */

struct mtpgen_text {
    char *data; /* length bytes and a terminating zero; NULL when empty */
    size_t length, capacity;
};
enum mtp_status mtpgen_text_add(struct mtpgen_text *text, const char *data, size_t length,
                                struct mtp_error *error);
void mtpgen_text_free(struct mtpgen_text *text);

/* The prompt of the options: -p (escapes read if asked), -f, or standard input when it is no
 * terminal. *given is false when there is none of them. */
enum mtp_status mtpgen_read_prompt(struct mtpgen_text *text, bool *given,
                                   const struct mtpgen_options *options, struct mtp_error *error);
/* A whole file, "-" being standard input; one line break at the end is dropped. */
enum mtp_status mtpgen_read_file(struct mtpgen_text *text, const char *path,
                                 struct mtp_error *error);
/* One line of standard input without its line break; *ended at end of file, MTP_ERR_INTERRUPTED
 * on Ctrl-C. */
enum mtp_status mtpgen_read_line(struct mtpgen_text *line, bool *ended, struct mtp_error *error);

/* ---- signals --------------------------------------------------------------------------------- */

/* Ctrl-C asks to stop the first time and has its default action the second time. A closed pipe is
 * reported by write, not by a signal. */
void mtpgen_signals_install(void);
bool mtpgen_interrupted(void);
void mtpgen_signals_again(void); /* forgets a Ctrl-C, for the next turn of a chat */

/* Opens /dev/null for standard input or error when they are closed, so that no model file gets
 * their numbers; a closed standard output is an error. */
enum mtp_status mtpgen_check_streams(struct mtp_error *error);

/* ---- output ---------------------------------------------------------------------------------- */

/* Writes whole to standard output, unbuffered. */
enum mtp_status mtpgen_write(const char *text, size_t length, struct mtp_error *error);

/* Holds text back while it may be the beginning of a stop text. */
struct mtpgen_stopper {
    const char *const *stops;
    size_t n_stops;
    struct mtpgen_text pending;
};
/* Adds text and gives what may be shown: the first *n_ready bytes of pending. *stopped when a stop
 * text appeared; it and what follows are never shown. Call mtpgen_stopper_drop(n) when shown. */
enum mtp_status mtpgen_stopper_add(struct mtpgen_stopper *stopper, const char *text, size_t length,
                                   size_t *n_ready, bool *stopped, struct mtp_error *error);
void mtpgen_stopper_drop(struct mtpgen_stopper *stopper, size_t n);
void mtpgen_stopper_free(struct mtpgen_stopper *stopper);

/* ---- report ---------------------------------------------------------------------------------- */

enum mtpgen_stop_reason {
    STOP_NONE,
    STOP_END,         /* an end token */
    STOP_TEXT,        /* a --stop text */
    STOP_LENGTH,      /* -n */
    STOP_CONTEXT,
    STOP_INTERRUPTED,
};

struct mtpgen_report {
    bool synthetic; /* the model is */
    double load_seconds, first_token_seconds, prefill_seconds, decode_seconds;
    uint64_t n_prefill, n_kept; /* prompt tokens read, and not read again in later turns */
    uint64_t n_generated, n_decoded; /* n_decoded: generated ones that the model read */
    enum mtpgen_stop_reason stop;
    struct mtp_draft_stats drafts; /* of all sessions of the run: mtpgen_gather */
    struct mtp_draft_costs costs;  /* of the last one */
    bool automatic; /* the number of drafts was chosen step by step */
    struct mtp_strict_report strict;
    struct mtp_profile profile[MTP_PROFILE_PHASES]; /* likewise; empty without --profile */
    bool fast; /* --fast was asked for */
    uint64_t inexact_products; /* and this many products were not exact */
};
const char *mtpgen_stop_reason(const struct mtpgen_report *report);
double mtpgen_now(void); /* seconds of a clock that does not jump */
uint64_t mtpgen_peak_memory(void); /* KiB; 0 where the system does not tell */
void mtpgen_report_print(FILE *out, const struct mtpgen_report *report);

/* --profile: one table a phase that ran. */
void mtpgen_profile_print(FILE *out, const struct mtpgen_report *report);
void mtpgen_profile_add(struct mtp_profile *sum, const struct mtp_profile *more);
/* The entries that were called, those that took longest first; how many. */
size_t mtpgen_profile_order(const struct mtp_profile *profile,
                            const struct mtp_profile_entry *order[MTP_PROFILE_MOST]);
const char *mtpgen_profile_phase(enum mtp_profile_phase phase); /* "prompt", "steps", "draft" */
double mtpgen_profile_outside(const struct mtp_profile *profile); /* seconds */

/* Progress on a terminal; also where a Ctrl-C stops loading and prefill. */
struct mtpgen_progress {
    bool shown; /* a line stands on the terminal */
    bool enabled;
    double last;
};
bool mtpgen_progress(void *user, const char *stage, uint64_t done, uint64_t total);
void mtpgen_progress_clear(struct mtpgen_progress *progress);

/* ---- history --------------------------------------------------------------------------------- */

/* What was read and what each step gave, kept for a report that is a page: at most so many events, and of a
 * prompt so many ids from either end; 16 bytes an event and 4 an id. */
enum { MTPGEN_HISTORY_STEPS = 1 << 18, MTPGEN_HISTORY_PROMPT = 1000 };
enum mtpgen_event_kind { EVENT_PROMPT, EVENT_HEAD_STEP, EVENT_NGRAM_STEP };
struct mtpgen_event {
    uint32_t first;    /* of its ids: those of a prompt, or the tokens of a step and drafts not accepted */
    uint32_t n_tokens; /* of a prompt all that were read, kept or not */
    uint8_t kind;      /* enum mtpgen_event_kind */
    uint8_t n_drafts, n_accepted, n_compared; /* as in struct mtp_step_outcome */
    bool counted;      /* likewise */
};
struct mtpgen_history {
    bool wanted; /* else nothing is kept */
    struct mtpgen_event *events;
    int32_t *ids;
    size_t n_events, events_capacity, n_ids, ids_capacity;
    uint64_t n_left_out; /* events, once there was no room */
};
void mtpgen_history_prompt(struct mtpgen_history *history, const int32_t *ids, size_t n);
void mtpgen_history_step(struct mtpgen_history *history, const struct mtp_step_outcome *outcome);
void mtpgen_history_free(struct mtpgen_history *history);

/* ---- generation ------------------------------------------------------------------------------ */

struct mtpgen_run {
    const struct mtpgen_options *options;
    struct mtp_session_options session_options;
    mtp_model *model;
    mtp_session *session;
    struct mtp_generation generation;
    struct mtpgen_progress progress;
    struct mtpgen_report report;
    double turn_start; /* when reading the prompt of this turn began */
    int32_t *held; /* ids the session holds */
    size_t n_held, held_capacity;
    int32_t *ids; /* ids generated, of all turns, end tokens included */
    size_t n_ids, ids_capacity;
    struct mtpgen_history history;
    bool warned; /* of a draft head that looks broken */
};

/* ---- drafting -------------------------------------------------------------------------------- */

/* How many drafts a step, of which ids: from the options and what the model has. Says so when drafts
 * were asked for that the model cannot make. To be called before a session is opened. */
void mtpgen_choose_drafting(struct mtpgen_run *run);
/* Adds what the session counted to the report; the session must not be used any more. */
void mtpgen_gather(struct mtpgen_run *run);
/* One warning a run when hardly any draft is accepted. */
void mtpgen_warn_of_drafts(struct mtpgen_run *run);
/* MTP_ERR_STRICT when the gathered report of a strict run shows a difference, or that nothing was
 * compared that a token was drawn from. */
enum mtp_status mtpgen_check_strict(const struct mtpgen_run *run, struct mtp_error *error);

/* ---- report file ----------------------------------------------------------------------------- */

/* Fails when a file cannot be created or written, or is a model; leaves everything as it was. */
enum mtp_status mtpgen_check_output(const char *path, struct mtp_error *error);
/* Whether a report of that name is a page: it ends in ".html". NULL is none. */
bool mtpgen_report_is_page(const char *path);
/* Writes the report of the run as docs/report.md describes it: the whole file or nothing. */
enum mtp_status mtpgen_report_save(const struct mtpgen_run *run, enum mtp_status exit_status,
                                   struct mtp_error *error);
/* What is written; false with errno when it cannot be. ascii: other characters are escaped. */
bool mtpgen_json_print(FILE *out, const struct mtpgen_run *run, enum mtp_status exit_status, bool ascii);
bool mtpgen_html_print(FILE *out, const struct mtpgen_run *run, enum mtp_status exit_status);

/* Reads ids, with progress; they count as prompt in the report. */
enum mtp_status mtpgen_prefill(struct mtpgen_run *run, const int32_t *ids, size_t n,
                               struct mtp_error *error);
/* Forgets ids of held beyond n (the session was cut there). */
void mtpgen_held_cut(struct mtpgen_run *run, size_t n);

/* What a chat wants to know of an answer. */
struct mtpgen_answer {
    struct mtpgen_text text;          /* all that was shown */
    int32_t think_open, think_close;  /* ids, or -1 */
    bool thinking;                    /* the last of the two seen was the opening one */
};
/* Generates until a stop reason, which goes to the report; text goes to standard output and, when
 * answer is not NULL, into it. */
enum mtp_status mtpgen_generate(struct mtpgen_run *run, struct mtpgen_answer *answer,
                                struct mtp_error *error);

/* MTP_ERR_CONTEXT with both numbers when n tokens do not fit. */
enum mtp_status mtpgen_check_length(const struct mtpgen_run *run, size_t n,
                                    struct mtp_error *error);

/* --chat: one answer to prompt, or a conversation by lines of standard input when that is NULL. */
enum mtp_status mtpgen_chat(struct mtpgen_run *run, const struct mtpgen_text *prompt,
                            struct mtp_error *error);

#endif
