/* mtp.h - public interface of libmtp.
 *
 * A model is an immutable set of weights plus a tokenizer, read from a GGUF file. A session is one
 * timeline over a model: its KV cache, its recurrent state and the logits of the last position.
 * Many sessions may share a model; one session must not be used by two threads at once.
 *
 * Every function that can fail returns a status and, where an mtp_error is passed, fills in one
 * sentence a user can act on. The library never prints, never exits, holds no global mutable state
 * and installs no signal handlers.
 *
 * The promise: the logits of a position depend on the weights and on the ids before it, and on
 * nothing else: not on batch width, prefill chunking, thread count or instruction set
 * (docs/arithmetic.md).
 */
#ifndef MTP_H
#define MTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* Status of a call. mtpgen exits with the same numbers (docs/exit-status in mtpgen.1). */
enum mtp_status {
    MTP_OK = 0,
    MTP_ERR_INTERNAL = 1,      /* a defect in this library */
    MTP_ERR_USAGE = 2,         /* an argument is wrong */
    MTP_ERR_IO = 3,            /* a file cannot be opened, read or written */
    MTP_ERR_FORMAT = 4,        /* not a GGUF file, or a damaged one */
    MTP_ERR_UNSUPPORTED = 5,   /* architecture, tensor type or chat template we do not know; no such device */
    MTP_ERR_MEMORY = 6,        /* not enough memory, of the host or of a device */
    MTP_ERR_CONTEXT = 7,       /* the prompt does not fit the context */
    MTP_ERR_NUMERIC = 8,       /* an infinity or NaN appeared while computing */
    MTP_ERR_STRICT = 9,        /* --strict found a difference, or compared nothing */
    MTP_ERR_DEVICE = 10,       /* a device failed while computing */
    MTP_ERR_INTERRUPTED = 130, /* the progress callback asked to stop */
};

struct mtp_error {
    enum mtp_status status;
    char message[768]; /* one sentence, UTF-8, no newline, control characters escaped */
};

typedef struct mtp_model mtp_model;
typedef struct mtp_session mtp_session;
typedef struct mtp_checkpoint mtp_checkpoint;
typedef struct mtp_decoder mtp_decoder;

const char *mtp_version(void);      /* "0.1.0" */
int mtp_arithmetic_version(void);   /* version of the rules in docs/arithmetic.md */

/* Called with what is being done ("load", "prefill") and how much of it is; false stops the call
 * with MTP_ERR_INTERRUPTED. */
typedef bool (*mtp_progress_fn)(void *user, const char *stage, uint64_t done, uint64_t total);

/* ---- model ------------------------------------------------------------------------------- */

struct mtp_model_options {
    const char *mtp_path; /* companion GGUF with the MTP block only, or NULL */
    mtp_progress_fn progress;
    void *user;
};

enum mtp_status mtp_model_open(mtp_model **out, const char *path,
                               const struct mtp_model_options *options, struct mtp_error *error);
void mtp_model_close(mtp_model *model);

struct mtp_model_info {
    const char *architecture; /* "qwen35moe" */
    const char *name;         /* general.name or "" */
    uint32_t n_ctx_train;     /* context length in the file, tokens */
    uint32_t n_vocab;
    uint32_t n_layers;        /* trunk layers, without the MTP block */
    uint32_t n_mtp_layers;    /* 0 when there is no draft head */
    uint64_t weight_bytes;    /* bytes of all tensors used */
    uint64_t file_bytes;
    uint64_t bytes_per_token; /* weight bytes one decoded token reads, routed experts counted by use */
    bool synthetic;           /* made by mtpsynth for measurements (docs/synthetic-models.md) */
};
void mtp_model_get_info(const mtp_model *model, struct mtp_model_info *info);

/* Digest of the file's description and of the first 64 KiB of every tensor: tells models apart. */
uint64_t mtp_model_digest(const mtp_model *model);

/* ---- text -------------------------------------------------------------------------------- */

