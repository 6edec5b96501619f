/* Reads: hot, else warm, else cold. One reader serves one thread.
 *
 * A hit in hot takes a reference and is done. A miss looks into a fresh warm snapshot: whatever was
 * not in hot is durable there. A value that lies in a cold segment is read through the reader's
 * io_uring by an operation of a bounded pool, which copies what it needs, so that the caller may
 * cancel at any time. Completions are first gathered, then answered: a caller's `done` may start
 * and cancel other reads.
 *
 * What was read below may be admitted to hot under the ticket of the miss, and is offered to the
 * mover when it is read often. If compaction moved a record between look-up and read (TIERS_STALE)
 * the look-up starts again. A record that fails any check is never returned: TIERS_CORRUPT. */
#include "controller.h"
#include "engine.h"
#include "mover.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Compaction moves a record once in a long while: twice during one read is already odd. */
#define ATTEMPTS_MAX 8
/* One hit of hot in so many is counted as heat; the counters are shared by all threads. */
#define HEAT_SAMPLE_MASK 7

struct query {
    enum tiers_space space;
    const void *key;
    size_t key_len;
    uint64_t hash;
    uint64_t ticket; /* Of the miss in hot */
};

/* A cold read under way. Its memory belongs to the reader; `read` is NULL once cancelled. */
struct operation {
    struct operation *next; /* In the list of free or of completed ones */
    struct tiers_reader *reader;
    struct tiers_read *read;
    struct query query; /* Its key is `key` */
    struct warm_item item;
    unsigned attempts;
    int status;
    struct tiers_record *record;
    unsigned char key[TIERS_KEY_BYTES_MAX];
};

struct tiers_reader {
    struct tiers *tiers;
    struct tiers_reader *next; /* Registry */
    struct tiers_reader *previous;
    struct warm_read *warm_read;
    struct cold_reader *cold_reader;
    int event_fd;
    bool quiet; /* Neither counts nor moves anything: tiers_each */
    uint64_t sample;
    enum tiers_tier tier; /* That answered last */
    struct operation *operations;
    struct operation *free;
    struct operation *completed; /* Oldest first */
    struct operation **completed_tail;
    /* On cache lines of its own: written at each read, seldom read by others. */
    _Alignas(64) struct engine_counters counters;
};

/* ---- Opening and closing ---- */

static void reader_free(struct tiers_reader *reader)
{
    if (reader->warm_read != NULL) {
        warm_read_close(reader->warm_read);
    }
    if (reader->event_fd >= 0) {
        close(reader->event_fd);
    }
    free(reader->operations);
    free(reader);
}

static int operations_make(struct tiers_reader *reader)
{
    size_t n = reader->tiers->options.read_depth_max;
    reader->operations = calloc(n, sizeof *reader->operations);
    if (reader->operations == NULL) {
        return TIERS_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        reader->operations[i].reader = reader;
        reader->operations[i].next = reader->free;
        reader->free = &reader->operations[i];
    }
    return 0;
}

