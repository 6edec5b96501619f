/* Segmented LRU (Karedla, Love, Wherry, "Caching Strategies to Improve Disk System Performance",
 * IEEE Computer 1994) with four segments of equal size. A hit lifts an entry by one segment; what
 * overflows a segment sinks to the head of the one below. A new entry goes to the lowest segment
 * that has room, else to the lowest. */
#include "list.h"
#include "types.h"

#include <stdlib.h>

#define SEGMENTS 4

struct policy {
    struct policy_list segments[SEGMENTS];
    uint64_t segment_capacity;
};

static struct policy *slru_create(uint64_t capacity)
{
    struct policy *slru = calloc(1, sizeof(*slru));

    if (slru != NULL)
        slru->segment_capacity = capacity / SEGMENTS;
    return slru;
}

static void slru_destroy(struct policy *slru)
{
    free(slru);
}

static void slru_resize(struct policy *slru, uint64_t capacity)
{
    slru->segment_capacity = capacity / SEGMENTS;
}

static bool slru_admits(const struct policy *slru, uint32_t size)
{
    return size <= slru->segment_capacity;
}

static void put(struct policy *slru, struct policy_node *node, unsigned segment)
{
    node->list = (uint8_t)(segment + 1);
    policy_list_push(&slru->segments[segment], node);
}

static void take(struct policy *slru, struct policy_node *node)
{
    policy_list_remove(&slru->segments[node->list - 1], node);
    node->list = 0;
}

static void slru_insert(struct policy *slru, struct policy_node *node)
{
    unsigned segment = 0;

    while (segment < SEGMENTS && slru->segments[segment].size + node->size > slru->segment_capacity)
        segment++;
    put(slru, node, segment == SEGMENTS ? 0 : segment);
}

static void slru_hit(struct policy *slru, struct policy_node *node)
{
    unsigned segment = node->list - 1u;

    if (segment == SEGMENTS - 1) {
        policy_list_to_head(&slru->segments[segment], node);
        return;
    }
    take(slru, node);
    put(slru, node, segment + 1);
    /* The lowest segment may overflow: the cache as a whole is then no fuller than before. */
    for (unsigned i = segment + 1; i > 0; i--) {
        struct policy_node *sinking;
        while (slru->segments[i].size > slru->segment_capacity &&
               (sinking = slru->segments[i].tail) != NULL) {
            take(slru, sinking);
            put(slru, sinking, i - 1);
        }
    }
}

static void slru_remove(struct policy *slru, struct policy_node *node, bool evicted)
{
    (void)evicted;
    take(slru, node);
}

static struct policy_node *slru_victim(struct policy *slru)
{
    for (unsigned i = 0; i < SEGMENTS; i++)
        if (slru->segments[i].tail != NULL)
            return slru->segments[i].tail;
    return NULL;
}

const struct policy_type policy_slru = {
    .name = "slru",
    .create = slru_create,
    .destroy = slru_destroy,
    .insert = slru_insert,
    .hit = slru_hit,
    .remove = slru_remove,
    .victim = slru_victim,
    .admits = slru_admits,
    .resize = slru_resize,
};
