/* Chained hash table by linear hashing: see hot_table.h.
 *
 * Of n buckets the first n - 2^k have been split in two, where 2^k is the largest power of two
 * below n: their keys take one bit more of the hash. An insertion that finds as many entries as
 * buckets splits the next one. bucket_of is the only place that knows.
 */
#include "hot_table.h"

#include "record.h"

#include <assert.h>
#include <stdlib.h>

/* In the first segment, and in the second; each later one has twice as many. */
#define BUCKETS_MIN_LOG2 6
#define BUCKETS_MIN      ((size_t)1 << BUCKETS_MIN_LOG2)
#define CACHE_LINE_BYTES 64

static unsigned log2_of(size_t n)
{
    return 63 - (unsigned)__builtin_clzll(n);
}

static struct hot_entry *head_get(const hot_bucket *bucket)
{
    return atomic_load_explicit(bucket, memory_order_relaxed);
}

static void head_set(hot_bucket *bucket, struct hot_entry *entry)
{
    atomic_store_explicit(bucket, entry, memory_order_relaxed);
}

static hot_bucket *bucket_at(const struct hot_table *table, size_t i)
{
    unsigned segment = i < BUCKETS_MIN ? 0 : log2_of(i) - BUCKETS_MIN_LOG2 + 1;
    size_t first = segment == 0 ? 0 : BUCKETS_MIN << (segment - 1);

    return atomic_load_explicit(&table->segments[segment], memory_order_relaxed) + (i - first);
}

/* Whoever sees a number of buckets sees their segments. Without the lock it may be a bucket where
 * the key is no longer. */
static hot_bucket *bucket_of(const struct hot_table *table, uint64_t hash)
{
    size_t n_buckets = atomic_load_explicit(&table->n_buckets, memory_order_acquire);
    size_t half = (size_t)1 << log2_of(n_buckets - 1);
    size_t i = hash & (2 * half - 1);

    return bucket_at(table, i < n_buckets ? i : i - half);
}

static struct hot_entry *first_of(const struct hot_table *table, uint64_t hash)
{
    return head_get(bucket_of(table, hash));
}

static bool segment_add(struct hot_table *table, size_t n)
{
    hot_bucket *segment = calloc(n, sizeof(hot_bucket));

    if (segment == NULL)
        return false;
    atomic_store_explicit(&table->segments[table->n_segments++], segment, memory_order_relaxed);
    table->bytes += n * sizeof(hot_bucket);
    return true;
}

int hot_table_open(struct hot_table *table)
{
    *table = (struct hot_table){.n = 0};
    if (!segment_add(table, BUCKETS_MIN))
        return TIERS_NO_MEMORY;
    atomic_store(&table->n_buckets, BUCKETS_MIN);
    return 0;
}

void hot_table_close(struct hot_table *table, void (*free_entry)(struct hot_entry *entry))
{
    size_t n_buckets = atomic_load(&table->n_buckets);

    for (size_t i = 0; i < n_buckets; i++) {
        struct hot_entry *next = NULL;
        for (struct hot_entry *entry = head_get(bucket_at(table, i)); entry != NULL; entry = next) {
            next = entry->chain;
            free_entry(entry);
        }
    }
    for (unsigned i = 0; i < table->n_segments; i++)
        free(atomic_load(&table->segments[i]));
    *table = (struct hot_table){.n = 0};
}

struct hot_entry *hot_table_find(const struct hot_table *table, uint64_t hash,
                                 enum tiers_space space, const void *key, size_t key_len)
{
    for (struct hot_entry *entry = first_of(table, hash); entry != NULL; entry = entry->chain) {
        if (entry->node.key_hash != hash)
            continue;
        /* A hit is likely to move the entry in a list: fetch its neighbours while the key is. */
        __builtin_prefetch(entry->node.next, 1);
        __builtin_prefetch(entry->node.previous, 1);
        if (record_key_equals(entry->record, space, key, key_len))
            return entry;
    }
    return NULL;
}

void hot_table_prefetch_bucket(const struct hot_table *table, uint64_t hash)
{
    __builtin_prefetch(bucket_of(table, hash), 1);
}

/* Looks into no entry: it may be gone by now. */
bool hot_table_prefetch_first(const struct hot_table *table, uint64_t hash)
{
    const struct hot_entry *entry = first_of(table, hash);

    if (entry != NULL)
        __builtin_prefetch(entry, 1);
    return entry != NULL;
}

static void prefetch_record(const struct hot_entry *entry)
{
    __builtin_prefetch(entry->record, 1);
    __builtin_prefetch((const char *)entry->record + CACHE_LINE_BYTES);
    __builtin_prefetch(entry->node.next, 1);
    __builtin_prefetch(entry->node.previous, 1);
}

bool hot_table_prefetch_entry(const struct hot_table *table, uint64_t hash, unsigned n_known)
{
    const struct hot_entry *entry = first_of(table, hash);

    for (unsigned i = 0; i < n_known && entry != NULL; i++) {
        if (entry->node.key_hash == hash) {
            prefetch_record(entry);
            return false;
        }
        entry = entry->chain;
    }
    if (entry != NULL)
        __builtin_prefetch(entry, 1);
    return entry != NULL;
}

/* One bucket more: the entries of another whose hashes say so go into it. */
static void split_one(struct hot_table *table)
{
    size_t n_buckets = atomic_load_explicit(&table->n_buckets, memory_order_relaxed);
    size_t half = (size_t)1 << log2_of(n_buckets);

    if (n_buckets == half &&
        (table->n_segments == HOT_TABLE_SEGMENTS_MAX || !segment_add(table, half)))
        return;
    hot_bucket *from = bucket_at(table, n_buckets - half);
    struct hot_entry *stay = NULL;
    struct hot_entry *go = NULL;
    struct hot_entry *next = NULL;
    for (struct hot_entry *entry = head_get(from); entry != NULL; entry = next) {
        struct hot_entry **chain = (entry->node.key_hash & half) != 0 ? &go : &stay;
        next = entry->chain;
        entry->chain = *chain;
        *chain = entry;
    }
    head_set(from, stay);
    head_set(bucket_at(table, n_buckets), go);
    atomic_store_explicit(&table->n_buckets, n_buckets + 1, memory_order_release);
    /* Of the next one, in time. */
    const struct hot_entry *later = head_get(bucket_at(table, n_buckets + 1 - half));
    if (later != NULL)
        __builtin_prefetch(later, 1);
}

void hot_table_insert(struct hot_table *table, struct hot_entry *entry)
{
    if (table->n >= atomic_load_explicit(&table->n_buckets, memory_order_relaxed))
        split_one(table);
    hot_bucket *bucket = bucket_of(table, entry->node.key_hash);
    entry->chain = head_get(bucket);
    head_set(bucket, entry);
    table->n++;
}

void hot_table_remove(struct hot_table *table, struct hot_entry *entry)
{
    hot_bucket *bucket = bucket_of(table, entry->node.key_hash);
    struct hot_entry *before = head_get(bucket);

    if (before == entry) {
        head_set(bucket, entry->chain);
    } else {
        while (before != NULL && before->chain != entry)
            before = before->chain;
        assert(before != NULL);
        before->chain = entry->chain;
    }
    entry->chain = NULL;
    assert(table->n > 0);
    table->n--;
}

uint64_t hot_table_bytes(const struct hot_table *table)
{
    return table->bytes;
}
