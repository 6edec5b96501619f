/* See log_cache.h. */
#include "raft/log_cache.h"

#include <assert.h>
#include <stdlib.h>

#define CAPACITY_FIRST 1024

struct log_batch *log_batch_new(void *base)
{
    struct log_batch *batch = malloc(sizeof *batch);

    if (batch != NULL)
        *batch = (struct log_batch){.base = base, .references = 1};
    return batch;
}

void log_batch_release(struct log_batch *batch)
{
    assert(batch->references > 0);
    if (--batch->references > 0)
        return;
    raft_free(batch->base);
    free(batch);
}

void log_cache_open(struct log_cache *cache, raft_index first)
{
    *cache = (struct log_cache){.first = first, .last = first - 1};
}

void log_cache_close(struct log_cache *cache)
{
    log_cache_trim(cache, cache->last);
    free(cache->slots);
    *cache = (struct log_cache){0};
}

bool log_cache_has(const struct log_cache *cache, raft_index index)
{
    return index >= cache->first && index <= cache->last;
}

struct log_slot *log_cache_at(const struct log_cache *cache, raft_index index)
{
    assert(log_cache_has(cache, index));
    return &cache->slots[index & (cache->capacity - 1)];
}

static size_t length(const struct log_cache *cache)
{
    return (size_t)(cache->last + 1 - cache->first);
}

int log_cache_reserve(struct log_cache *cache, size_t n)
{
    size_t capacity = cache->capacity == 0 ? CAPACITY_FIRST : cache->capacity;
    struct log_slot *slots;

    while (capacity < length(cache) + n)
        capacity *= 2;
    if (capacity == cache->capacity)
        return 0;
    slots = malloc(capacity * sizeof *slots);
    if (slots == NULL)
        return RAFT_NOMEM;
    for (raft_index i = cache->first; i <= cache->last; i++)
        slots[i & (capacity - 1)] = *log_cache_at(cache, i);
    free(cache->slots);
    cache->slots = slots;
    cache->capacity = capacity;
    return 0;
}

static size_t slot_bytes(const struct log_slot *slot)
{
    return slot->payload.len + sizeof *slot;
}

void log_cache_push(struct log_cache *cache, const struct raft_entry *entry,
                    struct log_batch *batch)
{
    struct log_slot *slot;

    assert(length(cache) < cache->capacity);
    cache->last++;
    slot = log_cache_at(cache, cache->last);
    *slot = (struct log_slot){.term = entry->term,
                              .payload = entry->buf,
                              .batch = batch,
                              .serial = ++cache->serial,
                              .type = entry->type};
    batch->references++;
    cache->bytes += slot_bytes(slot);
}

static void drop(struct log_cache *cache, raft_index index)
{
    struct log_slot *slot = log_cache_at(cache, index);

    cache->bytes -= slot_bytes(slot);
    log_batch_release(slot->batch);
}

void log_cache_truncate(struct log_cache *cache, raft_index from)
{
    while (cache->last >= from && cache->last >= cache->first) {
        drop(cache, cache->last);
        cache->last--;
    }
}

void log_cache_trim(struct log_cache *cache, raft_index upto)
{
    while (cache->first <= upto && cache->first <= cache->last) {
        drop(cache, cache->first);
        cache->first++;
    }
}

void log_cache_reset(struct log_cache *cache, raft_index last)
{
    log_cache_trim(cache, cache->last);
    cache->first = last + 1;
    cache->last = last;
}
