/* mtpsynth_options.c - the command line. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mtpsynth.h"
#include "src/cpu_count.h"

void synth_print_help(void)
{
    fputs("usage: mtpsynth --preset NAME --mix NAME [options] -o FILE    write a synthetic model\n"
          "       mtpsynth --preset NAME --mix NAME [options] --plan     list its tensors\n"
          "       mtpsynth --list                                        presets and sizes\n"
          "       mtpsynth --print-cycle ID,N FILE                       ids that follow ID\n"
          "       mtpsynth --check FILE [--tokens N] [--draft N]         run a model\n"
          "       mtpsynth --digests FILE [--tokens N] [--draft N]       only its run with drafts\n"
          "\n"
          "Writes GGUF files with the shapes of real models and synthetic weights, for measurements.\n"
          "Greedy decoding follows a known cycle of ids; docs/synthetic-models.md says what is inside.\n"
          "\n"
          "  --preset NAME       35b-a3b, 27b, coder-30b, tiny-moe, tiny-dense, tiny-coder\n"
          "  --mix NAME          Q4_K_M, Q5_K_M, Q8_0, Q3_K+Q8_0\n"
          "  -o, --output FILE   the file; it is there whole or not at all\n"
          "  --layers N          layers of the trunk, fewer than the preset's\n"
          "  --vocab N           size of the vocabulary, smaller than the preset's\n"
          "  --hot N             ids of the first cycle, 0..N-1 (16384, at most half the vocabulary);\n"
          "                      every byte's token is one of them\n"
          "  --accept P[,P...]   share of ids whose successor the draft head knows (0.8); with several,\n"
          "                      stretches of the cycle take turns\n"
          "  --stretch N         ids in such a stretch (256)\n"
          "  --route-overlap R   share of the router's logits that neighbours have in common, 0 to 0.95\n"
          "                      (0: independent)\n"
          "  --seed N            another model of the same kind (1)\n"
          "  -t, --threads N     threads (all cores); the bytes do not depend on them\n"
          "  --tokens N          how many tokens --check and --digests generate (64)\n"
          "  --draft N           how many drafts a step they try, 0 to 8 (3)\n"
          "\n"
          "--print-cycle prints N lines: an id, its successor, and what the draft head proposes.\n"
          "--check prints how far the successor's logit stands above the others, in their standard\n"
          "deviations; drafts accepted and expected; experts that 1, 2, 4 and 8 rows use together;\n"
          "digests of the logits. It knows the architectures of mtpgen.\n"
          "\n"
          "Exit status: 0 done; 2 wrong arguments; 3 a file cannot be read or written; 4 not a file of\n"
          "mtpsynth; 5 an architecture that --check does not know; 6 not enough memory; 10 --check found\n"
          "a model that does not do what it should; 130 interrupted.\n", stdout);
}

enum {
    OPT_PRESET = 256, OPT_MIX, OPT_LAYERS, OPT_VOCAB, OPT_HOT, OPT_ACCEPT, OPT_STRETCH, OPT_OVERLAP,
    OPT_SEED, OPT_TOKENS, OPT_DRAFT, OPT_PLAN, OPT_LIST, OPT_PRINT_CYCLE, OPT_CHECK,
    OPT_DIGESTS,
};

static const struct option long_options[] = {
    {"preset", required_argument, NULL, OPT_PRESET},
    {"mix", required_argument, NULL, OPT_MIX},
    {"output", required_argument, NULL, 'o'},
    {"layers", required_argument, NULL, OPT_LAYERS},
    {"vocab", required_argument, NULL, OPT_VOCAB},
    {"hot", required_argument, NULL, OPT_HOT},
    {"accept", required_argument, NULL, OPT_ACCEPT},
    {"stretch", required_argument, NULL, OPT_STRETCH},
    {"route-overlap", required_argument, NULL, OPT_OVERLAP},
    {"seed", required_argument, NULL, OPT_SEED},
    {"threads", required_argument, NULL, 't'},
    {"tokens", required_argument, NULL, OPT_TOKENS},
    {"draft", required_argument, NULL, OPT_DRAFT},
    {"plan", no_argument, NULL, OPT_PLAN},
    {"list", no_argument, NULL, OPT_LIST},
    {"print-cycle", required_argument, NULL, OPT_PRINT_CYCLE},
    {"check", required_argument, NULL, OPT_CHECK},
    {"digests", required_argument, NULL, OPT_DIGESTS},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* What was given, before it is known whether it goes together. */
