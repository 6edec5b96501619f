/* The count-min sketch of W-TinyLFU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/sketch.h"

#define ENTRIES 10000

/* Well mixed, as a hash of keys is. */
static uint64_t hash_of(uint64_t number)
{
    number = (number + 1) * 0x9e3779b97f4a7c15u;
    return number ^ (number >> 29);
}

static unsigned times_added(uint64_t number)
{
    return (unsigned)(number % 10);
}

static struct sketch *filled(void)
{
    struct sketch *sketch = sketch_new();

    assert_non_null(sketch);
    sketch_fit(sketch, ENTRIES);
    for (uint64_t i = 0; i < ENTRIES; i++) {
        for (unsigned j = 0; j < times_added(i); j++)
            sketch_add(sketch, hash_of(i));
    }
    return sketch;
}

static void an_estimate_is_never_too_low_and_seldom_too_high(void **state)
{
    struct sketch *sketch = filled();
    uint64_t too_high = 0;

    (void)state;
    for (uint64_t i = 0; i < ENTRIES; i++) {
        unsigned estimate = sketch_estimate(sketch, hash_of(i));
        assert_true(estimate >= times_added(i));
        too_high += estimate > times_added(i);
    }
    assert_true(too_high < ENTRIES / 50);
    sketch_free(sketch);
}

static void aging_halves_what_was_counted(void **state)
{
    struct sketch *sketch = filled();

    (void)state;
    for (uint64_t i = 0; i < ENTRIES; i += 97) {
        unsigned before = sketch_estimate(sketch, hash_of(i));
        sketch_age(sketch);
        assert_int_equal(sketch_estimate(sketch, hash_of(i)), before / 2);
    }
    sketch_free(sketch);
}

static void widening_keeps_the_estimates(void **state)
{
    struct sketch *sketch = filled();
    static unsigned before[ENTRIES];

    (void)state;
    for (uint64_t i = 0; i < ENTRIES; i++)
        before[i] = sketch_estimate(sketch, hash_of(i));
    sketch_fit(sketch, (uint64_t)8 * ENTRIES);
    for (uint64_t i = 0; i < ENTRIES; i++)
        assert_int_equal(sketch_estimate(sketch, hash_of(i)), before[i]);
    sketch_free(sketch);
}

static void a_count_does_not_wrap(void **state)
{
    struct sketch *sketch = sketch_new();

    (void)state;
    assert_non_null(sketch);
    for (size_t i = 0; i < 1000; i++)
        sketch_add(sketch, hash_of(1));
    assert_int_equal(sketch_estimate(sketch, hash_of(1)), UINT8_MAX);
    sketch_free(sketch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_estimate_is_never_too_low_and_seldom_too_high),
        cmocka_unit_test(aging_halves_what_was_counted),
        cmocka_unit_test(widening_keeps_the_estimates),
        cmocka_unit_test(a_count_does_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
