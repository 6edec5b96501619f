/* Full 2Q (Johnson, Shasha, "2Q: A Low Overhead High Performance Buffer Management Replacement
 * Algorithm", VLDB 1994). New entries pass through the FIFO queue A1in (a quarter); those that come
 * back while only their name is left in the ghost list A1out (half) enter the LRU queue Am. */
#include "ghost.h"
#include "list.h"
#include "types.h"

#include <stdlib.h>

enum { A1IN = 1, AM = 2 };

struct policy {
    struct policy_list a1in;
    struct policy_list am;
    struct ghost *a1out;
    uint64_t a1in_capacity;
    bool returns; /* The entry being prepared was found in A1out */
};

static struct policy *twoq_create(uint64_t capacity)
{
    struct policy *twoq = calloc(1, sizeof(*twoq));

    if (twoq == NULL)
        return NULL;
    twoq->a1in_capacity = capacity / 4;
    twoq->a1out = ghost_new(capacity / 2);
    if (twoq->a1out == NULL) {
        free(twoq);
        return NULL;
    }
    return twoq;
}

static void twoq_destroy(struct policy *twoq)
{
    ghost_free(twoq->a1out);
    free(twoq);
}

static void twoq_resize(struct policy *twoq, uint64_t capacity)
{
    twoq->a1in_capacity = capacity / 4;
    ghost_resize(twoq->a1out, capacity / 2);
}

static bool twoq_admits(const struct policy *twoq, uint32_t size)
{
    return size <= twoq->a1in_capacity;
}

static void twoq_prepare(struct policy *twoq, uint64_t key_hash, uint32_t size)
{
    (void)size;
    twoq->returns = ghost_remove(twoq->a1out, key_hash);
}

static void twoq_insert(struct policy *twoq, struct policy_node *node)
{
    node->list = twoq->returns ? AM : A1IN;
    policy_list_push(twoq->returns ? &twoq->am : &twoq->a1in, node);
    twoq->returns = false;
}

static void twoq_hit(struct policy *twoq, struct policy_node *node)
{
    if (node->list == AM)
        policy_list_to_head(&twoq->am, node);
}

static void twoq_remove(struct policy *twoq, struct policy_node *node, bool evicted)
{
    policy_list_remove(node->list == AM ? &twoq->am : &twoq->a1in, node);
    if (evicted && node->list == A1IN)
        ghost_add(twoq->a1out, node->key_hash, node->size);
    node->list = 0;
}

static struct policy_node *twoq_victim(struct policy *twoq)
{
    if (twoq->a1in.size > twoq->a1in_capacity || twoq->am.tail == NULL)
        return twoq->a1in.tail;
    return twoq->am.tail;
}

static size_t twoq_bytes(const struct policy *twoq)
{
    return sizeof(*twoq) + ghost_bytes(twoq->a1out);
}

const struct policy_type policy_twoq = {
    .name = "twoq",
    .create = twoq_create,
    .destroy = twoq_destroy,
    .insert = twoq_insert,
    .hit = twoq_hit,
    .remove = twoq_remove,
    .victim = twoq_victim,
    .prepare = twoq_prepare,
    .admits = twoq_admits,
    .resize = twoq_resize,
    .bytes = twoq_bytes,
    .bytes_per_entry = 20, /* Half a ghost */
};
