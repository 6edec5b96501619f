/* ARC, the adaptive replacement cache (Megiddo, Modha, "ARC: A Self-Tuning, Low Overhead
 * Replacement Cache", FAST 2003). T1 holds entries seen once, T2 those seen again; ghost lists B1
 * and B2 remember what left each. A return from B1 moves the target size of T1 up, one from B2
 * moves it down. */
#include "ghost.h"
#include "list.h"
#include "types.h"

#include <stdlib.h>

enum { T1 = 1, T2 = 2 };

struct policy {
    struct policy_list t1;
    struct policy_list t2;
    struct ghost *b1;
    struct ghost *b2;
    uint64_t capacity;
    double target;                          /* Of T1's size; p in the paper */
    enum { NEW, FROM_B1, FROM_B2 } arrival; /* Of the entry being prepared */
    uint32_t arrival_size;
    bool forget; /* The victim just named leaves no ghost: T1 alone fills the directory */
};

static void arc_destroy(struct policy *arc)
{
    ghost_free(arc->b1);
    ghost_free(arc->b2);
    free(arc);
}

static struct policy *arc_create(uint64_t capacity)
{
    struct policy *arc = calloc(1, sizeof(*arc));

    if (arc == NULL)
        return NULL;
    arc->capacity = capacity;
    /* The case analysis below bounds the ghosts more tightly than these capacities do. */
    arc->b1 = ghost_new(capacity);
    arc->b2 = ghost_new(2 * capacity);
    if (arc->b1 == NULL || arc->b2 == NULL) {
        arc_destroy(arc);
        return NULL;
    }
    return arc;
}

static void arc_resize(struct policy *arc, uint64_t capacity)
{
    arc->capacity = capacity;
    ghost_resize(arc->b1, capacity);
    ghost_resize(arc->b2, 2 * capacity);
    if (arc->target > (double)capacity)
        arc->target = (double)capacity;
}

static double ratio(uint64_t a, uint64_t b)
{
    return b == 0 || a <= b ? 1.0 : (double)a / (double)b;
}

static void arc_prepare(struct policy *arc, uint64_t key_hash, uint32_t size)
{
    uint64_t b1 = ghost_size(arc->b1), b2 = ghost_size(arc->b2);

    arc->arrival_size = size;
    arc->arrival = NEW;
    if (ghost_remove(arc->b1, key_hash)) {
        arc->arrival = FROM_B1;
        arc->target += ratio(b2, b1);
        if (arc->target > (double)arc->capacity)
            arc->target = (double)arc->capacity;
    } else if (ghost_remove(arc->b2, key_hash)) {
        arc->arrival = FROM_B2;
        arc->target -= ratio(b1, b2);
        if (arc->target < 0)
            arc->target = 0;
    }
}

static void arc_insert(struct policy *arc, struct policy_node *node)
{
    node->list = arc->arrival == NEW ? T1 : T2;
    policy_list_push(arc->arrival == NEW ? &arc->t1 : &arc->t2, node);
    arc->arrival = NEW;
}

static void arc_hit(struct policy *arc, struct policy_node *node)
{
    policy_list_remove(node->list == T1 ? &arc->t1 : &arc->t2, node);
    node->list = T2;
    policy_list_push(&arc->t2, node);
}

static void arc_remove(struct policy *arc, struct policy_node *node, bool evicted)
{
    policy_list_remove(node->list == T1 ? &arc->t1 : &arc->t2, node);
    if (evicted && !arc->forget)
        ghost_add(node->list == T1 ? arc->b1 : arc->b2, node->key_hash, node->size);
    arc->forget = false;
    node->list = 0;
}

/* REPLACE of the paper. */
static struct policy_node *replace(struct policy *arc)
{
    double t1 = (double)arc->t1.size;
    bool from_t1 = arc->t1.tail != NULL &&
                   (t1 > arc->target || (arc->arrival == FROM_B2 && t1 >= arc->target));

    return from_t1 || arc->t2.tail == NULL ? arc->t1.tail : arc->t2.tail;
}

static struct policy_node *arc_victim(struct policy *arc)
{
    uint64_t l1 = arc->t1.size + ghost_size(arc->b1);
    uint64_t l2 = arc->t2.size + ghost_size(arc->b2);

    arc->forget = false;
    if (arc->arrival == NEW) { /* Case IV */
        if (l1 + arc->arrival_size > arc->capacity) {
            if (ghost_size(arc->b1) == 0 && arc->t1.tail != NULL) {
                arc->forget = true;
                return arc->t1.tail;
            }
            ghost_drop_oldest(arc->b1);
        } else if (l1 + l2 >= 2 * arc->capacity) {
            ghost_drop_oldest(arc->b2);
        }
    }
    return replace(arc);
}

static size_t arc_bytes(const struct policy *arc)
{
    return sizeof(*arc) + ghost_bytes(arc->b1) + ghost_bytes(arc->b2);
}

const struct policy_type policy_arc = {
    .name = "arc",
    .create = arc_create,
    .destroy = arc_destroy,
    .insert = arc_insert,
    .hit = arc_hit,
    .remove = arc_remove,
    .victim = arc_victim,
    .prepare = arc_prepare,
    .resize = arc_resize,
    .bytes = arc_bytes,
    .bytes_per_entry = 40, /* A ghost each */
};
