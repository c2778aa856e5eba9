/* The threads' pool: every task of a job runs once, a job is over when the call returns, sleepers wake.
 * What tasks write is plain memory and the tests' own atomics are relaxed, which order nothing: so
 * ThreadSanitizer judges the pool's hand-over alone (check_threads.sh). */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "kernels/cpu/parallel.h"
#include "tests/numbers.h"

enum { MOST_TASKS = 2000, MOST_THREADS = 16, N_SCORES = 3, JOBS = 4000, PATIENCE_SECONDS = 20 };

static const uint32_t thread_counts[] = {1, 2, 3, MOST_THREADS};
enum { N_COUNTS = sizeof thread_counts / sizeof *thread_counts };

/* Any address will do: the pool passes it on. */
static char fault_place;
static struct cpu_fault *const fault = (struct cpu_fault *)(void *)&fault_place;

static struct cpu_pool *open_pool(uint32_t n_threads)
{
    struct cpu_pool *pool = cpu_pool_open(n_threads, fault);
    assert_non_null(pool);
    assert_int_equal(cpu_pool_size(pool), n_threads);
    return pool;
}

static unsigned look(atomic_uint *at)
{
    return atomic_load_explicit(at, memory_order_relaxed);
}
static void put(atomic_uint *at, unsigned value)
{
    atomic_store_explicit(at, value, memory_order_relaxed);
}
static void add(atomic_uint *at, unsigned value)
{
    atomic_fetch_add_explicit(at, value, memory_order_relaxed);
}

/* ---- every task once ------------------------------------------------------------------------- */

/* What the jobs of one caller share. Workers must not use cmocka: they count what is wrong. */
struct record {
    uint32_t runs[MOST_TASKS]; /* not atomic */
    float scores[MOST_THREADS * N_SCORES];
    atomic_uint under_way, wrong, job;
};

struct job {
    struct record *record;
    uint32_t number;
    int64_t n_tasks, grain;
    pthread_t caller;
    uint32_t n_threads;
    bool dawdle; /* now and then a share takes longer than a thread spins */
};

static bool range_is_wrong(const struct job *job, int64_t begin, int64_t end)
{
    if (begin < 0 || end > job->n_tasks || begin > end)
        return true;
    if (job->n_tasks >= 2 * job->grain)
        return end - begin < job->grain;
    return begin != 0 || end != job->n_tasks || !pthread_equal(pthread_self(), job->caller);
}

static bool room_is_wrong(const struct job *job, const struct cpu_task *task)
{
    ptrdiff_t at = task->scores - job->record->scores;
    return at < 0 || at >= (ptrdiff_t)job->n_threads * N_SCORES || at % N_SCORES != 0;
}

static void run_range(const void *w, int64_t begin, int64_t end, struct cpu_task *task)
{
    const struct job *job = w;
    struct record *record = job->record;
    add(&record->under_way, 1);
    if (range_is_wrong(job, begin, end) || room_is_wrong(job, task) || task->fault != fault ||
        look(&record->job) != job->number) {
        add(&record->wrong, 1);
    } else {
        for (int64_t i = begin; i < end; i++)
            record->runs[i]++;
        task->scores[0] += 1; /* the thread's own room */
        if (job->dawdle && job->number % 16 == (uint32_t)begin % 16)
            usleep(100);
    }
    if (look(&record->job) != job->number)
        add(&record->wrong, 1);
    add(&record->under_way, -1u);
}

static int64_t some_size(struct numbers *numbers, int64_t grain)
{
    switch (next_below(numbers, 8)) {
    case 0: return 0;
    case 1: return 1;
    case 2: return grain - 1;
    case 3: return grain;
    case 4: return 2 * grain - 1;
    case 5: return 2 * grain;
    default: return (int64_t)next_below(numbers, MOST_TASKS + 1);
    }
}

/* Runs the job and counts what is wrong when it returns. */
static unsigned run_job(struct cpu_pool *pool, struct job *job)
{
    struct record *record = job->record;
    memset(record->runs, 0, sizeof record->runs);
    put(&record->job, ++job->number);
    parallel_ranges(pool, job->n_tasks, job->grain, run_range, job);
    unsigned wrong = look(&record->under_way) != 0;
    for (int64_t i = 0; i < MOST_TASKS; i++)
        wrong += record->runs[i] != (i < job->n_tasks);
    return wrong;
}

static unsigned run_jobs(struct cpu_pool *pool, int n, bool dawdle)
{
    static const int64_t grains[] = {1, 2, 7, 16, 256};
    struct record *record = calloc(1, sizeof *record);
    if (record == NULL)
        return 1;
    struct numbers numbers = {cpu_pool_size(pool)};
    struct job job = {record, 0, 0, 0, pthread_self(), cpu_pool_size(pool), dawdle};
    unsigned wrong = 0;
    cpu_pool_set_scores(pool, record->scores, N_SCORES);
    for (int i = 0; i < n; i++) {
        job.grain = grains[next_below(&numbers, 5)];
        job.n_tasks = some_size(&numbers, job.grain);
        wrong += run_job(pool, &job);
    }
    wrong += look(&record->wrong);
    free(record);
    return wrong;
}

