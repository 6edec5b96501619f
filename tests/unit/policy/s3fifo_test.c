/* S3-FIFO: one-hit wonders leave by the small queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy_cache.h"

#define CAPACITY 40

static struct policy_cache cache;

static int set_up(void **state)
{
    (void)state;
    policy_cache_open(&cache, policy_find("s3fifo"), CAPACITY);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    policy_cache_close(&cache);
    return 0;
}

static void one_hit_wonders_do_not_flush_what_was_hit_twice(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 40);
    policy_cache_scan(&cache, 0, 20);
    policy_cache_scan(&cache, 0, 20);
    policy_cache_scan(&cache, 100, 140);
    for (uint64_t key = 0; key < 20; key++)
        assert_true(policy_cache_holds(&cache, key));
}

static void one_hit_is_not_enough(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 40);
    policy_cache_scan(&cache, 0, 20);
    policy_cache_scan(&cache, 100, 140);
    for (uint64_t key = 0; key < 20; key++)
        assert_false(policy_cache_holds(&cache, key));
}

static void a_key_that_comes_back_goes_to_the_main_queue(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 45); /* 0 to 4 are ghosts now */
    (void)policy_cache_access(&cache, 0);
    policy_cache_scan(&cache, 100, 139);
    assert_true(policy_cache_holds(&cache, 0));
}

static void what_would_fill_the_small_queue_is_not_admitted(void **state)
{
    (void)state;
    assert_true(cache.type->admits(cache.policy, 3));
    assert_false(cache.type->admits(cache.policy, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_hit_wonders_do_not_flush_what_was_hit_twice, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(one_hit_is_not_enough, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_key_that_comes_back_goes_to_the_main_queue, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_would_fill_the_small_queue_is_not_admitted, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
