/* /tiers, /tiers/curve and /tiers/cost of a node under a small load. */
#include "lib/cluster.h"
#include "lib/http.h"
#include "tierkv/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_KEYS      2000
#define N_OFTEN     50
#define N_READS     3000
#define READS_KNOWN 200 /* The first ones are of keys that were written first, and in memory */
#define VALUE_BYTES 2000
#define WAIT_MS     20000

/* 4 MB of values and a hot tier for about a quarter of them. */
static const char *const flags[] = {"--hot-bytes=1MiB", "--flush-interval=50ms",
                                    "--tier-prices=3,0.2,0.05", "--policy=auto", NULL};

static struct cluster *cluster;
static struct tierkv_client *client;

static int open_cluster(void **state)
{
    static char value[VALUE_BYTES];
    char key[16];

    (void)state;
    cluster = cluster_start(1, flags);
    struct tierkv_client_options options = {.endpoints = cluster_endpoints(cluster),
                                            .timeout_ms = 60000};
    if (tierkv_client_open(&options, &client) != 0)
        return -1;
    for (unsigned i = 0; i < N_KEYS; i++) {
        int key_len = snprintf(key, sizeof key, "key%05u", i);
        assert_int_equal(tierkv_put(client, key, (size_t)key_len, value, sizeof value, NULL), 0);
    }
    /* Every second read falls on few keys, the others go round all. */
    for (unsigned i = 0; i < N_READS; i++) {
        void *read = NULL;
        size_t read_len = 0;
        int key_len = snprintf(key, sizeof key, "key%05u", i % 2 ? i % N_OFTEN : i * 7 % N_KEYS);
        assert_int_equal(
            tierkv_get(client, key, (size_t)key_len, TIERKV_LEVEL_DEFAULT, &read, &read_len, NULL),
            0);
        free(read);
    }
    return 0;
}

static int close_cluster(void **state)
{
    (void)state;
    tierkv_client_close(client);
    if (cluster != NULL)
        cluster_stop(cluster);
    return 0;
}

static json_t *get_json(long status, const char *path)
{
    struct http_answer answer;

    http_run(&(struct http_request){.address = cluster_address(cluster, 0), .path = path}, &answer);
    if (answer.status != status)
        print_message("%s: %ld %s\n", path, answer.status, answer.body);
    assert_int_equal(answer.status, status);
    json_t *object = json_loads(answer.body, 0, NULL);
    assert_non_null(object);
    http_free(&answer);
    return object;
}

/* A number by its path, as "reads.total.hot". */
static double number(const json_t *object, const char *path)
{
    char name[64];

    while (*path != '\0') {
        size_t length = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)length, path);
        object = json_object_get(object, name);
        if (object == NULL)
            fail_msg("%s is missing", name);
        path += length + (path[length] == '.');
    }
    assert_true(json_is_number(object));
    return json_number_value(object);
}

/* Waits until the curve knows of so many reads that they are like all of them. */
static json_t *wait_for_curve(void)
{
    uint64_t until_ms = test_now_ms() + WAIT_MS;

    for (;;) {
        json_t *curve = get_json(200, "/tiers/curve");
        const json_t *now = json_array_get(json_object_get(curve, "points"), 3);
        assert_non_null(now);
        if (number(now, "reads_in_view") >= READS_KNOWN && number(curve, "samples") > N_KEYS)
            return curve;
        json_decref(curve);
        assert_true(test_now_ms() < until_ms);
        test_sleep_ms(50);
    }
}

