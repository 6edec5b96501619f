/* Sliding windows of counters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "windows.h"

#include <stdlib.h>

/* Reads a counter that grows by `per_s` each second, four times a second, for so many seconds. */
static void run(struct windows *windows, uint64_t *now_ms, uint64_t *total, uint64_t per_s,
                unsigned seconds)
{
    for (unsigned i = 0; i < 4 * seconds; i++) {
        *now_ms += 250;
        *total += per_s / 4;
        const uint64_t totals[WINDOWS_COUNTERS] = {*total, 2 * *total, 0, 0};
        windows_read(windows, *now_ms, totals);
    }
}

static void each_window_holds_what_came_in_its_time(void **state)
{
    (void)state;
    struct windows *windows = calloc(1, sizeof *windows);
    uint64_t now_ms = 5000, total = 7, growth[WINDOWS_COUNTERS];

    assert_non_null(windows);
    run(windows, &now_ms, &total, 400, 1000);
    run(windows, &now_ms, &total, 40, 20);
    const uint64_t totals[WINDOWS_COUNTERS] = {total, 2 * total, 0, 0};
    uint64_t span_ms = windows_growth(windows, now_ms, 10000, totals, growth);
    assert_in_range(span_ms, 10000, 11000);
    assert_int_equal(growth[0], 40 * span_ms / 1000);
    assert_int_equal(growth[1], 80 * span_ms / 1000);
    span_ms = windows_growth(windows, now_ms, 60000, totals, growth);
    assert_in_range(span_ms, 60000, 61000);
    assert_in_range(growth[0], 20 * 40 + 39 * 400, 20 * 40 + 42 * 400);
    span_ms = windows_growth(windows, now_ms, 300000, totals, growth);
    assert_in_range(span_ms, 299000, 301000);
    free(windows);
}

static void a_young_window_tells_how_long_it_is(void **state)
{
    (void)state;
    struct windows *windows = calloc(1, sizeof *windows);
    uint64_t now_ms = 1000000, total = 0, growth[WINDOWS_COUNTERS];

    assert_non_null(windows);
    const uint64_t none[WINDOWS_COUNTERS] = {0};
    assert_int_equal(windows_growth(windows, now_ms, 60000, none, growth), 0);
    run(windows, &now_ms, &total, 100, 5);
    const uint64_t totals[WINDOWS_COUNTERS] = {total, 2 * total, 0, 0};
    assert_in_range(windows_growth(windows, now_ms, 60000, totals, growth), 4000, 5000);
    assert_in_range(growth[0], 400, 500);
    free(windows);
}

static void nothing_new_leaves_the_window_in_the_end(void **state)
{
    (void)state;
    struct windows *windows = calloc(1, sizeof *windows);
    uint64_t now_ms = 0, total = 0, growth[WINDOWS_COUNTERS];

    assert_non_null(windows);
    run(windows, &now_ms, &total, 100, 30);
    run(windows, &now_ms, &total, 0, 11);
    const uint64_t totals[WINDOWS_COUNTERS] = {total, 2 * total, 0, 0};
    windows_growth(windows, now_ms, 10000, totals, growth);
    assert_int_equal(growth[0], 0);
    free(windows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_window_holds_what_came_in_its_time),
        cmocka_unit_test(a_young_window_tells_how_long_it_is),
        cmocka_unit_test(nothing_new_leaves_the_window_in_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
