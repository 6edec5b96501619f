/* CLOCK: a reference bit spares an entry once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy_cache.h"

#define CAPACITY 3

static struct policy_cache cache;

static int set_up(void **state)
{
    (void)state;
    policy_cache_open(&cache, policy_find("clock"), CAPACITY);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    policy_cache_close(&cache);
    return 0;
}

static void an_entry_that_was_used_gets_a_second_round(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 3);
    (void)policy_cache_access(&cache, 0);
    (void)policy_cache_access(&cache, 3);
    assert_int_equal(cache.last_evicted, 1);
    assert_true(policy_cache_holds(&cache, 0));
}

static void many_uses_spare_it_no_longer_than_one(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 3);
    for (size_t i = 0; i < 100; i++)
        (void)policy_cache_access(&cache, 0);
    policy_cache_scan(&cache, 3, 6);
    assert_false(policy_cache_holds(&cache, 0));
}

static void with_all_entries_used_the_oldest_leaves(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 3);
    policy_cache_scan(&cache, 0, 3);
    (void)policy_cache_access(&cache, 3);
    assert_int_equal(cache.last_evicted, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_entry_that_was_used_gets_a_second_round, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(many_uses_spare_it_no_longer_than_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(with_all_entries_used_the_oldest_leaves, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
