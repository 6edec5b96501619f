/* 2Q: only what comes back after it left A1in gets into Am. */
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
    policy_cache_open(&cache, policy_find("twoq"), CAPACITY);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    policy_cache_close(&cache);
    return 0;
}

static void a_scan_passes_without_touching_what_came_back(void **state)
{
    (void)state;
    /* 0 and 1 leave A1in for the ghost list, and come back. */
    policy_cache_scan(&cache, 0, 20);
    (void)policy_cache_access(&cache, 0);
    (void)policy_cache_access(&cache, 1);
    policy_cache_scan(&cache, 100, 300);
    assert_true(policy_cache_holds(&cache, 0));
    assert_true(policy_cache_holds(&cache, 1));
}

static void hits_while_new_do_not_count(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 16);
    for (size_t i = 0; i < 10; i++)
        (void)policy_cache_access(&cache, 0);
    (void)policy_cache_access(&cache, 16);
    assert_int_equal(cache.last_evicted, 0);
}

static void a_key_that_comes_back_too_late_is_new_again(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 16 + 9); /* The ghost list holds 8 */
    (void)policy_cache_access(&cache, 0);
    policy_cache_scan(&cache, 100, 117);
    assert_false(policy_cache_holds(&cache, 0));
}

static void a_removed_entry_leaves_no_ghost(void **state)
{
    (void)state;
    (void)policy_cache_access(&cache, 0);
    policy_cache_remove(&cache, 0, false);
    (void)policy_cache_access(&cache, 0);
    policy_cache_scan(&cache, 100, 117);
    assert_false(policy_cache_holds(&cache, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_scan_passes_without_touching_what_came_back, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(hits_while_new_do_not_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_key_that_comes_back_too_late_is_new_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_removed_entry_leaves_no_ghost, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
