/* matrix.c - one model under every way of computing: `make check-matrix` (docs/testing.md).
 *
 *     tests/matrix MODEL[+COMPANION] [LENGTH [GENERATE [STRIDE [FIRST [END]]]]]
 *
 * Reads LENGTH prompt tokens and generates GENERATE more for every combination of drafts 0..8,
 * threads 1..16, instruction set, chunk size, mixture-of-experts mode, prompt in one piece or
 * continued, greedy or drawn. Tokens, the digest of every emitted logits row and the digest of the
 * last row must equal those of the plainest run: scalar, one thread, one row at a time, no drafts.
 * STRIDE takes every STRIDEth combination only, from the FIRSTth on up to the one before END;
 * the first 9216 are AVX2, the next 9216 AVX-512, the others scalar; of each the first half is greedy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "generation_fixture.h"
#include "kernels/cpu/backend.h"

static const uint32_t batches[] = {1, 2, 3, 5, 8, 16, 64, 512};
static const enum mtp_isa isas[] = {MTP_ISA_AVX2, MTP_ISA_AVX512, MTP_ISA_SCALAR};
static const char prose[] = "tests/data/heldout-prose.txt";

enum { N_DRAFTS = MTP_MAX_DRAFT + 1, N_THREADS = 16, N_BATCHES = 8, N_ISAS = 3 };

struct way {
    struct mtp_session_options options;
    struct mtp_generation generation;
    bool continued;
};

struct matrix {
    mtp_model *model;
    int32_t *prompt;
    size_t n_prompt;
    uint32_t generate;
    struct run plain[2]; /* greedy, drawn */
    uint64_t ran, accepted, rejected;
};

/* Digits of the number, one an axis. */
static struct way way_of(uint32_t number, const struct matrix *m)
{
    struct way way = {.generation = {.sampling = {.top_p = 1, .seed = 7}}};
    struct mtp_session_options *options = &way.options;
    way.generation.n_draft = (int32_t)(number % N_DRAFTS);
    number /= N_DRAFTS;
    options->n_threads = number % N_THREADS + 1;
    number /= N_THREADS;
    options->n_batch = batches[number % N_BATCHES];
    number /= N_BATCHES;
    options->moe_mode = number % 2 ? MTP_MOE_PER_TOKEN : MTP_MOE_GROUPED;
    number /= 2;
    way.continued = number % 2;
    number /= 2;
    way.generation.sampling.temperature = number % 2 ? 1 : 0;
    number /= 2;
    options->isa = isas[number % N_ISAS];
    options->draft = mtp_model_can_draft(m->model, NULL);
    if (!options->draft)
        way.generation.n_draft = 0;
    options->n_ctx = (uint32_t)m->n_prompt + m->generate;
    return way;
}

static const uint32_t n_ways = N_DRAFTS * N_THREADS * N_BATCHES * 2 * 2 * 2 * N_ISAS;

static void run_way(struct run *run, const struct matrix *m, const struct way *way)
{
    mtp_session *session = fixture_session(m->model, &way->options, 1);
    size_t first = way->continued ? m->n_prompt / 3 : 0;
    *run = (struct run){.most = m->generate, .stop_at = -1};
    if (first)
        run->status = mtp_session_append(session, m->prompt, first, &run->error);
    if (run->status == MTP_OK)
        run->status = mtp_session_append(session, m->prompt + first, m->n_prompt - first,
                                         &run->error);
    if (run->status == MTP_OK)
        generation_go_on(run, session, &way->generation);
    mtp_session_close(session);
    if (run->status != MTP_OK)
        fail_msg("%s", run->error.message);
}

static bool runs_equal(const struct run *a, const struct run *b)
{
    return a->n == b->n && a->digest == b->digest && a->last_digest == b->last_digest &&
           a->length == b->length && !memcmp(a->tokens, b->tokens, a->n * sizeof *a->tokens);
}

