/* The hot tier: a sharded hash table of records in memory under a byte budget.
 *
 * It holds clean records (also in the warm tier; the policy may evict them) and dirty ones (not yet
 * flushed; pinned). A shard is a table, a lock and an instance of the policy. Every byte counts
 * against the budget: records as the allocator rounds them, buckets, what the policy remembers of
 * keys that left. A record enters once: one that left is never offered again.
 *
 * One applier thread writes; any thread reads and admits; the mover cleans.
 *
 * Admission is safe against races with the applier by tickets: a miss returns the ticket of the
 * key's stripe, each write to a stripe changes its ticket, and hot_admit refuses a stale one. So a
 * reader may look up the warm tier without a lock and still never bring back an old value, provided
 * that the warm snapshot it reads begins after hot_get has returned the ticket.
 */
#ifndef TIERS_HOT_H
#define TIERS_HOT_H

#include "tiers/policy.h"
#include "tiers/tiers.h"

/* About what a key takes beside its record's charge: its share of the buckets. */
#define HOT_KEY_OVERHEAD_BYTES 16

struct hot;

struct hot_options {
    uint64_t bytes;  /* Budget */
    unsigned shards; /* 0: chosen from the budget; else a power of two */
    const struct policy_type *policy;
};

struct hot_stats {
    uint64_t bytes; /* All overhead counted; dirty records and what is reserved included */
    uint64_t keys;
    uint64_t evictions;
};

/* 0, TIERS_NO_MEMORY or TIERS_INVALID (`shards` no power of two, or less than 16 KiB for each). */
int hot_open(const struct hot_options *options, struct hot **ret_hot);

/* Nobody may use it any more. Records still referenced stay valid. */
void hot_close(struct hot *hot);

enum hot_found { HOT_MISS, HOT_HIT, HOT_TOMBSTONE };

/* Any thread. On HOT_HIT *ret_record holds a reference; on HOT_MISS *ret_ticket is set. Tells the
 * policy of the hit. */
enum hot_found hot_get(struct hot *hot, uint64_t hash, enum tiers_space space, const void *key,
                       size_t key_len, const struct tiers_record **ret_record,
                       uint64_t *ret_ticket);

/* As hot_get without telling the policy and for tombstones too (*ret_record is set for both). */
enum hot_found hot_peek(struct hot *hot, uint64_t hash, enum tiers_space space, const void *key,
                        size_t key_len, const struct tiers_record **ret_record);

/* Any thread. Brings what a look-up of these hashes, TIERS_PREFETCH_MAX at most, will touch into
 * the processor's cache. */
void hot_prefetch(struct hot *hot, const uint64_t *hashes, size_t n);

/* Applier. Makes `record`, a new one, the key's current one, dirty and pinned, and evicts clean
 * records if the budget asks for it. Takes a reference of its own. */
void hot_write(struct hot *hot, uint64_t hash, const struct tiers_record *record);

/* Any thread. Adds a clean record, no tombstone, unless the key is present or the ticket is stale;
 * true if added. Takes a reference of its own. A record for which a shard has no room beside its
 * dirty records is not added, nor one that the policy does not admit, nor one that was in hot
 * before. One that `is_seldom` read is not added either where it would leave less than an eighth of
 * the shard's budget free: others need not make room for it. */
bool hot_admit(struct hot *hot, uint64_t hash, const struct tiers_record *record, uint64_t ticket,
               bool is_seldom);

/* Mover, after `record` became durable in the warm tier: if it is still the key's current record it
 * turns clean (a tombstone is removed), else nothing happens. A record for which a shard has no
 * room beside its dirty records, or that the policy does not admit, is removed, too; so is one that
 * `is_seldom` read where there is as little room as hot_admit says, unless the key was in hot,
 * clean, when it was written: a load of many new keys pushes out no others. */
void hot_clean(struct hot *hot, uint64_t hash, const struct tiers_record *record, bool is_seldom);

/* One thread at a time; others go on. Hands the clean records of each shard to a new policy, those
 * that would leave first at first, a few at a time. 0, or TIERS_NO_MEMORY: the policy stays. */
int hot_policy_switch(struct hot *hot, const struct policy_type *type);

/* Opening, or mover. So many bytes of the budget, half of it at most, are used outside the table
 * from now on: records make room for them. */
void hot_reserve(struct hot *hot, uint64_t bytes);

void hot_stats(struct hot *hot, struct hot_stats *ret_stats);

#endif
