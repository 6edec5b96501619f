/* Bucketed hash table by linear hashing: see hot_table.h.
 *
 * An insertion that finds HOT_BUCKET_LOAD entries for each bucket splits the next one. How a bucket
 * is found, and what a slot holds: hot_bucket.h.
 */
#include "hot_table.h"

#include "prefetch.h"
#include "record.h"

#include <assert.h>
#include <stdlib.h>

/* ------------------------------------------------------------------------------------------ slots
 */

static void slot_set(struct hot_bucket *bucket, unsigned i, uint64_t slot)
{
    atomic_store_explicit(&bucket->slots[i], slot, memory_order_relaxed);
}

static uint64_t slot_of(const struct hot_entry *entry)
{
    uint64_t address = (uintptr_t)entry;
    assert(address >> HOT_ADDRESS_BITS == 0 && (address & HOT_CHAINED) == 0);
    return hot_tag_of(entry->node.key_hash) | address;
}

/* Whether the slot's hash has this bit. */
static bool hash_has(uint64_t slot, uint64_t bit)
{
    uint64_t in_tag = (((uint64_t)1 << HOT_TAG_BITS) - 1) << HOT_TAG_SHIFT;
    uint64_t hash = (bit & in_tag) != 0 ? slot >> HOT_ADDRESS_BITS << HOT_TAG_SHIFT
                                        : hot_entry_at(slot)->node.key_hash;
    return (hash & bit) != 0;
}

/* The last slot again, after its entry's chain has changed. */
static void last_set(struct hot_bucket *bucket, const struct hot_entry *last)
{
    slot_set(bucket, HOT_BUCKET_LAST, slot_of(last) | (last->chain != NULL ? HOT_CHAINED : 0));
}

/* ---------------------------------------------------------------------------------------- buckets
 */

static struct hot_bucket *bucket_at(const struct hot_table *table, size_t i)
{
    return hot_bucket_at(table->segments, i);
}

static void bucket_add(struct hot_bucket *bucket, struct hot_entry *entry)
{
    entry->chain = NULL;
    for (unsigned i = 0; i < HOT_BUCKET_SLOTS; i++) {
        if (hot_slot_get(bucket, i) == 0) {
            slot_set(bucket, i, slot_of(entry));
            return;
        }
    }
    struct hot_entry *last = hot_entry_at(hot_slot_get(bucket, HOT_BUCKET_LAST));
    entry->chain = last->chain;
    last->chain = entry;
    last_set(bucket, last);
}

/* Takes the first entry behind the last slot's out of the chain. NULL: there is none. */
static struct hot_entry *chain_pop(struct hot_bucket *bucket)
{
    uint64_t slot = hot_slot_get(bucket, HOT_BUCKET_LAST);
    if ((slot & HOT_CHAINED) == 0)
        return NULL;
    struct hot_entry *last = hot_entry_at(slot);
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
    while (i < HOT_BUCKET_SLOTS && hot_entry_at(hot_slot_get(bucket, i)) != entry)
        i++;
    return i;
}

