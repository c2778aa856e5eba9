/* test_cuda_contexts.c - one long text of the bundled model on a device and on the CPU, side by side: the
 * logits at many stops, and at some of them every key, value and state and a few tokens more. The text is
 * read in batches of two sizes on the device.
 *     test_cuda_contexts [--device cuda|cpu] [--threads N] [POSITIONS]
 * 32,769 positions unless told otherwise. Status 77 and a reason where there is no device. */
#include <getopt.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mtp/mtp_head.h"
#include "tests/gpu/ways.h"
#include "verify/digest.h"

enum { CPU_SIDE, DEVICE, ODD_BATCHES, N_SIDES };
enum { MOST_PARTS = 64, A_FEW = 20 };

/* Where the text is stopped at; `whole` of them are compared as a whole and gone on from. */
static const struct stop {
    uint32_t length;
    bool whole;
} stops[] = {{1, false}, {64, false}, {65, true}, {1000, false}, {1024, false}, {2047, false}, {4096, false},
             {4097, false}, {5000, true}, {8191, false}, {8193, false}, {12000, false}, {16383, false},
             {16384, true}, {16385, false}, {20001, false}, {24576, false}, {28000, false}, {32767, false},
             {32768, true}, {32769, false}};
enum { N_STOPS = sizeof stops / sizeof *stops };

/* What is compared, and what to call it. */
struct part {
    uint64_t digest;
    char name[48];
};
struct side {
    const struct backend_source *source;
    const struct subject *subject;
    struct mtp_session_options options;
    uint32_t positions;
    mtp_session *session;
    struct part parts[N_STOPS][MOST_PARTS];
    int n_parts[N_STOPS];
    double seconds;
    enum mtp_status status;
    struct mtp_error error;
};

static void note(struct side *side, int stop, uint64_t digest, const char *name, int number)
{
    struct part *part = &side->parts[stop][side->n_parts[stop]];
    if (side->n_parts[stop] == MOST_PARTS)
        abort();
    side->n_parts[stop]++;
    part->digest = digest;
    snprintf(part->name, sizeof part->name, name, number);
}

/* The first n bytes of the backend's memory. */
static uint64_t digest_memory(struct backend *backend, const void *memory, size_t n)
{
    void *bytes = malloc(n + 1);
    if (bytes == NULL)
        abort();
    backend->ops->download(backend, bytes, memory, n);
    uint64_t digest = digest_bytes(0, bytes, n);
    free(bytes);
    return digest;
}

static void note_cache(struct side *side, int stop, const struct kv_cache *kv, uint32_t rows,
                       const char *names[2], int layer)
{
    struct backend *backend = side->session->backend;
    size_t bytes = (size_t)rows * kv->n_kv_heads * kv->head_dim * (kv->type == KV_F16 ? 2 : 4);
    note(side, stop, digest_memory(backend, kv->k, bytes), names[0], layer);
    note(side, stop, digest_memory(backend, kv->v, bytes), names[1], layer);
}

static void note_state(struct side *side, int stop)
{
    static const char *trunk[2] = {"keys of layer %d", "values of layer %d"};
    static const char *head[2] = {"%d layers: keys of the draft head", "%d layers: values of the draft head"};
    mtp_session *session = side->session;
    const struct arena *state = session_state(session);
    for (uint32_t l = 0; l < session->model->hparams.n_layers; l++)
        if (session->layers[l].kv.k != NULL)
            note_cache(side, stop, &session->layers[l].kv, session->lengths[0], trunk, (int)l);
    note(side, stop, digest_memory(session->backend, state->base, state->used), "state of %d layers",
         (int)session->model->hparams.n_layers);
    /* Of the draft head's rows those that cannot wait in its queue, whatever the batches. */
    uint32_t length = session->lengths[0], waiting = 2 * MTP_QUEUE_ROWS;
    uint32_t filled = length > waiting ? length - waiting : 0;
    filled = filled < session->mtp->filled ? filled : session->mtp->filled;
    note_cache(side, stop, &session->mtp->kv, filled, head, (int)session->model->hparams.n_layers);
}

/* A few tokens with so many drafts, from the last position, and back to the checkpoint. */
static void go_on(struct side *side, int stop, int32_t depth, const int32_t *last,
                  const mtp_checkpoint *checkpoint)
{
    struct run run = {.most = A_FEW, .stop_at = -1};
    const struct mtp_generation generation = {.sampling = {.top_p = 1.0f}, .n_draft = depth};
    side->status = mtp_session_append(side->session, last, 1, &side->error);
    if (side->status != MTP_OK)
        return;
    generation_go_on(&run, side->session, &generation);
    note(side, stop, digest_bytes(run.last_digest, run.tokens, sizeof run.tokens), "tokens with %d drafts",
         (int)depth);
    side->error = run.error;
    side->status = run.status;
    if (side->status == MTP_OK)
        side->status = mtp_checkpoint_restore(side->session, checkpoint, &side->error);
}

