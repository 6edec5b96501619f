/* The policy that follows the best of the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/random.h"
#include "policy_cache.h"

#define CAPACITY 200
#define ROUNDS   40

static struct policy_cache adaptive, other;

/* Misses of the policy on a loop of `keys` keys that is run through ROUNDS times. */
static uint64_t misses_on_loop(struct policy_cache *cache, const struct policy_type *type,
                               uint64_t keys)
{
    policy_cache_open(cache, type, CAPACITY);
    for (size_t i = 0; i < ROUNDS; i++)
        policy_cache_scan(cache, 0, keys);
    policy_cache_close(cache);
    return cache->misses;
}

static void a_loop_that_lru_and_arc_cannot_hold_gets_hits(void **state)
{
    uint64_t keys = CAPACITY * 2, accesses = keys * ROUNDS;

    (void)state;
    assert_int_equal(misses_on_loop(&other, policy_find("lru"), keys), accesses);
    assert_int_equal(misses_on_loop(&other, policy_find("arc"), keys), accesses);
    assert_true(misses_on_loop(&adaptive, &policy_auto, keys) < accesses * 3 / 4);
}

static void it_is_near_the_best_of_the_others(void **state)
{
    uint64_t seed = random_seed();
    /* How many keys are popular, and how often one of those comes. */
    static const struct {
        uint64_t hot_keys, percent;
    } loads[] = {{150, 90}, {400, 80}, {30, 50}, {1000, 99}};

    (void)state;
    for (size_t load = 0; load < sizeof(loads) / sizeof(loads[0]); load++) {
        uint64_t accesses = 60000, least = UINT64_MAX;
        for (size_t p = 0;; p++) {
            const struct policy_type *type = policy_at(p) != NULL ? policy_at(p) : &policy_auto;
            struct random random;
            random_init(&random, seed);
            policy_cache_open(&other, type, CAPACITY);
            for (uint64_t i = 0; i < accesses; i++) {
                bool hot = random_below(&random, 100) < loads[load].percent;
                uint64_t rank = random_below(&random, loads[load].hot_keys);
                uint64_t cold = random_below(&random, POLICY_CACHE_KEYS);
                policy_cache_access(&other, hot ? rank : cold);
            }
            policy_cache_close(&other);
            if (type == &policy_auto)
                break;
            least = other.misses < least ? other.misses : least;
        }
        assert_true(other.misses <= least + accesses / 50);
    }
}

static void entries_that_are_removed_come_back_by_insertion_alone(void **state)
{
    (void)state;
    policy_cache_open(&adaptive, &policy_auto, CAPACITY);
    policy_cache_scan(&adaptive, 0, CAPACITY);
    for (uint64_t key = 0; key < CAPACITY; key += 2)
        policy_cache_remove(&adaptive, key, false);
    for (uint64_t key = 0; key < CAPACITY; key += 2) {
        adaptive.type->insert(adaptive.policy, &adaptive.nodes[key]);
        adaptive.used++;
    }
    policy_cache_scan(&adaptive, 0, CAPACITY);
    assert_int_equal(adaptive.misses, CAPACITY);
    while (adaptive.used > 0)
        policy_cache_evict(&adaptive);
    assert_null(adaptive.type->victim(adaptive.policy));
    policy_cache_close(&adaptive);
}

static void it_is_found_apart_from_the_list(void **state)
{
    (void)state;
    assert_null(policy_find(policy_auto.name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_that_lru_and_arc_cannot_hold_gets_hits),
        cmocka_unit_test(it_is_near_the_best_of_the_others),
        cmocka_unit_test(entries_that_are_removed_come_back_by_insertion_alone),
        cmocka_unit_test(it_is_found_apart_from_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