int tiers_reader_open(struct tiers *tiers, struct tiers_reader **ret_reader)
{
    struct tiers_reader *reader = aligned_alloc(64, sizeof *reader);
    if (reader == NULL) {
        return TIERS_NO_MEMORY;
    }
    memset(reader, 0, sizeof *reader);
    reader->tiers = tiers;
    reader->completed_tail = &reader->completed;
    reader->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int error = reader->event_fd < 0 ? TIERS_IO : operations_make(reader);
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
    cold_reader_close(reader->cold_reader);
    for (struct operation *at = reader->completed; at != NULL; at = at->next) {
        if (at->record != NULL) {
            tiers_record_release(at->record);
        }
    }
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

/* ---- Looking up ---- */

static void damage_note(struct tiers_reader *reader, const struct cold_location *location)
{
    engine_count(&reader->counters.checksum_errors, 1);
    mover_report_damage(reader->tiers->mover, location);
}

/* Counts the access; returns how often the key was read lately. */
static unsigned access_note(struct tiers_reader *reader, const struct query *query,
                            _Atomic uint64_t *hits)
{
    if (reader->quiet) {
        return 0;
    }
    engine_count(hits, 1);
    return heat_touch(reader->tiers->heat, query->hash);
}

static void admit(struct tiers_reader *reader, const struct query *query, unsigned heat,
                  const struct tiers_record *record)
{
    struct tiers *tiers = reader->tiers;
    bool seldom = heat < atomic_load_explicit(&tiers->admit_heat_min, memory_order_relaxed);
    if (reader->quiet) {
        return;
    }
    engine_sample(tiers, query->hash, record->charge, seldom ? SAMPLE_READ_SELDOM : SAMPLE_READ);
    if (seldom && !atomic_load_explicit(&tiers->hot_has_room, memory_order_relaxed)) {
        return;
    }
    if (hot_admit(tiers->hot, query->hash, record, query->ticket)) {
        engine_count(&reader->counters.promoted_hot_keys, 1);
    }
}

/* The record of a value found below hot. Its digest covers key, metadata and value, and the index
 * has kept the digest since the write: a difference is damage. */
static int record_make(const struct query *query, const struct warm_item *item, const void *value,
                       size_t value_len, struct tiers_record **ret_record)
{
    struct tiers_record *record =
        record_new(query->space, query->key, query->key_len, value, value_len, &item->meta);
    if (record == NULL) {
        return TIERS_NO_MEMORY;
    }
    if (record->digest != item->digest) {
        tiers_record_release(record);
        return TIERS_CORRUPT;
    }
    *ret_record = record;
    return 0;
}

/* 0: *ret_record; TIERS_PENDING: *ret_item says where the value lies. */
static int warm_lookup(struct tiers_reader *reader, const struct query *query,
                       struct tiers_record **ret_record, struct warm_item *ret_item)
{
    struct warm_item item;
    int error = warm_read_begin(reader->warm_read);
    if (error) {
        return error;
    }
    error = warm_get(reader->warm_read, query->space, query->key, query->key_len, &item);
    if (error == 0 && item.cold) {
        *ret_item = item;
        error = TIERS_PENDING;
    } else if (error == 0) {
        error = record_make(query, &item, item.value, item.value_len, ret_record);
    }
    warm_read_end(reader->warm_read);
    if (error == TIERS_CORRUPT) {
        damage_note(reader, &(struct cold_location){0});
    }
    return error;
}

/* Hot, then warm. 0: *ret_record holds a reference; TIERS_PENDING: in cold, *ret_item and the
 * query's ticket are set. */
static int lookup(struct tiers_reader *reader, struct query *query,
                  const struct tiers_record **ret_record, struct warm_item *ret_item)
{
    struct tiers_record *record = NULL;
    int error = TIERS_NOT_FOUND;
    switch (hot_get(reader->tiers->hot, query->hash, query->space, query->key, query->key_len,
                    ret_record, &query->ticket)) {
    case HOT_HIT:
        reader->tier = TIERS_TIER_HOT;
        if (!reader->quiet) {
            engine_count(&reader->counters.hits_hot, 1);
            engine_sample(reader->tiers, query->hash, (*ret_record)->charge, SAMPLE_READ);
            reader->sample = reader->sample * 6364136223846793005u + 1442695040888963407u;
            if ((reader->sample >> 32 & HEAT_SAMPLE_MASK) == 0) {
                heat_touch(reader->tiers->heat, query->hash);
            }
        }
        return 0;
    case HOT_TOMBSTONE:
        break;
    case HOT_MISS:
        error = warm_lookup(reader, query, &record, ret_item);
        break;
    }
    if (error == 0) {
        reader->tier = TIERS_TIER_WARM;
        admit(reader, query, access_note(reader, query, &reader->counters.hits_warm), record);
        *ret_record = record;
    } else if (error == TIERS_NOT_FOUND && !reader->quiet) {
        engine_count(&reader->counters.misses, 1);
    }
    return error;
}

/* ---- Cold reads ---- */

static void operation_free(struct operation *operation)
{
    struct tiers_reader *reader = operation->reader;
    assert(operation->record == NULL);
    operation->read = NULL;
    operation->next = reader->free;
    reader->free = operation;
}

/* Runs inside cold_reader_reap: keeps what it needs of the item and leaves the rest for later. */
static void operation_done(void *owner, int status, const struct cold_item *item)
{
    struct operation *operation = owner;
    struct tiers_reader *reader = operation->reader;
    if (status == 0 && operation->read != NULL) {
        status = record_make(&operation->query, &operation->item, item->value, item->value_len,
                             &operation->record);
    }
    operation->status = status;
    operation->next = NULL;
    *reader->completed_tail = operation;
    reader->completed_tail = &operation->next;
}

static int operation_submit(struct operation *operation)
{
    return cold_reader_submit(operation->reader->cold_reader, &operation->item.location,
                              operation->query.space, operation->key, operation->query.key_len,
                              operation->item.meta.mod_revision, operation_done, operation);
}

/* Looks up and, if the value is cold, starts to read it: again for as long as compaction is faster.
 * TIERS_PENDING: the operation is under way. */
static int operation_start(struct operation *operation, const struct tiers_record **ret_record)
{
    int error = TIERS_STALE;
    while (error == TIERS_STALE && operation->attempts < ATTEMPTS_MAX) {
        operation->attempts++;
        error = lookup(operation->reader, &operation->query, ret_record, &operation->item);
        if (error == TIERS_PENDING) {
            error = operation_submit(operation);
            error = error == 0 ? TIERS_PENDING : error;
        }
    }
    return error == TIERS_STALE ? TIERS_BUSY : error;
}

/* A cold value has arrived: counts, admits, offers. */
static void operation_account(struct operation *operation)
{
    struct tiers_reader *reader = operation->reader;
    if (operation->status == TIERS_CORRUPT) {
        damage_note(reader, &operation->item.location);
    } else if (operation->status == 0) {
        unsigned heat = access_note(reader, &operation->query, &reader->counters.hits_cold);
        admit(reader, &operation->query, heat, operation->record);
        if (!reader->quiet &&
            controller_rank(heat, operation->record->value_len) >=
                atomic_load_explicit(&reader->tiers->promote_heat_min, memory_order_relaxed)) {
            mover_offer(reader->tiers->mover, operation->record, &operation->item.location);
        }
    }
}

/* Answers one completed operation, or starts it again. */
static void operation_finish(struct operation *operation)
{
    const struct tiers_record *record = NULL;
    struct tiers_read *read = operation->read;
    if (read == NULL) {
        if (operation->record != NULL) {
            tiers_record_release(operation->record);
            operation->record = NULL;
        }
        operation_free(operation);
        return;
    }
    int status = operation->status;
    if (status == TIERS_STALE) {
        status = operation_start(operation, &record);
        if (status == TIERS_PENDING) {
            return;
        }
    } else {
        operation_account(operation);
        operation->reader->tier = TIERS_TIER_COLD;
        record = operation->record;
        operation->record = NULL;
    }
    operation_free(operation);
    read->operation_ = NULL;
    read->done(read, status, record);
}

static void completed_answer(struct tiers_reader *reader)
{
    struct operation *operation;
    while ((operation = reader->completed) != NULL) {
        reader->completed = operation->next;
        if (reader->completed == NULL) {
            reader->completed_tail = &reader->completed;
        }
        operation_finish(operation);
    }
}

/* ---- The reader's functions ---- */

int tiers_reader_get(struct tiers_reader *reader, enum tiers_space space, const void *key,
                     size_t key_len, struct tiers_read *read,
                     const struct tiers_record **ret_record)
{
    if (key == NULL || key_len < 1 || key_len > TIERS_KEY_BYTES_MAX) {
        return TIERS_INVALID;
    }
    struct query query = {.space = space,
                          .key = key,
                          .key_len = key_len,
                          .hash = record_key_hash(space, key, key_len)};
    struct warm_item item;
    int error = lookup(reader, &query, ret_record, &item);
    if (error != TIERS_PENDING) {
        return error;
    }
    struct operation *operation = reader->free;
    if (operation == NULL) {
        return TIERS_BUSY;
    }
    reader->free = operation->next;
    memcpy(operation->key, key, key_len);
    query.key = operation->key;
    operation->query = query;
    operation->item = item;
    operation->attempts = 1;
    operation->read = read;
    error = operation_submit(operation);
    if (error == TIERS_STALE) {
        error = operation_start(operation, ret_record);
    } else if (error == 0) {
        error = TIERS_PENDING;
    }
    if (error == TIERS_PENDING) {
        read->operation_ = operation;
    } else {
        operation_free(operation);
    }
    return error;
}

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
    cold_reader_reap(reader->cold_reader);
    completed_answer(reader);
    /* Together, what the answers made their owners ask for. */
    cold_reader_flush(reader->cold_reader);
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
    int error = tiers_reader_get(reader, space, key, key_len, &waiting.read, ret_record);
    if (error != TIERS_PENDING) {
        return error;
    }
    while (!waiting.done) {
        cold_reader_wait(reader->cold_reader);
        completed_answer(reader);
    }
    if (waiting.status == 0) {
        *ret_record = waiting.record;
    }
    return waiting.status;
}