/* The entry in the bucket's chain that `entry` is chained to. */
static struct hot_entry *chain_before(const struct hot_bucket *bucket,
                                      const struct hot_entry *entry)
{
    struct hot_entry *before = hot_entry_at(hot_slot_get(bucket, HOT_BUCKET_LAST));
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

/* First bucket of the table that lies in the segment, plus HOT_BUCKETS_MIN; and how many do. */
static size_t segment_number(unsigned segment)
{
    return (size_t)(HOT_PARTS + segment % HOT_PARTS)
           << (HOT_BUCKETS_MIN_LOG2 - HOT_PARTS_LOG2 + segment / HOT_PARTS);
}

static size_t segment_buckets(unsigned segment)
{
    return segment_number(segment + 1) - segment_number(segment);
}

/* The next one. Its buckets are to be cleared before they are used. */
static bool segment_add(struct hot_table *table)
{
    unsigned segment = table->n_segments;
    size_t n_bytes = segment_buckets(segment) * sizeof(struct hot_bucket);
    struct hot_bucket *buckets = NULL;

    if (segment < HOT_TABLE_SEGMENTS_MAX)
        buckets = aligned_alloc(_Alignof(struct hot_bucket), n_bytes);
    if (buckets == NULL)
        return false;
    uintptr_t origin = (uintptr_t)buckets - segment_number(segment) * sizeof(struct hot_bucket);
    atomic_store_explicit(&table->segments[segment], origin, memory_order_relaxed);
    table->n_segments++;
    table->bytes += n_bytes;
    return true;
}

/* Whether there is memory for the bucket that follows `n_buckets`. */
static bool bucket_reserve(struct hot_table *table, size_t n_buckets)
{
    return n_buckets + HOT_BUCKETS_MIN < segment_number(table->n_segments) || segment_add(table);
}

static void segments_free(struct hot_table *table)
{
    for (unsigned i = 0; i < table->n_segments; i++)
        free(bucket_at(table, segment_number(i) - HOT_BUCKETS_MIN));
    *table = (struct hot_table){.n = 0};
}

/* ----------------------------------------------------------------------------------------- table
 */

int hot_table_open(struct hot_table *table)
{
    *table = (struct hot_table){.n = 0};
    for (size_t i = 0; i < HOT_BUCKETS_MIN; i++) {
        if (!bucket_reserve(table, i)) {
            segments_free(table);
            return TIERS_NO_MEMORY;
        }
        bucket_clear(bucket_at(table, i));
    }
    atomic_store(&table->n_buckets, HOT_BUCKETS_MIN);
    return 0;
}

void hot_table_close(struct hot_table *table, void (*free_entry)(struct hot_entry *entry))
{
    size_t n_buckets = atomic_load(&table->n_buckets);

    for (size_t i = 0; i < n_buckets; i++) {
        for (unsigned k = 0; k < HOT_BUCKET_SLOTS; k++) {
            struct hot_entry *next = NULL;
            for (struct hot_entry *entry = hot_entry_at(hot_slot_get(bucket_at(table, i), k));
                 entry != NULL; entry = next) {
                next = entry->chain;
                free_entry(entry);
            }
        }
    }
    segments_free(table);
}

struct hot_entry *hot_table_find_chained(const struct hot_bucket *bucket, uint64_t hash,
                                         enum tiers_space space, const void *key, size_t key_len)
{
    struct hot_entry *entry = hot_entry_at(hot_slot_get(bucket, HOT_BUCKET_LAST))->chain;
    while (entry != NULL && !hot_entry_is(entry, hash, space, key, key_len))
        entry = entry->chain;
    return entry;
}

void hot_table_prefetch_bucket(const struct hot_table *table, uint64_t hash)
{
    prefetch_line(hot_table_bucket(table, hash));
}

/* Looks into no entry: it may be gone by now. */
void hot_table_prefetch_entry(const struct hot_table *table, uint64_t hash)
{
    const struct hot_bucket *bucket = hot_table_bucket(table, hash);

    for (unsigned left = hot_slots_matching(bucket, hash); left != 0; left &= left - 1) {
        const struct hot_entry *entry =
            hot_entry_at(hot_slot_get(bucket, (unsigned)__builtin_ctz(left)));
        if (entry != NULL)
            prefetch_bytes(entry, HOT_PREFETCHED_BYTES);
    }
}

/* One bucket more: the entries of another whose hashes say so go into it. */
static void split_one(struct hot_table *table)
{
    size_t n_buckets = atomic_load_explicit(&table->n_buckets, memory_order_relaxed);
    size_t half = (size_t)1 << hot_log2(n_buckets);

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
        uint64_t slot = hot_slot_get(from, i);
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
    bucket_add(hot_table_bucket(table, entry->node.key_hash), entry);
    table->n++;
}

void hot_table_replace(struct hot_table *table, struct hot_entry *entry, struct hot_entry *by)
{
    struct hot_bucket *bucket = hot_table_bucket(table, entry->node.key_hash);
    unsigned i = slot_find(bucket, entry);

    assert(by->node.key_hash == entry->node.key_hash);
    by->chain = entry->chain;
    entry->chain = NULL;
    if (i == HOT_BUCKET_SLOTS)
        chain_before(bucket, entry)->chain = by;
    else if (i == HOT_BUCKET_LAST)
        last_set(bucket, by);
    else
        slot_set(bucket, i, slot_of(by));
}

void hot_table_remove(struct hot_table *table, struct hot_entry *entry)
{
    struct hot_bucket *bucket = hot_table_bucket(table, entry->node.key_hash);
    unsigned i = slot_find(bucket, entry);

    if (i == HOT_BUCKET_SLOTS) {
        chain_before(bucket, entry)->chain = entry->chain;
        last_set(bucket, hot_entry_at(hot_slot_get(bucket, HOT_BUCKET_LAST)));
    } else if (i == HOT_BUCKET_LAST && entry->chain != NULL) {
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
