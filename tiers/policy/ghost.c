/* See ghost.h. Slots live in one array and name each other by index: a free list, one list in order
 * of age, and one chain a bucket. Slots and buckets double together. */
#include "ghost.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

struct slot {
    uint64_t key_hash;
    uint32_t size;
    uint32_t chain; /* Next in the bucket, or in the free list */
    uint32_t older;
    uint32_t younger;
};

struct ghost {
    uint64_t capacity;
    uint64_t size;
    struct slot *slots;
    uint32_t *buckets;
    uint32_t n_slots; /* Allocated; the number of buckets too, a power of two */
    uint32_t free;
    uint32_t oldest;
    uint32_t youngest;
};

static uint32_t *bucket_of(const struct ghost *ghost, uint64_t key_hash)
{
    /* The low bits of the hash may choose the shard of the cache above: use high ones. */
    return &ghost->buckets[(key_hash >> 24) & (ghost->n_slots - 1)];
}

static bool grow(struct ghost *ghost)
{
    uint32_t old = ghost->n_slots, n = old == 0 ? 64 : old * 2;
    struct slot *slots;
    uint32_t *buckets;

    if (n > UINT32_MAX / 2)
        return false;
    buckets = malloc(n * sizeof(*buckets));
    if (buckets == NULL)
        return false;
    slots = realloc(ghost->slots, n * sizeof(*slots));
    if (slots == NULL) {
        free(buckets);
        return false;
    }
    free(ghost->buckets);
    ghost->slots = slots;
    ghost->buckets = buckets;
    ghost->n_slots = n;
    memset(buckets, 0xff, n * sizeof(*buckets));
    for (uint32_t i = ghost->oldest; i != NONE; i = slots[i].younger) {
        uint32_t *bucket = bucket_of(ghost, slots[i].key_hash);
        slots[i].chain = *bucket;
        *bucket = i;
    }
    for (uint32_t i = old; i < n; i++) {
        slots[i].chain = ghost->free;
        ghost->free = i;
    }
    return true;
}

struct ghost *ghost_new(uint64_t capacity)
{
    struct ghost *ghost = calloc(1, sizeof(*ghost));

    if (ghost == NULL)
        return NULL;
    ghost->capacity = capacity;
    ghost->free = ghost->oldest = ghost->youngest = NONE;
    if (!grow(ghost)) {
        free(ghost);
        return NULL;
    }
    return ghost;
}

void ghost_free(struct ghost *ghost)
{
    if (ghost == NULL)
        return;
    free(ghost->slots);
    free(ghost->buckets);
    free(ghost);
}

/* The link that names the key's slot; *link is NONE when it is absent. */
static uint32_t *find(const struct ghost *ghost, uint64_t key_hash)
{
    uint32_t *link = bucket_of(ghost, key_hash);

    while (*link != NONE && ghost->slots[*link].key_hash != key_hash)
        link = &ghost->slots[*link].chain;
    return link;
}

static void unlink_slot(struct ghost *ghost, uint32_t *link)
{
    uint32_t i = *link;
    struct slot *slot = &ghost->slots[i];

    *link = slot->chain;
    if (slot->older != NONE)
        ghost->slots[slot->older].younger = slot->younger;
    else
        ghost->oldest = slot->younger;
    if (slot->younger != NONE)
        ghost->slots[slot->younger].older = slot->older;
    else
        ghost->youngest = slot->older;
    assert(ghost->size >= slot->size);
    ghost->size -= slot->size;
    slot->chain = ghost->free;
    ghost->free = i;
}

void ghost_drop_oldest(struct ghost *ghost)
{
    if (ghost->oldest != NONE)
        unlink_slot(ghost, find(ghost, ghost->slots[ghost->oldest].key_hash));
}

void ghost_resize(struct ghost *ghost, uint64_t capacity)
{
    ghost->capacity = capacity;
    while (ghost->size > capacity)
        ghost_drop_oldest(ghost);
}

void ghost_add(struct ghost *ghost, uint64_t key_hash, uint32_t size)
{
    uint32_t *bucket, i;
    struct slot *slot;

    if (size > ghost->capacity || *find(ghost, key_hash) != NONE)
        return;
    while (ghost->size + size > ghost->capacity)
        ghost_drop_oldest(ghost);
    if (ghost->free == NONE && !grow(ghost))
        return;
    i = ghost->free;
    slot = &ghost->slots[i];
    ghost->free = slot->chain;
    bucket = bucket_of(ghost, key_hash);
    *slot = (struct slot){key_hash, size, *bucket, ghost->youngest, NONE};
    *bucket = i;
    if (ghost->youngest != NONE)
        ghost->slots[ghost->youngest].younger = i;
    else
        ghost->oldest = i;
    ghost->youngest = i;
    ghost->size += size;
}

bool ghost_remove(struct ghost *ghost, uint64_t key_hash)
{
    uint32_t *link = find(ghost, key_hash);

    if (*link == NONE)
        return false;
    unlink_slot(ghost, link);
    return true;
}

uint64_t ghost_size(const struct ghost *ghost)
{
    return ghost->size;
}

size_t ghost_bytes(const struct ghost *ghost)
{
    return sizeof(*ghost) + ghost->n_slots * (sizeof(struct slot) + sizeof(uint32_t));
}
