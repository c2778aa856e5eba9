/* The command line: one table behind parser, help, man page and docs/from-llama.cpp.md. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mtpgen.h"

static struct mtpgen_options options;
static struct mtp_error error;
static char notes[4096];

static enum mtp_status parse_all(int argc, char *const *argv)
{
    memset(notes, 0, sizeof notes);
    memset(&error, 0, sizeof error);
    FILE *out = fmemopen(notes, sizeof notes - 1, "w");
    assert_non_null(out);
    mtpgen_options_free(&options);
    enum mtp_status status = mtpgen_options_parse(&options, argc, argv, out, &error);
    fclose(out);
    if (status != MTP_OK)
        assert_true(strlen(error.message) > 0 && strchr(error.message, '\n') == NULL);
    return status;
}

/* mtpgen -m x ARGUMENTS... */
#define parse(...) \
    parse_all(3 + (int)(sizeof((char *[]){ __VA_ARGS__ }) / sizeof(char *)), \
              (char *[]){ "mtpgen", "-m", "x", __VA_ARGS__, NULL })

/* Calls visit for each of "-m, --model". */
static void each_name(const char *names, void (*visit)(const char *name, void *user), void *user)
{
    for (const char *at = names; *at != '\0';) {
        char name[64];
        size_t n = strcspn(at, ",");
        assert_true(n < sizeof name);
        snprintf(name, sizeof name, "%.*s", (int)n, at);
        visit(name, user);
        at += n;
        at += strspn(at, ", ");
    }
}

static void defaults_are_greedy_whole_length_and_thinking(void **state)
{
    (void)state;
    assert_int_equal(parse("-p", "hello"), MTP_OK);
    assert_string_equal(options.model_path, "x");
    assert_string_equal(options.prompt, "hello");
    assert_true(options.n_predict == UINT64_MAX);
    assert_true(isnan(options.temperature) && isnan(options.top_p) && isnan(options.min_p));
    assert_true(options.think);
    assert_false(options.chat || options.ignore_eos || options.quiet || options.info);
    assert_int_equal(options.session.n_ctx, 0);
    assert_int_equal(options.session.kv_type, MTP_KV_F16);
    assert_int_equal(options.session.moe_mode, MTP_MOE_GROUPED);
    assert_int_equal(options.session.isa, MTP_ISA_AUTO);
    assert_int_equal(options.session.device, MTP_DEVICE_AUTO);
    assert_int_equal(options.n_draft, MTPGEN_DRAFT_DEFAULT);
    assert_int_equal(options.draft_head_rows, 0);
    assert_int_equal(options.session.strict, MTP_STRICT_OFF);
    assert_false(options.session.fast);
    assert_true(options.report_path == NULL && options.trace_path == NULL);
    assert_null(options.session.test_flip);
    assert_int_equal(options.argc, 5);
    assert_string_equal(options.argv[4], "hello");
    assert_string_equal(notes, "");
}

static void every_value_arrives_where_it_belongs(void **state)
{
    (void)state;
    assert_int_equal(parse("-f", "-", "-n", "12", "-c", "4096", "-t", "3", "--temp", "0.7",
                           "--top-k", "20", "--top-p=0.9", "--min-p", "1e-2", "--seed",
                           "18446744073709551615", "-b", "64", "--ignore-eos", "--mtp-model", "y",
                           "--moe", "per-token", "--kv", "f32", "--isa", "scalar", "--device", "cpu",
                           "--chat", "-sys", "be brief", "--no-think", "--template", "chatml", "--stop",
                           "a", "--stop", "b", "-v", "-q", "--draft", "5", "--draft-head", "512",
                           "--draft-source", "mtp,ngram",
                           "--strict", "--trace", "t", "--trace-logits", "--report", "r.json",
                           "--test-flip", "router:3"), MTP_OK);
    assert_int_equal(options.n_draft, 5);
    assert_int_equal(options.draft_head_rows, 512);
    assert_int_equal(options.draft_sources, 1 << MTP_DRAFT_HEAD | 1 << MTP_DRAFT_NGRAM);
    assert_int_equal(options.session.strict, MTP_STRICT_FULL);
    assert_string_equal(options.trace_path, "t");
    assert_true(options.trace_logits);
    assert_string_equal(options.report_path, "r.json");
    assert_string_equal(options.session.test_flip, "router:3");
    assert_string_equal(options.prompt_file, "-");
    assert_int_equal(options.n_predict, 12);
    assert_int_equal(options.session.n_ctx, 4096);
    assert_int_equal(options.session.n_threads, 3);
    assert_true(fabsf(options.temperature - 0.7f) < 1e-6f);
    assert_int_equal(options.top_k, 20);
    assert_true(fabsf(options.top_p - 0.9f) < 1e-6f && fabsf(options.min_p - 0.01f) < 1e-6f);
    assert_true(options.seed == UINT64_MAX);
    assert_int_equal(options.session.n_batch, 64);
    assert_string_equal(options.mtp_path, "y");
    assert_int_equal(options.session.moe_mode, MTP_MOE_PER_TOKEN);
    assert_int_equal(options.session.kv_type, MTP_KV_F32);
    assert_int_equal(options.session.isa, MTP_ISA_SCALAR);
    assert_int_equal(options.session.device, MTP_DEVICE_CPU);
    assert_string_equal(options.system, "be brief");
    assert_string_equal(options.template_name, "chatml");
    assert_int_equal(options.n_stops, 2);
    assert_string_equal(options.stops[1], "b");
    assert_true(options.chat && !options.think && options.verbose && options.quiet);
    assert_true(options.ignore_eos);
}

