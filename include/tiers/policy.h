/* Eviction policies: which entry leaves when a cache of bounded size is full.
 *
 * A policy is pure: no lock, no I/O, no clock. It sees entries only through the node that each
 * embeds, and one instance is used by one thread at a time (the hot tier keeps one per shard,
 * under the shard's lock; the simulator one per run). Sizes are in whatever unit `capacity` has.
 *
 * The owner removes the victim itself: policy_victim only names it. A pinned entry is taken out of
 * the policy while it is pinned (policy_remove) and put back with policy_insert.
 */
#ifndef TIERS_POLICY_H
#define TIERS_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Embedded in each cached entry. Links and words belong to the policy while the entry is in it. */
struct policy_node {
    struct policy_node *next;
    struct policy_node *previous;
    uint64_t key_hash; /* Set by the owner before insert; names the key in ghost lists */
    uint32_t size;     /* Set by the owner before insert and constant until removal */
    uint8_t list;      /* Which of the policy's lists holds the node; 0: none */
    uint8_t mark;      /* Reference bit, frequency or the like */
};

struct policy;

/* One per policy, in tiers/policy/NAME.c. Every function but those marked optional is there. */
struct policy_type {
    const char *name;
    /* NULL when out of memory. */
    struct policy *(*create)(uint64_t capacity);
    /* Nodes still inside are forgotten, not touched. */
    void (*destroy)(struct policy *policy);
    /* A new entry was admitted. It need not be the last to leave: see the policy's paper. */
    void (*insert)(struct policy *policy, struct policy_node *node);
    /* An entry inside was read or rewritten in place. */
    void (*hit)(struct policy *policy, struct policy_node *node);
    /* The entry leaves, evicted as named by victim (`evicted`) or for another reason. */
    void (*remove)(struct policy *policy, struct policy_node *node, bool evicted);
    /* The entry to evict next, NULL when empty. Changes nothing that a later call would notice,
     * except to move reference bits and queues on as the policy's paper has it. */
    struct policy_node *(*victim)(struct policy *policy);
    /* Optional: an entry of this key is about to be inserted. Called before the victims that make
     * room for it are asked for, so that a policy with ghost lists can adapt first. */
    void (*prepare)(struct policy *policy, uint64_t key_hash, uint32_t size);
    /* Optional: whether an entry of this size is cached at all. Absent: any up to the capacity. */
    bool (*admits)(const struct policy *policy, uint32_t size);
    /* Optional: the capacity changed. */
    void (*resize)(struct policy *policy, uint64_t capacity);
    /* Optional: memory beside the nodes that grows with use, such as ghost lists and sketches.
     * Absent: a struct of less than 256 bytes is all. May change with insert, remove, prepare,
     * victim and resize, not with hit. */
    size_t (*bytes)(const struct policy *policy);
    /* About what that comes to for each entry inside, for predictions. */
    uint32_t bytes_per_entry;
    /* Optional: the owner may keep a hit to itself if, of the insertions and hits that it told,
     * fewer have come since the entry's last than a POLICY_LATE_HITS_DIVISOR-th of the entries
     * inside. It saves the owner the writes where hits are frequent. Recency then is exact but for
     * the order among that newest part. */
    bool tolerates_late_hits;
};

#define POLICY_LATE_HITS_DIVISOR 8

/* NULL when there is none of that name. */
const struct policy_type *policy_find(const char *name);

/* The i-th type, NULL past the end: for help texts and comparisons. */
const struct policy_type *policy_at(size_t i);

/* All of the above side by side, as shadows of the whole cache, and the entries that the best of
 * them would keep. It takes about 500 bytes an entry, and is therefore not on the list: it shows
 * what choosing by measurement can reach. */
extern const struct policy_type policy_auto;

#endif
