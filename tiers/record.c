/* The in-memory record: one allocation that holds its place in the hot tier, the key, the value and
 * the metadata.
 *
 * A record is filled before anyone else sees it and never changes afterwards, so readers need no
 * lock, only a reference. The last release frees it, on whichever thread that happens.
 *
 * Fails only for want of memory. Any thread.
 */
#include "record.h"

#include "hot_entry.h"
#include "little_endian.h"
#include "record_hash.h"

#include <assert.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Space, key length, value length and the five metadata words, ahead of the key. */
#define DIGEST_HEADER_BYTES (1 + 2 + 4 + 5 * 8)

/* Counting references does not change what the record says, hence `const` in the interface. */
static struct tiers_record *mutable_record(const struct tiers_record *record)
{
    return (struct tiers_record *)(uintptr_t)record;
}

void tiers_record_retain(const struct tiers_record *record)
{
    record_retain(record);
}

void tiers_record_release(const struct tiers_record *record)
{
    uint32_t before =
        atomic_fetch_sub_explicit(&mutable_record(record)->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1)
        free(hot_entry_of(record));
}

uint64_t record_key_hash(enum tiers_space space, const void *key, size_t key_len)
{
    return record_key_hash_inline(space, key, key_len);
}

static inline unsigned char *append_little_endian(unsigned char *to, uint64_t value, size_t n_bytes)
{
    little_endian_put(to, value, n_bytes);
    return to + n_bytes;
}

/* The value's hash is seeded with the hash of all the rest. Lengths stand before the bytes they
 * measure, in a fixed byte order: nodes of different machines compare their sums. */
uint64_t record_digest(enum tiers_space space, const void *key, size_t key_len, const void *value,
                       size_t value_len, const struct tiers_meta *meta)
{
    unsigned char header[DIGEST_HEADER_BYTES + TIERS_KEY_BYTES_MAX];
    unsigned char *end = header;

    assert(key_len <= TIERS_KEY_BYTES_MAX && value_len <= TIERS_VALUE_BYTES_MAX);
    end = append_little_endian(end, (uint64_t)space, 1);
    end = append_little_endian(end, key_len, 2);
    end = append_little_endian(end, value_len, 4);
    end = append_little_endian(end, meta->create_revision, 8);
    end = append_little_endian(end, meta->mod_revision, 8);
    end = append_little_endian(end, meta->version, 8);
    end = append_little_endian(end, meta->flags, 8);
    end = append_little_endian(end, meta->expires_ms, 8);
    assert(end == header + DIGEST_HEADER_BYTES);
    memcpy(end, key, key_len);
    uint64_t seed = XXH3_64bits(header, DIGEST_HEADER_BYTES + key_len);
    return XXH3_64bits_withSeed(value_len > 0 ? value : "", value_len, seed);
}

/* The tail as what fills it sees it. */
static struct tiers_record_tail *mutable_tail(struct tiers_record *record)
{
    return (struct tiers_record_tail *)(uintptr_t)tiers_record_tail(record);
}

/* One reference, key copied, everything else zero; the value's bytes are left to the caller. */
static struct tiers_record *record_allocate(enum tiers_space space, const void *key, size_t key_len,
                                            size_t value_len)
{
    assert(key_len > 0 && key_len <= TIERS_KEY_BYTES_MAX && value_len <= TIERS_VALUE_BYTES_MAX);
    struct hot_entry *entry =
        malloc(sizeof(*entry) + sizeof(struct tiers_record) + key_len + value_len +
               _Alignof(struct tiers_record_tail) - 1 + sizeof(struct tiers_record_tail));
    if (entry == NULL)
        return NULL;
    *entry = (struct hot_entry){.state = HOT_NEW};
    struct tiers_record *record = mutable_record(hot_entry_record(entry));
    memset(record, 0, sizeof(*record));
    atomic_init(&record->references, 1);
    record->value_len = (uint32_t)value_len;
    record->key_len = (uint16_t)key_len;
    record->space = (uint8_t)space;
    record->charge = (uint32_t)(malloc_usable_size(entry) + RECORD_ALLOCATION_OVERHEAD_BYTES);
    memcpy(record->bytes, key, key_len);
    *mutable_tail(record) = (struct tiers_record_tail){0};
    return record;
}

struct tiers_record *record_new(enum tiers_space space, const void *key, size_t key_len,
                                const void *value, size_t value_len, const struct tiers_meta *meta)
{
    struct tiers_record *record = record_allocate(space, key, key_len, value_len);
    if (record == NULL)
        return NULL;
    *mutable_tail(record) = (struct tiers_record_tail){
        .digest = record_digest(space, key, key_len, value, value_len, meta), .meta = *meta};
    if (value_len > 0)
        memcpy(record->bytes + key_len, value, value_len);
    return record;
}

struct tiers_record *record_tombstone_new(enum tiers_space space, const void *key, size_t key_len,
                                          uint64_t revision)
{
    struct tiers_record *record = record_allocate(space, key, key_len, 0);
    if (record == NULL)
        return NULL;
    record->tombstone = true;
    mutable_tail(record)->meta.mod_revision = revision;
    return record;
}
