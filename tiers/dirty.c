/* The write-back buffer: see dirty.h for what it promises.
 *
 * The active generation is an array of records in order of arrival and an open-addressed map from
 * key to place in it. Freezing frees the map, stamps the generation with its position and links it
 * to the end of the queue, from where the mover takes the oldest.
 *
 * Fails only for want of memory, and then nothing has changed. The applier owns the active
 * generation; a lock guards the queue alone; the sum of bytes is atomic.
 */
#include "dirty.h"

#include "record.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS_MIN 64

/* Of the places in the map so many are used at most before it doubles. */
#define MAP_USED_MAX(places) ((places) / 4 * 3)

/* Half of the hash lies beside the index so that other keys' records are seldom touched. */
struct place {
    uint32_t tag;
    uint32_t number; /* Index of the record plus 1; 0: free */
};

struct dirty {
    struct dirty_generation *active; /* NULL until its first record */
    size_t records_max;              /* Of the active generation's array */
    struct place *places;
    size_t n_places; /* Power of two or 0 */
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
    free(dirty->places);
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

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)hash;
}

static void places_fill(struct place *places, size_t n_places, struct place entry)
{
    size_t i = entry.tag & (n_places - 1);

    while (places[i].number != 0)
        i = (i + 1) & (n_places - 1);
    places[i] = entry;
}

static int places_reserve(struct dirty *dirty)
{
    if (dirty->active->n < MAP_USED_MAX(dirty->n_places))
        return 0;
    size_t wanted = dirty->n_places == 0 ? (size_t)2 * RECORDS_MIN : 2 * dirty->n_places;
    struct place *places = calloc(wanted, sizeof(places[0]));
    if (places == NULL)
        return TIERS_NO_MEMORY;
    for (size_t i = 0; i < dirty->n_places; i++) {
        if (dirty->places[i].number != 0)
            places_fill(places, wanted, dirty->places[i]);
    }
    free(dirty->places);
    dirty->places = places;
    active_grew(dirty, (wanted - dirty->n_places) * sizeof(places[0]));
    dirty->n_places = wanted;
    return 0;
}

/* Where in the active generation the record of this key stands, or NULL. */
static const struct tiers_record **active_find(const struct dirty *dirty, uint64_t hash,
                                               const struct tiers_record *record)
{
    size_t mask = dirty->n_places - 1;

    if (dirty->n_places == 0)
        return NULL;
    for (size_t i = tag_of(hash) & mask; dirty->places[i].number != 0; i = (i + 1) & mask) {
        if (dirty->places[i].tag != tag_of(hash))
            continue;
        const struct tiers_record **found = &dirty->active->records[dirty->places[i].number - 1];
        if (record_key_equals(*found, (enum tiers_space)record->space, tiers_record_key(record),
                              record->key_len))
            return found;
    }
    return NULL;
}

int dirty_add(struct dirty *dirty, uint64_t hash, const struct tiers_record *record,
              uint64_t now_ms)
{
    if (dirty->active == NULL && active_open(dirty) != 0)
        return TIERS_NO_MEMORY;
    struct dirty_generation *active = dirty->active;
    const struct tiers_record **found = active_find(dirty, hash, record);
    if (found != NULL) {
        const struct tiers_record *replaced = *found;
        tiers_record_retain(record);
        *found = record;
        active_grew(dirty, record->charge);
        active->bytes -= replaced->charge;
        bytes_subtract(dirty, replaced->charge);
        tiers_record_release(replaced);
        return 0;
    }
    if (records_reserve(dirty) != 0 || places_reserve(dirty) != 0)
        return TIERS_NO_MEMORY;
    tiers_record_retain(record);
    active->records[active->n++] = record;
    places_fill(dirty->places, dirty->n_places,
                (struct place){.tag = tag_of(hash), .number = (uint32_t)active->n});
    active_grew(dirty, record->charge);
    if (active->opened_ms == 0)
        active->opened_ms = now_ms > 0 ? now_ms : 1; /* 0 means empty, also when a clock begins */
    return 0;
}

uint64_t dirty_active_bytes(const struct dirty *dirty)
{
    return dirty->active != NULL ? dirty->active->bytes : 0;
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
    uint64_t map_bytes = dirty->n_places * sizeof(dirty->places[0]);

    generation->position = *position;
    generation->bytes -= map_bytes;
    free(dirty->places);
    dirty->places = NULL;
    dirty->n_places = 0;
    dirty->records_max = 0;
    dirty->active = NULL;
    dirty->frozen_index = position->index;
    bytes_subtract(dirty, map_bytes);

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

static int compare_records(const void *left, const void *right)
{
    const struct tiers_record *a = *(const struct tiers_record *const *)left;
    const struct tiers_record *b = *(const struct tiers_record *const *)right;

    if (a->space != b->space)
        return a->space < b->space ? -1 : 1;
    size_t shorter_len = a->key_len < b->key_len ? a->key_len : b->key_len;
    int order = memcmp(tiers_record_key(a), tiers_record_key(b), shorter_len);
    if (order != 0)
        return order;
    return (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

void dirty_sort(struct dirty_generation *generation)
{
    if (generation->n > 1)
        qsort(generation->records, generation->n, sizeof(const struct tiers_record *),
              compare_records);
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