static void the_placement_tells_bytes_hits_and_the_policy(void **state)
{
    (void)state;
    json_t *tiers = get_json(200, "/tiers");

    assert_true(number(tiers, "hot.budget_bytes") == 1 << 20);
    assert_true(number(tiers, "hot.bytes") > 0);
    assert_true(number(tiers, "hot.bytes") <= 1.2 * (1 << 20));
    assert_true(number(tiers, "warm.keys") + number(tiers, "hot.keys") >= N_KEYS);
    double reads = number(tiers, "reads.total.hot") + number(tiers, "reads.total.warm") +
                   number(tiers, "reads.total.cold");
    assert_true(reads >= N_READS);
    assert_true(number(tiers, "reads.total.share_hot") > 0.3);
    assert_true(number(tiers, "reads.total.share_warm") > 0);
    const json_t *recent = json_object_get(json_object_get(tiers, "reads"), "recent");
    assert_int_equal(json_array_size(recent), 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(number(json_array_get(recent, i), "seconds") <= 301);
    const json_t *policy = json_object_get(tiers, "policy");
    assert_string_equal(json_string_value(json_object_get(policy, "name")), "lru");
    assert_true(json_is_true(json_object_get(policy, "auto")));
    assert_true(json_string_length(json_object_get(policy, "reason")) > 0);
    assert_true(number(tiers, "controller.promote_heat_min") >= 1);
    assert_true(number(tiers, "controller.demote_heat_max") >= 0);
    const json_t *controller = json_object_get(tiers, "controller");
    assert_true(json_string_length(json_object_get(controller, "reason")) > 0);
    assert_true(json_string_length(json_object_get(controller, "admit_reason")) > 0);
    json_decref(tiers);
}

static void the_curve_rises_with_memory_for_every_policy(void **state)
{
    (void)state;
    json_t *curve = wait_for_curve();
    const json_t *points = json_object_get(curve, "points");

    assert_true(number(curve, "hot_bytes_now") == 1 << 20);
    assert_int_equal(json_array_size(points), 8);
    const json_t *least = json_object_get(json_array_get(points, 0), "hit_rate");
    const json_t *most = json_object_get(json_array_get(points, 7), "hit_rate");
    assert_true(json_object_size(least) >= 8);
    const char *name;
    json_t *rate;
    json_object_foreach((json_t *)(uintptr_t)least, name, rate)
    {
        assert_in_range(json_number_value(rate) * 1000, 0, 1000);
        assert_true(json_number_value(json_object_get(most, name)) > json_number_value(rate));
    }
    assert_true(number(curve, "keys_tracked") > 0);
    json_decref(curve);
}

static void the_cost_names_the_cheapest_split_beside_all_in_memory(void **state)
{
    (void)state;
    json_decref(wait_for_curve());
    json_t *cost = get_json(200, "/tiers/cost?latency_us=50&memory=4&hdd_us=5000");

    assert_true(number(cost, "prices.memory") == 4);
    assert_true(number(cost, "prices.ssd") == 0.2);
    assert_true(number(cost, "latencies_us.hdd") == 5000);
    assert_true(json_is_true(json_object_get(json_object_get(cost, "cheapest"), "meets_target")));
    assert_true(number(cost, "cheapest.latency_us") <= 50.01);
    assert_true(number(cost, "cheapest.cost") < number(cost, "all_in_memory_cost"));
    assert_true(number(cost, "now.hot_bytes") == 1 << 20);
    json_decref(cost);
    cost = get_json(200, "/tiers/cost?latency_us=9000");
    assert_true(number(cost, "cheapest.share_cold") > 0);
    assert_true(number(cost, "cheapest.share_warm") == 0);
    json_decref(cost);
}

static void metrics_count_samples_and_switches(void **state)
{
    (void)state;
    struct http_answer answer;

    json_decref(wait_for_curve());
    http_run(&(struct http_request){.address = cluster_address(cluster, 0), .path = "/metrics"},
             &answer);
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.body, "\ntierkv_tiers_policy_switches_total 0\n"));
    const char *samples = strstr(answer.body, "\ntierkv_tiers_samples_total ");
    assert_non_null(samples);
    assert_true(strtod(strchr(samples, ' '), NULL) > N_KEYS);
    static const char *const tiers[] = {"hot", "warm"};
    for (size_t i = 0; i < 2; i++) {
        char name[80];
        snprintf(name, sizeof name, "\ntierkv_read_latency_seconds_count{tier=\"%s\"} ", tiers[i]);
        const char *latencies = strstr(answer.body, name);
        assert_non_null(latencies);
        /* One in 17 is measured and counts in full; half or so were answered by each. */
        assert_in_range(strtod(latencies + strlen(name), NULL), N_READS / 20, N_READS);
    }
    /* The controller's decisions, by their reasons. */
    assert_non_null(strstr(answer.body, "\ntierkv_tiers_windows_cold_share_high_total "));
    assert_non_null(strstr(answer.body, "\ntierkv_tiers_admission_tightened_total "));
    assert_non_null(strstr(answer.body, "\ntierkv_tiers_promotion_eased_total "));
    http_free(&answer);
}

static void a_query_that_is_not_understood_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "/tiers/cost?memroy=4",   "/tiers/cost?memory=",      "/tiers/cost?memory=-1",
        "/tiers/cost?ssd_us=9e9", "/tiers/cost?ssd_us=99999", "/tiers/cost?quantile=1",
        "/tiers/cost?&",          "/tiers/cost?memory"};

    json_decref(wait_for_curve());
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        json_t *answer = get_json(400, bad[i]);
        assert_non_null(json_object_get(answer, "error"));
        json_decref(answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_placement_tells_bytes_hits_and_the_policy),
        cmocka_unit_test(the_curve_rises_with_memory_for_every_policy),
        cmocka_unit_test(the_cost_names_the_cheapest_split_beside_all_in_memory),
        cmocka_unit_test(metrics_count_samples_and_switches),
        cmocka_unit_test(a_query_that_is_not_understood_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, open_cluster, close_cluster);
    cluster_teardown(NULL);
    return failed;
}
