#include "mtpgen.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* ---- numbers and words ----------------------------------------------------------------------- */

bool mtpgen_parse_u64(const char *text, uint64_t least, uint64_t most, uint64_t *value)
{
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    char *end;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || parsed < least || parsed > most)
        return false;
    *value = parsed;
    return true;
}

bool mtpgen_parse_double(const char *text, double least, double most, double *value)
{
    if (text[0] == '\0' || text[strspn(text, "+-0123456789.eE")] != '\0')
        return false; /* no white space, hexadecimal, inf or nan */
    errno = 0;
    char *end;
    double parsed = strtod(text, &end);
    if ((errno != 0 && fabs(parsed) > 1.0) || *end != '\0' || !(parsed >= least && parsed <= most))
        return false;
    *value = parsed;
    return true;
}

/* Which word of "a|b|c" the text is, or -1. */
static int find_word(const char *words, const char *text)
{
    size_t length = strlen(text);
    int index = 0;
    for (const char *word = words;; index++) {
        size_t n = strcspn(word, "|");
        if (n == length && memcmp(word, text, n) == 0)
            return index;
        if (word[n] == '\0')
            return -1;
        word += n + 1;
    }
}

/* True when name is one of "-m, --model". */
static bool has_name(const char *names, const char *name, size_t length)
{
    for (const char *at = names;; at += 2) {
        size_t n = strcspn(at, ",");
        if (n == length && memcmp(at, name, n) == 0)
            return true;
        at += n;
        if (*at == '\0')
            return false;
    }
}

static const struct mtpgen_option *find_option(const char *name, size_t length)
{
    for (size_t i = 0; i < mtpgen_n_own_options; i++) {
        if (has_name(mtpgen_own_options[i].names, name, length))
            return &mtpgen_own_options[i];
    }
    for (size_t i = 0; i < mtpgen_n_llama_options; i++) {
        if (has_name(mtpgen_llama_options[i].names, name, length))
            return &mtpgen_llama_options[i];
    }
    for (size_t i = 0; i < mtpgen_n_hidden_options; i++) {
        if (has_name(mtpgen_hidden_options[i].names, name, length))
            return &mtpgen_hidden_options[i];
    }
    return NULL;
}

const struct mtpgen_option *mtpgen_option_find(const char *name)
{
    return find_option(name, strlen(name));
}

/* ---- values that need more than the table ---------------------------------------------------- */

static enum mtp_status bad_value(struct mtp_error *error, const char *name, const char *value,
                                 const char *wanted)
{
    return mtpgen_fail(error, MTP_ERR_USAGE, "%s %s: the value must be %s", name, value, wanted);
}

enum mtp_status mtpgen_apply_predict(struct mtpgen_options *options, const char *name,
                                     const char *value, struct mtp_error *error)
{
    if (strcmp(value, "-1") == 0 || strcmp(value, "-2") == 0)
        options->n_predict = UINT64_MAX;
    else if (!mtpgen_parse_u64(value, 0, UINT32_MAX, &options->n_predict))
        return bad_value(error, name, value, "a number of tokens, or -1");
    return MTP_OK;
}

enum mtp_status mtpgen_apply_threads(struct mtpgen_options *options, const char *name,
                                     const char *value, struct mtp_error *error)
{
    uint64_t n = 0;
    if (strcmp(value, "-1") != 0 && !mtpgen_parse_u64(value, 0, 1024, &n))
        return bad_value(error, name, value, "a number of threads up to 1024, or -1");
    options->session.n_threads = (uint32_t)n;
    return MTP_OK;
}

enum mtp_status mtpgen_apply_temperature(struct mtpgen_options *options, const char *name,
                                         const char *value, struct mtp_error *error)
{
    double temperature;
    if (!mtpgen_parse_double(value, 0.0, 1000.0, &temperature) ||
        (temperature > 0.0 && temperature < 0.001))
        return bad_value(error, name, value, "0, or from 0.001 to 1000");
    options->temperature = (float)temperature;
    return MTP_OK;
}

