/* W-TinyLFU (Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM
 * ToS 2017) with the adaptive window of Einziger, Eytan, Friedman, Manes, "Adaptive Software Cache
 * Management", Middleware 2018.
 *
 * New entries enter a small LRU window. What falls out of it must have been seen more often than
 * the victim of the main region, a segmented LRU of probation (20 %) and protected (80 %), to take
 * its place. A hill climber compares the hit rates of successive periods and moves the border
 * between window and main: recency-heavy loads get a large window, frequency-heavy ones a small
 * one.
 */
#include "list.h"
#include "sketch.h"
#include "types.h"

#include <stdlib.h>

enum { WINDOW = 1, PROBATION = 2, PROTECTED = 3 };

#define WINDOW_SHARE_LEAST 0.01
#define WINDOW_SHARE_MOST  0.80
#define STEP_FIRST         0.0625
#define STEP_DECAY         0.98
#define RESTART_CHANGE     0.05 /* Of the hit rate, from one period to the next */
#define PERIOD_PER_ENTRY   10   /* Accesses a period, per cached entry */
#define PERIOD_LEAST       1000
#define AGE_PER_ENTRY      10 /* Counted accesses between two agings of the sketch */
#define AGE_LEAST          1000

struct policy {
    struct policy_list window;
    struct policy_list probation;
    struct policy_list protected;
    struct sketch *sketch;
    uint64_t capacity;
    uint64_t entries;
    uint64_t counted; /* In the sketch since the last aging */
    double window_share;
    double step; /* Signed: the next move of window_share */
    double hit_rate_before;
    uint64_t period_hits;
    uint64_t period_accesses;
};

static uint64_t window_capacity(const struct policy *lfu)
{
    uint64_t size = (uint64_t)((double)lfu->capacity * lfu->window_share);

    return size > 0 ? size : 1;
}

static uint64_t main_capacity(const struct policy *lfu)
{
    uint64_t window = window_capacity(lfu);

    return lfu->capacity > window ? lfu->capacity - window : 0;
}

static struct policy *wtinylfu_create(uint64_t capacity)
{
    struct policy *lfu = calloc(1, sizeof(*lfu));

    if (lfu == NULL)
        return NULL;
    lfu->sketch = sketch_new();
    if (lfu->sketch == NULL) {
        free(lfu);
        return NULL;
    }
    lfu->capacity = capacity;
    lfu->window_share = WINDOW_SHARE_LEAST;
    lfu->step = STEP_FIRST;
    return lfu;
}

static void wtinylfu_destroy(struct policy *lfu)
{
    sketch_free(lfu->sketch);
    free(lfu);
}

static void wtinylfu_resize(struct policy *lfu, uint64_t capacity)
{
    lfu->capacity = capacity;
}

static struct policy_list *list_of(struct policy *lfu, unsigned list)
{
    return list == WINDOW ? &lfu->window : list == PROBATION ? &lfu->probation : &lfu->protected;
}

static void move(struct policy *lfu, struct policy_node *node, unsigned list)
{
    policy_list_remove(list_of(lfu, node->list), node);
    node->list = (uint8_t)list;
    policy_list_push(list_of(lfu, list), node);
}

/* Ends a period: climbs on while the hit rate rises, turns round when it falls, takes large steps
 * again when it changed much. */
static void climb(struct policy *lfu)
{
    double hit_rate = (double)lfu->period_hits / (double)lfu->period_accesses;
    double change = hit_rate - lfu->hit_rate_before;

    if (change < 0)
        lfu->step = -lfu->step;
    if (change >= RESTART_CHANGE || change <= -RESTART_CHANGE)
        lfu->step = lfu->step < 0 ? -STEP_FIRST : STEP_FIRST;
    else
        lfu->step *= STEP_DECAY;
    lfu->hit_rate_before = hit_rate;
    lfu->period_hits = lfu->period_accesses = 0;
    lfu->window_share += lfu->step;
    if (lfu->window_share < WINDOW_SHARE_LEAST)
        lfu->window_share = WINDOW_SHARE_LEAST;
    if (lfu->window_share > WINDOW_SHARE_MOST)
        lfu->window_share = WINDOW_SHARE_MOST;
    while (lfu->protected.size > main_capacity(lfu) / 5 * 4 && lfu->protected.tail != NULL)
        move(lfu, lfu->protected.tail, PROBATION);
}

