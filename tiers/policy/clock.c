/* CLOCK with one reference bit, as FIFO with reinsertion (Corbato, "A Paging Experiment with the
 * Multics System", 1968). A hit only sets a bit; the hand clears bits until it finds an entry
 * that was not used since it came round last. */
#include "list.h"
#include "types.h"

#include <stdlib.h>

struct policy {
    struct policy_list queue;
};

static struct policy *clock_create(uint64_t capacity)
{
    (void)capacity;
    return calloc(1, sizeof(struct policy));
}

static void clock_destroy(struct policy *clock)
{
    free(clock);
}

static void clock_insert(struct policy *clock, struct policy_node *node)
{
    node->mark = 0;
    node->list = 1;
    policy_list_push(&clock->queue, node);
}

static void clock_hit(struct policy *clock, struct policy_node *node)
{
    (void)clock;
    node->mark = 1;
}

static void clock_remove(struct policy *clock, struct policy_node *node, bool evicted)
{
    (void)evicted;
    policy_list_remove(&clock->queue, node);
    node->list = 0;
}

static struct policy_node *clock_victim(struct policy *clock)
{
    struct policy_list *queue = &clock->queue;

    while (queue->tail != NULL && queue->tail->mark != 0) {
        queue->tail->mark = 0;
        policy_list_to_head(queue, queue->tail);
    }
    return queue->tail;
}

const struct policy_type policy_clock = {
    .name = "clock",
    .create = clock_create,
    .destroy = clock_destroy,
    .insert = clock_insert,
    .hit = clock_hit,
    .remove = clock_remove,
    .victim = clock_victim,
};
