/* See shadow.h. Entries lie in slabs that double and never move, as the policy links them; a hash
 * table with one chain a bucket finds them. Nothing is given back before the end: the capacity
 * bounds it. */
#include "shadow.h"

#include <assert.h>
#include <stdlib.h>

#define BUCKETS_FIRST 64u
#define SLABS_MAX     48u

struct entry {
    struct policy_node node; /* First: a node's address is its entry's */
    struct entry *chain;     /* Next in the bucket, or in the free list */
};

struct shadow {
    const struct policy_type *type;
    struct policy *policy;
    uint64_t capacity;
    uint64_t used;
    uint64_t entries;
    struct entry **buckets;
    uint64_t n_buckets; /* A power of two */
    struct entry *free;
    void (*evicted)(void *context, uint64_t key_hash); /* NULL: nobody watches */
    void *context;
    struct entry *slabs[SLABS_MAX];
    unsigned n_slabs;
};

static struct entry **bucket_of(struct entry **buckets, uint64_t n_buckets, uint64_t key_hash)
{
    /* Low bits may have chosen a shard, high ones the sample: neither may choose the bucket. */
    return &buckets[((key_hash * 0x9e3779b97f4a7c15u) >> 20) & (n_buckets - 1)];
}

/* The link that names the key's entry; it names NULL if there is none. */
static struct entry **find(const struct shadow *shadow, uint64_t key_hash)
{
    struct entry **link = bucket_of(shadow->buckets, shadow->n_buckets, key_hash);

    while (*link != NULL && (*link)->node.key_hash != key_hash)
        link = &(*link)->chain;
    return link;
}

struct shadow *shadow_new(const struct policy_type *type, uint64_t capacity)
{
    struct shadow *shadow = calloc(1, sizeof(*shadow));

    if (shadow == NULL)
        return NULL;
    shadow->type = type;
    shadow->capacity = capacity;
    shadow->n_buckets = BUCKETS_FIRST;
    shadow->buckets = calloc(shadow->n_buckets, sizeof(struct entry *));
    shadow->policy = type->create(capacity);
    if (shadow->buckets == NULL || shadow->policy == NULL) {
        shadow_free(shadow);
        return NULL;
    }
    return shadow;
}

void shadow_free(struct shadow *shadow)
{
    if (shadow == NULL)
        return;
    if (shadow->policy != NULL)
        shadow->type->destroy(shadow->policy);
    for (unsigned i = 0; i < shadow->n_slabs; i++)
        free(shadow->slabs[i]);
    free(shadow->buckets);
    free(shadow);
}

/* Twice the buckets, if there is memory: longer chains do too. */
static void grow_buckets(struct shadow *shadow)
{
    uint64_t n = shadow->n_buckets * 2;
    struct entry **buckets = calloc(n, sizeof(struct entry *));

    if (buckets == NULL)
        return;
    for (uint64_t i = 0; i < shadow->n_buckets; i++) {
        struct entry *entry = shadow->buckets[i], *next;
        for (; entry != NULL; entry = next) {
            struct entry **bucket = bucket_of(buckets, n, entry->node.key_hash);
            next = entry->chain;
            entry->chain = *bucket;
            *bucket = entry;
        }
    }
    free(shadow->buckets);
    shadow->buckets = buckets;
    shadow->n_buckets = n;
}

/* NULL: out of memory. */
static struct entry *take_free(struct shadow *shadow)
{
    struct entry *entry = shadow->free;

    if (entry == NULL && shadow->n_slabs < SLABS_MAX) {
        size_t n = (size_t)BUCKETS_FIRST << (shadow->n_slabs > 0 ? shadow->n_slabs - 1 : 0);
        struct entry *slab = calloc(n, sizeof(*slab));
        if (slab == NULL)
            return NULL;
        for (size_t i = 0; i + 1 < n; i++)
            slab[i].chain = &slab[i + 1];
        shadow->slabs[shadow->n_slabs++] = slab;
        entry = slab;
    }
    if (entry != NULL)
        shadow->free = entry->chain;
    return entry;
}

