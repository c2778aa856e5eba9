/* bench_prefill - what --fast gains and gives up: the same prompt read exactly and fast by two sessions of
 * one model, in turns, and how far the logits behind it lie apart.
 *     bench_prefill --model FILE [--tokens N] [--batches N,N,...] [--rounds N] [--device cpu|cuda]
 * The prompt is made of random ids. The first round is not counted; speeds are medians, the ratio is the
 * median of the rounds' ratios. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench_common.h"
#include "mtp.h"

enum { EXACT, FAST, N_WAYS, MOST_ROUNDS = 64 };

struct options {
    const char *model, *batches;
    uint32_t n_tokens, n_rounds;
    enum mtp_device device;
};

static void fail(const char *message)
{
    fprintf(stderr, "bench_prefill: %s\n", message);
    exit(2);
}

static uint32_t number(const char *text, uint32_t most)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || (*end != '\0' && *end != ',') || value < 1 || value > most)
        fail("a number is expected: --tokens, --batches, --rounds");
    return (uint32_t)value;
}

static struct options parse(int argc, char **argv)
{
    struct options o = {.batches = "512", .n_tokens = 2048, .n_rounds = 5};
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (value == NULL)
            fail("an option lacks its value");
        else if (strcmp(name, "--model") == 0)
            o.model = value;
        else if (strcmp(name, "--tokens") == 0)
            o.n_tokens = number(value, 1 << 20);
        else if (strcmp(name, "--batches") == 0)
            o.batches = value;
        else if (strcmp(name, "--rounds") == 0)
            o.n_rounds = number(value, MOST_ROUNDS);
        else if (strcmp(name, "--device") == 0 && strcmp(value, "cuda") == 0)
            o.device = MTP_DEVICE_CUDA;
        else if (strcmp(name, "--device") != 0 || strcmp(value, "cpu") != 0)
            fail("options are --model, --tokens, --batches, --rounds, --device cpu|cuda");
    }
    if (o.model == NULL)
        fail("--model FILE is needed");
    return o;
}

static void must(enum mtp_status status, const struct mtp_error *error)
{
    if (status != MTP_OK)
        fail(error->message);
}

/* Seconds to read the prompt from the beginning. */
static double read_prompt(mtp_session *session, const mtp_checkpoint *beginning, const int32_t *ids,
                          uint32_t n)
{
    struct mtp_error error;
    must(mtp_checkpoint_restore(session, beginning, &error), &error);
    double start = bench_now(0);
    must(mtp_session_append(session, ids, n, &error), &error);
    return bench_now(0) - start;
}

/* Root of the mean square of the difference by that of a, and whether the same id is the likeliest. */
static double distance(const float *a, const float *b, uint32_t n, bool *same)
{
    double difference = 0.0, whole = 0.0;
    uint32_t best_a = 0, best_b = 0;
    for (uint32_t i = 0; i < n; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        whole += (double)a[i] * (double)a[i];
        best_a = a[i] > a[best_a] ? i : best_a;
        best_b = b[i] > b[best_b] ? i : best_b;
    }
    *same = best_a == best_b;
    return sqrt(difference / whole);
}

static void compare(mtp_model *model, const struct options *o, uint32_t n_batch, const int32_t *ids,
                    uint32_t n_vocab)
{
    mtp_session *sessions[N_WAYS];
    mtp_checkpoint *beginnings[N_WAYS];
    double seconds[N_WAYS][MOST_ROUNDS + 1], ratios[MOST_ROUNDS];
    struct mtp_error error;
    struct mtp_counters counters;
    for (int way = 0; way < N_WAYS; way++) {
        const struct mtp_session_options options = {.n_ctx = o->n_tokens, .n_batch = n_batch,
                                                    .device = o->device, .fast = way == FAST};
        must(mtp_session_open(&sessions[way], model, &options, &error), &error);
        must(mtp_checkpoint_take(&beginnings[way], sessions[way], &error), &error);
    }
    for (uint32_t round = 0; round <= o->n_rounds; round++)
        for (int turn = 0; turn < N_WAYS; turn++) {
            int way = round % 2 == 0 ? turn : N_WAYS - 1 - turn; /* neither is always the first */
            seconds[way][round] = read_prompt(sessions[way], beginnings[way], ids, o->n_tokens);
        }
    for (uint32_t round = 0; round < o->n_rounds; round++)
        ratios[round] = seconds[EXACT][round + 1] / seconds[FAST][round + 1];
    bool same;
    double apart = distance(mtp_session_logits(sessions[EXACT]), mtp_session_logits(sessions[FAST]), n_vocab,
                            &same);
    mtp_session_get_counters(sessions[FAST], &counters);
    double ratio = bench_median(ratios, o->n_rounds);
    printf("| %s | %" PRIu32 " | %.0f | %.0f | %.2f (%.2f .. %.2f) | %" PRIu64 " | %.2g | %s |\n",
           mtp_session_device_name(sessions[EXACT]), n_batch,
           o->n_tokens / bench_median(seconds[EXACT] + 1, o->n_rounds),
           o->n_tokens / bench_median(seconds[FAST] + 1, o->n_rounds), ratio, ratios[0],
           ratios[o->n_rounds - 1], counters.inexact_products / (o->n_rounds + 1), apart,
           same ? "yes" : "no");
    fflush(stdout);
    for (int way = 0; way < N_WAYS; way++) {
        mtp_checkpoint_free(beginnings[way]);
        mtp_session_close(sessions[way]);
    }
}

int main(int argc, char **argv)
{
    const struct options o = parse(argc, argv);
    struct mtp_error error;
    struct mtp_model_info info;
    mtp_model *model;
    uint64_t state = 1;
    must(mtp_model_open(&model, o.model, NULL, &error), &error);
    mtp_model_get_info(model, &info);
    int32_t *ids = bench_need(o.n_tokens * sizeof *ids);
    for (uint32_t i = 0; i < o.n_tokens; i++)
        ids[i] = (int32_t)(bench_random(&state) % info.n_vocab);
    printf("%s%s, %" PRIu32 " tokens, median of %" PRIu32 " rounds\n\n", info.name,
           info.synthetic ? " (synthetic)" : "", o.n_tokens, o.n_rounds);
    puts("| device | batch | exact, tok/s | fast, tok/s | fast by exact | inexact products | logits apart "
         "| same token |\n|---|---|---|---|---|---|---|---|");
    for (const char *at = o.batches, *comma; at != NULL; at = comma != NULL ? comma + 1 : NULL) {
        comma = strchr(at, ',');
        compare(model, &o, number(at, 8192), ids, info.n_vocab);
    }
    free(ids);
    mtp_model_close(model);
    return 0;
}
