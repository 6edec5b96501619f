/* S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi, "FIFO Queues are All You Need for Cache Eviction", SOSP
 * 2023). A small FIFO (a tenth) filters one-hit wonders, a main FIFO with reinsertion keeps what
 * was hit at least twice there or came back while its name was still in the ghost FIFO (nine
 * tenths). */
#include "ghost.h"
#include "list.h"
#include "types.h"

#include <stdlib.h>

enum { SMALL = 1, MAIN = 2 };

#define SMALL_HITS_TO_MOVE 2
#define MAIN_HITS_MAX      3

struct policy {
    struct policy_list small;
    struct policy_list main;
    struct ghost *ghost;
    uint64_t small_capacity;
    uint64_t main_capacity;
    bool returns; /* The entry being prepared was found in the ghost list */
};

static void size_queues(struct policy *s3fifo, uint64_t capacity)
{
    s3fifo->small_capacity = capacity / 10;
    if (s3fifo->small_capacity < 2)
        s3fifo->small_capacity = 2; /* Below, not even an entry of size 1 would fit */
    if (s3fifo->small_capacity > capacity)
        s3fifo->small_capacity = capacity;
    s3fifo->main_capacity = capacity - s3fifo->small_capacity;
}

static uint64_t ghost_capacity(uint64_t capacity)
{
    return capacity - capacity / 10;
}

static struct policy *s3fifo_create(uint64_t capacity)
{
    struct policy *s3fifo = calloc(1, sizeof(*s3fifo));

    if (s3fifo == NULL)
        return NULL;
    size_queues(s3fifo, capacity);
    s3fifo->ghost = ghost_new(ghost_capacity(capacity));
    if (s3fifo->ghost == NULL) {
        free(s3fifo);
        return NULL;
    }
    return s3fifo;
}

static void s3fifo_destroy(struct policy *s3fifo)
{
    ghost_free(s3fifo->ghost);
    free(s3fifo);
}

static void s3fifo_resize(struct policy *s3fifo, uint64_t capacity)
{
    size_queues(s3fifo, capacity);
    ghost_resize(s3fifo->ghost, ghost_capacity(capacity));
}

static bool s3fifo_admits(const struct policy *s3fifo, uint32_t size)
{
    return size < s3fifo->small_capacity;
}

static void s3fifo_prepare(struct policy *s3fifo, uint64_t key_hash, uint32_t size)
{
    (void)size;
    s3fifo->returns = ghost_remove(s3fifo->ghost, key_hash);
}

static void s3fifo_insert(struct policy *s3fifo, struct policy_node *node)
{
    node->mark = 0;
    node->list = s3fifo->returns ? MAIN : SMALL;
    policy_list_push(s3fifo->returns ? &s3fifo->main : &s3fifo->small, node);
    s3fifo->returns = false;
}

static void s3fifo_hit(struct policy *s3fifo, struct policy_node *node)
{
    (void)s3fifo;
    if (node->mark < MAIN_HITS_MAX)
        node->mark++;
}

static void s3fifo_remove(struct policy *s3fifo, struct policy_node *node, bool evicted)
{
    policy_list_remove(node->list == MAIN ? &s3fifo->main : &s3fifo->small, node);
    if (evicted && node->list == SMALL)
        ghost_add(s3fifo->ghost, node->key_hash, node->size);
    node->list = 0;
}

static struct policy_node *main_victim(struct policy *s3fifo)
{
    while (s3fifo->main.tail != NULL && s3fifo->main.tail->mark > 0) {
        s3fifo->main.tail->mark--;
        policy_list_to_head(&s3fifo->main, s3fifo->main.tail);
    }
    return s3fifo->main.tail;
}

/* Lets what earned it pass to main; NULL when that empties the small queue. */
static struct policy_node *small_victim(struct policy *s3fifo)
{
    struct policy_node *node;

    while ((node = s3fifo->small.tail) != NULL && node->mark >= SMALL_HITS_TO_MOVE) {
        policy_list_remove(&s3fifo->small, node);
        node->mark = 0;
        node->list = MAIN;
        policy_list_push(&s3fifo->main, node);
    }
    return node;
}

static struct policy_node *s3fifo_victim(struct policy *s3fifo)
{
    struct policy_node *node = NULL;

    if (s3fifo->main.size <= s3fifo->main_capacity)
        node = small_victim(s3fifo);
    return node != NULL                ? node
           : s3fifo->main.tail != NULL ? main_victim(s3fifo)
                                       : s3fifo->small.tail;
}

static size_t s3fifo_bytes(const struct policy *s3fifo)
{
    return sizeof(*s3fifo) + ghost_bytes(s3fifo->ghost);
}

const struct policy_type policy_s3fifo = {
    .name = "s3fifo",
    .create = s3fifo_create,
    .destroy = s3fifo_destroy,
    .insert = s3fifo_insert,
    .hit = s3fifo_hit,
    .remove = s3fifo_remove,
    .victim = s3fifo_victim,
    .prepare = s3fifo_prepare,
    .admits = s3fifo_admits,
    .resize = s3fifo_resize,
    .bytes = s3fifo_bytes,
    .bytes_per_entry = 36, /* 0.9 ghosts */
};
