/* The workers take the next job from a shared number until there is none; the caller's thread is
 * one of them unless it draws the progress bar. The first failure ends all. */
#include "simulate_jobs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define BAR_COLUMNS     40
#define BAR_INTERVAL_MS 100
#define NS_PER_MS       1000000L

struct pool {
    struct simulate_job *jobs;
    size_t n_jobs;
    atomic_size_t next;
    atomic_size_t requests_done;
    atomic_bool failed;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t running; /* Under the lock */
};

static void *work(void *argument)
{
    struct pool *pool = argument;

    while (!atomic_load(&pool->failed)) {
        size_t i = atomic_fetch_add(&pool->next, 1);
        if (i >= pool->n_jobs)
            break;
        pool->jobs[i].simulation.requests_done = &pool->requests_done;
        if (simulation_run(&pool->jobs[i].simulation, &pool->jobs[i].result) != 0)
            atomic_store(&pool->failed, true);
    }
    pthread_mutex_lock(&pool->lock);
    pool->running--;
    pthread_cond_signal(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void draw_bar(size_t done, size_t all)
{
    double share = all == 0 ? 1 : (double)done / (double)all;
    int filled = (int)(share * BAR_COLUMNS);

    fprintf(stderr, "\r[%.*s%*s] %3.0f %%", filled, "########################################",
            BAR_COLUMNS - filled, "", share * 100);
    fflush(stderr);
}

/* Waits for the workers; redraws the bar meanwhile. */
static void watch(struct pool *pool)
{
    size_t all = 0;

    for (size_t i = 0; i < pool->n_jobs; i++)
        all += pool->jobs[i].simulation.trace->n_requests;
    pthread_mutex_lock(&pool->lock);
    while (pool->running > 0) {
        struct timespec until;
        draw_bar(atomic_load(&pool->requests_done), all);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += BAR_INTERVAL_MS * NS_PER_MS;
        if (until.tv_nsec >= 1000 * NS_PER_MS) {
            until.tv_sec++;
            until.tv_nsec -= 1000 * NS_PER_MS;
        }
        (void)pthread_cond_timedwait(&pool->changed, &pool->lock, &until); /* Looks again anyway */
    }
    pthread_mutex_unlock(&pool->lock);
    fprintf(stderr, "\r\033[K"); /* The result takes the line */
}

int simulate_jobs_run(struct simulate_job *jobs, size_t n_jobs, size_t threads)
{
    struct pool pool = {
        .jobs = jobs,
        .n_jobs = n_jobs,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
    };
    size_t n = threads < n_jobs ? threads : n_jobs, started = 0;
    pthread_t *workers = calloc(n > 0 ? n : 1, sizeof(*workers));

    if (workers == NULL)
        return -1;
    pool.running = n;
    while (started < n && pthread_create(&workers[started], NULL, work, &pool) == 0)
        started++;
    pthread_mutex_lock(&pool.lock);
    pool.running -= n - started; /* Fewer threads do the same, only later */
    pthread_mutex_unlock(&pool.lock);
    if (started == 0 && n > 0) {
        pool.running = 1;
        work(&pool);
    } else if (isatty(STDERR_FILENO)) {
        watch(&pool);
    }
    for (size_t i = 0; i < started; i++)
        pthread_join(workers[i], NULL);
    free(workers);
    return atomic_load(&pool.failed) ? -1 : 0;
}
