/* Making and hashing the in-memory record (struct tiers_record) that all tiers exchange. */
#ifndef TIERS_RECORD_H
#define TIERS_RECORD_H

#include "tiers/tiers.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

/* What an allocation costs beyond its usable size: the allocator's own header. */
#define RECORD_ALLOCATION_OVERHEAD_BYTES sizeof(size_t)

/* The hash by which hot shards, heat and policies know a key. Any thread. */
uint64_t record_key_hash(enum tiers_space space, const void *key, size_t key_len);

/* A record with one reference, its digest computed and its bytes copied; NULL: out of memory.
 * `value` may be NULL when value_len is 0. The caller has checked that key_len is 1 to
 * TIERS_KEY_BYTES_MAX and value_len at most TIERS_VALUE_BYTES_MAX; so for all that follow. */
struct tiers_record *record_new(enum tiers_space space, const void *key, size_t key_len,
                                const void *value, size_t value_len, const struct tiers_meta *meta);

/* A record that stands for a deleted key; its digest is 0. */
struct tiers_record *record_tombstone_new(enum tiers_space space, const void *key, size_t key_len,
                                          uint64_t revision);

/* The share of the state hash of a key with this value. Never depends on where the value lies. */
uint64_t record_digest(enum tiers_space space, const void *key, size_t key_len, const void *value,
                       size_t value_len, const struct tiers_meta *meta);

static inline bool record_key_equals(const struct tiers_record *record, enum tiers_space space,
                                     const void *key, size_t key_len)
{
    return record->key_len == key_len && record->space == (uint8_t)space &&
           memcmp(record->bytes, key, key_len) == 0;
}

/* tiers_record_retain, where a call would cost more than what it does. */
static inline void record_retain(const struct tiers_record *record)
{
    /* Counting references does not change what the record says, hence `const` in the interface. */
    _Atomic uint32_t *references = &((struct tiers_record *)(uintptr_t)record)->references;
    uint32_t before = atomic_fetch_add_explicit(references, 1, memory_order_relaxed);
    assert(before > 0 && before < UINT32_MAX);
    (void)before;
}

#endif