enum mtp_tokenize_flags {
    MTP_TEXT_PLAIN = 0,      /* control-token text is ordinary text */
    MTP_TEXT_SPECIAL = 1,    /* control-token text becomes control tokens */
};
/* *ids is malloc'ed; the caller frees it. Any bytes are accepted. */
enum mtp_status mtp_tokenize(const mtp_model *model, const char *text, size_t length,
                             unsigned flags, int32_t **ids, size_t *n_ids, struct mtp_error *error);
bool mtp_token_is_end(const mtp_model *model, int32_t id);

/* The bytes a token stands for, not terminated, which last as long as the model; of a control token, its own
 * text ("<|im_end|>"), and *control (may be NULL) is true. Bytes of one token need not be whole characters.
 * NULL and *length 0: there is no such id. */
const char *mtp_token_bytes(const mtp_model *model, int32_t id, size_t *length, bool *control);

/* Streaming decoder: bytes of tokens in, whole UTF-8 characters out. */
enum mtp_status mtp_decoder_open(mtp_decoder **out, const mtp_model *model, struct mtp_error *error);
void mtp_decoder_close(mtp_decoder *decoder);
/* Bytes complete so far, valid until the next call; *length may be 0. Control tokens give "". */
const char *mtp_decoder_push(mtp_decoder *decoder, int32_t id, size_t *length);
/* What was held back: the bytes of an unfinished character. */
const char *mtp_decoder_flush(mtp_decoder *decoder, size_t *length);

/* ---- session ----------------------------------------------------------------------------- */

enum mtp_kv_type { MTP_KV_F16 = 0, MTP_KV_F32 = 1 };
enum mtp_moe_mode { MTP_MOE_GROUPED = 0, MTP_MOE_PER_TOKEN = 1 };
/* Where a session computes; the text does not depend on it. AUTO is CUDA where the build has that backend,
 * an NVIDIA device is there that it has code for, the session fits its memory and no instruction set is
 * asked for; else the CPU (mtp_session_why_cpu). CUDA fails without backend or device
 * (MTP_ERR_UNSUPPORTED), or memory; threads then do not matter. */
enum mtp_device { MTP_DEVICE_AUTO = 0, MTP_DEVICE_CPU = 1, MTP_DEVICE_CUDA = 2 };
enum mtp_isa { MTP_ISA_AUTO = 0, MTP_ISA_SCALAR = 1, MTP_ISA_AVX2 = 2, MTP_ISA_AVX512 = 3 };

enum mtp_strict_mode {
    MTP_STRICT_OFF = 0,
    MTP_STRICT_FULL = 1,   /* every prompt row and every step against a shadow session */
    MTP_STRICT_SAMPLE = 2, /* one step in 16, from a copied state: a spot check, no proof */
};

struct mtp_session_options {
    uint32_t n_ctx;       /* positions; 0 = the model's length, on a GPU as much of it as fits */
    uint32_t n_threads;   /* 0 = physical cores this process may use */
    uint32_t n_batch;     /* rows of a prefill chunk; 0 = 512 */
    enum mtp_kv_type kv_type;
    enum mtp_moe_mode moe_mode;
    enum mtp_isa isa;
    bool draft;           /* keep what steps need to draft: the MTP block's state, the state twice */
    enum mtp_strict_mode strict;
    const char *test_flip; /* tests only: "operation:step" flips one bit there, NULL = off */
    mtp_progress_fn progress;
    void *user;
    bool profile;         /* measure every operation: mtp_session_get_profile */
    enum mtp_device device;
    /* Lets a device compute prompts by faster arithmetic that gives other bits, hence perhaps another
     * text; the promise above then does not hold. On the CPU it changes nothing. Not with strict, and not
     * to be recorded (mtp_trace_create). mtp_counters says how many products were not exact. */
    bool fast;
    bool measure_passes;  /* with draft: time some passes now, for a tenth of a second, so that MTP_DRAFT_AUTO
                           * need not find out; not with strict or profile */
};
enum mtp_status mtp_session_open(mtp_session **out, mtp_model *model,
                                 const struct mtp_session_options *options,
                                 struct mtp_error *error);
void mtp_session_close(mtp_session *session);

/* Appends ids to the timeline and computes the logits that follow the last of them. On error the
 * session stays at the last whole chunk. */
enum mtp_status mtp_session_append(mtp_session *session, const int32_t *ids, size_t n_ids,
                                   struct mtp_error *error);
