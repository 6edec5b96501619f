/* What happened between two samples, and write amplification. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#include "process_usage.h"
#include "run_series.h"

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

static void rates_are_differences_over_time(void **state)
{
    (void)state;
    struct run_sample from = {.seconds = 10,
                              .writes = 100,
                              .stats = {.hits_hot = 1000,
                                        .hits_warm = 500,
                                        .hits_cold = 100,
                                        .misses = 10,
                                        .flushed_bytes = 5000,
                                        .hot_bytes = 1}};
    struct run_sample to = {.seconds = 14,
                            .writes = 140,
                            .stats = {.hits_hot = 1060,
                                      .hits_warm = 530,
                                      .hits_cold = 110,
                                      .misses = 30,
                                      .flushed_bytes = 9000,
                                      .demoted_bytes = 400,
                                      .compacted_bytes = 800,
                                      .promoted_hot_keys = 8,
                                      .promoted_warm_keys = 4,
                                      .hot_bytes = 77}};
    struct run_rates rates;
    run_series_rates(&from, &to, &rates);
    assert_true(near(rates.seconds, 14));
    assert_true(near(rates.reads_per_second, 30));
    assert_true(near(rates.writes_per_second, 10));
    assert_true(near(rates.share_hot, 0.6));
    assert_true(near(rates.share_warm, 0.3));
    assert_true(near(rates.share_cold, 0.1));
    assert_true(near(rates.flushed_per_second, 1000));
    assert_true(near(rates.demoted_per_second, 100));
    assert_true(near(rates.compacted_per_second, 200));
    assert_true(near(rates.promoted_hot_per_second, 2));
    assert_true(near(rates.promoted_warm_per_second, 1));
    assert_int_equal(rates.hot_bytes, 77);
}

static void nothing_in_no_time_is_nothing(void **state)
{
    (void)state;
    struct run_sample sample = {.seconds = 3, .stats = {.hits_hot = 5, .hot_bytes = 9}};
    struct run_rates rates;
    run_series_rates(&sample, &sample, &rates);
    assert_true(near(rates.reads_per_second, 0));
    assert_true(near(rates.share_hot, 0));
    assert_int_equal(rates.hot_bytes, 9);
}

static void write_amplification_is_bytes_written_for_each_byte_put(void **state)
{
    (void)state;
    assert_true(near(run_write_amplification(300, 200), 1.5));
    assert_true(near(run_write_amplification(0, 200), 0));
    assert_true(near(run_write_amplification(300, 0), 0));
}

static void fields_are_found_by_their_whole_name(void **state)
{
    (void)state;
    static const char text[] = "wchar: 5\ncancelled_write_bytes: 7\nwrite_bytes: 4096\n";
    assert_int_equal(process_usage_field(text, "write_bytes"), 4096);
    assert_int_equal(process_usage_field(text, "wchar"), 5);
    assert_int_equal(process_usage_field(text, "write"), 0);
    assert_int_equal(process_usage_field("", "write_bytes"), 0);
}

static void writes_are_counted(void **state)
{
    (void)state;
    static const char bytes[1000] = "";
    struct process_usage before, after;
    process_usage(&before);
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, sizeof bytes, 1, file), 1);
    assert_int_equal(fclose(file), 0);
    process_usage(&after);
    if (after.io_known)
        assert_true(after.written_bytes - before.written_bytes >= sizeof bytes);
}

static void memory_that_is_used_is_counted(void **state)
{
    (void)state;
    struct process_usage usage;
    process_usage(&usage);
    assert_true(usage.anonymous_bytes > 0);
    assert_true(usage.mapped_bytes > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_differences_over_time),
        cmocka_unit_test(nothing_in_no_time_is_nothing),
        cmocka_unit_test(write_amplification_is_bytes_written_for_each_byte_put),
        cmocka_unit_test(fields_are_found_by_their_whole_name),
        cmocka_unit_test(writes_are_counted),
        cmocka_unit_test(memory_that_is_used_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
