/* Chained hash table with incremental doubling: see hot_table.h.
 *
 * While the table grows, a key is in its old bucket if that has not been moved yet, else in its new
 * one; bucket_of is the only place that knows. Growing starts when there are as many entries as
 * buckets, and each insertion moves MOVES_PER_INSERT buckets, so the old array is empty long before
 * the new one is full.
 */
#include "hot_table.h"

#include "record.h"

#include <assert.h>
#include <stdlib.h>

#define BUCKETS_MIN      64
#define MOVES_PER_INSERT 4
#define CACHE_LINE_BYTES 64

int hot_table_open(struct hot_table *table)
{
    struct hot_entry **buckets = calloc(BUCKETS_MIN, sizeof(struct hot_entry *));
    if (buckets == NULL)
        return TIERS_NO_MEMORY;
    *table = (struct hot_table){.buckets = buckets, .mask = BUCKETS_MIN - 1};
    return 0;
}

static void free_chains(struct hot_entry **buckets, size_t first, size_t mask,
                        void (*free_entry)(struct hot_entry *entry))
{
    for (size_t i = first; i <= mask; i++) {
        struct hot_entry *next = NULL;
        for (struct hot_entry *entry = buckets[i]; entry != NULL; entry = next) {
            next = entry->chain;
            free_entry(entry);
        }
    }
}

void hot_table_close(struct hot_table *table, void (*free_entry)(struct hot_entry *entry))
{
    if (table->old_buckets != NULL)
        free_chains(table->old_buckets, table->old_next, table->old_mask, free_entry);
    free_chains(table->buckets, 0, table->mask, free_entry);
    free(table->old_buckets);
    free(table->buckets);
    *table = (struct hot_table){0};
}

static struct hot_entry **bucket_of(const struct hot_table *table, uint64_t hash)
{
    if (table->old_buckets != NULL && (hash & table->old_mask) >= table->old_next)
        return &table->old_buckets[hash & table->old_mask];
    return &table->buckets[hash & table->mask];
}

struct hot_entry *hot_table_find(const struct hot_table *table, uint64_t hash,
                                 enum tiers_space space, const void *key, size_t key_len)
{
    for (struct hot_entry *entry = *bucket_of(table, hash); entry != NULL; entry = entry->chain) {
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

static void prefetch_record(const struct hot_entry *entry)
{
    __builtin_prefetch(entry->record, 1);
    __builtin_prefetch((const char *)entry->record + CACHE_LINE_BYTES);
    __builtin_prefetch(entry->node.next, 1);
    __builtin_prefetch(entry->node.previous, 1);
}

bool hot_table_prefetch_entry(const struct hot_table *table, uint64_t hash, unsigned n_known)
{
    const struct hot_entry *entry = *bucket_of(table, hash);

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

static void grow_begin(struct hot_table *table)
{
    size_t n_buckets = 2 * (table->mask + 1);
    struct hot_entry **buckets = calloc(n_buckets, sizeof(struct hot_entry *));
    if (buckets == NULL)
        return;
    table->old_buckets = table->buckets;
    table->old_mask = table->mask;
    table->old_next = 0;
    table->buckets = buckets;
    table->mask = n_buckets - 1;
}

static void grow_some(struct hot_table *table)
{
    for (unsigned i = 0; i < MOVES_PER_INSERT && table->old_next <= table->old_mask; i++) {
        struct hot_entry *next = NULL;
        for (struct hot_entry *entry = table->old_buckets[table->old_next]; entry != NULL;
             entry = next) {
            struct hot_entry **bucket = &table->buckets[entry->node.key_hash & table->mask];
            next = entry->chain;
            entry->chain = *bucket;
            *bucket = entry;
        }
        table->old_next++;
    }
    if (table->old_next > table->old_mask) {
        free(table->old_buckets);
        table->old_buckets = NULL;
        return;
    }
    for (size_t i = table->old_next; i <= table->old_mask && i < table->old_next + MOVES_PER_INSERT;
         i++) {
        if (table->old_buckets[i] != NULL)
            __builtin_prefetch(table->old_buckets[i], 1);
    }
}

void hot_table_insert(struct hot_table *table, struct hot_entry *entry)
{
    if (table->old_buckets == NULL && table->n > table->mask)
        grow_begin(table);
    if (table->old_buckets != NULL)
        grow_some(table);
    struct hot_entry **bucket = bucket_of(table, entry->node.key_hash);
    entry->chain = *bucket;
    *bucket = entry;
    table->n++;
}

void hot_table_remove(struct hot_table *table, struct hot_entry *entry)
{
    struct hot_entry **link = bucket_of(table, entry->node.key_hash);

    while (*link != entry) {
        assert(*link != NULL);
        link = &(*link)->chain;
    }
    *link = entry->chain;
    entry->chain = NULL;
    assert(table->n > 0);
    table->n--;
}

uint64_t hot_table_bytes(const struct hot_table *table)
{
    uint64_t n_buckets = table->mask + 1;

    if (table->old_buckets != NULL)
        n_buckets += table->old_mask + 1;
    return n_buckets * sizeof(struct hot_entry *);
}