struct given {
    const char *preset, *mix;
    uint32_t layers, vocab, hot;
};

static bool parse_number(const char *text, uint32_t low, uint32_t high, uint32_t *value)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number < low || number > high)
        return false;
    *value = (uint32_t)number;
    return true;
}

static bool parse_share(const char *text, char **end, double most, double *value)
{
    *value = strtod(text, end);
    return *end != text && *value >= 0.0 && *value <= most;
}

bool synth_parse_accept(struct synth_spec *spec, const char *text)
{
    char *end;
    for (spec->n_classes = 0; spec->n_classes < SYNTH_MAX_CLASSES; text = end + 1) {
        if (!parse_share(text, &end, 1.0, &spec->accept[spec->n_classes++]))
            return false;
        if (*end != ',')
            return *end == '\0';
    }
    return false;
}

static bool parse_overlap(const char *text, float *overlap)
{
    char *end;
    double value;
    if (!parse_share(text, &end, 0.95, &value) || *end != '\0')
        return false;
    *overlap = (float)value;
    return true;
}

static bool parse_print_cycle(struct synth_options *o, const char *text)
{
    char first[16];
    const char *comma = strchr(text, ',');
    if (comma == NULL || (size_t)(comma - text) >= sizeof first)
        return false;
    memcpy(first, text, (size_t)(comma - text));
    first[comma - text] = '\0';
    o->action = ACTION_PRINT_CYCLE;
    return parse_number(first, 0, UINT32_MAX, &o->first_id) &&
           parse_number(comma + 1, 1, UINT32_MAX, &o->n_ids);
}

static bool set_action(struct synth_options *o, enum synth_action action, const char *path)
{
    o->action = action;
    if (path != NULL)
        o->path = path;
    return true;
}

/* False when the value is none. */
static bool take(struct synth_options *o, struct given *given, int option)
{
    switch (option) {
    case OPT_PRESET:
        given->preset = optarg;
        return true;
    case OPT_MIX:
        given->mix = optarg;
        return true;
    case 'o':
        o->path = optarg;
        return true;
    case OPT_LAYERS:
        return parse_number(optarg, 1, UINT32_MAX, &given->layers);
    case OPT_VOCAB:
        return parse_number(optarg, 1, UINT32_MAX, &given->vocab);
    case OPT_HOT:
        return parse_number(optarg, 1, UINT32_MAX, &given->hot);
    case OPT_ACCEPT:
        return synth_parse_accept(&o->spec, optarg);
    case OPT_STRETCH:
        return parse_number(optarg, 1, UINT32_MAX, &o->spec.stretch);
    case OPT_OVERLAP:
        return parse_overlap(optarg, &o->spec.overlap);
    case OPT_SEED:
        return parse_number(optarg, 0, UINT32_MAX, &o->spec.seed);
    case 't':
        return parse_number(optarg, 1, 256, &o->n_threads);
    case OPT_TOKENS:
        return parse_number(optarg, 1, 1 << 20, &o->check.n_tokens);
    case OPT_DRAFT:
        return parse_number(optarg, 0, MTP_MAX_DRAFT, &o->check.n_draft);
    case OPT_PLAN:
        return set_action(o, ACTION_PLAN, NULL);
    case OPT_LIST:
        return set_action(o, ACTION_LIST, NULL);
    case OPT_PRINT_CYCLE:
        return parse_print_cycle(o, optarg);
    case OPT_CHECK:
        return set_action(o, ACTION_CHECK, optarg);
    case OPT_DIGESTS:
        o->check.digests_only = true;
        return set_action(o, ACTION_CHECK, optarg);
    default:
        return set_action(o, ACTION_HELP, NULL);
    }
}