static void numbers_are_read_strictly(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        { "-n", "" },        { "-n", "4x" },      { "-n", " 4" },     { "-n", "-3" },
        { "-n", "0x10" },    { "-n", "1e3" },     { "-n", "4294967296" },
        { "-c", "-1" },      { "-c", "16777217" },
        { "-c", "99999999999999999999" },         { "-t", "-2" },     { "-t", "1025" },
        { "-t", "two" },     { "--temp", "-1" },  { "--temp", "nan" }, { "--temp", "inf" },
        { "--temp", "0.5f" }, { "--temp", "" },   { "--temp", "0,5" }, { "--temp", "1e-9" },
        { "--top-k", "-1" }, { "--top-k", "2.5" }, { "--top-p", "1.1" }, { "--top-p", "-0.1" },
        { "--top-p", "0x1" }, { "--min-p", "2" }, { "--seed", "-2" }, { "--seed", "1.0" },
        { "--seed", "18446744073709551616" },     { "--batch", "0" }, { "--batch", "65537" },
        { "--moe", "all" },  { "--kv", "q8_0" },  { "--kv", "f" },    { "--isa", "avx51" },
        { "--device", "CUDA0" },
        { "--draft", "9" },  { "--draft", "-1" }, { "--draft", "3x" }, { "--draft", "AUTO" },
        { "--draft-head", "0" }, { "--draft-head", "all" }, { "--draft-head", "4294967296" },
        { "--draft-max", "many" },
        { "--moe", "grouped|per-token" },         { "--stop", "" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse((char *)bad[i][0], (char *)bad[i][1]), MTP_ERR_USAGE);
        assert_non_null(strstr(error.message, bad[i][0])); /* which option */
    }
    assert_int_equal(parse("-n", "-1", "-t", "-1", "-c", "0", "--temp", "0", "--top-k", "0"),
                     MTP_OK);
    assert_true(options.n_predict == UINT64_MAX);
    assert_int_equal(options.session.n_threads, 0);
}

static void what_is_no_option_is_said_in_one_sentence(void **state)
{
    (void)state;
    assert_int_equal(parse("--frobnicate"), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "--frobnicate"));
    assert_int_equal(parse("hello"), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "-p"));
    assert_int_equal(parse("-"), MTP_ERR_USAGE);
    assert_int_equal(parse(""), MTP_ERR_USAGE);
    assert_int_equal(parse("-p"), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "needs a value"));
    assert_int_equal(parse("--chat=yes"), MTP_ERR_USAGE);
    assert_int_equal(parse("-p\x1b[31m"), MTP_ERR_USAGE);
    assert_null(strchr(error.message, '\x1b'));
    assert_int_equal(parse_all(1, (char *[]){ "mtpgen", NULL }), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "-m FILE"));
}

