/* test_cuda_ways.c - whole models on a device under every way of running them, against plain runs on the
 * CPU: every depth of drafts with the strict check, batch sizes, both modes of experts, greedy and drawn;
 * texts that end about every border of attention's chunks, and runs across all of them; random ones.
 *     test_cuda_ways [--device cuda|cpu] [--threads N] [--seed N] [SECTION]
 * Several sessions run at a time, on threads of their own. --device cpu tries the test itself. Status 77
 * and a reason where there is no device. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/ops.h"
#include "tests/gpu/ways.h"
#include "tests/numbers.h"

static const struct mtp_sampling greedy = {.top_p = 1.0f};
static const struct mtp_sampling drawn = {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f,
                                          .min_p = 0.05f, .seed = 7};
static struct subject *subjects;
static size_t n_subjects;
static uint64_t seed = 1;

/* ---- depths -------------------------------------------------------------------------------- */

static void depths_of(struct ways *ways, struct way way)
{
    static const uint32_t batches[] = {1, 5, 64, 512};
    int32_t least = way.subject->drafts ? MTP_DRAFT_AUTO : 0, most = way.subject->drafts ? MTP_MAX_DRAFT : 0;
    int n_modes = way.subject->experts ? 2 : 1;
    ways_plain(ways, &way);
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
        for (int mode = 0; mode < n_modes; mode++)
            for (int32_t depth = least; depth <= most; depth++) {
                if (batches[b] == 1 && depth != 0 && depth != most)
                    continue; /* a pass of one row has no room for drafts */
                way.options.n_batch = batches[b];
                way.options.moe_mode = mode == 0 ? MTP_MOE_GROUPED : MTP_MOE_PER_TOKEN;
                way.options.strict = MTP_STRICT_FULL;
                way.generation.n_draft = depth;
                ways_add(ways, &way);
            }
}

static void depths(struct ways *ways)
{
    for (size_t i = 0; i < n_subjects; i++) {
        struct way way = {.subject = &subjects[i], .n_prompt = 67,
                          .generate = i == 0 ? 24 : 12, .generation = {.sampling = greedy}};
        depths_of(ways, way);
        way.generation.sampling = drawn;
        depths_of(ways, way);
    }
}

/* ---- borders ------------------------------------------------------------------------------- */

/* Texts that end before, on and behind each border, and go on across it. */
static void borders_of(struct ways *ways, struct subject *subject, enum mtp_kv_type kv_type)
{
    for (uint32_t border = ATTENTION_CHUNK; border <= 1024; border += ATTENTION_CHUNK)
        for (uint32_t n = border - 1; n <= border + 1; n++) {
            struct way way = {.subject = subject, .n_prompt = n, .generate = 5, .first_id = border,
                              .generation = {.sampling = greedy}};
            way.options.kv_type = kv_type;
            ways_plain(ways, &way);
            way.generation.n_draft = 3;
            ways_add(ways, &way);
            way.options.n_batch = 60;
            way.generation.n_draft = 0;
            way.split = n - 2; /* the last row or two by themselves */
            ways_add(ways, &way);
        }
}

/* One run over all borders a depth: steps meet them at every place. */
static void crossings_of(struct ways *ways, struct subject *subject)
{
    struct way way = {.subject = subject, .n_prompt = 30, .generate = 1020,
                      .generation = {.sampling = drawn}};
    ways_plain(ways, &way);
    for (int32_t depth = MTP_DRAFT_AUTO; depth <= MTP_MAX_DRAFT; depth++) {
        way.generation.n_draft = depth;
        way.options.strict = depth == 3 ? MTP_STRICT_FULL : MTP_STRICT_SAMPLE;
        ways_add(ways, &way);
    }
}

static void borders(struct ways *ways)
{
    crossings_of(ways, subject_named(subjects, n_subjects, "ref-"));
    crossings_of(ways, subject_named(subjects, n_subjects, "moe-q8_0"));
    borders_of(ways, subject_named(subjects, n_subjects, "ref-"), MTP_KV_F16);
    borders_of(ways, subject_named(subjects, n_subjects, "dense-q4_k_m"), MTP_KV_F32);
    borders_of(ways, subject_named(subjects, n_subjects, "moe-q8_0"), MTP_KV_F16);
}

/* ---- random runs --------------------------------------------------------------------------- */