enum mtp_status mtpgen_apply_seed(struct mtpgen_options *options, const char *name,
                                  const char *value, struct mtp_error *error)
{
    if (strcmp(value, "-1") == 0) {
        uint32_t fresh; /* short enough to type again */
        if (getrandom(&fresh, sizeof fresh, 0) != sizeof fresh)
            return mtpgen_fail(error, MTP_ERR_IO, "%s -1: the system gives no random number", name);
        options->seed = fresh;
        return MTP_OK;
    }
    if (!mtpgen_parse_u64(value, 0, UINT64_MAX, &options->seed))
        return bad_value(error, name, value, "a whole number below 2^64, or -1");
    return MTP_OK;
}

enum mtp_status mtpgen_apply_stop(struct mtpgen_options *options, const char *name,
                                  const char *value, struct mtp_error *error)
{
    if (value[0] == '\0')
        return mtpgen_fail(error, MTP_ERR_USAGE, "%s: the text is empty", name);
    const char **grown = realloc(options->stops, (options->n_stops + 1) * sizeof *grown);
    if (grown == NULL)
        return mtpgen_fail(error, MTP_ERR_MEMORY, "not enough memory for %s", name);
    grown[options->n_stops++] = value;
    options->stops = grown;
    return MTP_OK;
}

enum mtp_status mtpgen_apply_cache_type(struct mtpgen_options *options, const char *name,
                                        const char *value, struct mtp_error *error)
{
    int type = find_word("f16|f32", value);
    if (type < 0)
        return mtpgen_fail(error, MTP_ERR_USAGE, "%s %s: the KV cache is f16 or f32 (--kv)", name,
                           value);
    bool of_keys = strcmp(name, "-ctk") == 0 || strcmp(name, "--cache-type-k") == 0;
    *(of_keys ? &options->k_type : &options->v_type) = type;
    return MTP_OK;
}

enum mtp_status mtpgen_apply_draft(struct mtpgen_options *options, const char *name,
                                   const char *value, struct mtp_error *error)
{
    uint64_t n = 0;
    bool automatic = strcmp(value, "auto") == 0;
    if (!automatic && !mtpgen_parse_u64(value, 0, MTP_MAX_DRAFT, &n))
        return bad_value(error, name, value, "a whole number from 0 to 8, or auto");
    options->n_draft = automatic ? MTP_DRAFT_AUTO : (int32_t)n;
    return MTP_OK;
}

enum mtp_status mtpgen_apply_draft_source(struct mtpgen_options *options, const char *name,
                                          const char *value, struct mtp_error *error)
{
    char word[16];
    options->draft_sources = 0;
    for (const char *at = value;; at++) {
        size_t length = strcspn(at, ",");
        snprintf(word, sizeof word, "%.*s", (int)(length < sizeof word ? length : 0), at);
        int source = find_word("mtp|ngram", word);
        if (source < 0)
            return bad_value(error, name, value, "mtp, ngram or mtp,ngram");
        options->draft_sources |= 1u << source;
        at += length;
        if (*at == '\0')
            return MTP_OK;
    }
}

enum mtp_status mtpgen_apply_draft_head(struct mtpgen_options *options, const char *name,
                                        const char *value, struct mtp_error *error)
{
    uint64_t n = 0;
    if (strcmp(value, "full") == 0)
        n = UINT32_MAX;
    else if (strcmp(value, "auto") != 0 && !mtpgen_parse_u64(value, 1, UINT32_MAX, &n))
        return bad_value(error, name, value, "auto, full or a number of ids");
    options->draft_head_rows = (uint32_t)n;
    return MTP_OK;
}

enum mtp_status mtpgen_apply_strict(struct mtpgen_options *options, const char *name,
                                    const char *value, struct mtp_error *error)
{
    int word = value != NULL ? find_word("full|sample", value) : 0;
    if (word < 0)
        return mtpgen_fail(error, MTP_ERR_USAGE, "%s=%s: the value must be full or sample", name,
                           value);
    options->session.strict = word == 0 ? MTP_STRICT_FULL : MTP_STRICT_SAMPLE;
    return MTP_OK;
}

