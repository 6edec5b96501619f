/* Pieces of work that are made ahead: see producer.h. */
#include "producer.h"

void producer_init(struct producer *producer, producer_make make, void *context, unsigned n_made)
{
    *producer =
        (struct producer){.make = make, .context = context, .n_allowed = n_made, .n_made = n_made};
    pthread_mutex_init(&producer->mutex, NULL);
    pthread_cond_init(&producer->cond, NULL);
}

static void *run(void *argument)
{
    struct producer *producer = argument;
    pthread_mutex_lock(&producer->mutex);
    for (;;) {
        while (!producer->ended && producer->n_made == producer->n_allowed) {
            pthread_cond_wait(&producer->cond, &producer->mutex);
        }
        if (producer->ended) {
            break;
        }
        unsigned n = producer->n_made;
        pthread_mutex_unlock(&producer->mutex);
        bool more = producer->make(producer->context, n);
        pthread_mutex_lock(&producer->mutex);
        producer->n_made++;
        producer->ended = producer->ended || !more;
        pthread_cond_broadcast(&producer->cond);
    }
    pthread_mutex_unlock(&producer->mutex);
    return NULL;
}

void producer_allow(struct producer *producer, unsigned n)
{
    if (n <= producer->n_allowed) {
        return;
    }
    if (!producer->started) {
        producer->started = pthread_create(&producer->thread, NULL, run, producer) == 0;
    }
    if (producer->started) {
        pthread_mutex_lock(&producer->mutex);
        producer->n_allowed = n;
        pthread_cond_broadcast(&producer->cond);
        pthread_mutex_unlock(&producer->mutex);
    }
}

bool producer_await(struct producer *producer, unsigned n)
{
    pthread_mutex_lock(&producer->mutex);
    while (producer->n_made <= n && n < producer->n_allowed && !producer->ended) {
        pthread_cond_wait(&producer->cond, &producer->mutex);
    }
    bool made = n < producer->n_made;
    pthread_mutex_unlock(&producer->mutex);
    return made;
}

unsigned producer_stop(struct producer *producer)
{
    if (producer->started) {
        pthread_mutex_lock(&producer->mutex);
        producer->ended = true;
        pthread_cond_broadcast(&producer->cond);
        pthread_mutex_unlock(&producer->mutex);
        pthread_join(producer->thread, NULL);
    }
    pthread_cond_destroy(&producer->cond);
    pthread_mutex_destroy(&producer->mutex);
    return producer->n_made;
}
