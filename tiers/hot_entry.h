/* A record's place in the hot tier. It lies right ahead of the record, in the same allocation: a
 * look-up that has found the one has the other, and to enter needs no memory.
 *
 * All of it belongs to the shard that the record's key falls into, under that shard's lock, until
 * it is gone; then to the call that took it out. A record enters once. */
#ifndef TIERS_HOT_ENTRY_H
#define TIERS_HOT_ENTRY_H

#include "tiers/policy.h"
#include "tiers/tiers.h"

/* HOT_NEW: never was in the table. HOT_CLEAN: linked in the table and the policy. HOT_DIRTY: linked
 * in the table only, so that the policy cannot name it as a victim. HOT_GONE: linked in neither.
 *
 *   from  event                 to
 *   new   hot_write             dirty
 *   new   hot_admit             clean
 *   clean hot_write of the key  gone
 *   dirty hot_write of the key  gone
 *   dirty hot_clean             clean, or gone if a tombstone or one that is not to stay
 *   clean eviction              gone */
enum hot_entry_state { HOT_NEW, HOT_CLEAN, HOT_DIRTY, HOT_GONE };

struct hot_entry {
    struct policy_node node; /* key_hash is the entry's; size is entry and record together */
    struct hot_entry *chain; /* Next in a full bucket; in the list of those to release when gone */
    uint32_t policy_time;    /* Of the shard, when it last entered the policy or was hit */
    uint8_t state;           /* enum hot_entry_state */
    uint8_t generation;      /* Of the shard's policy that holds it; see hot_policy.h */
    bool was_clean;          /* The key had its place here before it was written */
};

_Static_assert(sizeof(struct hot_entry) % _Alignof(struct tiers_record) == 0,
               "a record lies right behind its entry");
_Static_assert(
    sizeof(struct hot_entry) + sizeof(struct tiers_record) == 64,
    "what a look-up knows of a key ahead of its bytes is a line of the processor's cache");
_Static_assert((sizeof(struct hot_entry) + offsetof(struct tiers_record, bytes)) %
                       _Alignof(struct tiers_record_tail) ==
                   0,
               "a tail lies at a multiple of its alignment in the record's bytes");

/* Records hand out no pointers to change them, but this part is not theirs. */
static inline struct hot_entry *hot_entry_of(const struct tiers_record *record)
{
    return (struct hot_entry *)(uintptr_t)record - 1;
}

static inline const struct tiers_record *hot_entry_record(const struct hot_entry *entry)
{
    return (const struct tiers_record *)(const void *)(entry + 1);
}

#endif
