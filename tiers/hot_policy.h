/* The eviction policy of one hot shard: an instance that knows the shard's clean entries, and for
 * the length of a switch a second one that still has those which have not been handed over. Every
 * call is made under the shard's lock. */
#ifndef TIERS_HOT_POLICY_H
#define TIERS_HOT_POLICY_H

#include "hot_table.h"
#include "tiers/policy.h"

struct hot_policy_instance {
    const struct policy_type *type; /* NULL: there is none */
    struct policy *policy;
};

/* Hits that the policy is told of together: few look-ups have that to do besides. */
#define HOT_POLICY_HITS_MAX 32
_Static_assert(HOT_POLICY_HITS_MAX <= UINT8_MAX, "they are counted in a byte");

struct hot_policy {
    struct hot_policy_instance now;
    struct hot_policy_instance before; /* While a switch is under way */
    uint32_t time;                     /* Advances with each insertion and hit that is told */
    uint32_t late;                     /* Entries younger than that need not be told of */
    uint8_t generation;                /* Entries of another one are in `before` */
    uint8_t n_hits;                    /* Not told yet, in their order */
    size_t n;                          /* Entries in both */
    struct hot_entry *hits[HOT_POLICY_HITS_MAX];
};

/* 0 or TIERS_NO_MEMORY. */
int hot_policy_open(struct hot_policy *policy, const struct policy_type *type, uint64_t capacity);
/* Entries inside are forgotten. */
void hot_policy_close(struct hot_policy *policy);

/* Whether a record of this size is kept at all. */
bool hot_policy_admits(const struct hot_policy *policy, uint32_t size);
/* The entry is about to enter: before the victims that make room for it are asked for. */
void hot_policy_prepare(struct hot_policy *policy, const struct hot_entry *entry);
void hot_policy_enter(struct hot_policy *policy, struct hot_entry *entry);
void hot_policy_leave(struct hot_policy *policy, struct hot_entry *entry, bool evicted);
/* NULL: there is no entry. */
struct hot_entry *hot_policy_victim(struct hot_policy *policy);
/* Memory that it takes beside the entries. */
size_t hot_policy_bytes(const struct hot_policy *policy);
void hot_policy_resize(struct hot_policy *policy, uint64_t capacity);

/* Begins a switch: entries will be handed over by hot_policy_move. 0, or TIERS_NO_MEMORY with
 * nothing changed. No switch is under way. */
int hot_policy_begin(struct hot_policy *policy, const struct policy_type *type, uint64_t capacity);
/* Goes back: the instance before becomes the one now, and what entered since will be handed over to
 * it in turn. */
void hot_policy_revert(struct hot_policy *policy);
/* Hands over up to `n_max` entries, those that would leave first at first, so that recency is kept.
 * True: there are more. */
bool hot_policy_move(struct hot_policy *policy, size_t n_max);

/* Of hot_policy_hit only. */
void hot_policy_tell_hits(struct hot_policy *policy);

/* The policy is told of several hits at once, and before it is told of anything else or asked for a
 * victim. A hit itself depends on nothing that its entry says, which has just come from memory: the
 * processor need not guess, and begins the next look-up while it waits. */
static inline void hot_policy_hit(struct hot_policy *policy, struct hot_entry *entry)
{
    policy->hits[policy->n_hits++] = entry;
    if (__builtin_expect(policy->n_hits == HOT_POLICY_HITS_MAX, false))
        hot_policy_tell_hits(policy);
}

#endif
