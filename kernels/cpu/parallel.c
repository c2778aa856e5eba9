/* parallel.c - see parallel.h. */
#include "parallel.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "kernels/fpcontrol.h"

/* Looks at a flag before a waiting thread sleeps: some 50 microseconds, longer than the gap between
 * the operations of a step and about ten times what waking a sleeper costs. */
enum { SPINS = 1000 };

struct worker {
    struct cpu_pool *pool;
    pthread_t thread;
    uint32_t index; /* 1..n-1; the caller is 0 */
};

struct cpu_pool {
    uint32_t n;
    struct worker *workers; /* [n - 1] */
    uint32_t n_started;
    struct cpu_fault *fault;
    float *scores;
    size_t n_scores;

    /* The job: written by the caller while no worker runs, published by `generation`. */
    range_fn *fn;
    const void *work;
    int64_t n_tasks;
    bool stop;
    atomic_uint generation; /* counts jobs */
    atomic_uint running;    /* workers that have not finished the job */

    /* For those that gave up spinning. Each sets its flag before it looks a last time, and whoever
     * changes what it waits for looks at the flag afterwards: no wake-up is lost. */
    pthread_mutex_t lock;
    pthread_cond_t posted, finished;
    atomic_uint sleepers;
    atomic_bool caller_sleeps;
};

static void pause_thread(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static void run_share(struct cpu_pool *pool, uint32_t index, uint32_t of, int64_t n_tasks,
                      range_fn *fn, const void *work)
{
    struct cpu_task task = {pool->fault, NULL};
    if (pool->scores != NULL)
        task.scores = pool->scores + index * pool->n_scores;
    fp_control saved = fp_control_enter();
    fn(work, n_tasks * index / of, n_tasks * (index + 1) / of, &task);
    fp_control_leave(saved);
}

static void await_job(struct cpu_pool *pool, unsigned seen)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&pool->generation) != seen)
            return;
        pause_thread();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->generation) == seen)
        pthread_cond_wait(&pool->posted, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void finish_share(struct cpu_pool *pool)
{
    if (atomic_fetch_sub(&pool->running, 1) != 1 || !atomic_load(&pool->caller_sleeps))
        return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_signal(&pool->finished);
    pthread_mutex_unlock(&pool->lock);
}

static void *serve(void *argument)
{
    const struct worker *me = argument;
    struct cpu_pool *pool = me->pool;
    for (unsigned seen = 0;; seen++) {
        await_job(pool, seen);
        if (pool->stop)
            return NULL;
        run_share(pool, me->index, pool->n, pool->n_tasks, pool->fn, pool->work);
        finish_share(pool);
    }
}

static void post_job(struct cpu_pool *pool)
{
    atomic_store(&pool->running, pool->n_started);
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->sleepers) == 0)
        return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->posted);
    pthread_mutex_unlock(&pool->lock);
}

static void await_workers(struct cpu_pool *pool)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&pool->running) == 0)
            return;
        pause_thread();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->caller_sleeps, true);
    while (atomic_load(&pool->running) != 0)
        pthread_cond_wait(&pool->finished, &pool->lock);
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->lock);
}

void parallel_ranges(struct cpu_pool *pool, int64_t n_tasks, int64_t grain, range_fn *fn,
                     const void *work)
{
    if (pool->n == 1 || n_tasks < 2 * grain || n_tasks < 2) {
        run_share(pool, 0, 1, n_tasks, fn, work);
        return;
    }
    pool->fn = fn;
    pool->work = work;
    pool->n_tasks = n_tasks;
    post_job(pool);
    run_share(pool, 0, pool->n, n_tasks, fn, work);
    await_workers(pool);
}

/* Workers take no signals: they belong to the program's own threads. */
static bool start_workers(struct cpu_pool *pool)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool started = true;
    for (uint32_t i = 0; started && i + 1 < pool->n; i++) {
        struct worker *worker = &pool->workers[i];
        *worker = (struct worker){.pool = pool, .index = i + 1};
        started = pthread_create(&worker->thread, NULL, serve, worker) == 0;
        pool->n_started += started;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return started;
}

struct cpu_pool *cpu_pool_open(uint32_t n_threads, struct cpu_fault *fault)
{
    struct cpu_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->n = n_threads;
    pool->fault = fault;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->posted, NULL);
    pthread_cond_init(&pool->finished, NULL);
    pool->workers = calloc(n_threads, sizeof *pool->workers);
    if (pool->workers == NULL || !start_workers(pool)) {
        cpu_pool_close(pool);
        return NULL;
    }
    return pool;
}

void cpu_pool_close(struct cpu_pool *pool)
{
    if (pool == NULL)
        return;
    pool->stop = true;
    post_job(pool);
    for (uint32_t i = 0; i < pool->n_started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->posted);
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool);
}

uint32_t cpu_pool_size(const struct cpu_pool *pool)
{
    return pool->n;
}

void cpu_pool_set_scores(struct cpu_pool *pool, float *scores, size_t n_scores)
{
    pool->scores = scores;
    pool->n_scores = n_scores;
}
