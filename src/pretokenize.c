#include "pretokenize.h"

#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "utf8.h"

/* White space as Unicode's White_Space property has it. PCRE2's own \s counts U+180E as well, which
 * the tokenizers that models were trained with do not. */
#define SPACE "\\t-\\r \\x{85}\\p{Z}"
#define SPACE_RUNS "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"

/* The caseless group also takes U+017F (long s) for an s, as those tokenizers do. */
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define QWEN(MARKS)                                                                              \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}" MARKS "]+|\\p{N}"        \
                 "| ?[^" SPACE "\\p{L}" MARKS "\\p{N}]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|" SPACE_RUNS
#define GPT2                                                                                     \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|" SPACE_RUNS

/* Stands for a byte that is not UTF-8 while matching: a control character has the right classes
 * and the same length. */
#define INVALID_BYTE 0x1a

#define MAX_STAGES 4

/* Each expression splits what the one before it left; text between matches is a piece too. */
static const struct pretokenizer_kind {
    const char *name;
    const char *stages[MAX_STAGES];
} kinds[] = {
    {"qwen35", {QWEN("\\p{M}")}},
    {"qwen2", {QWEN("")}},
    {"gpt-2", {GPT2}},
    {"default", {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
};

struct pretokenizer {
    size_t n_stages;
    pcre2_code *codes[MAX_STAGES];
};

/* One call of pretokenizer_split. */
struct splitting {
    const struct pretokenizer *pretokenizer;
    pcre2_match_data *match;
    pcre2_match_context *context;
    const char *subject; /* what is matched: the text with INVALID_BYTE in places */
    const char *text;
    pretokenizer_word_fn word;
    void *user;
    struct mtp_error *error;
};

static const struct pretokenizer_kind *find_kind(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strlen(kinds[i].name) == length && memcmp(kinds[i].name, name, length) == 0)
            return &kinds[i];
    return NULL;
}

const char *pretokenizer_known(const char *name, size_t length)
{
    const struct pretokenizer_kind *kind = find_kind(name, length);
    return kind == NULL ? NULL : kind->name;
}

const char *pretokenizer_names(void)
{
    return "qwen35, qwen2, gpt-2, default";
}

static enum mtp_status compile_stage(pcre2_code **out, const char *pattern, bool use_jit,
                                     struct mtp_error *error)
{
    int code;
    PCRE2_SIZE offset;
    *out = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code,
                         &offset, NULL);
    if (*out == NULL) {
        PCRE2_UCHAR reason[128] = "";
        pcre2_get_error_message(code, reason, sizeof reason);
        return mtp_fail(error, MTP_ERR_INTERNAL,
                        "PCRE2 does not take the pre-tokenizer's expression: %s at %zu",
                        (const char *)reason, (size_t)offset);
    }
    /* A failure to compile to machine code is no error: pcre2_match then interprets. */
    if (use_jit)
        (void)pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE);
    return MTP_OK;
}

enum mtp_status pretokenizer_open(struct pretokenizer **out, const char *name, bool use_jit,
                                  struct mtp_error *error)
{
    *out = NULL;
    const struct pretokenizer_kind *kind = find_kind(name, strlen(name));
    if (kind == NULL)
        return mtp_fail(error, MTP_ERR_UNSUPPORTED, "no pre-tokenizer is called \"%s\" (known: %s)",
                        name, pretokenizer_names());
    struct pretokenizer *made = calloc(1, sizeof *made);
    if (made == NULL)
        return mtp_fail_memory(error, "the pre-tokenizer", sizeof *made);
    for (size_t i = 0; i < MAX_STAGES && kind->stages[i] != NULL; i++) {
        enum mtp_status status = compile_stage(&made->codes[i], kind->stages[i], use_jit, error);
        if (status != MTP_OK) {
            pretokenizer_close(made);
            return status;
        }
        made->n_stages = i + 1;
    }
    *out = made;
    return MTP_OK;
}

void pretokenizer_close(struct pretokenizer *pretokenizer)
{
    if (pretokenizer == NULL)
        return;
    for (size_t i = 0; i < MAX_STAGES; i++)
        pcre2_code_free(pretokenizer->codes[i]);
    free(pretokenizer);
}