static void count_access(struct policy *lfu, bool hit)
{
    lfu->period_accesses++;
    lfu->period_hits += hit;
    if (lfu->entries > 0 && lfu->period_accesses >= PERIOD_PER_ENTRY * lfu->entries &&
        lfu->period_accesses >= PERIOD_LEAST)
        climb(lfu);
}

/* Counts the key. Ages all counts after a sample of accesses that grows with the cache, so that
 * what was popular once does not stay for ever. Hits in the window are not counted: a burst is not
 * popularity. */
static void count_key(struct policy *lfu, uint64_t key_hash)
{
    sketch_add(lfu->sketch, key_hash);
    lfu->counted++;
    if (lfu->counted >= AGE_PER_ENTRY * lfu->entries && lfu->counted > AGE_LEAST) {
        lfu->counted = 0;
        sketch_age(lfu->sketch);
    }
}

static void wtinylfu_prepare(struct policy *lfu, uint64_t key_hash, uint32_t size)
{
    (void)size;
    count_key(lfu, key_hash);
    count_access(lfu, false);
}

static void wtinylfu_insert(struct policy *lfu, struct policy_node *node)
{
    lfu->entries++;
    sketch_fit(lfu->sketch, lfu->entries);
    node->list = WINDOW;
    policy_list_push(&lfu->window, node);
}

static void wtinylfu_hit(struct policy *lfu, struct policy_node *node)
{
    count_access(lfu, true);
    if (node->list == WINDOW) {
        policy_list_to_head(&lfu->window, node);
        return;
    }
    count_key(lfu, node->key_hash);
    move(lfu, node, PROTECTED);
    while (lfu->protected.size > main_capacity(lfu) / 5 * 4 && lfu->protected.tail != node)
        move(lfu, lfu->protected.tail, PROBATION);
}

static void wtinylfu_remove(struct policy *lfu, struct policy_node *node, bool evicted)
{
    (void)evicted;
    policy_list_remove(list_of(lfu, node->list), node);
    node->list = 0;
    lfu->entries--;
}

static struct policy_node *main_victim(struct policy *lfu)
{
    return lfu->probation.tail != NULL ? lfu->probation.tail : lfu->protected.tail;
}

/* The window's oldest entries move to main while main has room; then the oldest one and main's
 * victim compete. So as long as the cache is not full all entries are in the window, in the order
 * of their last use, and nothing is counted: measured, that beats filling main in the order of
 * arrival. */
static struct policy_node *wtinylfu_victim(struct policy *lfu)
{
    uint64_t main_most = main_capacity(lfu);

    for (;;) {
        struct policy_node *candidate = lfu->window.tail, *victim = main_victim(lfu);
        uint64_t main_size = lfu->probation.size + lfu->protected.size;

        if (candidate == NULL || (main_size > main_most && victim != NULL))
            return victim;
        if (main_size + candidate->size <= main_most || victim == NULL) {
            if (main_size + candidate->size > main_most)
                return candidate;
            move(lfu, candidate, PROBATION);
            continue;
        }
        if (sketch_estimate(lfu->sketch, candidate->key_hash) <=
            sketch_estimate(lfu->sketch, victim->key_hash))
            return candidate;
        move(lfu, candidate, PROBATION);
        return victim;
    }
}

static size_t wtinylfu_bytes(const struct policy *lfu)
{
    return sizeof(*lfu) + sketch_bytes(lfu->sketch);
}

const struct policy_type policy_wtinylfu = {
    .name = "wtinylfu",
    .create = wtinylfu_create,
    .destroy = wtinylfu_destroy,
    .insert = wtinylfu_insert,
    .hit = wtinylfu_hit,
    .remove = wtinylfu_remove,
    .victim = wtinylfu_victim,
    .prepare = wtinylfu_prepare,
    .resize = wtinylfu_resize,
    .bytes = wtinylfu_bytes,
    .bytes_per_entry = 24, /* Four to eight counters in each of four rows */
};
