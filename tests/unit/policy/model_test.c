/* Each policy against a slow model of its paper, access by access: the same keys are cached. The
 * models keep their queues as plain arrays, oldest key first, and know neither nodes nor sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/random.h"
#include "policy_cache.h"

#include <string.h>

#define KEYS     64
#define CAPACITY 20
#define ACCESSES 30000

struct queue {
    uint64_t keys[KEYS];
    size_t n;
};

static void queue_push(struct queue *queue, uint64_t key)
{
    assert_true(queue->n < KEYS);
    queue->keys[queue->n++] = key;
}

static bool queue_has(const struct queue *queue, uint64_t key)
{
    for (size_t i = 0; i < queue->n; i++) {
        if (queue->keys[i] == key)
            return true;
    }
    return false;
}

/* Takes the key out; whether it was in. */
static bool queue_take(struct queue *queue, uint64_t key)
{
    for (size_t i = 0; i < queue->n; i++) {
        if (queue->keys[i] == key) {
            memmove(&queue->keys[i], &queue->keys[i + 1], (queue->n - i - 1) * sizeof(uint64_t));
            queue->n--;
            return true;
        }
    }
    return false;
}

static uint64_t queue_pop(struct queue *queue)
{
    uint64_t key = queue->keys[0];

    assert_true(queue->n > 0 && queue_take(queue, key));
    return key;
}

/* Adds the key as the newest; beyond `most` keys the oldest fall out. */
static void queue_push_bounded(struct queue *queue, uint64_t key, size_t most)
{
    queue_push(queue, key);
    while (queue->n > most)
        (void)queue_pop(queue);
}

/* What all models are made of; each uses what it needs. Cached are the keys of a, b and segments.
 */
struct model {
    struct queue a, b; /* Resident */
    struct queue ghost_a, ghost_b;
    struct queue segments[4];
    unsigned marks[KEYS];
    uint64_t hand; /* Key; UINT64_MAX: none */
    double target;
};

static bool model_holds(const struct model *model, uint64_t key)
{
    bool found = queue_has(&model->a, key) || queue_has(&model->b, key);

    for (size_t i = 0; i < 4; i++)
        found = found || queue_has(&model->segments[i], key);
    return found;
}

static void lru_access(struct model *model, uint64_t key)
{
    if (!queue_take(&model->a, key) && model->a.n == CAPACITY)
        (void)queue_pop(&model->a);
    queue_push(&model->a, key);
}

static void clock_access(struct model *model, uint64_t key)
{
    if (queue_has(&model->a, key)) {
        model->marks[key] = 1;
        return;
    }
    if (model->a.n == CAPACITY) {
        while (model->marks[model->a.keys[0]] != 0) {
            uint64_t spared = queue_pop(&model->a);
            model->marks[spared] = 0;
            queue_push(&model->a, spared);
        }
        (void)queue_pop(&model->a);
    }
    model->marks[key] = 0;
    queue_push(&model->a, key);
}

static void sieve_access(struct model *model, uint64_t key)
{
    size_t hand = 0;

    if (queue_has(&model->a, key)) {
        model->marks[key] = 1;
        return;
    }
    if (model->a.n == CAPACITY) {
        for (size_t i = 0; i < model->a.n; i++)
            hand = model->a.keys[i] == model->hand ? i : hand;
        while (model->marks[model->a.keys[hand]] != 0) {
            model->marks[model->a.keys[hand]] = 0;
            hand = (hand + 1) % model->a.n;
        }
        model->hand = hand + 1 < model->a.n ? model->a.keys[hand + 1] : UINT64_MAX;
        (void)queue_take(&model->a, model->a.keys[hand]);
    }
    model->marks[key] = 0;
    queue_push(&model->a, key);
}

static void slru_access(struct model *model, uint64_t key)
{
    size_t each = CAPACITY / 4, at = 0;

    while (at < 4 && !queue_take(&model->segments[at], key))
        at++;
    if (at < 4) { /* A hit lifts by one; what overflows sinks */
        at = at < 3 ? at + 1 : 3;
        queue_push(&model->segments[at], key);
        for (; at > 0 && model->segments[at].n > each; at--)
            queue_push(&model->segments[at - 1], queue_pop(&model->segments[at]));
        return;
    }
    for (at = 0; at < 4 && model->segments[at].n >= each;)
        at++;
    if (at == 4) {
        at = 0;
        (void)queue_pop(&model->segments[0]);
    }
    queue_push(&model->segments[at], key);
}

static void twoq_access(struct model *model, uint64_t key)
{
    if (queue_has(&model->a, key))
        return;
    if (queue_take(&model->b, key)) {
        queue_push(&model->b, key);
        return;
    }
    bool returns = queue_take(&model->ghost_a, key);
    if (model->a.n + model->b.n == CAPACITY) {
        if (model->a.n > CAPACITY / 4 || model->b.n == 0)
            queue_push_bounded(&model->ghost_a, queue_pop(&model->a), CAPACITY / 2);
        else
            (void)queue_pop(&model->b);
    }
    queue_push(returns ? &model->b : &model->a, key);
}

