/* The hash table of one hot shard: entries by the hash of their key.
 *
 * A bucket is one line of the processor's cache: pointers to entries, each with some bits of its
 * hash beside it, so that a look-up waits for memory twice, for the bucket and for the entry that
 * it looks for. What a full bucket has no room for is chained behind its last entry.
 *
 * Entries never move in memory (policies link them). The table grows a bucket at a time (linear
 * hashing; Litwin, VLDB 1980), so that a call costs microseconds at any size. Buckets never move
 * either: they lie in segments, a quarter as large as all before it or less, which stay until the
 * end.
 *
 * The owner's lock guards everything here but prefetching, which looks at buckets while others
 * change them, and at nothing else.
 */
#ifndef TIERS_HOT_TABLE_H
#define TIERS_HOT_TABLE_H

#include "hot_entry.h"

#include <stdatomic.h>

#define HOT_BUCKET_SLOTS 8
/* Buckets are added beyond so many entries for each. */
#define HOT_BUCKET_LOAD 4

/* An entry's address with its tag above it; 0: free. See hot_table.c. */
typedef _Atomic uint64_t hot_slot;

struct hot_bucket {
    hot_slot slots[HOT_BUCKET_SLOTS];
} __attribute__((aligned(64)));

#define HOT_TABLE_SEGMENTS_MAX 128

struct hot_table {
    _Atomic size_t n_buckets;
    size_t n; /* Entries */
    uint64_t bytes;
    unsigned n_segments;
    _Atomic(struct hot_bucket *) segments[HOT_TABLE_SEGMENTS_MAX];
};

/* 0 or TIERS_NO_MEMORY. */
int hot_table_open(struct hot_table *table);

/* Hands every entry to `free_entry`, then frees the buckets. */
void hot_table_close(struct hot_table *table, void (*free_entry)(struct hot_entry *entry));

/* NULL: absent. */
struct hot_entry *hot_table_find(const struct hot_table *table, uint64_t hash,
                                 enum tiers_space space, const void *key, size_t key_len);

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