/* Takes the entry that the link names out of the policy and the table. */
static void drop(struct shadow *shadow, struct entry **link, bool evicted)
{
    struct entry *entry = *link;

    assert(shadow->used >= entry->node.size);
    shadow->type->remove(shadow->policy, &entry->node, evicted);
    shadow->used -= entry->node.size;
    shadow->entries--;
    *link = entry->chain;
    entry->chain = shadow->free;
    shadow->free = entry;
}

static void make_room(struct shadow *shadow, uint64_t size)
{
    while (shadow->used + size > shadow->capacity && shadow->entries > 0) {
        struct policy_node *victim = shadow->type->victim(shadow->policy);
        assert(victim != NULL);
        uint64_t key_hash = victim->key_hash;
        drop(shadow, find(shadow, key_hash), true);
        if (shadow->evicted != NULL)
            shadow->evicted(shadow->context, key_hash);
    }
}

bool shadow_admits(const struct shadow *shadow, uint32_t size)
{
    return size <= shadow->capacity &&
           (shadow->type->admits == NULL || shadow->type->admits(shadow->policy, size));
}

static void admit(struct shadow *shadow, uint64_t key_hash, uint32_t size)
{
    if (!shadow_admits(shadow, size))
        return;
    struct entry *entry = take_free(shadow);
    if (entry == NULL)
        return;
    if (shadow->type->prepare != NULL)
        shadow->type->prepare(shadow->policy, key_hash, size);
    make_room(shadow, size);
    if (shadow->entries >= shadow->n_buckets)
        grow_buckets(shadow);
    struct entry **bucket = bucket_of(shadow->buckets, shadow->n_buckets, key_hash);
    entry->node = (struct policy_node){.key_hash = key_hash, .size = size};
    entry->chain = *bucket;
    *bucket = entry;
    shadow->used += size;
    shadow->entries++;
    shadow->type->insert(shadow->policy, &entry->node);
}

bool shadow_access(struct shadow *shadow, uint64_t key_hash, uint32_t size)
{
    struct entry **link = find(shadow, key_hash);
    bool hit = *link != NULL;

    size = size > 0 ? size : 1;
    if (hit && (*link)->node.size == size) {
        shadow->type->hit(shadow->policy, &(*link)->node);
        return true;
    }
    if (hit)
        drop(shadow, link, false);
    admit(shadow, key_hash, size);
    return hit;
}

void shadow_remove(struct shadow *shadow, uint64_t key_hash)
{
    struct entry **link = find(shadow, key_hash);

    if (*link != NULL)
        drop(shadow, link, false);
}

void shadow_keep_below(struct shadow *shadow, uint64_t key_hash_bound)
{
    for (uint64_t i = 0; i < shadow->n_buckets; i++) {
        struct entry **link = &shadow->buckets[i];
        while (*link != NULL) {
            if ((*link)->node.key_hash < key_hash_bound)
                link = &(*link)->chain;
            else
                drop(shadow, link, false);
        }
    }
}

void shadow_resize(struct shadow *shadow, uint64_t capacity)
{
    shadow->capacity = capacity;
    if (shadow->type->resize != NULL)
        shadow->type->resize(shadow->policy, capacity);
    make_room(shadow, 0);
}

void shadow_watch(struct shadow *shadow, void (*evicted)(void *context, uint64_t key_hash),
                  void *context)
{
    shadow->evicted = evicted;
    shadow->context = context;
}

bool shadow_holds(const struct shadow *shadow, uint64_t key_hash)
{
    return *find(shadow, key_hash) != NULL;
}

uint64_t shadow_used(const struct shadow *shadow)
{
    return shadow->used;
}

uint64_t shadow_entries(const struct shadow *shadow)
{
    return shadow->entries;
}
