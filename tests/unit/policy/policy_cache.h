/* A cache of keys below POLICY_CACHE_KEYS around one policy, as an owner of policy nodes is to
 * behave. */
#ifndef TIERKV_TESTS_POLICY_CACHE_H
#define TIERKV_TESTS_POLICY_CACHE_H

#include "tiers/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POLICY_CACHE_KEYS 4096

struct policy_cache {
    const struct policy_type *type;
    struct policy *policy;
    uint64_t capacity;
    uint64_t used;
    uint64_t misses;
    uint64_t last_evicted; /* The key; UINT64_MAX: none yet */
    struct policy_node nodes[POLICY_CACHE_KEYS];
};

static inline void policy_cache_open(struct policy_cache *cache, const struct policy_type *type,
                                     uint64_t capacity)
{
    assert_non_null(type);
    *cache = (struct policy_cache){.type = type, .capacity = capacity, .last_evicted = UINT64_MAX};
    cache->policy = type->create(capacity);
    assert_non_null(cache->policy);
    for (uint64_t key = 0; key < POLICY_CACHE_KEYS; key++) {
        uint64_t hash = (key + 1) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
        cache->nodes[key].key_hash = hash * 0xd6e8feb86659fd93u;
        cache->nodes[key].size = 1;
    }
}

static inline void policy_cache_close(struct policy_cache *cache)
{
    cache->type->destroy(cache->policy);
}

static inline bool policy_cache_holds(const struct policy_cache *cache, uint64_t key)
{
    return cache->nodes[key].list != 0;
}

static inline void policy_cache_remove(struct policy_cache *cache, uint64_t key, bool evicted)
{
    struct policy_node *node = &cache->nodes[key];

    cache->used -= node->size;
    cache->type->remove(cache->policy, node, evicted);
    assert_int_equal(node->list, 0);
}

static inline void policy_cache_evict(struct policy_cache *cache)
{
    struct policy_node *victim = cache->type->victim(cache->policy);

    assert_non_null(victim);
    cache->last_evicted = (uint64_t)(victim - cache->nodes);
    assert_in_range(cache->last_evicted, 0, POLICY_CACHE_KEYS - 1);
    assert_true(policy_cache_holds(cache, cache->last_evicted));
    policy_cache_remove(cache, cache->last_evicted, true);
}

/* Reads the key and admits it on a miss; whether it was a hit. */
static inline bool policy_cache_access(struct policy_cache *cache, uint64_t key)
{
    struct policy_node *node = &cache->nodes[key];

    if (policy_cache_holds(cache, key)) {
        cache->type->hit(cache->policy, node);
        return true;
    }
    cache->misses++;
    if (node->size > cache->capacity ||
        (cache->type->admits != NULL && !cache->type->admits(cache->policy, node->size)))
        return false;
    if (cache->type->prepare != NULL)
        cache->type->prepare(cache->policy, node->key_hash, node->size);
    while (cache->used + node->size > cache->capacity)
        policy_cache_evict(cache);
    cache->type->insert(cache->policy, node);
    cache->used += node->size;
    assert_true(policy_cache_holds(cache, key));
    return false;
}

/* Accesses the keys [from, to) in order. */
static inline void policy_cache_scan(struct policy_cache *cache, uint64_t from, uint64_t to)
{
    for (uint64_t key = from; key < to; key++)
        (void)policy_cache_access(cache, key);
}

#endif
