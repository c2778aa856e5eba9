/* mtpgen_options.h - the command line of mtpgen.
 *
 * One table (mtpgen_option_table.c) holds every option: what it does, its help, and for options
 * people paste from llama.cpp how they are answered. The parser, --help, the man page's test and
 * the test of docs/from-llama.cpp.md all go by it.
 */
#ifndef MTPGEN_OPTIONS_H
#define MTPGEN_OPTIONS_H

#include "mtp.h"

struct mtpgen_options {
    int argc;
    char *const *argv;
    bool help, version, info, chat, verbose, quiet;
    const char *model_path, *mtp_path;
    const char *prompt, *prompt_file;
    bool escape;                    /* \n and the like in -p */
    const char *system, *system_file;
    bool think;
    const char *template_name;
    uint64_t n_predict;             /* UINT64_MAX: until end or context */
    bool ignore_eos;
    const char **stops;             /* n_stops texts that end an answer */
    size_t n_stops;
    float temperature, top_p, min_p; /* NaN: not given */
    uint32_t top_k;                  /* UINT32_MAX: not given */
    uint64_t seed;
    int32_t n_draft;                 /* 0..MTP_MAX_DRAFT, MTP_DRAFT_AUTO or MTPGEN_DRAFT_DEFAULT */
    uint32_t draft_head_rows;        /* 0: auto; UINT32_MAX: all */
    unsigned draft_sources;          /* bits 1 << enum mtp_draft_source; 0: not given */
    bool draft_likeliest;            /* drafts without the text's noise */
    const char *trace_path;
    bool trace_logits;
    const char *report_path;
    struct mtp_session_options session; /* draft is set when the model is known */
    int kv_type, moe_mode, isa, device; /* enum values; -1 for kv_type: not given by --kv */
    int k_type, v_type;              /* -ctk, -ctv; -1: not given */
    int32_t spec_n_max;              /* --spec-draft-n-max; -1: not given */
    bool no_gpu_layers;              /* -ngl 0 */
    int spec_type;                   /* --spec-type: 0 none, 1 draft-mtp; -1: not given */
};

/* No option asks for drafts or forbids them: 3 when the model can draft, else none. */
enum { MTPGEN_DRAFT_DEFAULT = -2 };

enum mtpgen_group {
    GROUP_MODEL,
    GROUP_TEXT,
    GROUP_SAMPLING,
    GROUP_CHAT,
    GROUP_DRAFT,
    GROUP_COMPUTING,
    GROUP_REPORT,
    GROUP_LLAMA,  /* not ours: pasted from llama.cpp */
    GROUP_HIDDEN, /* for tests: neither in --help nor in the man page */
};

enum mtpgen_kind {
    KIND_SET,     /* bool at offset becomes true */
    KIND_CLEAR,   /* bool at offset becomes false */
    KIND_TEXT,    /* const char * at offset */
    KIND_U32,     /* uint32_t at offset, least..most */
    KIND_FLOAT,   /* float at offset, least..most */
    KIND_CHOICE,  /* int at offset: which of the words of argument */
    KIND_CUSTOM,  /* apply() */
    KIND_NOTED,   /* accepted, with help as a note on standard error */
    KIND_NEUTRAL, /* accepted when the value asks for nothing (neutral), else refused with help */
    KIND_REFUSED, /* refused with help, which names what to do instead */
};

struct mtpgen_option;
typedef enum mtp_status (*mtpgen_apply_fn)(struct mtpgen_options *options, const char *name,
                                           const char *value, struct mtp_error *error);

struct mtpgen_option {
    const char *names;    /* "-m, --model" */
    const char *argument; /* "FILE"; NULL: none; "[WORD|WORD]": may be left out, apply gets NULL */
    enum mtpgen_group group;
    enum mtpgen_kind kind;
    const char *help;
    size_t offset;
    double least, most;
    double neutral;
    mtpgen_apply_fn apply;
};

extern const struct mtpgen_option mtpgen_own_options[];
extern const size_t mtpgen_n_own_options;
extern const struct mtpgen_option mtpgen_llama_options[];
extern const size_t mtpgen_n_llama_options;
extern const struct mtpgen_option mtpgen_hidden_options[];
extern const size_t mtpgen_n_hidden_options;

/* The option with this name ("-m"), or NULL. */
const struct mtpgen_option *mtpgen_option_find(const char *name);

/* Fills *options from the arguments (pointers into argv stay). Notes go to notes, which may be
 * NULL. Fails with MTP_ERR_USAGE and one sentence. */
enum mtp_status mtpgen_options_parse(struct mtpgen_options *options, int argc, char *const *argv,
                                     FILE *notes, struct mtp_error *error);
void mtpgen_options_free(struct mtpgen_options *options);

void mtpgen_print_help(FILE *out);

/* Strict numbers: the whole text, decimal digits, in range. */
bool mtpgen_parse_u64(const char *text, uint64_t least, uint64_t most, uint64_t *value);
bool mtpgen_parse_double(const char *text, double least, double most, double *value);

/* Values that need more than a table: see mtpgen_options.c. */
enum mtp_status mtpgen_apply_predict(struct mtpgen_options *, const char *, const char *,
                                     struct mtp_error *);
enum mtp_status mtpgen_apply_threads(struct mtpgen_options *, const char *, const char *,
                                     struct mtp_error *);
enum mtp_status mtpgen_apply_temperature(struct mtpgen_options *, const char *, const char *,
                                         struct mtp_error *);
enum mtp_status mtpgen_apply_seed(struct mtpgen_options *, const char *, const char *,
                                  struct mtp_error *);
enum mtp_status mtpgen_apply_stop(struct mtpgen_options *, const char *, const char *,
                                  struct mtp_error *);
enum mtp_status mtpgen_apply_draft(struct mtpgen_options *, const char *, const char *,
                                   struct mtp_error *);
enum mtp_status mtpgen_apply_draft_source(struct mtpgen_options *, const char *, const char *,
                                          struct mtp_error *);
enum mtp_status mtpgen_apply_draft_head(struct mtpgen_options *, const char *, const char *,
                                        struct mtp_error *);
enum mtp_status mtpgen_apply_strict(struct mtpgen_options *, const char *, const char *,
                                    struct mtp_error *);
enum mtp_status mtpgen_apply_spec_n_max(struct mtpgen_options *, const char *, const char *,
                                        struct mtp_error *);
enum mtp_status mtpgen_apply_cache_type(struct mtpgen_options *, const char *, const char *,
                                        struct mtp_error *);
enum mtp_status mtpgen_apply_gpu_layers(struct mtpgen_options *, const char *, const char *,
                                        struct mtp_error *);
enum mtp_status mtpgen_apply_spec_type(struct mtpgen_options *, const char *, const char *,
                                       struct mtp_error *);
enum mtp_status mtpgen_apply_samplers(struct mtpgen_options *, const char *, const char *,
                                      struct mtp_error *);
enum mtp_status mtpgen_apply_reasoning(struct mtpgen_options *, const char *, const char *,
                                       struct mtp_error *);
enum mtp_status mtpgen_apply_template_kwargs(struct mtpgen_options *, const char *, const char *,
                                             struct mtp_error *);

#endif