static enum mtp_status shrink(struct synth_spec *spec, const struct given *given, struct mtp_error *error)
{
    struct synth_shape *shape = &spec->shape;
    if (given->layers > shape->n_layers)
        return mtp_fail(error, MTP_ERR_USAGE, "--layers %" PRIu32 ": preset %s has %" PRIu32, given->layers,
                        shape->name, shape->n_layers);
    if (given->vocab > shape->n_vocab || (given->vocab > 0 && given->vocab < 1024))
        return mtp_fail(error, MTP_ERR_USAGE, "--vocab %" PRIu32 " is outside 1024..%" PRIu32,
                        given->vocab, shape->n_vocab);
    if (given->layers > 0)
        shape->n_layers = given->layers;
    if (given->vocab > 0)
        shape->n_vocab = given->vocab;
    uint32_t half = shape->n_vocab / 2;
    spec->n_hot = given->hot > 0 ? given->hot : half < 16384 ? half : 16384;
    if (spec->n_hot < 256 || spec->n_hot > half)
        return mtp_fail(error, MTP_ERR_USAGE, "--hot %" PRIu32 " is outside 256..%" PRIu32
                        ", half the vocabulary", spec->n_hot, half);
    return MTP_OK;
}

/* The model that a file or a plan is of. */
static enum mtp_status choose(struct synth_options *o, const struct given *given, struct mtp_error *error)
{
    if (given->preset == NULL || given->mix == NULL)
        return mtp_fail(error, MTP_ERR_USAGE, "give --preset and --mix; see --help");
    const struct synth_shape *shape = synth_shape_named(given->preset);
    if (shape == NULL)
        return mtp_fail(error, MTP_ERR_USAGE, "--preset %s is not known; --list shows those there are",
                        given->preset);
    if (!synth_mix_named(given->mix, &o->spec.mix))
        return mtp_fail(error, MTP_ERR_USAGE,
                        "--mix %s is not known (known: Q4_K_M, Q5_K_M, Q8_0, Q3_K+Q8_0)", given->mix);
    o->spec.shape = *shape;
    return shrink(&o->spec, given, error);
}

enum mtp_status synth_parse(struct synth_options *options, int argc, char **argv,
                            struct mtp_error *error)
{
    struct given given = {0};
    *options = (struct synth_options){.n_threads = physical_cores_usable()};
    options->check.n_tokens = 64;
    options->check.n_draft = 3;
    options->spec = (struct synth_spec){.seed = 1, .accept = {0.8}, .n_classes = 1, .stretch = 256};
    opterr = 0;
    for (;;) {
        int at = optind, option = getopt_long(argc, argv, "o:t:h", long_options, NULL);
        if (option < 0)
            break;
        if (option == '?')
            return mtp_fail(error, MTP_ERR_USAGE, "%s is no option, or its value is missing", argv[at]);
        if (!take(options, &given, option))
            return mtp_fail(error, MTP_ERR_USAGE, "%s cannot be %s", argv[at], optarg);
    }
    if (options->action == ACTION_PRINT_CYCLE && optind < argc)
        options->path = argv[optind++];
    if (optind < argc)
        return mtp_fail(error, MTP_ERR_USAGE, "%s is one argument too many", argv[optind]);
    options->check.path = options->path;
    options->check.n_threads = options->n_threads;
    if (options->action == ACTION_PRINT_CYCLE && options->path == NULL)
        return mtp_fail(error, MTP_ERR_USAGE, "--print-cycle wants a file");
    if (options->action != ACTION_WRITE && options->action != ACTION_PLAN)
        return MTP_OK;
    enum mtp_status status = choose(options, &given, error);
    if (status == MTP_OK && options->action == ACTION_WRITE && options->path == NULL)
        status = mtp_fail(error, MTP_ERR_USAGE, "give the file to write with -o");
    return status;
}
