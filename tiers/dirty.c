/* The write-back buffer: see dirty.h for what it promises.
 *
 * The active generation is an array of records in order of arrival and a map from key to place in
 * it. Freezing frees the map, stamps the generation with its position and links it to the end of
 * the queue, from where the mover takes the oldest.
 *
 * Fails only for want of memory, and then nothing has changed. The applier owns the active
 * generation; a lock guards the queue alone; the sum of bytes is atomic.
 */
#include "dirty.h"

#include "dirty_map.h"
#include "record.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS_MIN 64

struct dirty {
    struct dirty_generation *active; /* NULL until its first record */
    size_t records_max;              /* Of the active generation's array */
    struct dirty_map map;            /* Of the active generation */
    uint64_t frozen_index;
    _Atomic uint64_t bytes;

    pthread_mutex_t lock; /* Guards the queue */
    struct dirty_generation *oldest;
    struct dirty_generation *newest;
};

int dirty_open(struct dirty **ret_dirty)
{
    struct dirty *dirty = calloc(1, sizeof(*dirty));
    if (dirty == NULL)
        return TIERS_NO_MEMORY;
    if (pthread_mutex_init(&dirty->lock, NULL) != 0) {
        free(dirty);
        return TIERS_NO_MEMORY;
    }
    *ret_dirty = dirty;
    return 0;
}

static void generation_free(struct dirty_generation *generation)
{
    if (generation == NULL)
        return;
    for (size_t i = 0; i < generation->n; i++)
        tiers_record_release(generation->records[i]);
    free(generation->records);
    free(generation);
}

void dirty_close(struct dirty *dirty)
{
    struct dirty_generation *next = NULL;

    for (struct dirty_generation *generation = dirty->oldest; generation != NULL;
         generation = next) {
        next = generation->next;
        generation_free(generation);
    }
    generation_free(dirty->active);
    dirty_map_free(&dirty->map);
    pthread_mutex_destroy(&dirty->lock);
    free(dirty);
}

static void bytes_add(struct dirty *dirty, uint64_t bytes)
{
    atomic_fetch_add_explicit(&dirty->bytes, bytes, memory_order_relaxed);
}

static void bytes_subtract(struct dirty *dirty, uint64_t bytes)
{
    uint64_t before = atomic_fetch_sub_explicit(&dirty->bytes, bytes, memory_order_relaxed);
    assert(before >= bytes);
    (void)before;
}

/* ---------------------------------------------------------------------- the active generation */

static int active_open(struct dirty *dirty)
{
    dirty->active = calloc(1, sizeof(*dirty->active));
    if (dirty->active == NULL)
        return TIERS_NO_MEMORY;
    dirty->active->bytes = sizeof(*dirty->active);
    bytes_add(dirty, sizeof(*dirty->active));
    return 0;
}

static void active_grew(struct dirty *dirty, uint64_t bytes)
{
    dirty->active->bytes += bytes;
    bytes_add(dirty, bytes);
}

static void active_shrank(struct dirty *dirty, uint64_t bytes)
{
    assert(dirty->active->bytes >= bytes);
    dirty->active->bytes -= bytes;
    bytes_subtract(dirty, bytes);
}

static int records_reserve(struct dirty *dirty)
{
    struct dirty_generation *active = dirty->active;

    if (active->n < dirty->records_max)
        return 0;
    size_t wanted = dirty->records_max == 0 ? RECORDS_MIN : 2 * dirty->records_max;
    if (wanted > UINT32_MAX)
        return TIERS_NO_MEMORY;
    const struct tiers_record **records =
        realloc(active->records, wanted * sizeof(const struct tiers_record *));
    if (records == NULL)
        return TIERS_NO_MEMORY;
    active->records = records;
    active_grew(dirty, (wanted - dirty->records_max) * sizeof(const struct tiers_record *));
    dirty->records_max = wanted;
    return 0;
}

/* The record of a key that the active generation has by another of the same key. */
static void record_replace(struct dirty *dirty, uint32_t number, const struct tiers_record *record)
{
    const struct tiers_record *replaced = dirty->active->records[number];

    tiers_record_retain(record);
    dirty->active->records[number] = record;
    active_grew(dirty, record->charge);
    active_shrank(dirty, replaced->charge);
    tiers_record_release(replaced);
}

int dirty_add(struct dirty *dirty, uint64_t hash, const struct tiers_record *record,
              uint64_t now_ms)
{
    uint32_t number = 0;

    if (dirty->active == NULL && active_open(dirty) != 0)
        return TIERS_NO_MEMORY;
    struct dirty_generation *active = dirty->active;
    if (dirty_map_find(&dirty->map, hash, record, active->records, &number)) {
        record_replace(dirty, number, record);
        return 0;
    }
    size_t map_bytes = dirty_map_bytes(&dirty->map);
    if (records_reserve(dirty) != 0 || dirty_map_reserve(&dirty->map) != 0)
        return TIERS_NO_MEMORY;
    dirty_map_insert(&dirty->map, hash, (uint32_t)active->n);
    active_grew(dirty, dirty_map_bytes(&dirty->map));
    active_shrank(dirty, map_bytes);
    tiers_record_retain(record);
    active->records[active->n++] = record;
    active_grew(dirty, record->charge);
    if (active->opened_ms == 0)
        active->opened_ms = now_ms > 0 ? now_ms : 1; /* 0 means empty, also when a clock begins */
    return 0;
}

uint64_t dirty_active_bytes(const struct dirty *dirty)
{
    return dirty->active != NULL ? dirty->active->bytes : 0;
}

size_t dirty_active_keys(const struct dirty *dirty)
{
    return dirty->active != NULL ? dirty->active->n : 0;
}

uint64_t dirty_active_opened_ms(const struct dirty *dirty)
{
    return dirty->active != NULL ? dirty->active->opened_ms : 0;
}

uint64_t dirty_bytes(const struct dirty *dirty)
{
    return atomic_load_explicit(&dirty->bytes, memory_order_relaxed);
}

/* -------------------------------------------------------------------- the frozen generations */

int dirty_freeze(struct dirty *dirty, const struct tiers_position *position)
{
    bool has_records = dirty->active != NULL && dirty->active->n > 0;

    assert(position->index >= dirty->frozen_index);
    if (!has_records && position->index == dirty->frozen_index)
        return 0;
    if (dirty->active == NULL && active_open(dirty) != 0)
        return TIERS_NO_MEMORY;
    struct dirty_generation *generation = dirty->active;

    generation->position = *position;
    active_shrank(dirty, dirty_map_bytes(&dirty->map));
    dirty_map_free(&dirty->map);
    dirty->records_max = 0;
    dirty->active = NULL;
    dirty->frozen_index = position->index;

    pthread_mutex_lock(&dirty->lock);
    if (dirty->newest != NULL)
        dirty->newest->next = generation;
    else
        dirty->oldest = generation;
    dirty->newest = generation;
    pthread_mutex_unlock(&dirty->lock);
    return 0;
}

struct dirty_generation *dirty_oldest(struct dirty *dirty)
{
    pthread_mutex_lock(&dirty->lock);
    struct dirty_generation *generation = dirty->oldest;
    pthread_mutex_unlock(&dirty->lock);
    return generation;
}

void dirty_done(struct dirty *dirty, struct dirty_generation *generation)
{
    pthread_mutex_lock(&dirty->lock);
    assert(dirty->oldest == generation);
    dirty->oldest = generation->next;
    if (dirty->oldest == NULL)
        dirty->newest = NULL;
    pthread_mutex_unlock(&dirty->lock);
    bytes_subtract(dirty, generation->bytes);
    generation_free(generation);
}
