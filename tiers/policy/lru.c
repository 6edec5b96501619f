/* LRU: the entry that was not touched for the longest time leaves first.
 *
 * One ring through a sentinel: next of the sentinel is the newest entry, previous the oldest.
 * Every operation is O(1) and needs no memory. Pure: the owner's lock guards it.
 */
#include "types.h"

#include <assert.h>
#include <stdlib.h>

/* policy_node.list of the entries inside. */
#define LIST_RING 1

struct policy {
    struct policy_node ring;
};

static struct policy *lru_create(uint64_t capacity)
{
    struct policy *lru = calloc(1, sizeof(*lru));

    (void)capacity;
    if (lru == NULL)
        return NULL;
    lru->ring.next = &lru->ring;
    lru->ring.previous = &lru->ring;
    return lru;
}

static void lru_destroy(struct policy *lru)
{
    free(lru);
}

static void ring_unlink(struct policy_node *node)
{
    node->previous->next = node->next;
    node->next->previous = node->previous;
}

static void ring_link_newest(struct policy *lru, struct policy_node *node)
{
    node->previous = &lru->ring;
    node->next = lru->ring.next;
    node->next->previous = node;
    lru->ring.next = node;
}

static void lru_insert(struct policy *lru, struct policy_node *node)
{
    assert(node->list == 0);
    node->list = LIST_RING;
    ring_link_newest(lru, node);
}

static void lru_hit(struct policy *lru, struct policy_node *node)
{
    assert(node->list == LIST_RING);
    if (lru->ring.next == node)
        return;
    ring_unlink(node);
    ring_link_newest(lru, node);
}

static void lru_remove(struct policy *lru, struct policy_node *node, bool evicted)
{
    (void)lru;
    (void)evicted;
    assert(node->list == LIST_RING);
    ring_unlink(node);
    node->list = 0;
    node->next = NULL;
    node->previous = NULL;
}

static struct policy_node *lru_victim(struct policy *lru)
{
    struct policy_node *oldest = lru->ring.previous;

    return oldest == &lru->ring ? NULL : oldest;
}

const struct policy_type policy_lru = {
    .name = "lru",
    .create = lru_create,
    .destroy = lru_destroy,
    .insert = lru_insert,
    .hit = lru_hit,
    .remove = lru_remove,
    .victim = lru_victim,
    .tolerates_late_hits = true,
};