enum mtp_status mtpgen_apply_spec_n_max(struct mtpgen_options *options, const char *name,
                                        const char *value, struct mtp_error *error)
{
    uint64_t n;
    if (!mtpgen_parse_u64(value, 0, UINT32_MAX, &n))
        return bad_value(error, name, value, "a number of drafts");
    options->spec_n_max = n < MTP_MAX_DRAFT ? (int32_t)n : MTP_MAX_DRAFT;
    return MTP_OK;
}

enum mtp_status mtpgen_apply_gpu_layers(struct mtpgen_options *options, const char *name,
                                        const char *value, struct mtp_error *error)
{
    (void)name, (void)error;
    options->no_gpu_layers = strcmp(value, "0") == 0;
    return MTP_OK;
}

enum mtp_status mtpgen_apply_spec_type(struct mtpgen_options *options, const char *name,
                                       const char *value, struct mtp_error *error)
{
    options->spec_type = find_word("none|draft-mtp", value);
    if (options->spec_type >= 0)
        return MTP_OK;
    return mtpgen_fail(error, MTP_ERR_USAGE,
                       "%s %s: only draft-mtp and none are known; see --mtp-model", name, value);
}

/* The samplers that run, in their order; leaving some out of the list is the same as turning them
 * off only when they are off, so a shorter list turns them off. */
enum mtp_status mtpgen_apply_samplers(struct mtpgen_options *options, const char *name,
                                      const char *value, struct mtp_error *error)
{
    static const char *const order[] = { "top_k", "top_p", "min_p", "temperature" };
    bool listed[4] = { false, false, false, false };
    size_t next = 0;
    for (const char *at = value; *at != '\0';) {
        size_t n = strcspn(at, ";");
        size_t i = next;
        while (i < 4 && !(strlen(order[i]) == n && memcmp(order[i], at, n) == 0))
            i++;
        if (i == 4)
            return mtpgen_fail(error, MTP_ERR_USAGE,
                               "%s %s: what runs is top_k;top_p;min_p;temperature in this order; "
                               "see --top-k, --top-p, --min-p, --temp", name, value);
        listed[i] = true;
        next = i + 1;
        at += n + (at[n] == ';');
    }
    if (!listed[0])
        options->top_k = 0;
    if (!listed[1])
        options->top_p = 1.0f;
    if (!listed[2])
        options->min_p = 0.0f;
    if (!listed[3])
        options->temperature = 1.0f;
    return MTP_OK;
}

enum mtp_status mtpgen_apply_reasoning(struct mtpgen_options *options, const char *name,
                                       const char *value, struct mtp_error *error)
{
    bool budget = strcmp(name, "--reasoning-budget") == 0;
    int word = find_word(budget ? "0|-1" : "off|on|auto", value);
    if (word < 0)
        return bad_value(error, name, value,
                         budget ? "0 (--no-think) or -1 (--think)"
                                : "on (--think), off (--no-think) or auto");
    options->think = word > 0;
    return MTP_OK;
}

enum mtp_status mtpgen_apply_template_kwargs(struct mtpgen_options *options, const char *name,
                                             const char *value, struct mtp_error *error)
{
    char bare[64];
    size_t n = 0;
    for (const char *at = value; *at != '\0' && n + 1 < sizeof bare; at++) {
        if (!isspace((unsigned char)*at))
            bare[n++] = *at;
    }
    bare[n] = '\0';
    if (strcmp(bare, "{\"enable_thinking\":true}") == 0)
        options->think = true;
    else if (strcmp(bare, "{\"enable_thinking\":false}") == 0)
        options->think = false;
    else if (strcmp(bare, "{}") != 0)
        return mtpgen_fail(error, MTP_ERR_USAGE,
                           "%s: only {\"enable_thinking\": true or false} is known; see --think, "
                           "--no-think", name);
    return MTP_OK;
}