/* The run every other must equal; made when first asked for. */
static const struct run *plainest(struct matrix *m, bool drawn)
{
    if (m->plain[drawn].n == 0) {
        struct way way = way_of(0, m);
        way.options.isa = MTP_ISA_SCALAR;
        way.options.draft = false;
        way.generation.sampling.temperature = drawn ? 1 : 0;
        run_way(&m->plain[drawn], m, &way);
    }
    return &m->plain[drawn];
}

static void check_way(struct matrix *m, uint32_t number)
{
    static struct run run;
    struct way way = way_of(number, m);
    if (!way.options.draft && number % N_DRAFTS != 0)
        return; /* a model that cannot draft has one way here, not nine */
    if ((way.options.isa == MTP_ISA_AVX2 && !cpu_has_avx2()) ||
        (way.options.isa == MTP_ISA_AVX512 && !cpu_has_avx512()))
        return;
    bool drawn = way.generation.sampling.temperature > 0;
    run_way(&run, m, &way);
    if (!runs_equal(&run, plainest(m, drawn)))
        fail_msg("--draft %d -t %u --batch %u moe %d continued %d drawn %d isa %d differs",
                 way.generation.n_draft, way.options.n_threads, way.options.n_batch,
                 way.options.moe_mode, way.continued, drawn, way.options.isa);
    m->ran++;
    m->accepted += run.stats.accepted;
    m->rejected += run.stats.drafted - run.stats.accepted;
}

static void read_prompt(struct matrix *m, const char *model_path)
{
    struct mtp_model_info info;
    mtp_model_get_info(m->model, &info);
    if (!strstr(model_path, "ref-")) {
        m->prompt = malloc(m->n_prompt * sizeof *m->prompt);
        assert_non_null(m->prompt);
        fixture_random_ids(m->prompt, m->n_prompt, info.n_vocab, 3);
        return;
    }
    char path[4096], *text = calloc(1, 1 << 20);
    size_t n;
    snprintf(path, sizeof path, "%s/%s", TEST_SRCDIR, prose);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_non_null(text);
    n = fread(text, 1, 1 << 20, file);
    fclose(file);
    assert_int_equal(mtp_tokenize(m->model, text, n, 0, &m->prompt, &n, NULL), MTP_OK);
    free(text);
    assert_true(n >= m->n_prompt);
}

/* The number after the model's path: argument i, or what it is without one. */
static uint32_t argument(int argc, char **argv, int i, uint32_t otherwise)
{
    return argc > i ? (uint32_t)strtoul(argv[i], NULL, 10) : otherwise;
}

static struct matrix matrix;
static uint32_t stride, first, end;

static void every_way(void **state)
{
    (void)state;
    for (uint32_t number = first; number < end; number += stride)
        check_way(&matrix, number);
    assert_true(matrix.ran > 0);
    if (mtp_model_can_draft(matrix.model, NULL) && matrix.ran > 100)
        assert_true(matrix.rejected > 0);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: matrix MODEL[+COMPANION] [LENGTH [GENERATE [STRIDE [FIRST [END]]]]]\n");
        return 2;
    }
    char *companion = strchr(argv[1], '+');
    if (companion)
        *companion++ = '\0';
    matrix.model = companion ? fixture_model_with(argv[1], companion) : fixture_model(argv[1]);
    matrix.n_prompt = argument(argc, argv, 2, 23);
    matrix.generate = argument(argc, argv, 3, 14);
    stride = argument(argc, argv, 4, 1);
    first = argument(argc, argv, 5, 0);
    end = argument(argc, argv, 6, n_ways);
    read_prompt(&matrix, argv[1]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_way)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fprintf(stderr, "%s: %llu ways equal, %llu drafts accepted, %llu rejected\n", argv[1],
            (unsigned long long)matrix.ran, (unsigned long long)matrix.accepted,
            (unsigned long long)matrix.rejected);
    free(matrix.prompt);
    mtp_model_close(matrix.model);
    return failed;
}
