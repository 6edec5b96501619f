/* The hash table of one hot shard: entries in chains, each with the hash of its key.
 *
 * Entries never move in memory (policies link them). The table doubles when it holds an entry per
 * bucket, but no call pays for that at once: the old buckets stay beside the new ones and each
 * insertion moves a few of them, so that a call costs microseconds at any size.
 *
 * The owner's lock guards everything here.
 */
#ifndef TIERS_HOT_TABLE_H
#define TIERS_HOT_TABLE_H

#include "tiers/policy.h"
#include "tiers/tiers.h"

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

struct hot_table {
    struct hot_entry **buckets;
    size_t mask;                    /* Number of buckets, a power of two, less one */
    struct hot_entry **old_buckets; /* NULL unless growing */
    size_t old_mask;
    size_t old_next; /* Old buckets below this one have been moved */
    size_t n;        /* Entries */
};

/* 0 or TIERS_NO_MEMORY. */
int hot_table_open(struct hot_table *table);

/* Hands every entry to `free_entry`, then frees the buckets. */
void hot_table_close(struct hot_table *table, void (*free_entry)(struct hot_entry *entry));

/* NULL: absent. */
struct hot_entry *hot_table_find(const struct hot_table *table, uint64_t hash,
                                 enum tiers_space space, const void *key, size_t key_len);

/* The steps of a look-up, for many of them at a time: each brings into the processor's cache what
 * the next one reads. First the bucket; then, with n_known counting up from 0, the next entry of
 * its chain, until that is behind the one that is looked for: then that one's record and
 * neighbours. False: there is no more to bring. */
void hot_table_prefetch_bucket(const struct hot_table *table, uint64_t hash);
bool hot_table_prefetch_entry(const struct hot_table *table, uint64_t hash, unsigned n_known);

/* The key must be absent. Never fails: without memory to grow, chains become longer. */
void hot_table_insert(struct hot_table *table, struct hot_entry *entry);

/* The entry must be inside. */
void hot_table_remove(struct hot_table *table, struct hot_entry *entry);

/* Memory of the bucket arrays. */
uint64_t hot_table_bytes(const struct hot_table *table);

#endif