/* ---- one option ------------------------------------------------------------------------------ */

static enum mtp_status apply_number(struct mtpgen_options *options,
                                    const struct mtpgen_option *option, const char *name,
                                    const char *value, struct mtp_error *error)
{
    char *at = (char *)options + option->offset;
    uint64_t whole;
    double real;
    if (option->kind == KIND_U32) {
        if (!mtpgen_parse_u64(value, (uint64_t)option->least, (uint64_t)option->most, &whole))
            return mtpgen_fail(error, MTP_ERR_USAGE,
                               "%s %s: the value must be a whole number from %.0f to %.0f", name,
                               value, option->least, option->most);
        *(uint32_t *)(void *)at = (uint32_t)whole;
        return MTP_OK;
    }
    if (!mtpgen_parse_double(value, option->least, option->most, &real))
        return mtpgen_fail(error, MTP_ERR_USAGE, "%s %s: the value must be from %g to %g", name,
                           value, option->least, option->most);
    *(float *)(void *)at = (float)real;
    return MTP_OK;
}

static enum mtp_status apply_choice(struct mtpgen_options *options,
                                    const struct mtpgen_option *option, const char *name,
                                    const char *value, struct mtp_error *error)
{
    int index = find_word(option->argument, value);
    if (index < 0)
        return mtpgen_fail(error, MTP_ERR_USAGE, "%s %s: the value must be one of %s", name, value,
                           option->argument);
    *(int *)(void *)((char *)options + option->offset) = index;
    return MTP_OK;
}

static enum mtp_status apply_neutral(const struct mtpgen_option *option, const char *name,
                                     const char *value, struct mtp_error *error)
{
    double number;
    if (mtpgen_parse_double(value, option->neutral, option->neutral, &number))
        return MTP_OK;
    return mtpgen_fail(error, MTP_ERR_USAGE, "%s %s: %s", name, value, option->help);
}

static enum mtp_status apply(struct mtpgen_options *options, const struct mtpgen_option *option,
                             const char *name, const char *value, struct mtp_error *error)
{
    char *at = (char *)options + option->offset;
    switch (option->kind) {
    case KIND_SET:
    case KIND_CLEAR:
        *(bool *)(void *)at = option->kind == KIND_SET;
        return MTP_OK;
    case KIND_TEXT:
        *(const char **)(void *)at = value;
        return MTP_OK;
    case KIND_U32:
    case KIND_FLOAT:
        return apply_number(options, option, name, value, error);
    case KIND_CHOICE:
        return apply_choice(options, option, name, value, error);
    case KIND_CUSTOM:
        return option->apply(options, name, value, error);
    case KIND_NEUTRAL:
        return apply_neutral(option, name, value, error);
    case KIND_REFUSED:
        return mtpgen_fail(error, MTP_ERR_USAGE, "%s is an option of llama.cpp; here: %s", name,
                           option->help);
    default:
        return MTP_OK;
    }
}

/* ---- the command line ------------------------------------------------------------------------ */

static void set_defaults(struct mtpgen_options *options)
{
    memset(options, 0, sizeof *options);
    options->think = true;
    options->n_predict = UINT64_MAX;
    options->temperature = NAN;
    options->top_p = NAN;
    options->min_p = NAN;
    options->top_k = UINT32_MAX;
    options->kv_type = -1;
    options->k_type = -1;
    options->v_type = -1;
    options->n_draft = MTPGEN_DRAFT_DEFAULT;
    options->spec_n_max = -1;
    options->spec_type = -1;
}

/* Whether an option whose value may be left out takes the next argument as its value. */
static bool is_value(const struct mtpgen_option *option, const char *next)
{
    if (option->group == GROUP_LLAMA)
        return find_word("on|off|auto|0|1|true|false", next) >= 0;
    char words[64]; /* without the brackets */
    snprintf(words, sizeof words, "%.*s", (int)strlen(option->argument) - 2, option->argument + 1);
    return find_word(words, next) >= 0;
}

