/* The best of the other policies, found while running. Each runs as a shadow that sees every
 * access; the one that missed least leads, and the cache follows it: what the leader would no
 * longer hold leaves first. So the entries come to be the leader's own, ghosts and frequencies
 * included, as if it had run from the start, and a change of the leader drops nothing at once.
 * (Combining experts by their virtual caches: Gramacy, Warmuth, Brandt, Ari, "Adaptive Caching by
 * Refetching", NIPS 2002. The rule that chooses the leader is our own.)
 *
 * A change must earn its cost, the misses until the new leader's entries have come in. The first
 * one is cheap, as the caches have hardly parted; later ones must promise to save a good part
 * of the entries. Among policies that are nearly even the more adaptable one is taken.
 *
 * Entries are in one of two lists: those that the leader holds too, and the others. A table finds
 * an entry when the leader lets its key go. Pure: the owner's lock guards it.
 */
#include "list.h"
#include "shadow.h"
#include "types.h"

#include <stdlib.h>

/* From the one that adapts most: it wins when they are even. */
static const struct policy_type *const candidates[] = {
    &policy_wtinylfu, &policy_s3fifo, &policy_arc,   &policy_twoq,
    &policy_slru,     &policy_sieve,  &policy_clock, &policy_lru,
};
#define N_CANDIDATES (sizeof(candidates) / sizeof(candidates[0]))
#define LEADER_FIRST 2 /* arc: never far from the best on short runs */

/* Misses less than the leader, per entry, that make another one lead. */
#define GAIN_FIRST 0.05
#define GAIN_LATER 0.3
/* Fewer misses apart, per entry: even. */
#define GAIN_EVEN 0.02
/* The counts are halved after so many accesses per entry. */
#define MEMORY_PER_ENTRY 200

#define TABLE_FIRST 1024u

/* policy_node.list: */
enum { KEPT = 1, LEAVING = 2 };

struct policy {
    struct policy_list kept;    /* The leader holds them too */
    struct policy_list leaving; /* It does not */
    struct shadow *shadows[N_CANDIDATES];
    uint64_t misses[N_CANDIDATES];
    uint64_t accesses; /* Since the counts were halved */
    size_t leader;
    bool changed; /* The leader is not the first one */
    /* Open addressing by key hash. A node with mark 0 found no place: it leaves as the oldest. */
    struct policy_node **table;
    uint64_t table_size; /* A power of two */
    uint64_t table_used;
};

static uint64_t home_of(uint64_t table_size, uint64_t key_hash)
{
    return ((key_hash * 0xd6e8feb86659fd93u) >> 20) & (table_size - 1);
}

static void table_place(struct policy_node **table, uint64_t size, struct policy_node *node)
{
    uint64_t slot = home_of(size, node->key_hash);

    while (table[slot] != NULL)
        slot = (slot + 1) & (size - 1);
    table[slot] = node;
}

static void table_grow(struct policy *adaptive)
{
    uint64_t size = adaptive->table_size * 2;
    struct policy_node **table = calloc(size, sizeof(struct policy_node *));

    if (table == NULL)
        return;
    for (uint64_t i = 0; i < adaptive->table_size; i++) {
        if (adaptive->table[i] != NULL)
            table_place(table, size, adaptive->table[i]);
    }
    free(adaptive->table);
    adaptive->table = table;
    adaptive->table_size = size;
}

static void table_add(struct policy *adaptive, struct policy_node *node)
{
    if (adaptive->table_used >= adaptive->table_size / 2)
        table_grow(adaptive);
    node->mark = adaptive->table_used < adaptive->table_size / 4 * 3;
    if (node->mark == 0)
        return;
    table_place(adaptive->table, adaptive->table_size, node);
    adaptive->table_used++;
}

static void table_remove(struct policy *adaptive, const struct policy_node *node)
{
    struct policy_node **table = adaptive->table;
    uint64_t mask = adaptive->table_size - 1, gap = home_of(adaptive->table_size, node->key_hash);

    if (node->mark == 0)
        return;
    while (table[gap] != node)
        gap = (gap + 1) & mask;
    adaptive->table_used--;
    /* What follows moves up, unless that would place it before its home. */
    for (uint64_t i = (gap + 1) & mask; table[i] != NULL; i = (i + 1) & mask) {
        uint64_t home = home_of(adaptive->table_size, table[i]->key_hash);
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            table[gap] = table[i];
            gap = i;
        }
    }
    table[gap] = NULL;
}

static struct policy_node *table_find(const struct policy *adaptive, uint64_t key_hash)
{
    uint64_t slot = home_of(adaptive->table_size, key_hash);
    struct policy_node *node;

    while ((node = adaptive->table[slot]) != NULL && node->key_hash != key_hash)
        slot = (slot + 1) & (adaptive->table_size - 1);
    return node;
}

static struct policy_list *list_of(struct policy *adaptive, const struct policy_node *node)
{
    return node->list == KEPT ? &adaptive->kept : &adaptive->leaving;
}

/* Puts the node to the head of the list where it belongs now. */
static void place(struct policy *adaptive, struct policy_node *node)
{
    node->list = shadow_holds(adaptive->shadows[adaptive->leader], node->key_hash) ? KEPT : LEAVING;
    policy_list_push(list_of(adaptive, node), node);
}