uint32_t mtp_session_length(const mtp_session *session);   /* positions used */
uint32_t mtp_session_n_ctx(const mtp_session *session);
uint32_t mtp_session_n_threads(const mtp_session *session);
const char *mtp_session_isa_name(const mtp_session *session); /* "scalar", "avx2", "avx512", "cuda" */
const char *mtp_session_device_name(const mtp_session *session); /* "cpu", "cuda" */
/* Why MTP_DEVICE_AUTO took the CPU, in one sentence that lasts as long as the session; "" where there was no
 * choice to make. *there (may be NULL): a device or driver is there, but could not be used. */
const char *mtp_session_why_cpu(const mtp_session *session, bool *there);
/* Logits after the last position, n_vocab floats, valid until the next append; NULL when empty. */
const float *mtp_session_logits(const mtp_session *session);
/* Sum modulo 2^64 of a mix of every (index, bits) of those logits: equal logits, equal digest. */
uint64_t mtp_session_logits_digest(const mtp_session *session);

struct mtp_sampling {
    float temperature; /* 0 = the most likely token (ties: lowest id) */
    uint32_t top_k;    /* 0 = off */
    float top_p;       /* 1 = off */
    float min_p;       /* 0 = off */
    uint64_t seed;     /* the draw at a position depends on (seed, position) and the logits only */
};
/* Defaults for a model: general.sampling.* of the file, else temperature 0.8, top_k 40, top_p
 * 0.95, min_p 0.05, seed 0. */
void mtp_sampling_defaults(const mtp_model *model, struct mtp_sampling *sampling);
enum mtp_status mtp_session_sample(const mtp_session *session, const struct mtp_sampling *sampling,
                                   int32_t *id, struct mtp_error *error);

/* Remembers the present length and recurrent state, to return to it without reading again. */
enum mtp_status mtp_checkpoint_take(mtp_checkpoint **out, const mtp_session *session,
                                    struct mtp_error *error);
enum mtp_status mtp_checkpoint_restore(mtp_session *session, const mtp_checkpoint *checkpoint,
                                       struct mtp_error *error);
void mtp_checkpoint_free(mtp_checkpoint *checkpoint);

struct mtp_counters {
    uint64_t rows;         /* rows put through the trunk */
    uint64_t passes;       /* batches put through the trunk */
    uint64_t expert_reads; /* times a matrix of a routed expert was read */
    uint64_t expert_rows;  /* (row, matrix of a routed expert) products */
    uint64_t inexact_products; /* of options.fast: matrix products whose bits are not the exact ones */
};
void mtp_session_get_counters(const mtp_session *session, struct mtp_counters *counters);

/* ---- profile ----------------------------------------------------------------------------- */

enum mtp_profile_phase {
    MTP_PROFILE_PROMPT = 0, /* mtp_session_append */
    MTP_PROFILE_STEPS = 1,  /* mtp_session_step: the pass that checks drafts, or the plain one */
    MTP_PROFILE_DRAFT = 2,  /* the MTP block inside both: drafting, and its keys of the prompt */
};
enum { MTP_PROFILE_PHASES = 3, MTP_PROFILE_MOST = 32 };

/* bytes is what the calls had to move at the least. Where an operation reads weights, a cache or
 * recurrent state, it is those alone: a matrix product counts its weights, in the bytes of the file,
 * once a call; one of routed experts those of every expert chosen (with MTP_MOE_PER_TOKEN, of every
 * choice); attention the keys and values of all positions of every row; convolution and DeltaNet their
 * state read and written. embed counts the rows it reads and gives; all others their inputs and
 * outputs. */
struct mtp_profile_entry {
    const char *operation; /* as in the library's table of operations; static */
    uint64_t calls;
    double seconds;        /* around the calls, the waiting for threads included */
    uint64_t bytes;
};
struct mtp_profile {
    double seconds;        /* of the whole phase, what lies outside operations included */
    size_t n_entries;      /* 0 in a session without options.profile */
    struct mtp_profile_entry entries[MTP_PROFILE_MOST]; /* the same order for every phase */
};
/* What the session did since it was opened; entries with no call are there, too. The shadow session
 * of options.strict is not measured: its time lies outside operations. */
