/* SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi, "SIEVE is Simpler than LRU", NSDI 2024). A FIFO queue
 * whose hand moves from tail to head and stays where it evicted: survivors are not moved, so that
 * new entries are sifted faster than old ones. */
#include "list.h"
#include "types.h"

#include <stdlib.h>

struct sieve {
    struct policy_list queue;
    struct policy_node *hand; /* Where the next search begins; NULL: at the tail */
};

static struct sieve *sieve_of(struct policy *policy)
{
    return (struct sieve *)policy;
}

static struct policy *sieve_create(uint64_t capacity)
{
    (void)capacity;
    return calloc(1, sizeof(struct sieve));
}

static void sieve_destroy(struct policy *policy)
{
    free(policy);
}

static void sieve_insert(struct policy *policy, struct policy_node *node)
{
    node->mark = 0;
    node->list = 1;
    policy_list_push(&sieve_of(policy)->queue, node);
}

static void sieve_hit(struct policy *policy, struct policy_node *node)
{
    (void)policy;
    node->mark = 1;
}

static void sieve_remove(struct policy *policy, struct policy_node *node, bool evicted)
{
    struct sieve *sieve = sieve_of(policy);

    (void)evicted;
    if (sieve->hand == node)
        sieve->hand = node->previous;
    policy_list_remove(&sieve->queue, node);
    node->list = 0;
}

static struct policy_node *sieve_victim(struct policy *policy)
{
    struct sieve *sieve = sieve_of(policy);
    struct policy_node *node = sieve->hand != NULL ? sieve->hand : sieve->queue.tail;

    while (node != NULL && node->mark != 0) {
        node->mark = 0;
        node = node->previous != NULL ? node->previous : sieve->queue.tail;
    }
    sieve->hand = node;
    return node;
}

const struct policy_type policy_sieve = {
    .name = "sieve",
    .create = sieve_create,
    .destroy = sieve_destroy,
    .insert = sieve_insert,
    .hit = sieve_hit,
    .remove = sieve_remove,
    .victim = sieve_victim,
};