/* The leader let the key go. */
static void leader_evicted(void *context, uint64_t key_hash)
{
    struct policy *adaptive = context;
    struct policy_node *node = table_find(adaptive, key_hash);

    if (node == NULL || node->list != KEPT)
        return;
    policy_list_remove(&adaptive->kept, node);
    node->list = LEAVING;
    policy_list_push(&adaptive->leaving, node);
}

static void lead(struct policy *adaptive, size_t leader)
{
    struct policy_list lists[] = {adaptive->leaving, adaptive->kept};
    struct policy_node *node;

    shadow_watch(adaptive->shadows[adaptive->leader], NULL, NULL);
    shadow_watch(adaptive->shadows[leader], leader_evicted, adaptive);
    adaptive->leader = leader;
    adaptive->leaving = adaptive->kept = (struct policy_list){0};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        while ((node = lists[i].tail) != NULL) {
            policy_list_remove(&lists[i], node);
            place(adaptive, node);
        }
    }
}

/* Changes the leader if another one has earned it. */
static void choose(struct policy *adaptive)
{
    uint64_t entries = shadow_entries(adaptive->shadows[adaptive->leader]), least = UINT64_MAX;
    uint64_t even, gain;
    size_t best = 0;

    for (size_t i = 0; i < N_CANDIDATES; i++)
        least = adaptive->misses[i] < least ? adaptive->misses[i] : least;
    if (least == adaptive->misses[adaptive->leader])
        return;
    even = least + (uint64_t)(GAIN_EVEN * (double)entries);
    while (adaptive->misses[best] > even)
        best++;
    if (adaptive->misses[best] >= adaptive->misses[adaptive->leader])
        return;
    gain = adaptive->misses[adaptive->leader] - adaptive->misses[best];
    /* Chance alone makes counts differ by about their square root. */
    if ((double)gain * (double)gain > (double)adaptive->misses[best] &&
        (double)gain > (adaptive->changed ? GAIN_LATER : GAIN_FIRST) * (double)entries) {
        lead(adaptive, best);
        adaptive->changed = true;
    }
}

static void count_access(struct policy *adaptive, uint64_t key_hash, uint32_t size)
{
    uint64_t entries = shadow_entries(adaptive->shadows[adaptive->leader]);

    for (size_t i = 0; i < N_CANDIDATES; i++)
        adaptive->misses[i] += !shadow_access(adaptive->shadows[i], key_hash, size);
    if (++adaptive->accesses > MEMORY_PER_ENTRY * (entries + 1)) {
        for (size_t i = 0; i < N_CANDIDATES; i++)
            adaptive->misses[i] /= 2;
        adaptive->accesses = 0;
    }
    choose(adaptive);
}

static void auto_destroy(struct policy *adaptive)
{
    for (size_t i = 0; i < N_CANDIDATES; i++)
        shadow_free(adaptive->shadows[i]);
    free(adaptive->table);
    free(adaptive);
}

static struct policy *auto_create(uint64_t capacity)
{
    struct policy *adaptive = calloc(1, sizeof(*adaptive));

    if (adaptive == NULL)
        return NULL;
    adaptive->table_size = TABLE_FIRST;
    adaptive->table = calloc(TABLE_FIRST, sizeof(struct policy_node *));
    bool complete = adaptive->table != NULL;
    for (size_t i = 0; i < N_CANDIDATES && complete; i++) {
        adaptive->shadows[i] = shadow_new(candidates[i], capacity);
        complete = adaptive->shadows[i] != NULL;
    }
    if (!complete) {
        auto_destroy(adaptive);
        return NULL;
    }
    lead(adaptive, LEADER_FIRST);
    return adaptive;
}

static void auto_resize(struct policy *adaptive, uint64_t capacity)
{
    for (size_t i = 0; i < N_CANDIDATES; i++)
        shadow_resize(adaptive->shadows[i], capacity);
}

/* What the leader refuses would push out entries that it keeps. The shadows do not see it either:
 * the others get no credit for holding it. */
static bool auto_admits(const struct policy *adaptive, uint32_t size)
{
    return shadow_admits(adaptive->shadows[adaptive->leader], size);
}

static void auto_prepare(struct policy *adaptive, uint64_t key_hash, uint32_t size)
{
    count_access(adaptive, key_hash, size);
}

static void auto_insert(struct policy *adaptive, struct policy_node *node)
{
    table_add(adaptive, node);
    place(adaptive, node);
}

static void auto_hit(struct policy *adaptive, struct policy_node *node)
{
    count_access(adaptive, node->key_hash, node->size);
    policy_list_remove(list_of(adaptive, node), node);
    place(adaptive, node);
}

static void auto_remove(struct policy *adaptive, struct policy_node *node, bool evicted)
{
    (void)evicted; /* The shadows decide for themselves */
    policy_list_remove(list_of(adaptive, node), node);
    table_remove(adaptive, node);
    node->list = 0;
}

static struct policy_node *auto_victim(struct policy *adaptive)
{
    return adaptive->leaving.tail != NULL ? adaptive->leaving.tail : adaptive->kept.tail;
}

const struct policy_type policy_auto = {
    .name = "auto",
    .create = auto_create,
    .destroy = auto_destroy,
    .insert = auto_insert,
    .hit = auto_hit,
    .remove = auto_remove,
    .victim = auto_victim,
    .prepare = auto_prepare,
    .admits = auto_admits,
    .resize = auto_resize,
};