/* Takes one option at argv[*index] with its value, if any. */
static enum mtp_status take(struct mtpgen_options *options, int argc, char *const *argv, int *index,
                            FILE *notes, struct mtp_error *error)
{
    const char *argument = argv[*index];
    const char *equals = strncmp(argument, "--", 2) == 0 ? strchr(argument, '=') : NULL;
    size_t length = equals != NULL ? (size_t)(equals - argument) : strlen(argument);
    if (argument[0] != '-' || length < 2)
        return mtpgen_fail(error, MTP_ERR_USAGE,
                           "'%s' is not an option; a prompt goes after -p", argument);
    const struct mtpgen_option *option = find_option(argument, length);
    if (option == NULL)
        return mtpgen_fail(error, MTP_ERR_USAGE, "unknown option %.*s; mtpgen --help lists all",
                           (int)length, argument);
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)length, argument);
    const char *value = equals != NULL ? equals + 1 : NULL;
    bool optional = option->argument != NULL && option->argument[0] == '[';
    if (value != NULL && option->argument == NULL)
        return mtpgen_fail(error, MTP_ERR_USAGE, "%s takes no value", name);
    if (value == NULL && option->argument != NULL && *index + 1 < argc) {
        const char *next = argv[*index + 1];
        if (!optional || is_value(option, next)) {
            value = next;
            ++*index;
        }
    }
    /* An option that is refused is refused for what it is, whether its value is there or not. */
    if (value == NULL && option->argument != NULL && !optional && option->kind != KIND_REFUSED)
        return mtpgen_fail(error, MTP_ERR_USAGE, "%s needs a value (%s)", name, option->argument);
    if (option->kind == KIND_NOTED && notes != NULL)
        fprintf(notes, "mtpgen: note: %s has no effect: %s\n", name, option->help);
    return apply(options, option, name, value, error);
}

/* Which KV type --kv, -ctk and -ctv give together. */
static enum mtp_status check_cache_types(struct mtpgen_options *options, struct mtp_error *error)
{
    int k = options->k_type < 0 ? MTP_KV_F16 : options->k_type;
    int v = options->v_type < 0 ? MTP_KV_F16 : options->v_type;
    if (k != v)
        return mtpgen_fail(error, MTP_ERR_USAGE,
                           "-ctk and -ctv must agree; --kv f32 sets both");
    bool given = options->k_type >= 0 || options->v_type >= 0;
    if (given && options->kv_type >= 0 && options->kv_type != k)
        return mtpgen_fail(error, MTP_ERR_USAGE, "--kv and -ctk, -ctv must agree");
    options->session.kv_type =
        (enum mtp_kv_type)(options->kv_type >= 0 ? options->kv_type : k);
    return MTP_OK;
}

/* --draft, or else what the options of llama.cpp say, in whatever order they came. */
static void choose_draft(struct mtpgen_options *options)
{
    if (options->n_draft != MTPGEN_DRAFT_DEFAULT)
        return;
    if (options->spec_type == 0)
        options->n_draft = 0;
    else if (options->spec_n_max >= 0)
        options->n_draft = options->spec_n_max;
}

