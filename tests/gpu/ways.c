/* ways.c - see ways.h. */
#include "tests/gpu/ways.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A run that was asked for. */
struct task {
    struct way way;
    size_t plain; /* which of the plain ones it must equal */
    struct run run;
};
struct tasks {
    struct task *task;
    size_t n, room;
};

struct ways {
    const struct backend_source *device, *cpu;
    uint32_t n_threads;
    struct tasks plain, others;
    atomic_size_t next;
    bool on_device; /* the tasks under way are `others` */
    uint64_t compared;
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

struct ways *ways_open(const struct backend_source *device, uint32_t n_threads)
{
    struct ways *ways = calloc(1, sizeof *ways);
    if (ways == NULL)
        abort();
    ways->device = device;
    ways->n_threads = n_threads;
    if (device_source(MTP_DEVICE_CPU, &ways->cpu, NULL) != MTP_OK)
        abort();
    return ways;
}

void ways_close(struct ways *ways)
{
    free(ways->plain.task);
    free(ways->others.task);
    free(ways);
}

static struct task *add_task(struct tasks *tasks, const struct way *way)
{
    if (tasks->n == tasks->room) {
        tasks->room = 2 * tasks->room + 16;
        tasks->task = realloc(tasks->task, tasks->room * sizeof *tasks->task);
        if (tasks->task == NULL)
            abort();
    }
    struct task *task = &tasks->task[tasks->n++];
    *task = (struct task){.way = *way, .run = {.most = way->generate, .stop_at = -1}};
    task->way.options.n_threads = 1;
    task->way.options.n_ctx = (uint32_t)way->n_prompt + way->generate + MTP_MAX_DRAFT;
    return task;
}

void ways_plain(struct ways *ways, const struct way *way)
{
    struct way plain = *way;
    plain.options = (struct mtp_session_options){.kv_type = way->options.kv_type};
    plain.generation.n_draft = 0;
    plain.split = 0;
    add_task(&ways->plain, &plain);
}

void ways_add(struct ways *ways, const struct way *way)
{
    struct task *task = add_task(&ways->others, way);
    task->way.options.draft = way->subject->drafts;
    task->plain = ways->plain.n - 1;
}

/* ---- runs ---------------------------------------------------------------------------------- */

static void run_task(struct task *task, const struct backend_source *source)
{
    const struct way *way = &task->way;
    const int32_t *ids = way->subject->ids + way->first_id;
    struct run *run = &task->run;
    mtp_session *session = NULL;
    run->status = session_open_on(&session, way->subject->model, source, &way->options, 1, &run->error);
    if (run->status == MTP_OK && way->split > 0)
        run->status = mtp_session_append(session, ids, way->split, &run->error);
    if (run->status == MTP_OK)
        run->status = mtp_session_append(session, ids + way->split, way->n_prompt - way->split, &run->error);
    if (run->status == MTP_OK)
        generation_go_on(run, session, &way->generation);
    if (session != NULL)
        mtp_session_close(session);
}

static void *work(void *user)
{
    struct ways *ways = user;
    struct tasks *tasks = ways->on_device ? &ways->others : &ways->plain;
    for (size_t i = atomic_fetch_add(&ways->next, 1); i < tasks->n; i = atomic_fetch_add(&ways->next, 1))
        run_task(&tasks->task[i], ways->on_device ? ways->device : ways->cpu);
    return NULL;
}

static void run_tasks(struct ways *ways, bool on_device)
{
    enum { MOST_THREADS = 64 };
    pthread_t threads[MOST_THREADS];
    uint32_t n = 0, wanted = ways->n_threads < MOST_THREADS ? ways->n_threads : (uint32_t)MOST_THREADS;
    ways->on_device = on_device;
    atomic_store(&ways->next, 0);
    while (n + 1 < wanted && pthread_create(&threads[n], NULL, work, ways) == 0)
        n++;
    work(ways);
    while (n > 0)
        pthread_join(threads[--n], NULL);
}

/* ---- comparison ---------------------------------------------------------------------------- */

/* What is wrong with a run, or NULL. */
static const char *difference(const struct task *task, const struct run *plain)
{
    const struct run *run = &task->run;
    if (plain->status != MTP_OK)
        return plain->error.message;
    if (run->status != MTP_OK)
        return run->error.message;
    if (run->n != plain->n || memcmp(run->tokens, plain->tokens, run->n * sizeof *run->tokens) != 0)
        return "other tokens";
    if (run->digest != plain->digest)
        return "the same tokens from other logits";
    if (run->last_digest != plain->last_digest || run->length != plain->length)
        return "another end";
    if (run->strict.mismatches + run->strict.mtp_mismatches > 0)
        return "the strict check found a difference";
    if (task->way.options.strict == MTP_STRICT_FULL && run->n > 1 && run->strict.rows_checked == 0)
        return "nothing was checked";
    const struct mtp_session_options *options = &task->way.options;
    bool drafts = options->draft && task->way.generation.n_draft > 0 && options->n_batch != 1;
    if (drafts && run->n > 1 && run->stats.drafted == 0)
        return "nothing was drafted";
    return NULL;
}

static void print_difference(const struct task *task, const char *what)
{
    const struct way *way = &task->way;
    const struct mtp_sampling *sampling = &way->generation.sampling;
    printf("DIFFERS: %s, ids %zu+%zu+%zu, %u tokens, batch %u, drafts %d, %s, %s, strict %d, "
           "temperature %g seed %llu: %s\n",
           way->subject->name, way->first_id, way->split, way->n_prompt - way->split, way->generate,
           way->options.n_batch, (int)way->generation.n_draft,
           way->options.moe_mode == MTP_MOE_PER_TOKEN ? "per token" : "grouped",
           way->options.kv_type == MTP_KV_F32 ? "f32" : "f16", (int)way->options.strict,
           (double)sampling->temperature, (unsigned long long)sampling->seed, what);
}

size_t ways_run(struct ways *ways, const char *what)
{
    enum { MOST_PRINTED = 20 };
    size_t differ = 0;
    double start = now(), middle;
    run_tasks(ways, false);
    middle = now();
    run_tasks(ways, true);
    for (size_t i = 0; i < ways->others.n; i++) {
        const struct task *task = &ways->others.task[i];
        const char *wrong = difference(task, &ways->plain.task[task->plain].run);
        task->way.subject->ways++;
        task->way.subject->drafted += task->run.stats.drafted;
        task->way.subject->accepted += task->run.stats.accepted;
        if (wrong != NULL && differ++ < MOST_PRINTED)
            print_difference(task, wrong);
    }
    printf("%-12s %5zu runs on the device, %3zu on the CPU, %zu mismatches, %.1f s (CPU %.1f)\n", what,
           ways->others.n, ways->plain.n, differ, now() - start, middle - start);
    fflush(stdout);
    ways->compared += ways->others.n;
    ways->plain.n = ways->others.n = 0;
    return differ;
}

uint64_t ways_compared(const struct ways *ways)
{
    return ways->compared;
}
