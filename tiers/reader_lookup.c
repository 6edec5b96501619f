/* A reader's look-ups on its own thread: hot, and warm where that waits for no disk; and what
 * follows from an answer: counters, heat, admission to hot, offers to the mover.
 *
 * Cannot fail but with the codes of the tiers, which are passed on. */
#include "reader_private.h"

#include "controller.h"
#include "hot_shard.h"
#include "mover.h"
#include "record_hash.h"

/* One hit of hot in so many is counted as heat, on an average, at random; the counters are shared
 * by all threads. */
#define HEAT_SAMPLE_MEAN 8

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
    bool seldom = engine_seldom(tiers, heat);
    if (reader->quiet) {
        return;
    }
    engine_sample(tiers, query->hash, record->charge, seldom ? SAMPLE_READ_SELDOM : SAMPLE_READ);
    if (seldom && !atomic_load_explicit(&tiers->hot_has_room, memory_order_relaxed)) {
        return;
    }
    if (hot_admit(tiers->hot, query->hash, record, query->ticket, seldom)) {
        engine_count(&reader->counters.promoted_hot_keys, 1);
    }
}

int reader_record_make(const struct query *query, const struct warm_item *item, const void *value,
                       size_t value_len, struct tiers_record **ret_record)
{
    struct tiers_record *record =
        record_new(query->space, query->key, query->key_len, value, value_len, &item->meta);
    if (record == NULL) {
        return TIERS_NO_MEMORY;
    }
    if (tiers_record_digest(record) != item->digest) {
        tiers_record_release(record);
        return TIERS_CORRUPT;
    }
    *ret_record = record;
    return 0;
}

int reader_warm_get(struct warm_read *snapshot, const struct query *query, bool prefetch,
                    struct tiers_record **ret_record, struct warm_item *ret_item)
{
    struct warm_item item;
    int error = warm_get(snapshot, query->space, query->key, query->key_len, &item);
    if (error) {
        return error;
    }
    if (item.cold) {
        *ret_item = item;
        return TIERS_PENDING;
    }
    if (prefetch) {
        warm_value_prefetch(&item);
    }
    return reader_record_make(query, &item, item.value, item.value_len, ret_record);
}

/* Whether the look-up would not wait for a disk, or may. */
static bool warm_at_hand(struct tiers_reader *reader, const struct query *query)
{
    struct residency *residency = &reader->tiers->residency;
    if (residency_assumed(residency) && ++reader->residency_turn % RESIDENCY_SAMPLE != 0) {
        return true;
    }
    reader->residency.epoch = residency_epoch(residency);
    reader->residency.whole_blocks = residency_fits(residency);
    if (warm_resident(reader->warm_read, &reader->residency, query->space, query->key,
                      query->key_len)) {
        return true;
    }
    residency_miss(residency);
    return false;
}

static int warm_lookup(struct tiers_reader *reader, const struct query *query, bool may_wait,
                       struct tiers_record **ret_record, struct warm_item *ret_item,
                       enum stage *ret_stage)
{
    int error = warm_read_begin(reader->warm_read);
    if (error) {
        return error;
    }
    if (may_wait || warm_at_hand(reader, query)) {
        error = reader_warm_get(reader->warm_read, query, may_wait, ret_record, ret_item);
        *ret_stage = STAGE_COLD;
    } else {
        error = TIERS_PENDING;
        *ret_stage = STAGE_WARM;
    }
    warm_read_end(reader->warm_read);
    return error;
}

void reader_warm_answered(struct tiers_reader *reader, const struct query *query, int status,
                          const struct tiers_record *record)
{
    if (status == 0) {
        reader->tier = TIERS_TIER_WARM;
        admit(reader, query, access_note(reader, query, &reader->counters.hits_warm), record);
    } else if (status == TIERS_CORRUPT) {
        damage_note(reader, &(struct cold_location){0});
    } else if (status == TIERS_NOT_FOUND && !reader->quiet) {
        engine_count(&reader->counters.misses, 1);
    }
}

void reader_cold_answered(struct tiers_reader *reader, const struct query *query, int status,
                          const struct tiers_record *record, const struct cold_location *location)
{
    if (status == TIERS_CORRUPT) {
        damage_note(reader, location);
    } else if (status == 0) {
        reader->tier = TIERS_TIER_COLD;
        unsigned heat = access_note(reader, query, &reader->counters.hits_cold);
        admit(reader, query, heat, record);
        if (!reader->quiet &&
            controller_rank(heat, record->value_len) >=
                atomic_load_explicit(&reader->tiers->promote_heat_min, memory_order_relaxed)) {
            mover_offer(reader->tiers->mover, record, location);
        }
    }
}

