/* The hash table of one hot shard: entries in chains, each with the hash of its key.
 *
 * Entries never move in memory (policies link them). The table grows by a bucket with each entry
 * (linear hashing; Litwin, VLDB 1980), so that a call costs microseconds at any size. Buckets never
 * move either: they lie in segments, each as large as all before it, which stay until the end.
 *
 * The owner's lock guards everything here but for the first two steps of prefetching, which look at
 * buckets while others change them, and at nothing else.
 */
#ifndef TIERS_HOT_TABLE_H
#define TIERS_HOT_TABLE_H

#include "tiers/policy.h"
#include "tiers/tiers.h"

#include <stdatomic.h>

/* HOT_CLEAN: linked in the table and the policy. HOT_DIRTY: linked in the table only, so that the
 * policy cannot name it as a victim. HOT_GONE: linked in neither, about to be freed.
 *
 *   from  event                 to
 *   -     hot_write             dirty
 *   -     hot_admit             clean
 *   clean hot_write             dirty
 *   dirty hot_write             dirty
 *   dirty hot_clean             clean, or gone if a tombstone or one that is not to stay
 *   clean eviction              gone */
enum hot_entry_state { HOT_CLEAN, HOT_DIRTY, HOT_GONE };

struct hot_entry {
    struct policy_node node; /* key_hash is the entry's; size is entry and record together */
    struct hot_entry *chain; /* Next in the bucket; in the list of those to free when gone */
    const struct tiers_record *record;
    uint8_t state;        /* enum hot_entry_state */
    uint8_t generation;   /* Of the shard's policy that holds it; see hot_policy.h */
    bool was_clean;       /* It had its place here before it was written */
    uint32_t policy_time; /* Of the shard, when the policy was last told of this entry */
};

typedef _Atomic(struct hot_entry *) hot_bucket;

#define HOT_TABLE_SEGMENTS_MAX 40

struct hot_table {
    _Atomic size_t n_buckets;
    size_t n; /* Entries */
    uint64_t bytes;
    unsigned n_segments;
    _Atomic(hot_bucket *) segments[HOT_TABLE_SEGMENTS_MAX];
};

/* 0 or TIERS_NO_MEMORY. */
int hot_table_open(struct hot_table *table);

/* Hands every entry to `free_entry`, then frees the buckets. */
void hot_table_close(struct hot_table *table, void (*free_entry)(struct hot_entry *entry));

/* NULL: absent. */
struct hot_entry *hot_table_find(const struct hot_table *table, uint64_t hash,
                                 enum tiers_space space, const void *key, size_t key_len);

/* The steps of a look-up, for many of them at a time: each brings into the processor's cache what
 * the next one reads. First the bucket and the first entry of its chain, both without the lock;
 * then, with n_known counting up from 1, the next entry, until that is behind the one that is
 * looked for: then that one's record and neighbours. False: there is no more to bring. */
void hot_table_prefetch_bucket(const struct hot_table *table, uint64_t hash);
bool hot_table_prefetch_first(const struct hot_table *table, uint64_t hash);
bool hot_table_prefetch_entry(const struct hot_table *table, uint64_t hash, unsigned n_known);

/* The key must be absent. Never fails: without memory to grow, chains become longer. */
void hot_table_insert(struct hot_table *table, struct hot_entry *entry);

/* The entry must be inside. */
void hot_table_remove(struct hot_table *table, struct hot_entry *entry);

/* Memory of the buckets. */
uint64_t hot_table_bytes(const struct hot_table *table);

#endif