static void every_task_runs_once(void **state)
{
    (void)state;
    for (int i = 0; i < N_COUNTS; i++) {
        struct cpu_pool *pool = open_pool(thread_counts[i]);
        assert_int_equal(run_jobs(pool, JOBS, false), 0);
        cpu_pool_close(pool);
    }
}

static void slow_shares_are_waited_for(void **state)
{
    (void)state;
    for (int i = 0; i < N_COUNTS; i++) {
        struct cpu_pool *pool = open_pool(thread_counts[i]);
        assert_int_equal(run_jobs(pool, JOBS / 8, true), 0);
        cpu_pool_close(pool);
    }
}

/* ---- sleepers -------------------------------------------------------------------------------- */

/* A job that ends only when every thread has taken part in it. */
struct meeting {
    uint32_t wanted;
    atomic_uint arrived;
    atomic_uint missed, here[MOST_THREADS];
    float scores[MOST_THREADS]; /* tell the threads apart */
    pthread_t caller;
    bool caller_waits;
};

static bool everyone_comes(struct meeting *m)
{
    struct timespec now, start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        if (look(&m->arrived) == m->wanted)
            return true;
        sched_yield();
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (look(&m->missed) == 0 && now.tv_sec - start.tv_sec < PATIENCE_SECONDS);
    return false;
}

static void meet(const void *w, int64_t begin, int64_t end, struct cpu_task *task)
{
    (void)begin;
    (void)end;
    struct meeting *m = *(struct meeting *const *)w;
    atomic_uint *here = &m->here[task->scores - m->scores]; /* this thread's */
    if (look(here) == 0)
        add(&m->arrived, 1);
    put(here, 1);
    if (!everyone_comes(m))
        put(&m->missed, 1);
    if (m->caller_waits && !pthread_equal(pthread_self(), m->caller))
        usleep(200);
}

static void check_meetings(uint32_t n_threads, int n, useconds_t pause, bool caller_waits)
{
    struct meeting m = {.wanted = n_threads, .caller = pthread_self(), .caller_waits = caller_waits};
    const struct meeting *work = &m;
    struct cpu_pool *pool = open_pool(n_threads);
    cpu_pool_set_scores(pool, m.scores, 1);
    for (int i = 0; i < n && look(&m.missed) == 0; i++) {
        put(&m.arrived, 0);
        for (uint32_t t = 0; t < n_threads; t++)
            put(&m.here[t], 0);
        if (pause > 0)
            usleep(pause);
        parallel_ranges(pool, 4 * n_threads, 1, meet, &work);
    }
    cpu_pool_close(pool);
    assert_int_equal(look(&m.missed), 0);
}

static void sleeping_workers_wake(void **state)
{
    (void)state;
    for (int i = 0; i < N_COUNTS; i++) {
        check_meetings(thread_counts[i], 50, 0, false);
        check_meetings(thread_counts[i], 50, 60, false); /* about when they fall asleep */
        check_meetings(thread_counts[i], 20, 2000, false);
    }
}

static void a_sleeping_caller_wakes(void **state)
{
    (void)state;
    for (int i = 0; i < N_COUNTS; i++)
        check_meetings(thread_counts[i], 30, 0, true);
}

/* ---- pools ----------------------------------------------------------------------------------- */

static void pools_open_and_close(void **state)
{
    (void)state;
    cpu_pool_close(NULL);
    for (int round = 0; round < 40; round++)
        for (int i = 0; i < N_COUNTS; i++) {
            struct cpu_pool *pool = open_pool(thread_counts[i]);
            if (round % 4 == 1) /* its threads sleep */
                usleep(200);
            if (round % 2 == 1)
                assert_int_equal(run_jobs(pool, 3, false), 0);
            cpu_pool_close(pool);
        }
}

static void *call_pool(void *wrong)
{
    struct cpu_pool *pool = cpu_pool_open(3, fault);
    *(unsigned *)wrong = pool == NULL ? 1 : run_jobs(pool, JOBS / 4, false);
    cpu_pool_close(pool);
    return NULL;
}

static void pools_do_not_disturb_each_other(void **state)
{
    (void)state;
    pthread_t threads[4];
    unsigned wrong[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_pool, &wrong[i]), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(wrong[i], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once),
        cmocka_unit_test(slow_shares_are_waited_for),
        cmocka_unit_test(sleeping_workers_wake),
        cmocka_unit_test(a_sleeping_caller_wakes),
        cmocka_unit_test(pools_open_and_close),
        cmocka_unit_test(pools_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
