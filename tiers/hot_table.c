/* Bucketed hash table by linear hashing: see hot_table.h.
 *
 * Of n buckets the first n - 2^k have been split in two, where 2^k is the largest power of two
 * below n: their keys take one bit more of the hash. An insertion that finds HOT_BUCKET_LOAD
 * entries for each bucket splits the next one. bucket_of is the only place that knows.
 *
 * A slot holds an entry's address in its lower 48 bits, which is all that user space has, and 16
 * bits of its hash above. An entry's address is a multiple of 8: the lowest bit of the last slot
 * tells that its entry has others chained behind it.
 */
#include "hot_table.h"

#include "prefetch.h"
#include "record.h"

#include <assert.h>
#include <stdlib.h>

/* In the first segment. From then on each doubling of the table comes in PARTS segments. */
#define BUCKETS_MIN_LOG2 4
#define BUCKETS_MIN      ((size_t)1 << BUCKETS_MIN_LOG2)
#define PARTS_LOG2       2
#define PARTS            (1u << PARTS_LOG2)

#define ADDRESS_BITS 48
#define CHAINED      ((uint64_t)1)
#define LAST         (HOT_BUCKET_SLOTS - 1)

/* The bits of the hash in a tag. The lower ones tell how a bucket is split without a look at its
 * entries; what bits the bucket's number does not take tell keys of a bucket apart. */
#define TAG_SHIFT 8
#define TAG_BITS  16

/* Of an entry, its record's head and a key of usual length. */
#define PREFETCHED_BYTES 192

static unsigned log2_of(size_t n)
{
    return 63 - (unsigned)__builtin_clzll(n);
}

/* ------------------------------------------------------------------------------------------ slots
 */

static uint64_t slot_get(const struct hot_bucket *bucket, unsigned i)
{
    return atomic_load_explicit(&bucket->slots[i], memory_order_relaxed);
}

static void slot_set(struct hot_bucket *bucket, unsigned i, uint64_t slot)
{
    atomic_store_explicit(&bucket->slots[i], slot, memory_order_relaxed);
}

static uint64_t tag_of(uint64_t hash)
{
    return hash >> TAG_SHIFT << ADDRESS_BITS;
}

static uint64_t slot_of(const struct hot_entry *entry)
{
    uint64_t address = (uintptr_t)entry;
    assert(address >> ADDRESS_BITS == 0 && (address & CHAINED) == 0);
    return tag_of(entry->node.key_hash) | address;
}

static struct hot_entry *entry_at(uint64_t slot)
{
    uint64_t address = slot & (((uint64_t)1 << ADDRESS_BITS) - 1) & ~CHAINED;
    return (struct hot_entry *)(uintptr_t)address;
}

static bool tag_matches(uint64_t slot, uint64_t hash)
{
    return (slot ^ tag_of(hash)) >> ADDRESS_BITS == 0;
}

/* Whether the slot's hash has this bit. */
static bool hash_has(uint64_t slot, uint64_t bit)
{
    uint64_t in_tag = (((uint64_t)1 << TAG_BITS) - 1) << TAG_SHIFT;
    uint64_t hash =
        (bit & in_tag) != 0 ? slot >> ADDRESS_BITS << TAG_SHIFT : entry_at(slot)->node.key_hash;
    return (hash & bit) != 0;
}

/* The last slot again, after its entry's chain has changed. */
static void last_set(struct hot_bucket *bucket, const struct hot_entry *last)
{
    slot_set(bucket, LAST, slot_of(last) | (last->chain != NULL ? CHAINED : 0));
}

/* ---------------------------------------------------------------------------------------- buckets
 */

static struct hot_bucket *bucket_at(const struct hot_table *table, size_t i)
{
    unsigned segment = 0;
    size_t in_segment = i;

    if (i >= BUCKETS_MIN) {
        unsigned log2 = log2_of(i);
        size_t part_log2 = log2 - PARTS_LOG2;
        size_t part = (i >> part_log2) & (PARTS - 1);
        segment = 1 + (log2 - BUCKETS_MIN_LOG2) * PARTS + (unsigned)part;
        in_segment = i & (((size_t)1 << part_log2) - 1);
    }
    return atomic_load_explicit(&table->segments[segment], memory_order_relaxed) + in_segment;
}

/* Whoever sees a number of buckets sees their segments. Without the lock it may be a bucket where
 * the key is no longer. */
static struct hot_bucket *bucket_of(const struct hot_table *table, uint64_t hash)
{
    size_t n_buckets = atomic_load_explicit(&table->n_buckets, memory_order_acquire);
    size_t half = (size_t)1 << log2_of(n_buckets - 1);
    size_t i = hash & (2 * half - 1);

