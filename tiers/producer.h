/* A thread that makes numbered pieces of work ahead of the one that takes them: one after the
 * other, as far as that one allows, so that neither waits for the other as long as they are equally
 * fast on the average. The thread is started when the first piece is allowed.
 *
 * All functions belong to the thread that takes; `make` runs on the other. What `make` has written
 * for a piece is seen once the piece was awaited, and the rest after producer_stop. */
#ifndef TIERS_PRODUCER_H
#define TIERS_PRODUCER_H

#include <pthread.h>
#include <stdbool.h>

/* Makes piece `n`. False: it is the last. */
typedef bool (*producer_make)(void *context, unsigned n);

struct producer {
    producer_make make;
    void *context;
    pthread_t thread;
    bool started;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    unsigned n_allowed;
    unsigned n_made;
    bool ended;
};

/* The pieces below `n_made` are there already. */
void producer_init(struct producer *producer, producer_make make, void *context, unsigned n_made);
/* Those below `n` may be made. If there can be no thread, none are. */
void producer_allow(struct producer *producer, unsigned n);
/* Waits until piece `n` is made. False: it will not be, unless more is allowed. */
bool producer_await(struct producer *producer, unsigned n);
/* Waits for the piece that is being made, and ends the thread. How many there are. */
unsigned producer_stop(struct producer *producer);

#endif