static void options_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    assert_int_equal(parse("-p", "a", "-f", "b"), MTP_ERR_USAGE);
    assert_int_equal(parse("-sys", "a"), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "--chat"));
    assert_int_equal(parse("--template", "chatml"), MTP_ERR_USAGE);
    assert_int_equal(parse("--chat", "-sys", "a", "-sysf", "b"), MTP_ERR_USAGE);
    assert_int_equal(parse("-ctk", "f32"), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "--kv f32"));
    assert_int_equal(parse("-ctk", "f32", "-ctv", "f16"), MTP_ERR_USAGE);
    assert_int_equal(parse("-ctk", "f32", "-ctv", "f32", "--kv", "f16"), MTP_ERR_USAGE);
    assert_int_equal(parse("-ctk", "q8_0", "-ctv", "q8_0"), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "--kv"));
    assert_int_equal(parse("-ctk", "f32", "-ctv", "f32"), MTP_OK);
    assert_int_equal(options.session.kv_type, MTP_KV_F32);
    assert_int_equal(parse("-ctk", "f16"), MTP_OK);
}

static void help_and_version_need_no_model(void **state)
{
    (void)state;
    assert_int_equal(parse_all(2, (char *[]){ "mtpgen", "--help", NULL }), MTP_OK);
    assert_true(options.help);
    assert_int_equal(parse_all(2, (char *[]){ "mtpgen", "--version", NULL }), MTP_OK);
    assert_true(options.version);
}

static void drafts_are_a_number_or_automatic(void **state)
{
    (void)state;
    for (int n = 0; n <= MTP_MAX_DRAFT; n++) {
        char value[16];
        snprintf(value, sizeof value, "%d", n);
        assert_int_equal(parse("--draft", value), MTP_OK);
        assert_int_equal(options.n_draft, n);
    }
    assert_int_equal(parse("--draft=auto"), MTP_OK);
    assert_int_equal(options.n_draft, MTP_DRAFT_AUTO);
    assert_int_equal(parse("--draft-head", "full"), MTP_OK);
    assert_int_equal(options.draft_head_rows, UINT32_MAX);
    assert_int_equal(parse("--draft-head", "512", "--draft-head", "auto"), MTP_OK);
    assert_int_equal(options.draft_head_rows, 0);
}

static void strict_takes_a_word_only_when_it_is_one_of_its_own(void **state)
{
    (void)state;
    assert_int_equal(parse("--strict", "-p", "full"), MTP_OK);
    assert_int_equal(options.session.strict, MTP_STRICT_FULL);
    assert_string_equal(options.prompt, "full");
    assert_int_equal(parse("--strict=sample"), MTP_OK);
    assert_int_equal(options.session.strict, MTP_STRICT_SAMPLE);
    assert_int_equal(parse("--strict", "sample", "-n", "4"), MTP_OK);
    assert_int_equal(options.session.strict, MTP_STRICT_SAMPLE);
    assert_int_equal(options.n_predict, 4);
    assert_int_equal(parse("--strict=sample", "--strict=full"), MTP_OK);
    assert_int_equal(options.session.strict, MTP_STRICT_FULL);
    assert_int_equal(parse("--strict=auto"), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "full or sample"));
    assert_int_equal(parse("--strict="), MTP_ERR_USAGE);
    assert_int_equal(parse("--strict", "auto"), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "'auto'"));
}

static void fast_is_refused_where_exact_bits_are_asked_for(void **state)
{
    (void)state;
    assert_int_equal(parse("--fast"), MTP_OK);
    assert_true(options.session.fast);
    assert_int_equal(parse("--fast", "--device", "cpu"), MTP_OK);
    assert_int_equal(parse("--fast", "--strict"), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "--strict compares exact bits, which --fast gives up"));
    assert_int_equal(parse("--strict=sample", "--fast"), MTP_ERR_USAGE);
    assert_int_equal(parse("--trace", "t", "--fast"), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "--trace records exact bits, which --fast gives up"));
    assert_int_equal(parse("--fast=1"), MTP_ERR_USAGE);
}

static void a_trace_is_of_one_answer(void **state)
{
    (void)state;
    assert_int_equal(parse("--trace", "t", "--chat"), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "-p or -f"));
    assert_int_equal(parse("--trace", "t", "--chat", "-p", "why?"), MTP_OK);
    assert_int_equal(parse("--trace", "t"), MTP_OK); /* a prompt from a pipe */
    assert_int_equal(parse("--trace-logits"), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "--trace FILE"));
}

/* ---- options of llama.cpp -------------------------------------------------------------------- */

static const char *category(const struct mtpgen_option *option)
{
    switch (option->kind) {
    case KIND_NOTED:
        return "note";
    case KIND_NEUTRAL:
        return "if neutral";
    case KIND_REFUSED:
        return "refused";
    default:
        return "honoured";
    }
}

