/* Shadows: what they hold and what they predict, for every policy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/random.h"
#include "policy/shadow.h"

#define CAPACITY 1000
#define ACCESSES 20000

/* Well mixed, as a hash of keys is. */
static uint64_t hash_of(uint64_t number)
{
    number = (number + 1) * 0x9e3779b97f4a7c15u;
    number ^= number >> 32;
    return number * 0xd6e8feb86659fd93u;
}

static void a_shadow_holds_what_was_accessed_until_it_is_full(void **state)
{
    (void)state;
    for (size_t p = 0; policy_at(p) != NULL; p++) {
        struct shadow *shadow = shadow_new(policy_at(p), CAPACITY);
        assert_non_null(shadow);
        for (uint64_t i = 0; i < CAPACITY / 10; i++)
            assert_false(shadow_access(shadow, hash_of(i), 10));
        assert_int_equal(shadow_used(shadow), CAPACITY);
        for (uint64_t i = 0; i < CAPACITY / 10; i++)
            assert_true(shadow_access(shadow, hash_of(i), 10));
        shadow_free(shadow);
    }
}

static void a_shadow_never_holds_more_than_its_capacity(void **state)
{
    uint64_t seed = random_seed();

    (void)state;
    for (size_t p = 0; policy_at(p) != NULL; p++) {
        struct shadow *shadow = shadow_new(policy_at(p), CAPACITY);
        struct random random;
        random_init(&random, seed);
        assert_non_null(shadow);
        for (size_t i = 0; i < ACCESSES; i++) {
            uint64_t key = random_below(&random, 500);
            switch (random_below(&random, 20)) {
            case 0:
                shadow_remove(shadow, hash_of(key));
                assert_false(shadow_holds(shadow, hash_of(key)));
                break;
            case 1: {
                uint64_t capacity = CAPACITY / 2 + random_below(&random, CAPACITY / 2);
                shadow_resize(shadow, capacity);
                assert_true(shadow_used(shadow) <= capacity);
                shadow_resize(shadow, CAPACITY);
                break;
            }
            default:
                (void)shadow_access(shadow, hash_of(key), (uint32_t)random_below(&random, 100));
            }
            assert_true(shadow_used(shadow) <= CAPACITY);
        }
        shadow_free(shadow);
    }
}

static void a_hit_is_what_was_held_before(void **state)
{
    uint64_t seed = random_seed();

    (void)state;
    for (size_t p = 0; policy_at(p) != NULL; p++) {
        struct shadow *shadow = shadow_new(policy_at(p), CAPACITY);
        struct random random;
        random_init(&random, seed);
        assert_non_null(shadow);
        for (size_t i = 0; i < ACCESSES; i++) {
            uint64_t hash = hash_of(random_below(&random, 1 + random_below(&random, 500)));
            bool held = shadow_holds(shadow, hash);
            assert_int_equal(shadow_access(shadow, hash, 1 + (uint32_t)(hash % 50)), held);
        }
        shadow_free(shadow);
    }
}

static void a_key_with_a_new_size_counts_that_size(void **state)
{
    struct shadow *shadow = shadow_new(policy_find("lru"), CAPACITY);

    (void)state;
    assert_non_null(shadow);
    shadow_access(shadow, hash_of(1), 100);
    shadow_access(shadow, hash_of(2), 100);
    assert_true(shadow_access(shadow, hash_of(1), 300));
    assert_int_equal(shadow_used(shadow), 400);
    assert_int_equal(shadow_entries(shadow), 2);
    shadow_free(shadow);
}

static void what_is_larger_than_the_capacity_is_not_held(void **state)
{
    (void)state;
    for (size_t p = 0; policy_at(p) != NULL; p++) {
        struct shadow *shadow = shadow_new(policy_at(p), CAPACITY);
        assert_non_null(shadow);
        shadow_access(shadow, hash_of(1), 1);
        assert_false(shadow_access(shadow, hash_of(2), CAPACITY + 1));
        assert_false(shadow_holds(shadow, hash_of(2)));
        assert_true(shadow_holds(shadow, hash_of(1)));
        shadow_free(shadow);
    }
}

/* Counts the calls and remembers the last key. */
struct watched {
    uint64_t n;
    uint64_t key_hash;
};

static void on_evicted(void *context, uint64_t key_hash)
{
    struct watched *watched = context;

    watched->n++;
    watched->key_hash = key_hash;
}

static void who_watches_is_told_of_evictions_and_of_nothing_else(void **state)
{
    struct shadow *shadow = shadow_new(policy_find("lru"), 2);
    struct watched watched = {0};

    (void)state;
    assert_non_null(shadow);
    shadow_watch(shadow, on_evicted, &watched);
    shadow_access(shadow, hash_of(1), 1);
    shadow_access(shadow, hash_of(2), 1);
    shadow_remove(shadow, hash_of(2));
    shadow_access(shadow, hash_of(3), 1);
    assert_int_equal(watched.n, 0);
    shadow_access(shadow, hash_of(4), 1);
    assert_int_equal(watched.n, 1);
    assert_true(watched.key_hash == hash_of(1));
    shadow_resize(shadow, 1);
    assert_int_equal(watched.n, 2);
    shadow_watch(shadow, NULL, NULL);
    shadow_access(shadow, hash_of(5), 1);
    assert_int_equal(watched.n, 2);
    shadow_free(shadow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shadow_holds_what_was_accessed_until_it_is_full),
        cmocka_unit_test(a_shadow_never_holds_more_than_its_capacity),
        cmocka_unit_test(a_hit_is_what_was_held_before),
        cmocka_unit_test(a_key_with_a_new_size_counts_that_size),
        cmocka_unit_test(who_watches_is_told_of_evictions_and_of_nothing_else),
        cmocka_unit_test(what_is_larger_than_the_capacity_is_not_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
