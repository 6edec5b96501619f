/* Segmented LRU: what was hit is protected by its segment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy_cache.h"

#define CAPACITY 16

static struct policy_cache cache;

static int set_up(void **state)
{
    (void)state;
    policy_cache_open(&cache, policy_find("slru"), CAPACITY);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    policy_cache_close(&cache);
    return 0;
}

static void entries_that_were_hit_survive_a_scan(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 16);
    for (size_t i = 0; i < 3; i++)
        policy_cache_scan(&cache, 0, 4);
    policy_cache_scan(&cache, 100, 200);
    for (uint64_t key = 0; key < 4; key++)
        assert_true(policy_cache_holds(&cache, key));
}

static void what_is_protected_too_long_sinks_and_leaves(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 16);
    for (size_t i = 0; i < 3; i++)
        policy_cache_scan(&cache, 0, 4);
    for (size_t i = 0; i < 4; i++) {
        policy_cache_scan(&cache, 100, 116);
        policy_cache_scan(&cache, 112, 116);
    }
    policy_cache_scan(&cache, 200, 216);
    for (uint64_t key = 0; key < 4; key++)
        assert_true(policy_cache_holds(&cache, key) || !policy_cache_access(&cache, key));
    assert_int_equal(cache.used, CAPACITY);
}

static void what_is_larger_than_a_segment_is_not_admitted(void **state)
{
    (void)state;
    assert_true(cache.type->admits(cache.policy, 4));
    assert_false(cache.type->admits(cache.policy, 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(entries_that_were_hit_survive_a_scan, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_protected_too_long_sinks_and_leaves, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_larger_than_a_segment_is_not_admitted, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
