/* Samples over time when there are more of them than room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "run_series.h"

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
        cmocka_unit_test(a_long_run_is_covered_as_a_whole),
        cmocka_unit_test(the_interval_is_doubled_when_the_samples_are_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
