/* Heat: estimates, saturation, fading. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heat.h"
#include "numbered.h"

#include <pthread.h>

static uint64_t hash_of(unsigned number)
{
    return numbered_key(number).hash;
}

static void a_touch_counts_up_to_the_maximum(void **state)
{
    struct heat *heat = heat_new(1 << 16);

    (void)state;
    assert_non_null(heat);
    assert_int_equal(heat_estimate(heat, hash_of(1)), 0);
    for (unsigned i = 1; i <= HEAT_MAX; i++)
        assert_int_equal(heat_touch(heat, hash_of(1)), i);
    assert_int_equal(heat_touch(heat, hash_of(1)), HEAT_MAX);
    assert_int_equal(heat_estimate(heat, hash_of(1)), HEAT_MAX);
    heat_free(heat);
}

/* 4096 keys in 65536 counters: fewer accesses than the first halving needs. */
static void estimates_are_never_below_and_seldom_above_the_truth(void **state)
{
    enum { KEYS = 4096, TOUCHES = 20000 };
    uint64_t random = random_seed();
    struct heat *heat = heat_new(1 << 16);
    static unsigned truth[KEYS];
    unsigned n_above = 0;

    (void)state;
    assert_non_null(heat);
    memset(truth, 0, sizeof(truth));
    for (unsigned i = 0; i < TOUCHES; i++) {
        unsigned number = (unsigned)(random_next(&random) % KEYS);
        truth[number]++;
        heat_touch(heat, hash_of(number));
    }
    for (unsigned number = 0; number < KEYS; number++) {
        unsigned expected = truth[number] < HEAT_MAX ? truth[number] : HEAT_MAX;
        unsigned estimate = heat_estimate(heat, hash_of(number));
        assert_true(estimate >= expected);
        n_above += estimate > expected;
    }
    assert_true(n_above < KEYS / 50);
    heat_free(heat);
}

static void an_old_hit_fades(void **state)
{
    struct heat *heat = heat_new(1 << 12);

    (void)state;
    assert_non_null(heat);
    for (unsigned i = 0; i < HEAT_MAX; i++)
        heat_touch(heat, hash_of(0));
    /* Ten accesses per counter halve everything once; other keys' few collisions may add a bit. */
    for (unsigned i = 1; i <= 10 * (1 << 12) * 2; i++)
        heat_touch(heat, hash_of(1 + i % 64));
    assert_in_range(heat_estimate(heat, hash_of(0)), 0, HEAT_MAX / 2);
    for (unsigned i = 1; i <= 10 * (1 << 12) * 4; i++)
        heat_touch(heat, hash_of(1 + i % 64));
    assert_in_range(heat_estimate(heat, hash_of(0)), 0, 1);
    heat_free(heat);
}

static void an_idle_sketch_fades_with_time(void **state)
{
    struct heat *heat = heat_new(1 << 12);

    (void)state;
    assert_non_null(heat);
    for (unsigned i = 0; i < HEAT_MAX; i++)
        heat_touch(heat, hash_of(0));
    for (unsigned ms = 0; ms < HEAT_HALF_LIFE_MS; ms += 1000)
        heat_age(heat, 1000);
    assert_int_equal(heat_estimate(heat, hash_of(0)), HEAT_MAX / 2);
    heat_age(heat, UINT64_MAX);
    assert_int_equal(heat_estimate(heat, hash_of(0)), 0);
    heat_free(heat);
}

static void a_key_touched_steadily_stays_hot_among_many(void **state)
{
    struct heat *heat = heat_new(1 << 12);
    unsigned lowest = HEAT_MAX;

    (void)state;
    assert_non_null(heat);
    for (unsigned i = 0; i < 400000; i++) {
        heat_touch(heat, hash_of(1000 + i % 2000));
        if (i % 100 != 0)
            continue;
        unsigned estimate = heat_touch(heat, hash_of(0));
        if (i > 10000 && estimate < lowest)
            lowest = estimate;
    }
    assert_true(lowest >= HEAT_MAX / 2);
    heat_free(heat);
}

static void the_size_is_rounded_up_and_reported(void **state)
{
    struct heat *smallest = heat_new(0);
    struct heat *small = heat_new(129);
    struct heat *large = heat_new(1 << 20);

    (void)state;
    assert_non_null(smallest);
    assert_non_null(small);
    assert_non_null(large);
    assert_int_equal(heat_bytes(small) - heat_bytes(smallest), 64);
    assert_int_equal(heat_bytes(large) - heat_bytes(smallest), (1 << 20) / 2 - 64);
    heat_free(smallest);
    heat_free(small);
    heat_free(large);
    heat_free(NULL);
}

static void *touch_many(void *argument)
{
    for (unsigned i = 0; i < 50000; i++)
        heat_touch(argument, hash_of(i % 256));
    return NULL;
}

static void threads_may_touch_at_the_same_time(void **state)
{
    struct heat *heat = heat_new(1 << 14);
    pthread_t threads[2];

    (void)state;
    assert_non_null(heat);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, touch_many, heat), 0);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i < 256; i++)
        assert_true(heat_estimate(heat, hash_of(i)) > HEAT_MAX / 2);
    heat_free(heat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_touch_counts_up_to_the_maximum),
        cmocka_unit_test(estimates_are_never_below_and_seldom_above_the_truth),
        cmocka_unit_test(an_old_hit_fades),
        cmocka_unit_test(an_idle_sketch_fades_with_time),
        cmocka_unit_test(a_key_touched_steadily_stays_hot_among_many),
        cmocka_unit_test(the_size_is_rounded_up_and_reported),
        cmocka_unit_test(threads_may_touch_at_the_same_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
