/* W-TinyLFU: who was seen more often stays; the window and the counts adapt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/random.h"
#include "policy_cache.h"

#define CAPACITY 200

static struct policy_cache cache;

static int set_up(void **state)
{
    (void)state;
    policy_cache_open(&cache, policy_find("wtinylfu"), CAPACITY);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    policy_cache_close(&cache);
    return 0;
}

static void a_scan_does_not_flush_popular_keys(void **state)
{
    (void)state;
    policy_cache_scan(&cache, 1000, 1201); /* Full: from now on it is counted who is popular */
    for (size_t i = 0; i < 8; i++)
        policy_cache_scan(&cache, 0, 150);
    policy_cache_scan(&cache, 2000, 3000);
    size_t kept = 0;
    for (uint64_t key = 0; key < 150; key++)
        kept += policy_cache_holds(&cache, key);
    assert_true(kept > 140);
}

static void a_loop_larger_than_the_cache_gets_hits(void **state)
{
    (void)state;
    for (size_t i = 0; i < 50; i++)
        policy_cache_scan(&cache, 0, 400);
    assert_true(cache.misses < 400 * 50 * 3 / 4);
}

static void a_hotspot_that_moved_is_followed(void **state)
{
    (void)state;
    for (size_t i = 0; i < 100; i++)
        policy_cache_scan(&cache, 0, 150);
    for (size_t i = 0; i < 100; i++)
        policy_cache_scan(&cache, 1000, 1150);
    uint64_t before = cache.misses;
    policy_cache_scan(&cache, 1000, 1150);
    assert_true(cache.misses - before < 10);
}

static void the_window_grows_for_keys_that_come_back_at_once_only(void **state)
{
    (void)state;
    uint64_t seed = random_seed(), before = 0;
    struct random random;
    random_init(&random, seed);
    /* A range of 150 keys that moves on by one key every third access. */
    for (uint64_t i = 0; i < 90000; i++) {
        if (i == 80000)
            before = cache.misses;
        policy_cache_access(&cache, (i / 3 + random_below(&random, 150)) % POLICY_CACHE_KEYS);
    }
    assert_true(cache.misses - before < 4500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_scan_does_not_flush_popular_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_loop_larger_than_the_cache_gets_hits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_hotspot_that_moved_is_followed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_window_grows_for_keys_that_come_back_at_once_only,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
