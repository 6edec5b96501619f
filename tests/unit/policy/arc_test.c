/* ARC: ghosts of both lists move the border between recency and frequency. */
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
    policy_cache_open(&cache, policy_find("arc"), CAPACITY);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    policy_cache_close(&cache);
    return 0;
}

static void entries_seen_twice_survive_a_scan(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 8);
    policy_cache_scan(&cache, 0, 8);
    policy_cache_scan(&cache, 100, 200);
    for (uint64_t key = 0; key < 8; key++)
        assert_true(policy_cache_holds(&cache, key));
}

static void returns_of_recent_keys_make_room_for_recency(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 8);
    policy_cache_scan(&cache, 0, 8);
    /* Twelve keys in turns: eight fit beside the frequent ones, and their ghosts ask for more. */
    for (size_t i = 0; i < 10; i++)
        policy_cache_scan(&cache, 100, 112);
    uint64_t before = cache.misses;
    policy_cache_scan(&cache, 100, 112);
    assert_int_equal(cache.misses, before);
}

static void frequent_keys_take_their_room_back(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 0, 8);
    policy_cache_scan(&cache, 0, 8);
    for (size_t i = 0; i < 10; i++)
        policy_cache_scan(&cache, 100, 112);
    for (size_t i = 0; i < 10; i++)
        policy_cache_scan(&cache, 0, 8);
    policy_cache_scan(&cache, 200, 300);
    for (uint64_t key = 0; key < 8; key++)
        assert_true(policy_cache_holds(&cache, key));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(entries_seen_twice_survive_a_scan, set_up, tear_down),
        cmocka_unit_test_setup_teardown(returns_of_recent_keys_make_room_for_recency, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(frequent_keys_take_their_room_back, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