static void arc_replace(struct model *model, bool from_b2)
{
    double t1 = (double)model->a.n;

    if (model->a.n > 0 &&
        (t1 > model->target || (from_b2 && t1 >= model->target) || model->b.n == 0))
        queue_push(&model->ghost_a, queue_pop(&model->a));
    else
        queue_push(&model->ghost_b, queue_pop(&model->b));
}

/* The four cases of figure 4 of the paper: a and b are T1 and T2, their ghosts B1 and B2. */
static void arc_access(struct model *model, uint64_t key)
{
    double b1 = (double)model->ghost_a.n, b2 = (double)model->ghost_b.n;

    if (queue_take(&model->a, key) || queue_take(&model->b, key)) {
        queue_push(&model->b, key);
    } else if (queue_take(&model->ghost_a, key)) {
        model->target += b1 >= b2 ? 1 : b2 / b1;
        model->target = model->target > CAPACITY ? CAPACITY : model->target;
        arc_replace(model, false);
        queue_push(&model->b, key);
    } else if (queue_take(&model->ghost_b, key)) {
        model->target -= b2 >= b1 ? 1 : b1 / b2;
        model->target = model->target < 0 ? 0 : model->target;
        arc_replace(model, true);
        queue_push(&model->b, key);
    } else {
        size_t l1 = model->a.n + model->ghost_a.n, l2 = model->b.n + model->ghost_b.n;
        if (l1 == CAPACITY && model->a.n == CAPACITY) {
            (void)queue_pop(&model->a);
        } else if (l1 == CAPACITY) {
            (void)queue_pop(&model->ghost_a);
            arc_replace(model, false);
        } else if (l1 + l2 >= CAPACITY) {
            if (l1 + l2 == (size_t)2 * CAPACITY)
                (void)queue_pop(&model->ghost_b);
            arc_replace(model, false);
        }
        queue_push(&model->a, key);
    }
}

/* a is the small queue, b the main one. */
static void s3fifo_evict(struct model *model)
{
    size_t small = CAPACITY / 10;

    if (model->b.n <= CAPACITY - small) {
        while (model->a.n > 0) {
            uint64_t key = queue_pop(&model->a);
            if (model->marks[key] < 2) {
                queue_push_bounded(&model->ghost_a, key, CAPACITY - small);
                return;
            }
            model->marks[key] = 0;
            queue_push(&model->b, key);
        }
    }
    while (model->marks[model->b.keys[0]] > 0) {
        uint64_t key = queue_pop(&model->b);
        model->marks[key]--;
        queue_push(&model->b, key);
    }
    (void)queue_pop(&model->b);
}

static void s3fifo_access(struct model *model, uint64_t key)
{
    if (model_holds(model, key)) {
        model->marks[key] += model->marks[key] < 3;
        return;
    }
    bool returns = queue_take(&model->ghost_a, key);
    if (model->a.n + model->b.n == CAPACITY)
        s3fifo_evict(model);
    model->marks[key] = 0;
    queue_push(returns ? &model->b : &model->a, key);
}

/* Popular keys, a loop, and now and then any key, in turns. */
static uint64_t next_key(struct random *random, size_t i)
{
    switch (i / 500 % 3) {
    case 0:
        return random_below(random, 1 + random_below(random, KEYS));
    case 1:
        return i % 30;
    default:
        return random_below(random, random_below(random, 4) == 0 ? KEYS : CAPACITY);
    }
}

static void assert_equals_model(const char *name, void (*access)(struct model *, uint64_t))
{
    static struct policy_cache cache;
    struct model model = {.hand = UINT64_MAX};
    struct random random;

    random_init(&random, random_seed());
    policy_cache_open(&cache, policy_find(name), CAPACITY);
    for (size_t i = 0; i < ACCESSES; i++) {
        uint64_t key = next_key(&random, i);
        assert_int_equal(policy_cache_access(&cache, key), model_holds(&model, key));
        access(&model, key);
        for (uint64_t k = 0; k < KEYS; k++) {
            if (policy_cache_holds(&cache, k) != model_holds(&model, k))
                fail_msg("%s: key %d differs after access %zu", name, (int)k, i);
        }
    }
    policy_cache_close(&cache);
}

static void lru_is_its_model(void **state)
{
    (void)state;
    assert_equals_model("lru", lru_access);
}

static void clock_is_its_model(void **state)
{
    (void)state;
    assert_equals_model("clock", clock_access);
}

static void sieve_is_its_model(void **state)
{
    (void)state;
    assert_equals_model("sieve", sieve_access);
}

static void slru_is_its_model(void **state)
{
    (void)state;
    assert_equals_model("slru", slru_access);
}

static void twoq_is_its_model(void **state)
{
    (void)state;
    assert_equals_model("twoq", twoq_access);
}

static void arc_is_its_model(void **state)
{
    (void)state;
    assert_equals_model("arc", arc_access);
}

static void s3fifo_is_its_model(void **state)
{
    (void)state;
    assert_equals_model("s3fifo", s3fifo_access);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lru_is_its_model),    cmocka_unit_test(clock_is_its_model),
        cmocka_unit_test(sieve_is_its_model),  cmocka_unit_test(slru_is_its_model),
        cmocka_unit_test(twoq_is_its_model),   cmocka_unit_test(arc_is_its_model),
        cmocka_unit_test(s3fifo_is_its_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
