/* What a shard of hot is made of, and the look-up that the engine's readers make, as part of their
 * code: of a hit's time in the processor calls would be a large part, and only what is near enough
 * is begun while the one before still waits for memory. */
#ifndef TIERS_HOT_SHARD_H
#define TIERS_HOT_SHARD_H

#include "hot.h"
#include "hot_policy.h"
#include "hot_table.h"
#include "latch.h"
#include "record.h"

#define HOT_TICKET_STRIPES 256

struct hot_shard {
    struct hot_table
        table; /* Looked at without the lock, too: not on a line that each owner writes */
    struct latch lock __attribute__((aligned(64)));
    struct hot_policy policy;
    uint64_t budget_bytes;
    uint64_t bytes;       /* Everything: this struct, buckets, policy, records */
    uint64_t own_bytes;   /* Of that, what is no record */
    uint64_t clean_bytes; /* Of that, what the policy may evict */
    uint64_t evictions;
    uint64_t tickets[HOT_TICKET_STRIPES];
} __attribute__((aligned(128))); /* Two lines: the processor fetches them in pairs */

struct hot {
    uint64_t budget_bytes;
    _Atomic uint64_t reserved_bytes;
    size_t n_shards;
    struct hot_shard *shards;
};

/* Table, stripe and shard take disjoint bits of the hash. */
static inline struct hot_shard *hot_shard_of(const struct hot *hot, uint64_t hash)
{
    return &hot->shards[(hash >> 48) & (hot->n_shards - 1)];
}

static inline uint64_t *hot_ticket_of(struct hot_shard *shard, uint64_t hash)
{
    return &shard->tickets[(hash >> 40) % HOT_TICKET_STRIPES];
}

/* As hot_get. */
static inline enum hot_found hot_get_inline(struct hot *hot, uint64_t hash, enum tiers_space space,
                                            const void *key, size_t key_len,
                                            const struct tiers_record **ret_record,
                                            uint64_t *ret_ticket)
{
    struct hot_shard *shard = hot_shard_of(hot, hash);
    enum hot_found found = HOT_HIT;

    latch_take(&shard->lock);
    struct hot_entry *entry = hot_table_find(&shard->table, hash, space, key, key_len);
    if (entry == NULL) {
        *ret_ticket = *hot_ticket_of(shard, hash);
        found = HOT_MISS;
    } else if (entry->state != HOT_CLEAN && hot_entry_record(entry)->tombstone) {
        found = HOT_TOMBSTONE;
    } else {
        if (entry->state == HOT_CLEAN)
            hot_policy_hit(&shard->policy, entry);
        *ret_record = hot_entry_record(entry);
        record_retain(*ret_record);
    }
    latch_leave(&shard->lock);
    return found;
}

#endif
