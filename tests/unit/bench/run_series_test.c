/* What happened between two samples, write amplification, and samples when there are more of them
 * than room. */
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

#define SAMPLES_MAX 8

/* Takes a sample whenever one is due, a tick at a time, and a last one at the end. */
static size_t sample(double seconds, struct run_sample samples[SAMPLES_MAX], double *interval)
{
    const double tick = 0.25;
    size_t n = 0;

    *interval = 1;
    for (unsigned i = 0; i * tick < seconds; i++) {
        const double now = i * tick;
        if (now < (double)n * *interval)
            continue;
        run_series_make_room(samples, &n, SAMPLES_MAX, interval);
        samples[n++] = (struct run_sample){.seconds = now, .writes = (uint64_t)(now * 100)};
    }
    run_series_make_room(samples, &n, SAMPLES_MAX, interval);
    samples[n++] = (struct run_sample){.seconds = seconds, .writes = (uint64_t)(seconds * 100)};
    return n;
}

static void a_long_run_is_covered_as_a_whole(void **state)
{
    struct run_sample samples[SAMPLES_MAX];

    (void)state;
    for (unsigned halves = 1; halves < 600; halves++) {
        const double seconds = halves / 2.0;
        double interval;
        size_t n = sample(seconds, samples, &interval);
        assert_true(n >= 2 && n <= SAMPLES_MAX);
        assert_true(samples[0].seconds == 0);
        assert_true(samples[n - 1].seconds == seconds);
        assert_true(seconds - samples[n - 2].seconds <= interval);
        for (size_t i = 1; i < n - 1; i++) {
            assert_true(samples[i].seconds == (double)i * interval);
            assert_int_equal(samples[i].writes, (uint64_t)(samples[i].seconds * 100));
        }
    }
}

static void the_interval_is_doubled_when_the_samples_are_too_many(void **state)
{
    struct run_sample samples[SAMPLES_MAX];
    double interval;

    (void)state;
    assert_int_equal(sample(6.5, samples, &interval), 8);
    assert_true(interval == 1);
    assert_int_equal(sample(7.5, samples, &interval), 5);
    assert_true(interval == 2);
    assert_int_equal(sample(16, samples, &interval), 5);
    assert_true(interval == 4);
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
        cmocka_unit_test(a_long_run_is_covered_as_a_whole),
        cmocka_unit_test(the_interval_is_doubled_when_the_samples_are_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