/* A value with which an honoured option is accepted. */
static char *sample_value(const char *name)
{
    static const char *const samples[][2] = {
        { "-ctk", "f16" },           { "--cache-type-k", "f16" },
        { "-ctv", "f16" },           { "--cache-type-v", "f16" },
        { "--samplers", "top_k;top_p;min_p;temperature" },
        { "--spec-type", "draft-mtp" }, { "--spec-draft-n-max", "2" },
        { "--draft-max", "16" },     { "--draft-n", "0" },
        { "-rea", "off" },           { "--reasoning", "auto" },
        { "--reasoning-budget", "0" },
        { "--chat-template-kwargs", "{\"enable_thinking\": false}" },
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        if (strcmp(samples[i][0], name) == 0)
            return (char *)samples[i][1];
    }
    return "draft.gguf";
}

static void check_llama_name(const char *name, void *user)
{
    const struct mtpgen_option *option = user;
    char neutral[32];
    snprintf(neutral, sizeof neutral, "%g", option->neutral);
    char *value = option->kind == KIND_NEUTRAL ? neutral : sample_value(name);
    bool optional = option->argument != NULL && option->argument[0] == '[';
    enum mtp_status status = option->argument == NULL || optional
                                 ? parse((char *)name)
                                 : parse((char *)name, value);
    assert_ptr_equal(mtpgen_option_find(name), option);
    if (option->kind == KIND_REFUSED) {
        assert_int_equal(status, MTP_ERR_USAGE);
        assert_non_null(strstr(error.message, option->help));
        assert_non_null(strstr(error.message, name));
        return;
    }
    if (status != MTP_OK)
        print_error("%s: %s\n", name, error.message);
    assert_int_equal(status, MTP_OK);
    assert_true((strstr(notes, option->help) != NULL && strstr(notes, name) != NULL) ==
                (option->kind == KIND_NOTED));
    if (option->kind == KIND_NEUTRAL) {
        assert_int_equal(parse((char *)name, "0.37"), MTP_ERR_USAGE);
        assert_non_null(strstr(error.message, option->help));
    }
}

static void every_option_of_llama_cpp_is_handled_as_its_category_says(void **state)
{
    (void)state;
    assert_true(mtpgen_n_llama_options > 80);
    for (size_t i = 0; i < mtpgen_n_llama_options; i++)
        each_name(mtpgen_llama_options[i].names, check_llama_name,
                  (void *)&mtpgen_llama_options[i]);
}

static void mark_own(const char *name, void *user)
{
    const char **text = user;
    const char *at = *text != NULL ? strstr(*text, name) : NULL;
    if (at != NULL && at[strlen(name)] != '-' && (at == *text || at[-1] == ' '))
        *text = NULL; /* found */
}

static void every_refusal_names_an_option_of_ours(void **state)
{
    (void)state;
    for (size_t i = 0; i < mtpgen_n_llama_options; i++) {
        const char *text = mtpgen_llama_options[i].help;
        if (mtpgen_llama_options[i].kind != KIND_REFUSED)
            continue;
        for (size_t j = 0; j < mtpgen_n_own_options; j++)
            each_name(mtpgen_own_options[j].names, mark_own, &text);
        if (text != NULL)
            print_error("%s\n", text);
        assert_null(text);
    }
}

static void a_value_that_may_be_left_out_is_taken_only_when_it_is_one(void **state)
{
    (void)state;
    assert_int_equal(parse("-fa", "on", "-p", "x"), MTP_OK);
    assert_int_equal(parse("-fa", "-p", "x"), MTP_OK);
    assert_string_equal(options.prompt, "x");
    assert_int_equal(parse("-fa=on"), MTP_ERR_USAGE);
    assert_int_equal(parse("--flash-attn=on"), MTP_OK);
    assert_int_equal(parse("-q", "-sm", "none"), MTP_OK);
    assert_string_equal(notes, ""); /* quiet */
}

static void no_gpu_layers_is_the_cpu(void **state)
{
    (void)state;
    assert_int_equal(parse("-ngl", "99"), MTP_OK);
    assert_int_equal(options.session.device, MTP_DEVICE_AUTO);
    assert_int_equal(parse("--n-gpu-layers", "0"), MTP_OK);
    assert_int_equal(options.session.device, MTP_DEVICE_CPU);
    assert_int_equal(parse("-ngl", "0", "--device", "cuda"), MTP_OK);
    assert_int_equal(options.session.device, MTP_DEVICE_CUDA);
}

