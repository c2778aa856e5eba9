/* parallel.c - see parallel.h. */
#include "parallel.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/fpcontrol.h"

/* A waiting thread spins for so long before it sleeps: longer than the gap between the operations of a
 * step, several times what waking a sleeper costs. */
enum { SPIN_NANOSECONDS = 50000, PAUSES_A_LOOK = 16 };

/* Shares a thread is given of a job: more than one, so that a thread which falls behind leaves work to
 * the others. */
enum { SHARES_A_THREAD = 2 };

struct worker {
    struct cpu_pool *pool;
    pthread_t thread;
    uint32_t index; /* 1..n-1; the caller is 0 */
};

/* A job is cut into shares that threads claim one by one, the caller among them. A worker that the
 * system has taken off its processor claims none and so is not waited for: on a busy machine a session
 * runs as fast as the processors it gets.
 *
 * ticket = job << 32 | shares of the job << 16 | shares claimed. Claiming is a compare-and-swap, so a
 * worker that comes late to a job finds it claimed or sees another job; only after claiming may it read
 * the job's fields, which the caller does not touch before every share is done. */
struct cpu_pool {
    uint32_t n;
    struct worker *workers; /* [n - 1] */
    uint32_t n_started;
    struct cpu_fault *fault;
    float *scores;
    size_t n_scores;

    range_fn *fn;
    const void *work;
    int64_t n_tasks;
    uint32_t job;           /* the caller's count */
    _Alignas(64) atomic_uint_fast64_t ticket;
    _Alignas(64) atomic_uint done; /* shares */
    atomic_bool stop;

    /* For those that gave up spinning. Each says so before it looks a last time, and whoever changes
     * what it waits for looks at that afterwards: no wake-up is lost. */
    pthread_mutex_t lock;
    pthread_cond_t posted, finished;
    atomic_bool workers_sleep, caller_sleeps;
};

static void pause_thread(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static int64_t nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint32_t shares_of(uint64_t ticket)
{
    return (uint32_t)(ticket >> 16 & 0xffff);
}
static uint32_t claimed_of(uint64_t ticket)
{
    return (uint32_t)(ticket & 0xffff);
}
static bool has_share(uint64_t ticket)
{
    return claimed_of(ticket) < shares_of(ticket);
}

static void run_share(struct cpu_pool *pool, uint32_t index, uint32_t share, uint32_t of)
{
    struct cpu_task task = {pool->fault, NULL};
    if (pool->scores != NULL)
        task.scores = pool->scores + index * pool->n_scores;
    pool->fn(pool->work, pool->n_tasks * share / of, pool->n_tasks * (share + 1) / of, &task);
}

/* Claims shares and runs them until none is left. Gives whether the last of the job was done here. */
static bool run_shares(struct cpu_pool *pool, uint32_t index)
{
    bool last = false;
    uint64_t ticket = atomic_load(&pool->ticket);
    while (has_share(ticket)) {
        if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket + 1))
            continue;
        uint32_t of = shares_of(ticket);
        run_share(pool, index, claimed_of(ticket), of);
        last = atomic_fetch_add(&pool->done, 1) + 1 == of;
        ticket = atomic_load(&pool->ticket);
    }
    return last;
}

/* Looks for `ready` a while. */
#define SPIN_UNTIL(ready)                                                                          \
    for (int64_t end = nanoseconds() + SPIN_NANOSECONDS; !(ready) && nanoseconds() < end;)         \
        for (int i = 0; i < PAUSES_A_LOOK && !(ready); i++)                                        \
            pause_thread();

static bool work_or_stop(struct cpu_pool *pool)
{
    return has_share(atomic_load(&pool->ticket)) || atomic_load(&pool->stop);
}

static void await_job(struct cpu_pool *pool)
{
    SPIN_UNTIL(work_or_stop(pool))
    if (work_or_stop(pool))
        return;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        atomic_store(&pool->workers_sleep, true);
        if (work_or_stop(pool))
            break;
        pthread_cond_wait(&pool->posted, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}

static void wake_caller(struct cpu_pool *pool)
{
    if (!atomic_load(&pool->caller_sleeps))
        return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_signal(&pool->finished);
    pthread_mutex_unlock(&pool->lock);
}

static void *serve(void *argument)
{
    const struct worker *me = argument;
    fp_control_enter();
    for (;;) {
        await_job(me->pool);
        if (atomic_load(&me->pool->stop))
            return NULL;
        if (run_shares(me->pool, me->index))
            wake_caller(me->pool);
    }
}

/* One wake-up for all sleepers; those under way need no second one. */
static void wake_workers(struct cpu_pool *pool)
{
    if (!atomic_load(&pool->workers_sleep) || !atomic_exchange(&pool->workers_sleep, false))
        return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->posted);
    pthread_mutex_unlock(&pool->lock);
}

static void await_shares(struct cpu_pool *pool, uint32_t shares)
{
    SPIN_UNTIL(atomic_load(&pool->done) == shares)
    if (atomic_load(&pool->done) == shares)
        return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->caller_sleeps, true);
    while (atomic_load(&pool->done) != shares)
        pthread_cond_wait(&pool->finished, &pool->lock);
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->lock);
}

static void run_job(struct cpu_pool *pool, uint32_t shares)
{
    if (shares < 2) {
        run_share(pool, 0, 0, 1);
        return;
    }
    atomic_store(&pool->done, 0);
    atomic_store(&pool->ticket, (uint64_t)++pool->job << 32 | (uint64_t)shares << 16);
    wake_workers(pool);
    run_shares(pool, 0);
    await_shares(pool, shares);
}

void parallel_ranges(struct cpu_pool *pool, int64_t n_tasks, int64_t grain, range_fn *fn,
                     const void *work)
{
    int64_t shares = pool->n == 1 ? 1 : (int64_t)pool->n * SHARES_A_THREAD;
    if (shares > n_tasks / grain)
        shares = n_tasks / grain;
    pool->fn = fn;
    pool->work = work;
    pool->n_tasks = n_tasks;
    fp_control saved = fp_control_enter();
    run_job(pool, (uint32_t)shares);
    fp_control_leave(saved);
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
    struct cpu_pool *pool = aligned_alloc(64, sizeof *pool);
    if (pool == NULL)
        return NULL;
    memset(pool, 0, sizeof *pool);
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
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->stop, true);
    pthread_cond_broadcast(&pool->posted);
    pthread_mutex_unlock(&pool->lock);
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