static enum mtp_status check_together(struct mtpgen_options *options, struct mtp_error *error)
{
    enum mtp_status status = check_cache_types(options, error);
    if (status != MTP_OK)
        return status;
    choose_draft(options);
    options->session.moe_mode = (enum mtp_moe_mode)options->moe_mode;
    options->session.isa = (enum mtp_isa)options->isa;
    options->session.device = (enum mtp_device)options->device;
    if (options->no_gpu_layers && options->session.device == MTP_DEVICE_AUTO)
        options->session.device = MTP_DEVICE_CPU;
    if (options->prompt != NULL && options->prompt_file != NULL)
        return mtpgen_fail(error, MTP_ERR_USAGE, "give -p or -f, not both");
    if (options->system != NULL && options->system_file != NULL)
        return mtpgen_fail(error, MTP_ERR_USAGE, "give -sys or -sysf, not both");
    if (!options->chat && (options->system != NULL || options->system_file != NULL))
        return mtpgen_fail(error, MTP_ERR_USAGE, "a system turn belongs to a chat: add --chat");
    if (!options->chat && options->template_name != NULL)
        return mtpgen_fail(error, MTP_ERR_USAGE, "--template belongs to a chat: add --chat");
    bool conversation = options->chat && options->prompt == NULL && options->prompt_file == NULL;
    if (options->trace_path != NULL && conversation)
        return mtpgen_fail(error, MTP_ERR_USAGE,
                           "--trace records one answer: give the question with -p or -f");
    if (options->session.fast && options->session.strict != MTP_STRICT_OFF)
        return mtpgen_fail(error, MTP_ERR_USAGE,
                           "--strict compares exact bits, which --fast gives up: choose one of them");
    if (options->session.fast && options->trace_path != NULL)
        return mtpgen_fail(error, MTP_ERR_USAGE,
                           "--trace records exact bits, which --fast gives up: choose one of them");
    if (options->trace_logits && options->trace_path == NULL)
        return mtpgen_fail(error, MTP_ERR_USAGE, "--trace-logits needs --trace FILE");
    if (options->model_path == NULL && !options->help && !options->version)
        return mtpgen_fail(error, MTP_ERR_USAGE,
                           "no model given: -m FILE (mtpgen --help says more)");
    return MTP_OK;
}

enum mtp_status mtpgen_options_parse(struct mtpgen_options *options, int argc, char *const *argv,
                                     FILE *notes, struct mtp_error *error)
{
    set_defaults(options);
    options->argc = argc;
    options->argv = argv;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-q") == 0 || strcmp(argv[i], "--quiet") == 0)
            notes = NULL;
    }
    for (int i = 1; i < argc; i++) {
        enum mtp_status status = take(options, argc, argv, &i, notes, error);
        if (status != MTP_OK)
            return status;
        if (options->help || options->version)
            return MTP_OK; /* whatever follows */
    }
    return check_together(options, error);
}

void mtpgen_options_free(struct mtpgen_options *options)
{
    free(options->stops);
    options->stops = NULL;
    options->n_stops = 0;
}

/* ---- help ------------------------------------------------------------------------------------ */

void mtpgen_print_help(FILE *out)
{
    static const char *const titles[] = {
        "Model", "Prompt and length", "Sampling", "Chat", "Drafting", "Computing", "Reports",
    };
    fputs("usage: mtpgen -m FILE [-p TEXT | -f FILE] [options]\n"
          "       mtpgen -m FILE --chat [-p TEXT] [options]\n"
          "       mtpgen -m FILE --info\n"
          "Continues a prompt with the model in a GGUF file. Text goes to standard output, all\n"
          "else to standard error. Without -p and -f the prompt is read from a pipe.\n", out);
    int group = -1;
    for (size_t i = 0; i < mtpgen_n_own_options; i++) {
        const struct mtpgen_option *option = &mtpgen_own_options[i];
        if ((int)option->group != group) {
            group = (int)option->group;
            fprintf(out, "\n%s\n", titles[group]);
        }
        char left[80];
        int width = snprintf(left, sizeof left, "%s%s%s", option->names,
                             option->argument != NULL ? " " : "",
                             option->argument != NULL ? option->argument : "");
        if (width > 29)
            fprintf(out, "  %s\n  %-29s %s\n", left, "", option->help);
        else
            fprintf(out, "  %-29s %s\n", left, option->help);
    }
    fputs("\nOptions of llama.cpp are accepted or answered; docs/from-llama.cpp.md lists them.\n"
          "Exit status: 0 done, 1 defect, 2 usage, 3 reading or writing, 4 damaged file, 5 unsupported,\n"
          "6 memory, 7 prompt too long, 8 not a number, 9 --strict failed, 10 device failed, 130 Ctrl-C.\n",
          out);
}