    return bucket_at(table, i < n_buckets ? i : i - half);
}

static void bucket_add(struct hot_bucket *bucket, struct hot_entry *entry)
{
    entry->chain = NULL;
    for (unsigned i = 0; i < HOT_BUCKET_SLOTS; i++) {
        if (slot_get(bucket, i) == 0) {
            slot_set(bucket, i, slot_of(entry));
            return;
        }
    }
    struct hot_entry *last = entry_at(slot_get(bucket, LAST));
    entry->chain = last->chain;
    last->chain = entry;
    last_set(bucket, last);
}

/* Takes the first entry behind the last slot's out of the chain. NULL: there is none. */
static struct hot_entry *chain_pop(struct hot_bucket *bucket)
{
    uint64_t slot = slot_get(bucket, LAST);
    if ((slot & CHAINED) == 0)
        return NULL;
    struct hot_entry *last = entry_at(slot);
    struct hot_entry *first = last->chain;
    last->chain = first->chain;
    first->chain = NULL;
    last_set(bucket, last);
    return first;
}

/* Which slot has the entry, HOT_BUCKET_SLOTS if none has. */
static unsigned slot_find(const struct hot_bucket *bucket, const struct hot_entry *entry)
{
    unsigned i = 0;
    while (i < HOT_BUCKET_SLOTS && entry_at(slot_get(bucket, i)) != entry)
        i++;
    return i;
}

/* The entry in the bucket's chain that `entry` is chained to. */
static struct hot_entry *chain_before(const struct hot_bucket *bucket,
                                      const struct hot_entry *entry)
{
    struct hot_entry *before = entry_at(slot_get(bucket, LAST));
    while (before != NULL && before->chain != entry)
        before = before->chain;
    assert(before != NULL);
    return before;
}

static void bucket_clear(struct hot_bucket *bucket)
{
    for (unsigned i = 0; i < HOT_BUCKET_SLOTS; i++)
        slot_set(bucket, i, 0);
}

/* Of n buckets, which are to be cleared before they are used. */
static bool segment_add(struct hot_table *table, size_t n)
{
    size_t n_bytes = n * sizeof(struct hot_bucket);
    struct hot_bucket *segment = NULL;

    if (table->n_segments < HOT_TABLE_SEGMENTS_MAX)
        segment = aligned_alloc(_Alignof(struct hot_bucket), n_bytes);
    if (segment == NULL)
        return false;
    atomic_store_explicit(&table->segments[table->n_segments++], segment, memory_order_relaxed);
    table->bytes += n_bytes;
    return true;
}

/* Whether there is memory for the bucket that follows `n_buckets`. */
static bool bucket_reserve(struct hot_table *table, size_t n_buckets)
{
    size_t part = ((size_t)1 << log2_of(n_buckets)) >> PARTS_LOG2;

    return (n_buckets & (part - 1)) != 0 || segment_add(table, part);
}

/* ----------------------------------------------------------------------------------------- table
 */

int hot_table_open(struct hot_table *table)
{
    *table = (struct hot_table){.n = 0};
    if (!segment_add(table, BUCKETS_MIN))
        return TIERS_NO_MEMORY;
    for (size_t i = 0; i < BUCKETS_MIN; i++)
        bucket_clear(bucket_at(table, i));
    atomic_store(&table->n_buckets, BUCKETS_MIN);
    return 0;
}

void hot_table_close(struct hot_table *table, void (*free_entry)(struct hot_entry *entry))
{
    size_t n_buckets = atomic_load(&table->n_buckets);

    for (size_t i = 0; i < n_buckets; i++) {
        for (unsigned k = 0; k < HOT_BUCKET_SLOTS; k++) {
            struct hot_entry *next = NULL;
            for (struct hot_entry *entry = entry_at(slot_get(bucket_at(table, i), k));
                 entry != NULL; entry = next) {
                next = entry->chain;
                free_entry(entry);
            }
        }
    }
    for (unsigned i = 0; i < table->n_segments; i++)
        free(atomic_load(&table->segments[i]));
    *table = (struct hot_table){.n = 0};
}

static bool entry_is(const struct hot_entry *entry, uint64_t hash, enum tiers_space space,
                     const void *key, size_t key_len)
{
    return entry->node.key_hash == hash &&
           record_key_equals(hot_entry_record(entry), space, key, key_len);
}

struct hot_entry *hot_table_find(const struct hot_table *table, uint64_t hash,
                                 enum tiers_space space, const void *key, size_t key_len)
{
    const struct hot_bucket *bucket = bucket_of(table, hash);

