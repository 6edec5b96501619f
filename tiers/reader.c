/* Reads: hot, else warm, else cold. One reader serves one thread.
 *
 * A hit in hot takes a reference and is done. A miss looks into a fresh warm snapshot: whatever was
 * not in hot is durable there. If the pages of the index are in memory that happens at once
 * (reader_lookup.c); else a thread of the pool does it, and a value that lies in a cold segment is
 * read through the reader's io_uring. Both are operations (reader_operation.c) of a bounded number,
 * which copy what they need, so that the caller may cancel at any time. One eventfd tells of both.
 *
 * Here are opening and closing, the public functions and the sum of the counters. What fails is
 * answered with its code; a record that fails any check is never returned: TIERS_CORRUPT. */
#include "reader_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- Opening and closing ---- */

static void reader_free(struct tiers_reader *reader)
{
    if (reader->warm_read != NULL) {
        warm_read_close(reader->warm_read);
    }
    reader_inbox_close(&reader->inbox);
    if (reader->event_fd >= 0) {
        close(reader->event_fd);
    }
    free(reader->operations);
    free(reader);
}

int tiers_reader_open(struct tiers *tiers, struct tiers_reader **ret_reader)
{
    struct tiers_reader *reader = aligned_alloc(64, sizeof *reader);
    if (reader == NULL) {
        return TIERS_NO_MEMORY;
    }
    memset(reader, 0, sizeof *reader);
    reader->tiers = tiers;
    reader->sample = (uintptr_t)reader; /* Each its own sequence */
    reader->sample_in = 1;
    reader->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    reader_inbox_open(&reader->inbox, reader->event_fd);
    int error = reader->event_fd < 0
                    ? TIERS_IO
                    : reader_operations_make(reader, tiers->options.read_depth_max);
    if (error == 0) {
        error = warm_read_open(tiers->warm, &reader->warm_read);
    }
    if (error == 0) {
        error = cold_reader_open(tiers->cold, reader->event_fd, &reader->cold_reader);
    }
    if (error) {
        reader_free(reader);
        return error;
    }
    pthread_mutex_lock(&tiers->registry_mutex);
    reader->next = tiers->readers;
    if (reader->next != NULL) {
        reader->next->previous = reader;
    }
    tiers->readers = reader;
    pthread_mutex_unlock(&tiers->registry_mutex);
    *ret_reader = reader;
    return 0;
}

void tiers_reader_close(struct tiers_reader *reader)
{
    struct tiers *tiers = reader->tiers;
    reader_operations_close(reader);
    reader_heat_tell(reader);
    pthread_mutex_lock(&tiers->registry_mutex);
    if (reader->previous != NULL) {
        reader->previous->next = reader->next;
    } else {
        tiers->readers = reader->next;
    }
    if (reader->next != NULL) {
        reader->next->previous = reader->previous;
    }
#define X(name) engine_count(&tiers->retired.name, reader->counters.name);
    ENGINE_COUNTERS(X)
#undef X
    pthread_mutex_unlock(&tiers->registry_mutex);
    reader_free(reader);
}

int reader_open_quiet(struct tiers *tiers, struct tiers_reader **ret_reader)
{
    int error = tiers_reader_open(tiers, ret_reader);
    if (error == 0) {
        (*ret_reader)->quiet = true;
    }
    return error;
}

int tiers_reader_fd(const struct tiers_reader *reader)
{
    return reader->event_fd;
}

void engine_counters_sum(struct tiers *tiers, struct tiers_stats *stats)
{
    pthread_mutex_lock(&tiers->registry_mutex);
#define X(name)                                                                                    \
    stats->name += atomic_load_explicit(&tiers->retired.name, memory_order_relaxed) +              \
                   atomic_load_explicit(&tiers->counters.name, memory_order_relaxed);
    ENGINE_COUNTERS(X)
#undef X
    for (struct tiers_reader *reader = tiers->readers; reader != NULL; reader = reader->next) {
#define X(name) stats->name += atomic_load_explicit(&reader->counters.name, memory_order_relaxed);
        ENGINE_COUNTERS(X)
#undef X
    }
    pthread_mutex_unlock(&tiers->registry_mutex);
}

/* ---- The reader's functions ---- */

enum tiers_tier tiers_reader_tier(const struct tiers_reader *reader)
{
    return reader->tier;
}

void tiers_reader_complete(struct tiers_reader *reader)
{
    /* Emptied first: a completion that comes in between makes it readable again. */
    uint64_t events;
    while (read(reader->event_fd, &events, sizeof events) < 0 && errno == EINTR) {
    }
    reader_operations_complete(reader);
}

void tiers_reader_cancel(struct tiers_reader *reader, struct tiers_read *read)
{
    struct operation *operation = read->operation_;
    assert(operation != NULL && operation->reader == reader && operation->read == read);
    operation->read = NULL;
    read->operation_ = NULL;
}

struct waiting {
    struct tiers_read read;
    bool done;
    int status;
    const struct tiers_record *record;
};

static void waiting_done(struct tiers_read *read, int status, const struct tiers_record *record)
{
    struct waiting *waiting = read->owner;
    waiting->done = true;
    waiting->status = status;
    waiting->record = record;
}

int tiers_reader_get_wait(struct tiers_reader *reader, enum tiers_space space, const void *key,
                          size_t key_len, const struct tiers_record **ret_record)
{
    struct waiting waiting = {.read = {.done = waiting_done, .owner = &waiting}};
    int error = reader_get_waiting(reader, space, key, key_len, &waiting.read, ret_record);
    if (error != TIERS_PENDING) {
        return error;
    }
    while (!waiting.done) {
        reader_operations_wait(reader);
    }
    if (waiting.status == 0) {
        *ret_record = waiting.record;
    }
    return waiting.status;
}
