/* Making and hashing the in-memory record (struct tiers_record) that all tiers exchange. */
#ifndef TIERS_RECORD_H
#define TIERS_RECORD_H

#include "tiers/tiers.h"

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

bool record_key_equals(const struct tiers_record *record, enum tiers_space space, const void *key,
                       size_t key_len);

#endif
