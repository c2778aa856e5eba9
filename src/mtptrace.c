/* mtptrace - shows, compares and verifies recordings of runs (docs/traces.md). */
#include "mtptrace.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const char help_text[] =
    "usage: mtptrace show FILE\n"
    "       mtptrace diff FILE FILE\n"
    "       mtptrace verify FILE -m MODEL [options]\n"
    "\n"
    "Traces are what mtpgen --trace FILE records.\n"
    "\n"
    "  show     print the settings, the prompt and every step\n"
    "  diff     name the first position at which two runs differ\n"
    "  verify   compute the run again on this machine, without drafts, and compare\n"
    "\n"
    "options of verify:\n"
    "  -m, --model FILE         the GGUF file that was run\n"
    "      --mtp-model FILE     its companion with the MTP block, when there was one\n"
    "  -t, --threads N          threads; default: the physical cores\n"
    "      --isa auto|scalar|avx2|avx512\n"
    "                           instruction set; default: the best of this machine\n"
    "      --device auto|cpu|cuda\n"
    "                           where to compute, as in mtpgen; default: cpu\n"
    "\n"
    "  -h, --help               this text\n"
    "      --version            versions of program, arithmetic and format\n"
    "\n"
    "exit status: 0 equal or verified, 1 different, 2 wrong argument or other model, 3 file cannot\n"
    "be read, 4 not a trace or damaged, 5 newer format, other arithmetic or no such device,\n"
    "6 memory, 8 NaN met, 10 the device failed\n";

enum command { SHOW, DIFF, VERIFY, HELP, SAY_VERSION };

/* ---- tokens of a trace ------------------------------------------------------------------- */

enum mtp_status cursor_open(struct token_cursor *cursor, const char *path, struct mtp_error *error)
{
    memset(cursor, 0, sizeof *cursor);
    return trace_open(&cursor->reader, path, error);
}

void cursor_close(struct token_cursor *cursor)
{
    trace_reader_close(cursor->reader);
    cursor->reader = NULL;
}

enum mtp_status cursor_next(struct token_cursor *cursor, struct mtp_error *error)
{
    enum mtp_status status = MTP_OK;
    cursor->row = NULL;
    if (cursor->step_number > 0 && cursor->in_step + 1 < cursor->step.n_tokens) {
        cursor->in_step++;
    } else {
        struct mtp_step_record step;
        status = trace_next(cursor->reader, &step, &cursor->ended, error);
        if (status != MTP_OK || cursor->ended)
            return status;
        cursor->step = step;
        cursor->in_step = 0;
        cursor->step_number++;
    }
    cursor->position = cursor->step.position + cursor->in_step;
    cursor->token = cursor->step.tokens[cursor->in_step];
    cursor->digest = cursor->step.digests[cursor->in_step];
    if (trace_get_header(cursor->reader)->logits)
        status = trace_next_row(cursor->reader, &cursor->row, error);
    return status;
}

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

void print_row_difference(FILE *out, const float *a, const float *b, size_t n)
{
    size_t first = n, differing = 0;
    for (size_t i = 0; i < n; i++) {
        if (float_bits(a[i]) == float_bits(b[i]))
            continue;
        first = differing == 0 ? i : first;
        differing++;
    }
    if (first < n)
        fprintf(out, "at id %zu: %.9g (0x%08x) | %.9g (0x%08x), %zu of %zu differ", first,
                (double)a[first], float_bits(a[first]), (double)b[first], float_bits(b[first]),
                differing, n);
}

/* ---- options ----------------------------------------------------------------------------- */

static enum mtp_status parse_threads(const char *text, uint32_t *n, struct mtp_error *error)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value > 256)
        return mtp_fail(error, MTP_ERR_USAGE, "-t %s: a number from 0 to 256 is expected", text);
    *n = (uint32_t)value;
    return MTP_OK;
}

/* Which of the n words text is; n when it is none. */
static size_t find_word(const char *text, const char *const *words, size_t n)
{
    size_t i = 0;
    while (i < n && strcmp(text, words[i]) != 0)
        i++;
    return i;
}

static enum mtp_status parse_isa(const char *text, enum mtp_isa *isa, struct mtp_error *error)
{
    static const char *const names[] = {"auto", "scalar", "avx2", "avx512"};
    size_t found = find_word(text, names, 4);
    if (found == 4)
        return mtp_fail(error, MTP_ERR_USAGE, "--isa %s: auto, scalar, avx2 or avx512 is expected", text);
    *isa = (enum mtp_isa)found;
    return MTP_OK;
}

static enum mtp_status parse_device(const char *text, enum mtp_device *device, struct mtp_error *error)
{
    static const char *const names[] = {"auto", "cpu", "cuda"};
    size_t found = find_word(text, names, 3);
    if (found == 3)
        return mtp_fail(error, MTP_ERR_USAGE, "--device %s: auto, cpu or cuda is expected", text);
    *device = (enum mtp_device)found;
    return MTP_OK;
}

