#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "metrics.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The whole exposition as a C string, the caller's. */
static char *rendered(void)
{
    struct metrics_text text = {0};
    metrics_render(&text);
    assert_non_null(text.base);
    char *copy = strndup(text.base, text.length);
    assert_non_null(copy);
    free(text.base);
    return copy;
}

static double sample(const char *name)
{
    char *text = rendered();
    char start[256];
    snprintf(start, sizeof(start), "\n%s ", name);
    const char *found = strstr(text, start);
    if (found == NULL)
        fail_msg("no sample %s", name);
    double value = strtod(found + strlen(start), NULL);
    free(text);
    return value;
}

static void counts_are_added_up(void **unused)
{
    (void)unused;
    double before = sample("tierkv_http_requests_total{method=\"PUT\"}");
    double other = sample("tierkv_http_requests_total{method=\"GET\"}");
    metrics_add(METRIC_REQUESTS_PUT, 1);
    metrics_add(METRIC_REQUESTS_PUT, 41);
    assert_true(sample("tierkv_http_requests_total{method=\"PUT\"}") == before + 42);
    assert_true(sample("tierkv_http_requests_total{method=\"GET\"}") == other);
}

#define THREADS_N 40 /* More than there are cells */
#define ADDS_N    2000

static void *add_many(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < ADDS_N; i++) {
        metrics_add(METRIC_REFUSED_BUSY, 1);
        metrics_observe(METRIC_READ_LATENCY_COLD, 100);
    }
    return NULL;
}

static void no_count_is_lost_between_threads(void **unused)
{
    (void)unused;
    pthread_t threads[THREADS_N];
    for (size_t i = 0; i < THREADS_N; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, NULL), 0);
    free(rendered()); /* While they run */
    for (size_t i = 0; i < THREADS_N; i++)
        pthread_join(threads[i], NULL);
    assert_true(sample("tierkv_http_refused_total{reason=\"busy\"}") == THREADS_N * ADDS_N);
    assert_true(sample("tierkv_read_latency_seconds_count{tier=\"cold\"}") == THREADS_N * ADDS_N);
}

static void a_latency_counts_in_every_bucket_that_covers_it(void **unused)
{
    (void)unused;
    metrics_observe(METRIC_WRITE_LATENCY, 0);
    assert_true(sample("tierkv_write_latency_seconds_bucket{le=\"0.000001\"}") == 1);
    metrics_observe(METRIC_WRITE_LATENCY, 16);
    assert_true(sample("tierkv_write_latency_seconds_bucket{le=\"0.000008\"}") == 1);
    metrics_observe(METRIC_WRITE_LATENCY, 17);
    metrics_observe(METRIC_WRITE_LATENCY, 32);
    metrics_observe(METRIC_WRITE_LATENCY, 33);
    metrics_observe(METRIC_WRITE_LATENCY, 16777216);
    metrics_observe(METRIC_WRITE_LATENCY, 16777217);
    assert_true(sample("tierkv_write_latency_seconds_bucket{le=\"0.000016\"}") == 2);
    assert_true(sample("tierkv_write_latency_seconds_bucket{le=\"0.000032\"}") == 4);
    assert_true(sample("tierkv_write_latency_seconds_bucket{le=\"0.000064\"}") == 5);
    assert_true(sample("tierkv_write_latency_seconds_bucket{le=\"8.388608\"}") == 5);
    assert_true(sample("tierkv_write_latency_seconds_bucket{le=\"16.777216\"}") == 6);
    assert_true(sample("tierkv_write_latency_seconds_bucket{le=\"+Inf\"}") == 7);
    assert_true(sample("tierkv_write_latency_seconds_count") == 7);
    double sum = sample("tierkv_write_latency_seconds_sum");
    assert_true(sum > 33.554530 && sum < 33.554532);
}

static void a_sample_that_stands_for_many_counts_as_many_in_its_tier(void **unused)
{
    (void)unused;
    metrics_observe_many(METRIC_READ_LATENCY_HOT, 3, 16);
    metrics_observe(METRIC_READ_LATENCY_WARM, 1000);
    assert_true(sample("tierkv_read_latency_seconds_count{tier=\"hot\"}") == 16);
    assert_true(sample("tierkv_read_latency_seconds_sum{tier=\"hot\"}") == 48e-6);
    assert_true(sample("tierkv_read_latency_seconds_bucket{tier=\"hot\",le=\"0.000002\"}") == 0);
    assert_true(sample("tierkv_read_latency_seconds_bucket{tier=\"hot\",le=\"0.000004\"}") == 16);
    assert_true(sample("tierkv_read_latency_seconds_bucket{tier=\"hot\",le=\"+Inf\"}") == 16);
    assert_true(sample("tierkv_read_latency_seconds_count{tier=\"warm\"}") == 1);
}

/* How often `what` stands in the text. */
static size_t occurrences(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

static void every_family_is_introduced_once_before_its_samples(void **unused)
{
    (void)unused;
    char *text = rendered();
    assert_int_equal(occurrences(text, "# TYPE tierkv_http_requests_total counter\n"), 1);
    assert_int_equal(occurrences(text, "# HELP tierkv_http_requests_total "), 1);
    assert_int_equal(occurrences(text, "# TYPE tierkv_write_latency_seconds histogram\n"), 1);
    assert_int_equal(occurrences(text, "# TYPE tierkv_read_latency_seconds histogram\n"), 1);
    char families[64][128];
    size_t n_families = 0;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (sscanf(line, "# TYPE %127s", families[n_families]) == 1) {
            n_families++;
        } else if (line[0] != '#') {
            assert_true(n_families > 0);
            const char *family = families[n_families - 1];
            assert_memory_equal(line, family, strlen(family));
        }
    }
    free(text);
}

static void figures_of_others_are_introduced_once_too(void **unused)
{
    (void)unused;
    struct metrics_text text = {0};
    metrics_render_one(&text, "t_keys{tier=\"hot\"}", "gauge", "Keys", 3);
    metrics_render_one(&text, "t_keys{tier=\"warm\"}", "gauge", "Keys", 1234567890123);
    metrics_render_one(&text, "t_key", "counter", "Another", 0.25);
    static const char expected[] = "# HELP t_keys Keys\n# TYPE t_keys gauge\n"
                                   "t_keys{tier=\"hot\"} 3\nt_keys{tier=\"warm\"} 1234567890123\n"
                                   "# HELP t_key Another\n# TYPE t_key counter\nt_key 0.25\n";
    assert_int_equal(text.length, sizeof(expected) - 1);
    assert_memory_equal(text.base, expected, text.length);
    free(text.base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_added_up),
        cmocka_unit_test(no_count_is_lost_between_threads),
        cmocka_unit_test(a_latency_counts_in_every_bucket_that_covers_it),
        cmocka_unit_test(a_sample_that_stands_for_many_counts_as_many_in_its_tier),
        cmocka_unit_test(every_family_is_introduced_once_before_its_samples),
        cmocka_unit_test(figures_of_others_are_introduced_once_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
