/* Threads that look up the warm tier where that may wait for a disk, so that no event loop does.
 *
 * A reader hands over a job, and finds it in its own inbox when a thread has run it. Threads are
 * made as jobs come, up to a bound, and stay until the pool is closed. The queue needs no bound of
 * its own: a job is part of its owner's operation, of which there are read_depth_max a reader.
 */
#ifndef TIERS_READER_POOL_H
#define TIERS_READER_POOL_H

#include "warm.h"

#include <pthread.h>

struct reader_pool;
struct reader_inbox;

struct reader_job {
    struct reader_job *next;    /* The pool's and the inbox's, until it was taken */
    struct reader_inbox *inbox; /* Where it goes when it has run */
    /* On a thread of the pool, with a snapshot that was taken after the submit. */
    void (*run)(struct reader_job *job, struct warm_read *snapshot);
    /* In place of `run` if there is none: why. */
    void (*failed)(struct reader_job *job, int error);
};

/* Jobs that have run, oldest first, for the one thread that owns the inbox. */
struct reader_inbox {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    struct reader_job *first;
    struct reader_job **tail;
    int event_fd;   /* Made readable when a job comes and none was there */
    size_t n_away;  /* Submitted and not yet taken; the owner's */
    bool is_waited; /* The owner waits on `cond` */
};

/* `event_fd` is borrowed. */
void reader_inbox_open(struct reader_inbox *inbox, int event_fd);
/* Nothing may be away. */
void reader_inbox_close(struct reader_inbox *inbox);
/* All jobs that have run since the last call, linked by `next`, or NULL. */
struct reader_job *reader_inbox_take(struct reader_inbox *inbox);
/* As reader_inbox_take, but waits until there is one. Something must be away. */
struct reader_job *reader_inbox_wait(struct reader_inbox *inbox);

int reader_pool_open(struct warm *warm, unsigned threads_max, struct reader_pool **ret_pool);
/* Every inbox must be closed. Joins the threads. */
void reader_pool_close(struct reader_pool *pool);

/* The inbox's thread. False: there is no thread and none can be made; the job was not taken. Else
 * it comes back through its inbox in any case. */
bool reader_pool_submit(struct reader_pool *pool, struct reader_job *job);

#endif