    for (unsigned i = 0; i < HOT_BUCKET_SLOTS; i++) {
        uint64_t slot = slot_get(bucket, i);
        if (slot == 0 || !tag_matches(slot, hash))
            continue;
        struct hot_entry *entry = entry_at(slot);
        prefetch_bytes(entry, PREFETCHED_BYTES);
        if (entry_is(entry, hash, space, key, key_len))
            return entry;
    }
    if ((slot_get(bucket, LAST) & CHAINED) == 0)
        return NULL;
    struct hot_entry *entry = entry_at(slot_get(bucket, LAST))->chain;
    while (entry != NULL && !entry_is(entry, hash, space, key, key_len))
        entry = entry->chain;
    return entry;
}

void hot_table_prefetch_bucket(const struct hot_table *table, uint64_t hash)
{
    __builtin_prefetch(bucket_of(table, hash));
}

/* Looks into no entry: it may be gone by now. */
void hot_table_prefetch_entry(const struct hot_table *table, uint64_t hash)
{
    const struct hot_bucket *bucket = bucket_of(table, hash);

    for (unsigned i = 0; i < HOT_BUCKET_SLOTS; i++) {
        uint64_t slot = slot_get(bucket, i);
        if (slot != 0 && tag_matches(slot, hash))
            prefetch_bytes(entry_at(slot), PREFETCHED_BYTES);
    }
}

/* One bucket more: the entries of another whose hashes say so go into it. */
static void split_one(struct hot_table *table)
{
    size_t n_buckets = atomic_load_explicit(&table->n_buckets, memory_order_relaxed);
    size_t half = (size_t)1 << log2_of(n_buckets);

    if (!bucket_reserve(table, n_buckets))
        return;
    struct hot_bucket *from = bucket_at(table, n_buckets - half);
    struct hot_bucket *to = bucket_at(table, n_buckets);
    struct hot_entry *chained = NULL;
    struct hot_entry *popped = NULL;
    bucket_clear(to);
    while ((popped = chain_pop(from)) != NULL) {
        popped->chain = chained;
        chained = popped;
    }
    for (unsigned i = 0; i < HOT_BUCKET_SLOTS; i++) {
        uint64_t slot = slot_get(from, i);
        if (slot != 0 && hash_has(slot, half)) {
            slot_set(to, i, slot);
            slot_set(from, i, 0);
        }
    }
    while (chained != NULL) {
        struct hot_entry *next = chained->chain;
        bucket_add((chained->node.key_hash & half) != 0 ? to : from, chained);
        chained = next;
    }
    atomic_store_explicit(&table->n_buckets, n_buckets + 1, memory_order_release);
    /* Of the next one, in time. */
    __builtin_prefetch(bucket_at(table, n_buckets + 1 - half), 1);
}

void hot_table_insert(struct hot_table *table, struct hot_entry *entry)
{
    size_t n_buckets = atomic_load_explicit(&table->n_buckets, memory_order_relaxed);
    if (table->n >= HOT_BUCKET_LOAD * n_buckets)
        split_one(table);
    bucket_add(bucket_of(table, entry->node.key_hash), entry);
    table->n++;
}

void hot_table_replace(struct hot_table *table, struct hot_entry *entry, struct hot_entry *by)
{
    struct hot_bucket *bucket = bucket_of(table, entry->node.key_hash);
    unsigned i = slot_find(bucket, entry);

    assert(by->node.key_hash == entry->node.key_hash);
    by->chain = entry->chain;
    entry->chain = NULL;
    if (i == HOT_BUCKET_SLOTS)
        chain_before(bucket, entry)->chain = by;
    else if (i == LAST)
        last_set(bucket, by);
    else
        slot_set(bucket, i, slot_of(by));
}

void hot_table_remove(struct hot_table *table, struct hot_entry *entry)
{
    struct hot_bucket *bucket = bucket_of(table, entry->node.key_hash);
    unsigned i = slot_find(bucket, entry);

    if (i == HOT_BUCKET_SLOTS) {
        chain_before(bucket, entry)->chain = entry->chain;
        last_set(bucket, entry_at(slot_get(bucket, LAST)));
    } else if (i == LAST && entry->chain != NULL) {
        last_set(bucket, entry->chain);
    } else {
        struct hot_entry *other = chain_pop(bucket);
        slot_set(bucket, i, other != NULL ? slot_of(other) : 0);
    }
    entry->chain = NULL;
    assert(table->n > 0);
    table->n--;
}

uint64_t hot_table_bytes(const struct hot_table *table)
{
    return table->bytes;
}