/* Reads up to the stop, and from a stop as a whole a few tokens on and back. */
static void read_to(struct side *side, int stop)
{
    static const int32_t depths[] = {0, 3, MTP_MAX_DRAFT};
    mtp_checkpoint *checkpoint = NULL;
    uint32_t from = mtp_session_length(side->session), last = stops[stop].length - 1;
    const int32_t *ids = side->subject->ids;
    if (last > from)
        side->status = mtp_session_append(side->session, ids + from, last - from, &side->error);
    if (side->status == MTP_OK && stops[stop].whole) {
        side->status = mtp_checkpoint_take(&checkpoint, side->session, &side->error);
        note_state(side, stop);
    }
    for (int i = 0; i < 3 && side->status == MTP_OK && stops[stop].whole; i++)
        go_on(side, stop, depths[i], ids + last, checkpoint);
    mtp_checkpoint_free(checkpoint);
    if (side->status == MTP_OK)
        side->status = mtp_session_append(side->session, ids + last, 1, &side->error);
    note(side, stop, side->status == MTP_OK ? mtp_session_logits_digest(side->session) : 0,
         "logits, status %d", (int)side->status);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void *read_text(void *user)
{
    struct side *side = user;
    double start = now();
    side->status = session_open_on(&side->session, side->subject->model, side->source, &side->options, 1,
                                   &side->error);
    for (int s = 0; s < N_STOPS && stops[s].length <= side->positions && side->status == MTP_OK; s++)
        read_to(side, s);
    if (side->session != NULL)
        mtp_session_close(side->session);
    side->seconds = now() - start;
    return NULL;
}

/* How many parts differ from the CPU's. */
static size_t compare_side(const struct side *cpu, const struct side *side, uint64_t *compared)
{
    size_t differ = 0;
    if (side->status != MTP_OK) {
        printf("%s, batches of %u: %s\n", side->source->name, side->options.n_batch, side->error.message);
        return 1;
    }
    for (int s = 0; s < N_STOPS; s++)
        for (int p = 0; p < cpu->n_parts[s]; p++, ++*compared) {
            const struct part *a = &cpu->parts[s][p], *b = &side->parts[s][p];
            if (a->digest == b->digest && strcmp(a->name, b->name) == 0)
                continue;
            printf("DIFFERS at %u positions, batches of %u: %s\n", stops[s].length, side->options.n_batch,
                   a->name);
            differ++;
        }
    return differ;
}

static size_t run_sides(const struct backend_source *device, const struct subject *subject,
                        uint32_t n_threads, uint32_t positions)
{
    static struct side sides[N_SIDES];
    pthread_t threads[N_SIDES];
    uint64_t compared = 0;
    size_t differ = 0;
    for (int i = 0; i < N_SIDES; i++) {
        sides[i] = (struct side){.source = device, .subject = subject, .positions = positions};
        sides[i].options = (struct mtp_session_options){.n_ctx = positions + A_FEW + MTP_MAX_DRAFT,
                                                        .n_threads = i == CPU_SIDE ? n_threads : 1,
                                                        .n_batch = i == ODD_BATCHES ? 150 : 512,
                                                        .draft = true};
        if (i == CPU_SIDE && device_source(MTP_DEVICE_CPU, &sides[i].source, NULL) != MTP_OK)
            abort();
        if (pthread_create(&threads[i], NULL, read_text, &sides[i]) != 0)
            abort();
    }
    for (int i = 0; i < N_SIDES; i++)
        pthread_join(threads[i], NULL);
    differ += sides[CPU_SIDE].status != MTP_OK;
    if (differ > 0)
        printf("cpu: %s\n", sides[CPU_SIDE].error.message);
    for (int i = DEVICE; i < N_SIDES; i++)
        differ += compare_side(&sides[CPU_SIDE], &sides[i], &compared);
    printf("contexts: up to %u positions, %llu comparisons, %zu mismatches; CPU %.1f s, device %.1f and "
           "%.1f s\n", positions, (unsigned long long)compared, differ, sides[CPU_SIDE].seconds,
           sides[DEVICE].seconds, sides[ODD_BATCHES].seconds);
    return compared == 0 ? 1 : differ;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"device", required_argument, NULL, 'd'},
                                            {"threads", required_argument, NULL, 't'},
                                            {NULL, 0, NULL, 0}};
    enum mtp_device device = MTP_DEVICE_CUDA;
    uint32_t n_threads = 0, positions = stops[N_STOPS - 1].length;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        if (option == 'd')
            device = strcmp(optarg, "cpu") == 0 ? MTP_DEVICE_CPU : MTP_DEVICE_CUDA;
        else if (option == 't')
            n_threads = (uint32_t)strtoul(optarg, NULL, 10);
        else
            return 2;
    if (optind < argc)
        positions = (uint32_t)strtoul(argv[optind], NULL, 10);
    const struct backend_source *source;
    struct mtp_error error;
    if (device_source(device, &source, &error) != MTP_OK) {
        printf("%s\n", error.message);
        return 77;
    }
    size_t n;
    struct subject *subjects = subjects_open(&n), *bundled = subject_named(subjects, n, "ref-");
    size_t failed = 1;
    if (bundled->n_ids > positions)
        failed = run_sides(source, bundled, n_threads, positions);
    subjects_close(subjects, n);
    return failed > 0;
}