void mtp_session_get_profile(const mtp_session *session, enum mtp_profile_phase phase,
                             struct mtp_profile *profile);

/* ---- speculation ------------------------------------------------------------------------- */

enum { MTP_MAX_DRAFT = 8, MTP_DRAFT_AUTO = -1 };

/* Where drafts come from: the MTP block of the model, or what followed where the last tokens of the text
 * stood before. */
enum mtp_draft_source { MTP_DRAFT_HEAD = 0, MTP_DRAFT_NGRAM = 1 };
enum { MTP_DRAFT_SOURCES = 2 };

struct mtp_generation {
    struct mtp_sampling sampling;
    int32_t n_draft;          /* drafts a step: 0 (plain) .. MTP_MAX_DRAFT, or MTP_DRAFT_AUTO */
    uint32_t draft_head_rows; /* ids 0..n-1 only can be drafted; 0 = chosen by the library */
    unsigned draft_sources;   /* bits 1 << enum mtp_draft_source; 0 = the MTP block, else n-grams. With a
                               * number of drafts and both, n-grams where four last tokens are found */
    bool draft_likeliest;     /* drafts are the likeliest tokens, not drawn with the text's noise: for
                               * measurement, fewer are accepted */
};

/* Called for every token in order with the position it takes. False stops: this token is the last
 * and is not read by the model, exactly as when a plain loop draws it and ends. */
typedef bool (*mtp_token_fn)(void *user, int32_t id, uint32_t position);

/* One step. Draws the next token from the session's logits, drafts up to n_draft more, checks all of
 * them in one pass and gives those that a plain loop of mtp_session_sample and mtp_session_append
 * would have given: 1 to n_draft + 1 tokens. Afterwards the session holds every token given (but one
 * at which fn stopped) and its logits follow them: the bytes of that plain loop. MTP_ERR_CONTEXT when
 * fn goes on at a full context; MTP_ERR_STRICT when the check of options.strict fails. */
enum mtp_status mtp_session_step(mtp_session *session, const struct mtp_generation *generation,
                                 mtp_token_fn fn, void *user, struct mtp_error *error);

/* Whether mtp_session_step can draft, and if not why: the missing tensor ("" when it can). */
bool mtp_model_can_draft(const mtp_model *model, struct mtp_error *why_not);

struct mtp_draft_stats {
    uint64_t steps;                          /* passes that checked, with or without drafts */
    uint64_t tokens;                         /* tokens given */
    uint64_t drafted, accepted;              /* drafts proposed, and given */
    uint64_t drafted_at[MTP_MAX_DRAFT];      /* drafts proposed at depth i + 1 */
    uint64_t accepted_at[MTP_MAX_DRAFT];     /* of them, accepted with all before them */
    uint64_t histogram[MTP_MAX_DRAFT + 1];   /* steps that accepted i drafts */
    double draft_seconds, verify_seconds, commit_seconds;
    uint64_t digest; /* chain of the digests of the logits rows the tokens were drawn from */
    uint64_t width_steps[MTP_MAX_DRAFT + 1]; /* steps that proposed i drafts */
    /* Drafts at depth i + 1 that mattered: proposed, all before them accepted, the text not ended.
     * accepted_at[i] / compared_at[i] is the conditional acceptance. */
    uint64_t compared_at[MTP_MAX_DRAFT];
    struct mtp_source_stats {                /* the same of one source of drafts */
        uint64_t steps, drafted, accepted;
        uint64_t compared_at[MTP_MAX_DRAFT], accepted_at[MTP_MAX_DRAFT];
    } by_source[MTP_DRAFT_SOURCES];
};
void mtp_session_get_draft_stats(const mtp_session *session, struct mtp_draft_stats *stats);

/* Seconds that a pass over a token and i drafts is expected to take now, and i drafts of the MTP block, by
 * those timed so far and by lines between and beyond them; 0: nothing is known. */
enum { MTP_COSTS = MTP_MAX_DRAFT };
struct mtp_draft_costs {
    double pass_seconds[MTP_COSTS], draft_seconds[MTP_COSTS];
};
void mtp_session_get_draft_costs(const mtp_session *session, struct mtp_draft_costs *costs);

