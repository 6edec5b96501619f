/* SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi, "SIEVE is Simpler than LRU", NSDI 2024). A FIFO queue
 * whose hand moves from tail to head and stays where it evicted: survivors are not moved, so that
 * new entries are sifted faster than old ones. */
#include "list.h"
#include "types.h"

#include <stdlib.h>

struct policy {
    struct policy_list queue;
    struct policy_node *hand; /* Where the next search begins; NULL: at the tail */
};

static struct policy *sieve_create(uint64_t capacity)
{
    (void)capacity;
    return calloc(1, sizeof(struct policy));
}

static void sieve_destroy(struct policy *sieve)
{
    free(sieve);
}

static void sieve_insert(struct policy *sieve, struct policy_node *node)
{
    node->mark = 0;
    node->list = 1;
    policy_list_push(&sieve->queue, node);
}

static void sieve_hit(struct policy *sieve, struct policy_node *node)
{
    (void)sieve;
    node->mark = 1;
}

static void sieve_remove(struct policy *sieve, struct policy_node *node, bool evicted)
{
    (void)evicted;
    if (sieve->hand == node)
        sieve->hand = node->previous;
    policy_list_remove(&sieve->queue, node);
    node->list = 0;
}

static struct policy_node *sieve_victim(struct policy *sieve)
{
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
