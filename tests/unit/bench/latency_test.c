/* The latency histogram. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "latency.h"

static int setup(void **state)
{
    *state = calloc(1, sizeof(struct latency));
    return *state == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static void an_empty_histogram_has_no_quantiles(void **state)
{
    assert_int_equal(latency_quantile_ns(*state, 0.5), 0);
    assert_int_equal(latency_quantile_ns(*state, 1), 0);
}

static void quantiles_are_exact_to_a_thirtysecond(void **state)
{
    struct latency *latency = *state;
    static const double shares[] = {0.001, 0.01, 0.5, 0.9, 0.99, 0.999, 0.9999};
    const uint64_t n = 1000000;

    for (uint64_t i = 1; i <= n; i++)
        latency_add(latency, i * 1000);
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        uint64_t exact_ns = (uint64_t)(shares[i] * (double)n) * 1000;
        uint64_t found_ns = latency_quantile_ns(latency, shares[i]);
        assert_in_range(found_ns, exact_ns, exact_ns + exact_ns / 32 + 1000);
    }
    assert_int_equal(latency_quantile_ns(latency, 1), n * 1000);
}

static void extremes_have_a_bucket(void **state)
{
    struct latency *latency = *state;

    latency_add(latency, 0);
    assert_int_equal(latency_quantile_ns(latency, 1), 0);
    latency_add(latency, UINT64_MAX);
    assert_int_equal(latency->max_ns, UINT64_MAX);
    assert_true(latency_quantile_ns(latency, 1) > 1000000000);
}

static void a_merge_counts_both(void **state)
{
    struct latency *latency = *state;
    struct latency *other = calloc(1, sizeof(*other));

    assert_non_null(other);
    latency_add(latency, 10);
    latency_add(other, 20);
    latency_add(other, 30);
    latency_merge(latency, other);
    assert_int_equal(latency->count, 3);
    assert_int_equal(latency->sum_ns, 60);
    assert_int_equal(latency->max_ns, 30);
    assert_int_equal(latency_quantile_ns(latency, 0.5), 20);
    free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_histogram_has_no_quantiles, setup, teardown),
        cmocka_unit_test_setup_teardown(quantiles_are_exact_to_a_thirtysecond, setup, teardown),
        cmocka_unit_test_setup_teardown(extremes_have_a_bucket, setup, teardown),
        cmocka_unit_test_setup_teardown(a_merge_counts_both, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