static void random_way(struct ways *ways, struct numbers *numbers)
{
    struct way way = {.subject = &subjects[next_below(numbers, (uint32_t)n_subjects)]};
    uint32_t most = next_below(numbers, 4) == 0 ? 1500 : 150;
    way.n_prompt = 1 + next_below(numbers, most);
    way.first_id = next_below(numbers, 2000);
    way.generate = 1 + next_below(numbers, 40);
    way.generation.sampling = greedy;
    if (next_below(numbers, 2) == 0) {
        way.generation.sampling = drawn;
        way.generation.sampling.temperature = 0.1f + 0.01f * (float)next_below(numbers, 150);
        way.generation.sampling.seed = next_bits(numbers);
    }
    way.options.kv_type = next_below(numbers, 3) == 0 ? MTP_KV_F32 : MTP_KV_F16;
    ways_plain(ways, &way);
    for (int i = 0; i < 2; i++) {
        way.options.n_batch = 1 + next_below(numbers, next_below(numbers, 2) == 0 ? 16 : 700);
        way.options.moe_mode = next_below(numbers, 2) == 0 ? MTP_MOE_GROUPED : MTP_MOE_PER_TOKEN;
        way.options.strict = way.n_prompt > 150 ? MTP_STRICT_SAMPLE : MTP_STRICT_FULL;
        way.generation.n_draft = (int32_t)next_below(numbers, MTP_MAX_DRAFT + 2) - 1;
        if (!way.subject->drafts)
            way.generation.n_draft = 0;
        way.split = next_below(numbers, (uint32_t)way.n_prompt);
        ways_add(ways, &way);
    }
}

static void at_random(struct ways *ways)
{
    struct numbers numbers = {seed};
    for (int i = 0; i < 100; i++)
        random_way(ways, &numbers);
}

/* ---- the program --------------------------------------------------------------------------- */

static const struct section {
    const char *name;
    void (*add)(struct ways *ways);
} sections[] = {{"depths", depths}, {"borders", borders}, {"random", at_random}};
enum { N_SECTIONS = sizeof sections / sizeof *sections };

/* Where nothing was drafted in vain, or all of it, nothing was rolled back or kept. */
static size_t count_drafts(const char *only)
{
    size_t wrong = 0;
    uint64_t drafted = 0, accepted = 0;
    for (size_t i = 0; i < n_subjects; i++) {
        const struct subject *subject = &subjects[i];
        drafted += subject->drafted;
        accepted += subject->accepted;
        if (only == NULL && (subject->ways == 0 || (subject->drafts && subject->drafted == 0))) {
            printf("%s: %llu runs, nothing drafted\n", subject->name, (unsigned long long)subject->ways);
            wrong++;
        }
    }
    printf("%llu drafts, %llu accepted\n", (unsigned long long)drafted, (unsigned long long)accepted);
    return wrong + (accepted == 0 || accepted == drafted);
}

static size_t run_sections(const struct backend_source *source, uint32_t n_threads, const char *only)
{
    struct ways *ways = ways_open(source, n_threads);
    size_t differ = 0;
    for (int i = 0; i < N_SECTIONS; i++)
        if (only == NULL || strcmp(only, sections[i].name) == 0) {
            sections[i].add(ways);
            differ += ways_run(ways, sections[i].name);
        }
    uint64_t compared = ways_compared(ways);
    printf("ways: %llu comparisons, %zu mismatches, %u sessions at a time, random seed %llu\n",
           (unsigned long long)compared, differ, n_threads, (unsigned long long)seed);
    ways_close(ways);
    return compared == 0 ? 1 : differ;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"device", required_argument, NULL, 'd'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"seed", required_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    enum mtp_device device = MTP_DEVICE_CUDA;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t n_threads = processors > 0 ? (uint32_t)processors : 1;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        if (option == 'd')
            device = strcmp(optarg, "cpu") == 0 ? MTP_DEVICE_CPU : MTP_DEVICE_CUDA;
        else if (option == 't')
            n_threads = (uint32_t)strtoul(optarg, NULL, 10);
        else if (option == 's')
            seed = strtoull(optarg, NULL, 10);
        else
            return 2;
    const struct backend_source *source;
    struct mtp_error error;
    if (device_source(device, &source, &error) != MTP_OK) {
        printf("%s\n", error.message);
        return 77;
    }
    subjects = subjects_open(&n_subjects);
    const char *only = optind < argc ? argv[optind] : NULL;
    size_t failed = run_sections(source, n_threads, only);
    failed += count_drafts(only);
    subjects_close(subjects, n_subjects);
    return failed > 0;
}
