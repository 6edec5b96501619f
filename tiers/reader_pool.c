/* The pool of reader threads: see reader_pool.h.
 *
 * The happy path: a submit appends to the queue and wakes a thread if one is idle; the thread takes
 * the oldest job, begins a snapshot, runs the job, ends the snapshot and puts the job into its
 * inbox. It waits for the disk with no lock held. If all threads are busy one more is made, while
 * there are less than the bound; making one costs the submitter some microseconds.
 *
 * What fails: a snapshot that cannot be had is told to the job; a thread that cannot be made is
 * done without unless it would be the only one. */
#include "reader_pool.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct worker {
    struct reader_pool *pool;
    struct warm_read *snapshot;
    pthread_t thread;
};

struct reader_pool {
    struct warm *warm;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    struct reader_job *first;
    struct reader_job **tail;
    size_t n_queued;
    size_t n_idle;
    bool stop;
    size_t n_workers;
    size_t n_workers_max;
    struct worker workers[];
};

/* ---- Inbox ---- */

void reader_inbox_open(struct reader_inbox *inbox, int event_fd)
{
    *inbox = (struct reader_inbox){.event_fd = event_fd};
    inbox->tail = &inbox->first;
    pthread_mutex_init(&inbox->mutex, NULL);
    pthread_cond_init(&inbox->cond, NULL);
}

void reader_inbox_close(struct reader_inbox *inbox)
{
    assert(inbox->n_away == 0 && inbox->first == NULL);
    pthread_cond_destroy(&inbox->cond);
    pthread_mutex_destroy(&inbox->mutex);
}

/* All of it under the mutex: the owner may be gone as soon as it has taken its last job. */
static void inbox_put(struct reader_inbox *inbox, struct reader_job *job)
{
    pthread_mutex_lock(&inbox->mutex);
    bool was_empty = inbox->first == NULL;
    job->next = NULL;
    *inbox->tail = job;
    inbox->tail = &job->next;
    if (inbox->is_waited) {
        pthread_cond_signal(&inbox->cond);
    } else if (was_empty) {
        /* It cannot fail but when its counter is full, and then it is readable anyway. */
        uint64_t one = 1;
        while (write(inbox->event_fd, &one, sizeof one) < 0 && errno == EINTR) {
        }
    }
    pthread_mutex_unlock(&inbox->mutex);
}

static struct reader_job *inbox_empty(struct reader_inbox *inbox)
{
    struct reader_job *jobs = inbox->first;
    inbox->first = NULL;
    inbox->tail = &inbox->first;
    for (const struct reader_job *job = jobs; job != NULL; job = job->next) {
        inbox->n_away--;
    }
    return jobs;
}

struct reader_job *reader_inbox_take(struct reader_inbox *inbox)
{
    if (inbox->n_away == 0) {
        return NULL;
    }
    pthread_mutex_lock(&inbox->mutex);
    struct reader_job *jobs = inbox_empty(inbox);
    pthread_mutex_unlock(&inbox->mutex);
    return jobs;
}

struct reader_job *reader_inbox_wait(struct reader_inbox *inbox)
{
    assert(inbox->n_away > 0);
    pthread_mutex_lock(&inbox->mutex);
    inbox->is_waited = true;
    while (inbox->first == NULL) {
        pthread_cond_wait(&inbox->cond, &inbox->mutex);
    }
    inbox->is_waited = false;
    struct reader_job *jobs = inbox_empty(inbox);
    pthread_mutex_unlock(&inbox->mutex);
    return jobs;
}

/* ---- Threads ---- */

static void job_run(struct worker *worker, struct reader_job *job)
{
    struct reader_inbox *inbox = job->inbox;
    int error = warm_read_begin(worker->snapshot);
    if (error) {
        job->failed(job, error);
    } else {
        job->run(job, worker->snapshot);
        warm_read_end(worker->snapshot);
    }
    inbox_put(inbox, job);
}

static void *worker_run(void *argument)
{
    struct worker *worker = argument;
    struct reader_pool *pool = worker->pool;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (pool->first == NULL && !pool->stop) {
            pool->n_idle++;
            pthread_cond_wait(&pool->cond, &pool->mutex);
            pool->n_idle--;
        }
        struct reader_job *job = pool->first;
        if (job == NULL) {
            break;
        }
        pool->first = job->next;
        if (pool->first == NULL) {
            pool->tail = &pool->first;
        }
        pool->n_queued--;
        pthread_mutex_unlock(&pool->mutex);
        job_run(worker, job);
        pthread_mutex_lock(&pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

/* With the mutex held. */
static void worker_add(struct reader_pool *pool)
{
    struct worker *worker = &pool->workers[pool->n_workers];
    worker->pool = pool;
    if (worker->snapshot == NULL && warm_read_open(pool->warm, &worker->snapshot) != 0) {
        return;
    }
    if (pthread_create(&worker->thread, NULL, worker_run, worker) == 0) {
        pool->n_workers++;
    }
}

bool reader_pool_submit(struct reader_pool *pool, struct reader_job *job)
{
    job->next = NULL;
    pthread_mutex_lock(&pool->mutex);
    assert(!pool->stop);
    /* Threads that were woken are idle until they run: each has its job in the queue. */
    bool wake = pool->n_idle > 0;
    if (pool->n_idle <= pool->n_queued && pool->n_workers < pool->n_workers_max) {
        worker_add(pool);
    }
    bool taken = pool->n_workers > 0;
    if (taken) {
        job->inbox->n_away++;
        *pool->tail = job;
        pool->tail = &job->next;
        pool->n_queued++;
    }
    pthread_mutex_unlock(&pool->mutex);
    if (wake) {
        pthread_cond_signal(&pool->cond);
    }
    return taken;
}

/* ---- Opening and closing ---- */

int reader_pool_open(struct warm *warm, unsigned threads_max, struct reader_pool **ret_pool)
{
    struct reader_pool *pool = calloc(1, sizeof *pool + threads_max * sizeof *pool->workers);
    if (pool == NULL) {
        return TIERS_NO_MEMORY;
    }
    pool->warm = warm;
    pool->tail = &pool->first;
    pool->n_workers_max = threads_max;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->cond, NULL);
    *ret_pool = pool;
    return 0;
}

void reader_pool_close(struct reader_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    assert(pool->first == NULL);
    pool->stop = true;
    pthread_cond_broadcast(&pool->cond);
    pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 0; i < pool->n_workers; i++) {
        pthread_join(pool->workers[i].thread, NULL);
    }
    for (size_t i = 0; i < pool->n_workers_max; i++) {
        if (pool->workers[i].snapshot != NULL) {
            warm_read_close(pool->workers[i].snapshot);
        }
    }
    pthread_cond_destroy(&pool->cond);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}