struct mtp_strict_report {
    enum mtp_strict_mode mode;
    uint64_t prompt_rows_checked; /* logits rows and state of the prompt */
    uint64_t rows_checked;        /* logits rows that tokens were drawn from */
    uint64_t steps_checked;
    uint64_t mismatches;
    uint64_t mtp_mismatches;      /* rows of the MTP block's cache: no text depends on them */
    char first_difference[256];   /* layer, operation, row, element; "" when there is none */
};
void mtp_session_get_strict_report(const mtp_session *session, struct mtp_strict_report *report);

/* What a step did, for traces. Valid inside the callback and until the next step. */
struct mtp_step_record {
    uint32_t position;                       /* of the first token given */
    uint32_t n_drafts, n_accepted, n_tokens; /* n_tokens: given to the callback */
    int32_t drafts[MTP_MAX_DRAFT];
    int32_t tokens[MTP_MAX_DRAFT + 1];
    uint64_t digests[MTP_MAX_DRAFT + 1];     /* of the logits row each token was drawn from */
};
/* Called at the end of every step; rows[i] are the n_vocab logits that tokens[i] was drawn from. */
typedef void (*mtp_step_fn)(void *user, const struct mtp_step_record *step,
                            const float *const *rows);
void mtp_session_on_step(mtp_session *session, mtp_step_fn fn, void *user);

/* What the last mtp_session_step did, without the rows of logits that a callback costs. */
struct mtp_step_outcome {
    struct mtp_step_record step;  /* n_drafts and n_accepted are 0 unless counted */
    bool counted;                 /* in mtp_draft_stats. Not: the text ended at the first token, which takes
                                   * no pass, or the step failed before its drafts were judged */
    uint32_t n_compared;          /* drafts that mattered: those accepted and the one rejected, if any. Drafts
                                   * behind them stand for nothing, nor do those behind the end of the text */
    enum mtp_draft_source source; /* of the drafts */
};
void mtp_session_get_last_step(const mtp_session *session,
                               struct mtp_step_outcome *outcome); /* zeros before the first step */

/* Records every step of session from now on in a file that mtptrace reads (docs/traces.md). prompt:
 * the ids the session holds before the first step; one prompt and one answer a trace. logits: keeps
 * the logits rows too. To be closed before the session. */
typedef struct mtp_trace mtp_trace;
enum mtp_status mtp_trace_create(mtp_trace **out, const char *path, mtp_session *session,
                                 const struct mtp_generation *generation, const int32_t *prompt,
                                 size_t n_prompt, bool logits, struct mtp_error *error);
/* Completes the file. A full disk or another failure to write is told here, and only here. */
enum mtp_status mtp_trace_close(mtp_trace *trace, struct mtp_error *error);

/* ---- chat -------------------------------------------------------------------------------- */

enum mtp_chat_role { MTP_CHAT_SYSTEM, MTP_CHAT_USER, MTP_CHAT_ASSISTANT };
struct mtp_chat_turn {
    enum mtp_chat_role role;
    const char *text; /* UTF-8, not necessarily terminated */
    size_t length;
};
struct mtp_chat_options {
    const char *template_name; /* "chatml", or NULL = recognise tokenizer.chat_template */
    bool think;                /* leave room for the model's thinking */
    bool add_generation_prompt;
};
/* Ids of a conversation as the file's template renders it. Text of turns never becomes control
 * tokens. *ids is malloc'ed; the caller frees it. */
enum mtp_status mtp_chat_tokenize(const mtp_model *model, const struct mtp_chat_turn *turns,
                                  size_t n_turns, const struct mtp_chat_options *options,
                                  int32_t **ids, size_t *n_ids, struct mtp_error *error);

/* ---- reports ----------------------------------------------------------------------------- */

/* Writes hyper-parameters, tensors by type and bytes, memory plan for these session options and
 * the bytes a decoded token reads. */
enum mtp_status mtp_model_print_info(const mtp_model *model,
                                     const struct mtp_session_options *options, FILE *out,
                                     struct mtp_error *error);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif
#endif