static void honoured_options_do_what_they_say(void **state)
{
    (void)state;
    assert_int_equal(parse("-md", "draft.gguf", "-rea", "off"), MTP_OK);
    assert_string_equal(options.mtp_path, "draft.gguf");
    assert_false(options.think);
    assert_int_equal(parse("--reasoning-budget", "0"), MTP_OK);
    assert_false(options.think);
    assert_int_equal(parse("--reasoning-budget", "-1"), MTP_OK);
    assert_true(options.think);
    assert_int_equal(parse("--reasoning-budget", "100"), MTP_ERR_USAGE);
    assert_int_equal(parse("--chat-template-kwargs", "{ \"enable_thinking\" : false }"), MTP_OK);
    assert_false(options.think);
    assert_int_equal(parse("--chat-template-kwargs", "{\"x\":1}"), MTP_ERR_USAGE);
    assert_int_equal(parse("--samplers", "top_k;temperature"), MTP_OK);
    assert_true(options.top_p == 1.0f && options.min_p == 0.0f && isnan(options.temperature));
    assert_int_equal(options.top_k, UINT32_MAX);
    assert_int_equal(parse("--samplers", "temperature;top_k"), MTP_ERR_USAGE);
    assert_int_equal(parse("--samplers", "penalties;top_k"), MTP_ERR_USAGE);
    assert_int_equal(parse("--spec-type", "ngram-mod"), MTP_ERR_USAGE);
    assert_int_equal(parse("--spec-type", "draft-mtp"), MTP_OK);
    assert_int_equal(options.n_draft, MTPGEN_DRAFT_DEFAULT);
    assert_int_equal(parse("--spec-type", "none", "--draft-max", "4"), MTP_OK);
    assert_int_equal(options.n_draft, 0);
    assert_int_equal(parse("--spec-draft-n-max", "2", "--spec-type", "draft-mtp"), MTP_OK);
    assert_int_equal(options.n_draft, 2);
    assert_int_equal(parse("--draft-n", "1"), MTP_OK);
    assert_int_equal(options.n_draft, 1);
    assert_int_equal(parse("--draft-max", "16"), MTP_OK);
    assert_int_equal(options.n_draft, 8);
    assert_int_equal(parse("--draft", "5", "--draft-max", "2", "--spec-type", "none"), MTP_OK);
    assert_int_equal(options.n_draft, 5);
    assert_int_equal(parse("-cnv", "-no-cnv"), MTP_OK);
    assert_false(options.chat);
}

/* ---- documents ------------------------------------------------------------------------------- */

static void count_name(const char *name, void *user)
{
    (void)user;
    assert_true(name[0] == '-' && strlen(name) > 1 && strlen(name) < 64);
    size_t n = 0;
    for (size_t i = 0; i < mtpgen_n_own_options + mtpgen_n_llama_options; i++) {
        const char *names = i < mtpgen_n_own_options
                                ? mtpgen_own_options[i].names
                                : mtpgen_llama_options[i - mtpgen_n_own_options].names;
        char list[512], wanted[80];
        snprintf(list, sizeof list, ", %s,", names);
        snprintf(wanted, sizeof wanted, ", %s,", name);
        n += strstr(list, wanted) != NULL;
    }
    if (n != 1)
        print_error("%s is there %zu times\n", name, n);
    assert_int_equal(n, 1);
}

static void no_name_stands_for_two_options(void **state)
{
    (void)state;
    for (size_t i = 0; i < mtpgen_n_own_options; i++)
        each_name(mtpgen_own_options[i].names, count_name, NULL);
    for (size_t i = 0; i < mtpgen_n_llama_options; i++)
        each_name(mtpgen_llama_options[i].names, count_name, NULL);
    for (size_t i = 0; i < mtpgen_n_hidden_options; i++) {
        const struct mtpgen_option *option = &mtpgen_hidden_options[i];
        assert_ptr_equal(mtpgen_option_find(option->names), option); /* and no other comes first */
        assert_int_equal(option->group, GROUP_HIDDEN);
    }
}

static FILE *open_document(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/docs/%s", TEST_SRCDIR, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    return file;
}

/* "`-fa, --flash-attn [on\|off]` | note | text |", as docs/from-llama.cpp.md has it. */
static void table_row(char *row, size_t size, const struct mtpgen_option *option)
{
    char argument[128] = "";
    size_t n = 0;
    for (const char *at = option->argument; at != NULL && *at != '\0'; at++) {
        if (*at == '|')
            argument[n++] = '\\';
        argument[n++] = *at;
    }
    argument[n] = '\0';
    snprintf(row, size, "| `%s%s%s` | %s | %s |\n", option->names, n > 0 ? " " : "", argument,
             category(option), option->help);
}

