/* The hash table of one hot shard: entries by the hash of their key.
 *
 * A bucket is one line of the processor's cache: pointers to entries, each with some bits of its
 * hash beside it, so that a look-up waits for memory twice, for the bucket and for the entry that
 * it looks for. What a full bucket has no room for is chained behind its last entry.
 *
 * Entries never move in memory (policies link them). The table grows a bucket at a time (linear
 * hashing; Litwin, VLDB 1980), so that a call costs microseconds at any size. Buckets never move
 * either: they lie in segments, which grow as the table does, each by a quarter of it at most but
 * for the first, and stay until the end.
 *
 * The owner's lock guards everything here but prefetching, which looks at buckets while others
 * change them, and at nothing else.
 */
#ifndef TIERS_HOT_TABLE_H
#define TIERS_HOT_TABLE_H

#include "hot_bucket.h"
#include "prefetch.h"
#include "record.h"

/* Buckets are added beyond so many entries for each. */
#define HOT_BUCKET_LOAD 4

#define HOT_TABLE_SEGMENTS_MAX 128

struct hot_table {
    _Atomic size_t n_buckets;
    size_t n; /* Entries */
    uint64_t bytes;
    unsigned n_segments;
    hot_segment segments[HOT_TABLE_SEGMENTS_MAX];
};

/* 0 or TIERS_NO_MEMORY. */
int hot_table_open(struct hot_table *table);

/* Hands every entry to `free_entry`, then frees the buckets. */
void hot_table_close(struct hot_table *table, void (*free_entry)(struct hot_entry *entry));

/* Of an entry: the record's head with it, and a key of usual length. */
#define HOT_PREFETCHED_BYTES 128

/* Whoever sees a number of buckets sees their segments. Without the lock it may be a bucket where
 * the key is no longer. */
static inline struct hot_bucket *hot_table_bucket(const struct hot_table *table, uint64_t hash)
{
    size_t n_buckets = atomic_load_explicit(&table->n_buckets, memory_order_acquire);
    return hot_bucket_at(table->segments, hot_bucket_of(n_buckets, hash));
}

static inline bool hot_entry_is(const struct hot_entry *entry, uint64_t hash,
                                enum tiers_space space, const void *key, size_t key_len)
{
    return entry->node.key_hash == hash &&
           record_key_equals(hot_entry_record(entry), space, key, key_len);
}

/* Of hot_table_find only: in the chain of a bucket whose slots are full. */
struct hot_entry *hot_table_find_chained(const struct hot_bucket *bucket, uint64_t hash,
                                         enum tiers_space space, const void *key, size_t key_len);

/* NULL: absent. Part of the caller's code, since what it takes is little beside two waits for
 * memory, if only what the caller does next is near enough for the processor to begin with it
 * meanwhile. */
static inline struct hot_entry *hot_table_find(const struct hot_table *table, uint64_t hash,
                                               enum tiers_space space, const void *key,
                                               size_t key_len)
{
    const struct hot_bucket *bucket = hot_table_bucket(table, hash);

    for (unsigned left = hot_slots_matching_locked(bucket, hash); left != 0; left &= left - 1) {
        struct hot_entry *entry = hot_entry_at(hot_slot_get(bucket, (unsigned)__builtin_ctz(left)));
        if (entry == NULL)
            continue;
        prefetch_bytes((const char *)entry + PREFETCH_LINE_BYTES,
                       HOT_PREFETCHED_BYTES - PREFETCH_LINE_BYTES);
        if (hot_entry_is(entry, hash, space, key, key_len))
            return entry;
    }
    if (__builtin_expect((hot_slot_get(bucket, HOT_BUCKET_LAST) & HOT_CHAINED) == 0, true))
        return NULL;
    return hot_table_find_chained(bucket, hash, space, key, key_len);
}

/* The steps of a look-up, for many of them at a time, without the lock: the first brings the bucket
 * into the processor's cache, the second the entries that may be the one that is looked for. */
void hot_table_prefetch_bucket(const struct hot_table *table, uint64_t hash);
void hot_table_prefetch_entry(const struct hot_table *table, uint64_t hash);

/* The key must be absent. Never fails: without memory to grow, chains become longer. */
void hot_table_insert(struct hot_table *table, struct hot_entry *entry);

/* `entry` must be inside; `by`, of the same hash, takes its place. */
void hot_table_replace(struct hot_table *table, struct hot_entry *entry, struct hot_entry *by);

/* The entry must be inside. */
void hot_table_remove(struct hot_table *table, struct hot_entry *entry);

/* Memory of the buckets. */
uint64_t hot_table_bytes(const struct hot_table *table);

#endif
