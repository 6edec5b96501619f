/* tierbench replay against real nodes: every request is answered, redirects are followed, levels
 * and traces go through, and a node that is away is told of. */
#include "lib/cluster.h"
#include "lib/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define TIMEOUT_MS 120000
#define URLS_BYTES 512

/* "http://A,http://B,..." of the nodes from `first` on. */
static void urls_of(const struct cluster *cluster, size_t first, size_t n, char urls[URLS_BYTES])
{
    size_t used = 0;

    for (size_t i = first; i < first + n; i++)
        used += (size_t)snprintf(urls + used, URLS_BYTES - used, "%shttp://%s",
                                 i == first ? "" : ",", cluster_address(cluster, i));
    assert_true(used < URLS_BYTES);
}

/* Runs a short replay to its end and returns its report; json_decref it. */
static json_t *replay(const char *urls, const char *option, const char *value)
{
    const char *arguments[] = {TIERBENCH_PATH, "replay", "--http",    urls,         "--format",
                               "json",         "--keys", "500",       "--requests", "2000",
                               "--in-flight",  "8",      "--threads", "2",          "--value-bytes",
                               "64-2KiB",      option,   value,       NULL};
    struct process_result result;

    process_run(arguments, NULL, 0, TIMEOUT_MS, &result);
    if (result.status != 0)
        fail_msg("tierbench ended with %d: %s", result.status, result.errors);
    json_t *report = json_loads(result.output, 0, NULL);
    assert_non_null(report);
    process_result_free(&result);
    return report;
}

static json_int_t number(const json_t *report, const char *name)
{
    return json_integer_value(json_object_get(report, name));
}

static json_int_t member(const json_t *report, const char *object, const char *name)
{
    return number(json_object_get(report, object), name);
}

/* All 2000 requests had a good answer. */
static void expect_all_answered(const json_t *report)
{
    if (number(report, "errors") != 0 || member(report, "statuses", "200") != 2000) {
        char *text = json_dumps(report, 0);
        fail_msg("%s", text);
    }
    assert_int_equal(number(report, "wrong"), 0);
    assert_int_equal(member(report, "read", "answered") + member(report, "write", "answered"),
                     2000);
}

static void one_node_answers_every_request(void **state)
{
    char urls[URLS_BYTES];
    struct cluster *cluster = cluster_start(1, NULL);

    (void)state;
    urls_of(cluster, 0, 1, urls);
    json_t *report = replay(urls, "--seed", "3");
    expect_all_answered(report);
    assert_int_equal(number(report, "redirects"), 0);
    /* Each read is counted by the node too. */
    assert_int_equal(member(report, "hits", "hot") + member(report, "hits", "warm") +
                         member(report, "hits", "cold"),
                     member(report, "read", "answered"));
    json_decref(report);
    cluster_stop(cluster);
}

static void redirects_to_the_leader_are_followed(void **state)
{
    static const char *const levels[] = {"default", "consistent", "stale"};
    char urls[URLS_BYTES];
    struct cluster *cluster = cluster_start(3, NULL);
    size_t leader = cluster_wait_leader(cluster);

    (void)state;
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        urls_of(cluster, 0, 3, urls);
        json_t *report = replay(urls, "--level", levels[i]);
        if (strcmp(levels[i], "stale") != 0) /* A key may not have come to the node yet */
            expect_all_answered(report);
        assert_int_equal(number(report, "wrong"), 0);
        json_decref(report);
    }
    urls_of(cluster, leader == 2 ? 1 : 2, 1, urls);
    json_t *report = replay(urls, "--level", "default");
    expect_all_answered(report);
    assert_true(number(report, "redirects") > 0);
    json_decref(report);
    cluster_stop(cluster);
}

static void a_trace_goes_through(void **state)
{
    char urls[URLS_BYTES];
    struct cluster *cluster = cluster_start(1, NULL);

    (void)state;
    urls_of(cluster, 0, 1, urls);
    json_t *report = replay(urls, "--generate", "shift:requests=2000,keys=300,hot_keys=30");
    expect_all_answered(report);
    json_decref(report);
    cluster_stop(cluster);
}

static void a_cluster_that_is_not_there_is_told_of(void **state)
{
    struct cluster *cluster = cluster_new(1, NULL); /* Has an address, and nothing runs */
    char urls[URLS_BYTES];
    struct process_result result;

    (void)state;
    urls_of(cluster, 0, 1, urls);
    const char *arguments[] = {TIERBENCH_PATH, "replay", "--http", urls, NULL};
    process_run(arguments, NULL, 0, TIMEOUT_MS, &result);
    assert_int_equal(result.status, 1);
    assert_non_null(strstr(result.errors, "no node answers"));
    process_result_free(&result);
    cluster_stop(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(one_node_answers_every_request, cluster_teardown),
        cmocka_unit_test_teardown(redirects_to_the_leader_are_followed, cluster_teardown),
        cmocka_unit_test_teardown(a_trace_goes_through, cluster_teardown),
        cmocka_unit_test_teardown(a_cluster_that_is_not_there_is_told_of, cluster_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