void reader_heat_tell(struct tiers_reader *reader)
{
    for (unsigned i = 0; i < reader->n_heat_hits; i++) {
        heat_touch(reader->tiers->heat, reader->heat_hits[i]);
    }
    reader->n_heat_hits = 0;
}

static __attribute__((noinline)) void hot_heat_note(struct tiers_reader *reader, uint64_t hash)
{
    reader->sample = reader->sample * 6364136223846793005u + 1442695040888963407u;
    reader->sample_in = 1 + (unsigned)(reader->sample >> 32) % (2 * HEAT_SAMPLE_MEAN - 1);
    if (reader->n_heat_hits == READER_HEAT_HITS) {
        reader_heat_tell(reader);
    }
    reader->heat_hits[reader->n_heat_hits++] = hash;
    heat_prefetch(reader->tiers->heat, hash);
}

static inline void hot_answered(struct tiers_reader *reader, uint64_t hash,
                                const struct tiers_record *record)
{
    reader->tier = TIERS_TIER_HOT;
    if (reader->quiet) {
        return;
    }
    engine_count(&reader->counters.hits_hot, 1);
    engine_sample(reader->tiers, hash, record->charge, SAMPLE_READ);
    if (__builtin_expect(--reader->sample_in == 0, false)) {
        hot_heat_note(reader, hash);
    }
}

/* What hot has not answered: `found` says why. */
static int missed_lookup(struct tiers_reader *reader, const struct query *query,
                         enum hot_found found, bool may_wait,
                         const struct tiers_record **ret_record, struct warm_item *ret_item,
                         enum stage *ret_stage)
{
    struct tiers_record *record = NULL;
    int error = TIERS_NOT_FOUND;
    if (found == HOT_MISS) {
        error = warm_lookup(reader, query, may_wait, &record, ret_item, ret_stage);
    }
    if (error != TIERS_PENDING) {
        reader_warm_answered(reader, query, error, record);
    }
    if (error == 0) {
        *ret_record = record;
    }
    return error;
}

int reader_lookup(struct tiers_reader *reader, struct query *query, bool may_wait,
                  const struct tiers_record **ret_record, struct warm_item *ret_item,
                  enum stage *ret_stage)
{
    enum hot_found found = hot_get(reader->tiers->hot, query->hash, query->space, query->key,
                                   query->key_len, ret_record, &query->ticket);
    if (found == HOT_HIT) {
        hot_answered(reader, query->hash, *ret_record);
        return 0;
    }
    return missed_lookup(reader, query, found, may_wait, ret_record, ret_item, ret_stage);
}

/* Out of the way of what hot answers. */
static __attribute__((noinline)) int get_missed(struct tiers_reader *reader, struct query query,
                                                enum hot_found found, bool may_wait,
                                                struct tiers_read *read,
                                                const struct tiers_record **ret_record)
{
    struct warm_item item;
    enum stage stage = STAGE_WARM;
    int error = missed_lookup(reader, &query, found, may_wait, ret_record, &item, &stage);
    return error != TIERS_PENDING
               ? error
               : reader_operation_begin(reader, &query, stage == STAGE_COLD ? &item : NULL,
                                        may_wait, read, ret_record);
}

static inline int get(struct tiers_reader *reader, enum tiers_space space, const void *key,
                      size_t key_len, bool may_wait, struct tiers_read *read,
                      const struct tiers_record **ret_record)
{
    if (key == NULL || key_len < 1 || key_len > TIERS_KEY_BYTES_MAX) {
        return TIERS_INVALID;
    }
    uint64_t ticket = 0;
    uint64_t hash = record_key_hash_inline(space, key, key_len);
    enum hot_found found =
        hot_get_inline(reader->tiers->hot, hash, space, key, key_len, ret_record, &ticket);
    if (found == HOT_HIT) {
        hot_answered(reader, hash, *ret_record);
        return 0;
    }
    return get_missed(
        reader,
        (struct query){
            .space = space, .key = key, .key_len = key_len, .hash = hash, .ticket = ticket},
        found, may_wait, read, ret_record);
}

/* With all that a hit in hot takes in one piece. */
__attribute__((flatten)) int tiers_reader_get(struct tiers_reader *reader, enum tiers_space space,
                                              const void *key, size_t key_len,
                                              struct tiers_read *read,
                                              const struct tiers_record **ret_record)
{
    return get(reader, space, key, key_len, false, read, ret_record);
}

int reader_get_waiting(struct tiers_reader *reader, enum tiers_space space, const void *key,
                       size_t key_len, struct tiers_read *read,
                       const struct tiers_record **ret_record)
{
    return get(reader, space, key, key_len, true, read, ret_record);
}
