#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "residency.h"

#define FILE_BYTES 1000u

static void steps(struct residency *residency, unsigned n, uint64_t available_bytes)
{
    for (unsigned i = 0; i < n; i++) {
        residency_step(residency, FILE_BYTES, available_bytes);
    }
}

static void pages_are_looked_for_at_first(void **state)
{
    (void)state;
    struct residency residency = {0};
    assert_false(residency_assumed(&residency));
}

static void pages_are_taken_to_be_there_after_a_calm_while(void **state)
{
    (void)state;
    struct residency residency = {0};
    steps(&residency, RESIDENCY_CALM_STEPS - 1, 2 * FILE_BYTES);
    assert_false(residency_assumed(&residency));
    steps(&residency, 1, 2 * FILE_BYTES);
    assert_true(residency_assumed(&residency));
}

static void one_page_missed_ends_it_at_once_and_for_a_while(void **state)
{
    (void)state;
    struct residency residency = {0};
    steps(&residency, RESIDENCY_CALM_STEPS, 2 * FILE_BYTES);
    residency_miss(&residency);
    assert_false(residency_assumed(&residency));
    steps(&residency, RESIDENCY_CALM_STEPS, 2 * FILE_BYTES);
    assert_false(residency_assumed(&residency));
    steps(&residency, 1, 2 * FILE_BYTES);
    assert_true(residency_assumed(&residency));
}

static void a_file_larger_than_memory_is_always_looked_for(void **state)
{
    (void)state;
    struct residency residency = {0};
    steps(&residency, 100, FILE_BYTES - 1);
    assert_false(residency_assumed(&residency));
}

static void a_file_that_has_outgrown_memory_needs_room_to_spare_to_fit_again(void **state)
{
    (void)state;
    struct residency residency = {0};
    steps(&residency, RESIDENCY_CALM_STEPS, 2 * FILE_BYTES);
    /* That fits needs no room. */
    steps(&residency, 1, FILE_BYTES);
    assert_true(residency_assumed(&residency));
    steps(&residency, 1, FILE_BYTES - 1);
    steps(&residency, 100, FILE_BYTES + FILE_BYTES / 8 - 1);
    assert_false(residency_assumed(&residency));
    steps(&residency, RESIDENCY_CALM_STEPS, FILE_BYTES + FILE_BYTES / 8);
    assert_true(residency_assumed(&residency));
}

static void each_step_begins_an_epoch(void **state)
{
    (void)state;
    struct residency residency = {0};
    steps(&residency, 3, 0);
    assert_int_equal(residency_epoch(&residency), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_looked_for_at_first),
        cmocka_unit_test(pages_are_taken_to_be_there_after_a_calm_while),
        cmocka_unit_test(one_page_missed_ends_it_at_once_and_for_a_while),
        cmocka_unit_test(a_file_larger_than_memory_is_always_looked_for),
        cmocka_unit_test(a_file_that_has_outgrown_memory_needs_room_to_spare_to_fit_again),
        cmocka_unit_test(each_step_begins_an_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
