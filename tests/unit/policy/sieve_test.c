/* SIEVE: survivors stay where they are, and the hand where it evicted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy_cache.h"

#define CAPACITY 4

static struct policy_cache cache;

static int set_up(void **state)
{
    (void)state;
    policy_cache_open(&cache, policy_find("sieve"), CAPACITY);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    policy_cache_close(&cache);
    return 0;
}

static void the_hand_goes_on_from_where_it_evicted(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 4);
    (void)policy_cache_access(&cache, 0);
    (void)policy_cache_access(&cache, 4);
    assert_int_equal(cache.last_evicted, 1);
    /* 0 has lost its bit, but the hand is past it. */
    (void)policy_cache_access(&cache, 5);
    assert_int_equal(cache.last_evicted, 2);
    (void)policy_cache_access(&cache, 6);
    assert_int_equal(cache.last_evicted, 3);
    assert_true(policy_cache_holds(&cache, 0));
}

static void new_entries_are_sifted_before_old_survivors(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 4);
    policy_cache_scan(&cache, 0, 2);
    policy_cache_scan(&cache, 4, 6);
    assert_false(policy_cache_holds(&cache, 2) || policy_cache_holds(&cache, 3));
    (void)policy_cache_access(&cache, 6);
    assert_int_equal(cache.last_evicted, 4);
}

static void the_hand_survives_the_removal_of_its_entry(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 4);
    (void)policy_cache_access(&cache, 0);
    (void)policy_cache_access(&cache, 4);
    policy_cache_remove(&cache, 2, false);
    (void)policy_cache_access(&cache, 5);
    (void)policy_cache_access(&cache, 6);
    assert_int_equal(cache.last_evicted, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_hand_goes_on_from_where_it_evicted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(new_entries_are_sifted_before_old_survivors, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_hand_survives_the_removal_of_its_entry, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
