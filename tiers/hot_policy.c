/* See hot_policy.h. During a switch victims come from the instance before as long as it has any:
 * they are what the shard would have evicted anyway. Pure but for memory. */
#include "hot_policy.h"

#include "tiers/tiers.h"

#include <assert.h>
#include <stddef.h>

static struct hot_entry *entry_of(struct policy_node *node)
{
    return (struct hot_entry *)((char *)node - offsetof(struct hot_entry, node));
}

static struct hot_policy_instance *instance_of(struct hot_policy *policy,
                                               const struct hot_entry *entry)
{
    return entry->generation == policy->generation ? &policy->now : &policy->before;
}

/* Where the policy tolerates it, an entry among the newest is not moved to be the very newest: so
 * threads that read the same few keys do not pass the policy's lists to and fro between their
 * caches. */
void hot_policy_tell_hits(struct hot_policy *policy)
{
    for (unsigned i = 0; i < policy->n_hits; i++) {
        struct hot_entry *entry = policy->hits[i];
        if (policy->time - entry->policy_time < policy->late)
            continue;
        struct hot_policy_instance *instance = instance_of(policy, entry);
        entry->policy_time = ++policy->time;
        instance->type->hit(instance->policy, &entry->node);
    }
    policy->n_hits = 0;
}

static int instance_open(struct hot_policy_instance *instance, const struct policy_type *type,
                         uint64_t capacity)
{
    struct policy *made = type->create(capacity);

    if (made == NULL)
        return TIERS_NO_MEMORY;
    *instance = (struct hot_policy_instance){.type = type, .policy = made};
    return 0;
}

static void instance_close(struct hot_policy_instance *instance)
{
    if (instance->type != NULL)
        instance->type->destroy(instance->policy);
    *instance = (struct hot_policy_instance){0};
}

/* After `n` or the instance has changed. */
static void late_set(struct hot_policy *policy)
{
    size_t late = policy->n / POLICY_LATE_HITS_DIVISOR;
    policy->late = !policy->now.type->tolerates_late_hits ? 0
                   : late < UINT32_MAX                    ? (uint32_t)late
                                                          : UINT32_MAX;
}

int hot_policy_open(struct hot_policy *policy, const struct policy_type *type, uint64_t capacity)
{
    *policy = (struct hot_policy){0};
    return instance_open(&policy->now, type, capacity);
}

void hot_policy_close(struct hot_policy *policy)
{
    instance_close(&policy->before);
    instance_close(&policy->now);
}

bool hot_policy_admits(const struct hot_policy *policy, uint32_t size)
{
    const struct hot_policy_instance *now = &policy->now;

    return now->type->admits == NULL || now->type->admits(now->policy, size);
}

void hot_policy_prepare(struct hot_policy *policy, const struct hot_entry *entry)
{
    hot_policy_tell_hits(policy);
    if (policy->now.type->prepare != NULL)
        policy->now.type->prepare(policy->now.policy, entry->node.key_hash, entry->node.size);
}

static void insert_now(struct hot_policy *policy, struct hot_entry *entry)
{
    entry->policy_time = ++policy->time;
    entry->generation = policy->generation;
    policy->now.type->insert(policy->now.policy, &entry->node);
}

void hot_policy_enter(struct hot_policy *policy, struct hot_entry *entry)
{
    hot_policy_tell_hits(policy);
    policy->n++;
    late_set(policy);
    insert_now(policy, entry);
}

void hot_policy_leave(struct hot_policy *policy, struct hot_entry *entry, bool evicted)
{
    hot_policy_tell_hits(policy);
    struct hot_policy_instance *instance = instance_of(policy, entry);

    assert(policy->n > 0);
    policy->n--;
    late_set(policy);
    instance->type->remove(instance->policy, &entry->node, evicted);
}

struct hot_entry *hot_policy_victim(struct hot_policy *policy)
{
    hot_policy_tell_hits(policy);
    struct policy_node *node = NULL;

    if (policy->before.type != NULL)
        node = policy->before.type->victim(policy->before.policy);
    if (node == NULL)
        node = policy->now.type->victim(policy->now.policy);
    return node != NULL ? entry_of(node) : NULL;
}

static size_t instance_bytes(const struct hot_policy_instance *instance)
{
    if (instance->type == NULL || instance->type->bytes == NULL)
        return 0;
    return instance->type->bytes(instance->policy);
}

size_t hot_policy_bytes(const struct hot_policy *policy)
{
    return instance_bytes(&policy->now) + instance_bytes(&policy->before);
}

/* The instance before has its entries to hand over, no more to take in. */
void hot_policy_resize(struct hot_policy *policy, uint64_t capacity)
{
    hot_policy_tell_hits(policy);
    if (policy->now.type->resize != NULL)
        policy->now.type->resize(policy->now.policy, capacity);
}

int hot_policy_begin(struct hot_policy *policy, const struct policy_type *type, uint64_t capacity)
{
    struct hot_policy_instance next;

    assert(policy->before.type == NULL);
    hot_policy_tell_hits(policy);
    if (instance_open(&next, type, capacity) != 0)
        return TIERS_NO_MEMORY;
    policy->before = policy->now;
    policy->now = next;
    policy->generation++;
    late_set(policy);
    return 0;
}

void hot_policy_revert(struct hot_policy *policy)
{
    hot_policy_tell_hits(policy);
    struct hot_policy_instance since = policy->now;

    policy->now = policy->before;
    policy->before = since;
    policy->generation--;
    late_set(policy);
}

bool hot_policy_move(struct hot_policy *policy, size_t n_max)
{
    struct hot_policy_instance *before = &policy->before;

    hot_policy_tell_hits(policy);
    if (before->type == NULL)
        return false;
    for (size_t i = 0; i < n_max; i++) {
        struct policy_node *node = before->type->victim(before->policy);
        if (node == NULL) {
            instance_close(before);
            return false;
        }
        before->type->remove(before->policy, node, false);
        /* It was not accessed now: the new policy is not asked to prepare. */
        insert_now(policy, entry_of(node));
    }
    return true;
}