/* An option of verify and its value. */
static enum mtp_status parse_option(const char *name, const char *value,
                                    struct mtptrace_options *options, struct mtp_error *error)
{
    bool model = strcmp(name, "-m") == 0 || strcmp(name, "--model") == 0;
    bool companion = strcmp(name, "--mtp-model") == 0;
    bool threads = strcmp(name, "-t") == 0 || strcmp(name, "--threads") == 0;
    bool isa = strcmp(name, "--isa") == 0;
    bool device = strcmp(name, "--device") == 0;
    if (!model && !companion && !threads && !isa && !device)
        return mtp_fail(error, MTP_ERR_USAGE, "unknown option %s (mtptrace --help lists all)", name);
    if (value == NULL)
        return mtp_fail(error, MTP_ERR_USAGE, "%s needs a value", name);
    if (threads)
        return parse_threads(value, &options->n_threads, error);
    if (isa)
        return parse_isa(value, &options->isa, error);
    if (device)
        return parse_device(value, &options->device, error);
    *(model ? &options->model_path : &options->mtp_path) = value;
    return MTP_OK;
}

static enum mtp_status parse_arguments(int argc, char **argv, enum command command,
                                       struct mtptrace_options *options, struct mtp_error *error)
{
    int n_files = 0, wanted = command == DIFF ? 2 : 1;
    bool only_files = false;
    for (int i = 2; i < argc; i++) {
        if (!only_files && strcmp(argv[i], "--") == 0) {
            only_files = true;
        } else if (only_files || argv[i][0] != '-') {
            if (n_files == wanted)
                return mtp_fail(error, MTP_ERR_USAGE, "%s: one argument too many", argv[i]);
            options->files[n_files++] = argv[i];
        } else {
            if (command != VERIFY)
                return mtp_fail(error, MTP_ERR_USAGE, "%s is no option of mtptrace %s", argv[i],
                                argv[1]);
            enum mtp_status status = parse_option(argv[i], i + 1 < argc ? argv[i + 1] : NULL,
                                                  options, error);
            if (status != MTP_OK)
                return status;
            i++;
        }
    }
    if (n_files < wanted)
        return mtp_fail(error, MTP_ERR_USAGE, "mtptrace %s needs %s", argv[1],
                        wanted == 2 ? "two traces" : "a trace");
    if (command == VERIFY && options->model_path == NULL)
        return mtp_fail(error, MTP_ERR_USAGE, "mtptrace verify needs the model: -m FILE");
    return MTP_OK;
}

static enum mtp_status parse(int argc, char **argv, enum command *command,
                             struct mtptrace_options *options, struct mtp_error *error)
{
    static const char *const names[] = {"show", "diff", "verify"};
    memset(options, 0, sizeof *options);
    options->device = MTP_DEVICE_CPU; /* the definition's */
    for (int i = 1; i < argc; i++) {
        bool help = strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
        if (help || (i == 1 && strcmp(argv[i], "--version") == 0)) {
            *command = help ? HELP : SAY_VERSION;
            return MTP_OK;
        }
    }
    if (argc < 2)
        return mtp_fail(error, MTP_ERR_USAGE,
                        "what is to be done: mtptrace show, diff or verify (mtptrace --help)");
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(argv[1], names[i]) == 0) {
            *command = (enum command)i;
            return parse_arguments(argc, argv, *command, options, error);
        }
    }
    return mtp_fail(error, MTP_ERR_USAGE, "%s is no command of mtptrace: show, diff and verify are",
                    argv[1]);
}

/* ---- main -------------------------------------------------------------------------------- */

static enum mtp_status run(enum command command, const struct mtptrace_options *options,
                           bool *different, struct mtp_error *error)
{
    switch (command) {
    case SHOW:
        return mtptrace_show(options, error);
    case DIFF:
        return mtptrace_diff(options, different, error);
    case VERIFY:
        return mtptrace_verify(options, different, error);
    case HELP:
        fputs(help_text, stdout);
        return MTP_OK;
    default:
        printf("mtptrace %s\narithmetic version %d\ntrace format version %d\n", mtp_version(),
               mtp_arithmetic_version(), TRACE_FORMAT_VERSION);
        return MTP_OK;
    }
}

int main(int argc, char **argv)
{
    struct mtp_error error = {MTP_OK, ""};
    struct mtptrace_options options;
    enum command command = HELP;
    bool different = false;
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is reported as a failure to write */
    enum mtp_status status = parse(argc, argv, &command, &options, &error);
    if (status == MTP_OK)
        status = run(command, &options, &different, &error);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == MTP_OK)
        status = mtp_fail(&error, MTP_ERR_IO, "cannot write to standard output: %s",
                          strerror(errno));
    if (status != MTP_OK) {
        fprintf(stderr, "mtptrace: %s\n", error.message);
        return (int)status;
    }
    return different ? 1 : 0;
}