static void the_page_for_llama_cpp_users_lists_exactly_what_the_table_has(void **state)
{
    (void)state;
    FILE *file = open_document("from-llama.cpp.md");
    char line[1024], row[1024];
    size_t n = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "| `", 3) != 0)
            continue;
        assert_true(n < mtpgen_n_llama_options);
        table_row(row, sizeof row, &mtpgen_llama_options[n++]);
        assert_string_equal(line, row);
    }
    assert_int_equal(n, mtpgen_n_llama_options);
    fclose(file);
}

/* ".It Fl m , Fl -model Ar FILE" for an option. */
static void manual_item(char *item, size_t size, const struct mtpgen_option *option)
{
    size_t n = (size_t)snprintf(item, size, ".It");
    for (const char *at = option->names; *at != '\0';) {
        size_t length = strcspn(at, ",");
        n += (size_t)snprintf(item + n, size - n, "%s Fl %.*s", at == option->names ? "" : " ,",
                              (int)length - 1, at + 1);
        at += length;
        at += strspn(at, ", ");
    }
    if (option->argument != NULL)
        n += (size_t)snprintf(item + n, size - n, " Ar %s", option->argument);
    snprintf(item + n, size - n, "\n");
}

static void the_man_page_lists_the_same_options(void **state)
{
    (void)state;
    FILE *file = open_document("mtpgen.1");
    char line[512], item[512];
    size_t n = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, ".It Fl ", 7) != 0)
            continue;
        assert_true(n < mtpgen_n_own_options);
        manual_item(item, sizeof item, &mtpgen_own_options[n++]);
        assert_string_equal(line, item);
    }
    assert_int_equal(n, mtpgen_n_own_options);
    fclose(file);
}

static void help_lists_every_option_and_fits_two_screens(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    assert_non_null(out);
    mtpgen_print_help(out);
    fclose(out);
    for (size_t i = 0; i < mtpgen_n_own_options; i++) {
        char entry[128];
        snprintf(entry, sizeof entry, "\n  %s", mtpgen_own_options[i].names);
        assert_non_null(strstr(text, entry));
        assert_non_null(strstr(text, mtpgen_own_options[i].help));
    }
    size_t lines = 0, column = 0;
    for (const char *c = text; *c != '\0'; c++) {
        column = *c == '\n' ? 0 : column + 1;
        assert_true(column <= 100);
        lines += *c == '\n';
    }
    assert_true(lines <= 68);
    for (size_t i = 0; i < mtpgen_n_hidden_options; i++)
        assert_null(strstr(text, mtpgen_hidden_options[i].names));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_greedy_whole_length_and_thinking),
        cmocka_unit_test(every_value_arrives_where_it_belongs),
        cmocka_unit_test(numbers_are_read_strictly),
        cmocka_unit_test(what_is_no_option_is_said_in_one_sentence),
        cmocka_unit_test(options_that_contradict_each_other_are_refused),
        cmocka_unit_test(help_and_version_need_no_model),
        cmocka_unit_test(drafts_are_a_number_or_automatic),
        cmocka_unit_test(strict_takes_a_word_only_when_it_is_one_of_its_own),
        cmocka_unit_test(fast_is_refused_where_exact_bits_are_asked_for),
        cmocka_unit_test(a_trace_is_of_one_answer),
        cmocka_unit_test(every_option_of_llama_cpp_is_handled_as_its_category_says),
        cmocka_unit_test(every_refusal_names_an_option_of_ours),
        cmocka_unit_test(a_value_that_may_be_left_out_is_taken_only_when_it_is_one),
        cmocka_unit_test(no_gpu_layers_is_the_cpu),
        cmocka_unit_test(honoured_options_do_what_they_say),
        cmocka_unit_test(no_name_stands_for_two_options),
        cmocka_unit_test(the_page_for_llama_cpp_users_lists_exactly_what_the_table_has),
        cmocka_unit_test(the_man_page_lists_the_same_options),
        cmocka_unit_test(help_lists_every_option_and_fits_two_screens),
    };
    int failed = cmocka_run_group_tests_name("mtpgen options", tests, NULL, NULL);
    mtpgen_options_free(&options);
    return failed;
}