/* Next match in subject at or after at: 1 and its range, 0 when there is none. */
static int next_match(const struct splitting *s, size_t stage, const char *subject, size_t length,
                      size_t at, size_t range[2])
{
    const pcre2_code *code = s->pretokenizer->codes[stage];
    int found = pcre2_match(code, (PCRE2_SPTR)subject, length, at, PCRE2_NO_UTF_CHECK, s->match,
                            s->context);
    /* Machine code has a stack of fixed size; the interpreter uses the heap. */
    if (found < 0 && found != PCRE2_ERROR_NOMATCH)
        found = pcre2_match(code, (PCRE2_SPTR)subject, length, at,
                            PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->match, s->context);
    if (found == PCRE2_ERROR_NOMATCH)
        return 0;
    if (found < 0)
        return found;
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(s->match);
    range[0] = ends[0];
    range[1] = ends[1];
    return 1;
}

/* Splits [begin, end) of the text by the expressions from stage on. A piece is matched as if it
 * stood alone: looking ahead does not see past its end. */
static enum mtp_status split_stage(const struct splitting *s, size_t stage, size_t begin,
                                   size_t end)
{
    if (begin == end)
        return MTP_OK;
    if (stage == s->pretokenizer->n_stages)
        return s->word(s->user, s->text + begin, end - begin, s->error);
    const char *subject = s->subject + begin;
    size_t length = end - begin;
    for (size_t at = 0; at < length;) {
        size_t range[2] = {length, length};
        int found = next_match(s, stage, subject, length, at, range);
        if (found < 0)
            return mtp_fail(s->error, found == PCRE2_ERROR_NOMEMORY ? MTP_ERR_MEMORY
                                                                    : MTP_ERR_INTERNAL,
                            "splitting %zu bytes of text into words failed (PCRE2 error %d)",
                            length, found);
        if (found == 1 && range[1] <= at) /* no expression here matches nothing */
            return mtp_fail(s->error, MTP_ERR_INTERNAL, "the pre-tokenizer stands still");
        enum mtp_status status = split_stage(s, stage + 1, begin + at, begin + range[0]);
        if (status == MTP_OK)
            status = split_stage(s, stage + 1, begin + range[0], begin + range[1]);
        if (status != MTP_OK)
            return status;
        at = range[1];
    }
    return MTP_OK;
}

/* A copy of text in which every byte that is not UTF-8 is INVALID_BYTE, or NULL in *copy when text
 * can be matched as it is. */
static enum mtp_status mask_invalid(const char *text, size_t length, char **copy,
                                    struct mtp_error *error)
{
    *copy = NULL;
    for (size_t at = 0; at < length;) {
        if ((unsigned char)text[at] < 0x80) {
            at++;
            continue;
        }
        size_t n = utf8_sequence_length(text + at, length - at);
        if (n > 0) {
            at += n;
            continue;
        }
        if (*copy == NULL) {
            *copy = malloc(length);
            if (*copy == NULL)
                return mtp_fail_memory(error, "a copy of the text", length);
            memcpy(*copy, text, length);
        }
        (*copy)[at++] = INVALID_BYTE;
    }
    return MTP_OK;
}

enum mtp_status pretokenizer_split(const struct pretokenizer *pretokenizer, const char *text,
                                   size_t length, pretokenizer_word_fn word, void *user,
                                   struct mtp_error *error)
{
    if (length == 0)
        return MTP_OK;
    char *copy = NULL;
    enum mtp_status status = mask_invalid(text, length, &copy, error);
    if (status != MTP_OK)
        return status;
    struct splitting s = {
        .pretokenizer = pretokenizer,
        .match = pcre2_match_data_create(1, NULL),
        .context = pcre2_match_context_create(NULL),
        .subject = copy != NULL ? copy : text,
        .text = text,
        .word = word,
        .user = user,
        .error = error,
    };
    if (s.match == NULL || s.context == NULL) {
        status = mtp_fail_memory(error, "matching text", 0);
    } else {
        /* A run of ten million spaces costs a step each to back out of; that is no runaway. */
        pcre2_set_match_limit(s.context, UINT32_MAX);
        status = split_stage(&s, 0, 0, length);
    }
    pcre2_match_data_free(s.match);
    pcre2_match_context_free(s.context);
    free(copy);
    return status;
}
