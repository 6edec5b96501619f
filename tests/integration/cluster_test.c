/* Three nodes: redirects, levels of reads, failover and return. */
#include "lib/cluster.h"
#include "lib/http.h"
#include "lib/load.h"
#include "lib/process.h"
#include "lib/random.h"
#include "tierkv/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const flags[] = {"--election-timeout=500ms", "--heartbeat=50ms", NULL};

/* Some node that does not lead. */
static size_t follower_of(size_t leader)
{
    return (leader + 1) % 3;
}

static long request_status(struct http_request request)
{
    struct http_answer answer;
    http_run(&request, &answer);
    http_free(&answer);
    return answer.status;
}

static void writes_through_every_node_reach_all_when_redirects_are_followed(void **state)
{
    struct cluster *cluster = cluster_start(3, flags);
    char path[64], body[64];

    (void)state;
    for (size_t i = 0; i < 3; i++)
        for (enum http_version version = HTTP_1_1; version <= HTTP_2; version++) {
            snprintf(body, sizeof(body), "{\"k%zu%d\":\"v%zu\"}", i, version, i);
            assert_int_equal(
                request_status((struct http_request){.method = "POST",
                                                     .address = cluster_address(cluster, i),
                                                     .path = "/key",
                                                     .body = body,
                                                     .follow = true,
                                                     .version = version}),
                200);
            snprintf(path, sizeof(path), "/key/k%zu%d?level=consistent&raw", i, version);
            for (size_t j = 0; j < 3; j++) {
                struct http_answer answer;
                http_run(&(struct http_request){.address = cluster_address(cluster, j),
                                                .path = path,
                                                .follow = true},
                         &answer);
                assert_int_equal(answer.status, 200);
                assert_int_equal(answer.body[1], (int)('0' + i));
                http_free(&answer);
            }
        }
    cluster_expect_agreement(cluster);
    cluster_stop(cluster);
}

static void curl_with_l_works_through_each_node(void **state)
{
    struct cluster *cluster = cluster_start(3, flags);

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char script[1024];
        struct process_result result;
        snprintf(script, sizeof(script),
                 "set -e\n"
                 "curl -sS -L -XPOST %1$s/key -d '{\"n%2$zu\": \"v%2$zu\"}' >/dev/null\n"
                 "curl -sS -L -XGET %1$s/key/n%2$zu\n"
                 "curl -sS -L -XDELETE %1$s/key/n%2$zu >/dev/null\n"
                 "curl -sS -L -o /dev/null -w '%%{http_code}' -XGET %1$s/key/n%2$zu\n",
                 cluster_address(cluster, i), i);
        process_run((const char *const[]){"/bin/sh", "-c", script, NULL}, NULL, 0, 30000, &result);
        char wanted[64];
        snprintf(wanted, sizeof(wanted), "{\"n%zu\":\"v%zu\"}\n404", i, i);
        assert_string_equal(result.errors, "");
        assert_string_equal(result.output, wanted);
        process_result_free(&result);
    }
    cluster_stop(cluster);
}

static void a_follower_redirects_to_the_leader_and_keeps_path_and_query(void **state)
{
    static const char *const paths[] = {"/key/a%2Fb/../c?raw&x=%20y", "/key/k", "/key/%ff?raw"};
    static const char *const methods[] = {"GET", "PUT", "DELETE"};
    struct cluster *cluster = cluster_start(3, flags);
    size_t leader = cluster_wait_leader(cluster);

    (void)state;
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 3; j++) {
            struct http_answer answer;
            char wanted[256];
            http_run(
                &(struct http_request){.method = methods[i],
                                       .address = cluster_address(cluster, follower_of(leader)),
                                       .path = paths[j],
                                       .body = i == 1 ? "v" : NULL},
                &answer);
            assert_int_equal(answer.status, 307);
            snprintf(wanted, sizeof(wanted), "http://%s%s", cluster_address(cluster, leader),
                     paths[j]);
            assert_string_equal(http_header(&answer, "Location"), wanted);
            http_free(&answer);
        }
    cluster_stop(cluster);
}

/* Whether /members of a node names both addresses of every node. */
static bool lists_all(struct cluster *cluster, size_t node)
{
    struct http_answer answer;
    bool all = true;
    http_run(&(struct http_request){.address = cluster_address(cluster, node), .path = "/members"},
             &answer);
    for (size_t i = 0; i < 3; i++)
        all = all && strstr(answer.body, cluster_address(cluster, i)) != NULL &&
              strstr(answer.body, cluster_raft_address(cluster, i)) != NULL;
    http_free(&answer);
    return all;
}

static void every_node_lists_all_members(void **state)
{
    struct cluster *cluster = cluster_start(3, flags);

    (void)state;
    cluster_expect_agreement(cluster); /* A node that is ready may still miss who joined last */
    for (size_t i = 0; i < 3; i++) {
        /* A follower learns of the last one with the next heartbeat. */
        uint64_t deadline = test_now_ms() + 10000;
        while (!lists_all(cluster, i)) {
            assert_true(test_now_ms() < deadline);
            test_sleep_ms(10);
        }
    }
    cluster_stop(cluster);
}

static void joining_again_is_harmless(void **state)
{
    struct cluster *cluster = cluster_start(3, flags);
    struct tierkv_client_options options = {.endpoints = cluster_endpoints(cluster),
                                            .timeout_ms = 20000};
    struct tierkv_client *client = NULL;

    (void)state;
    assert_int_equal(tierkv_client_open(&options, &client), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            tierkv_join(client,
                        &(struct tierkv_node){.name = "n1",
                                              .http_address = cluster_address(cluster, 1),
                                              .raft_address = cluster_raft_address(cluster, 1)}),
            0);
    tierkv_client_close(client);
    cluster_expect_agreement(cluster);
    cluster_stop(cluster);
}

static void a_consistent_read_sees_every_write_before_it_through_any_node(void **state)
{
    struct cluster *cluster = cluster_start(3, flags);
    struct tierkv_client *writer = NULL, *readers[3] = {NULL};
    struct tierkv_client_options options = {.endpoints = cluster_endpoints(cluster)};

    (void)state;
    assert_int_equal(tierkv_client_open(&options, &writer), 0);
    for (size_t i = 0; i < 3; i++) {
        options.endpoints = cluster_address(cluster, i);
        assert_int_equal(tierkv_client_open(&options, &readers[i]), 0);
    }
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t revision, mod_revision;
        void *value;
        size_t length;
        assert_int_equal(tierkv_put(writer, "k", 1, &i, sizeof(i), &revision), 0);
        assert_int_equal(tierkv_get(readers[i % 3], "k", 1, TIERKV_LEVEL_CONSISTENT, &value,
                                    &length, &mod_revision),
                         0);
        assert_int_equal(length, sizeof(i));
        assert_memory_equal(value, &i, sizeof(i));
        assert_true(mod_revision == revision);
        free(value);
    }
    for (size_t i = 0; i < 3; i++)
        tierkv_client_close(readers[i]);
    tierkv_client_close(writer);
    cluster_stop(cluster);
}

static void writes_go_on_after_the_leader_was_killed_and_it_can_come_back(void **state)
{
    struct cluster *cluster = cluster_start(3, flags);
    struct load *load = load_start(&(struct load_options){.endpoints = cluster_endpoints(cluster),
                                                          .n_threads = 4,
                                                          .n_keys = 20,
                                                          .value_bytes = 512,
                                                          .timeout_ms = 15000,
                                                          .seed = random_seed()});

    (void)state;
    load_wait(load, 200, 30000);
    size_t leader = cluster_wait_leader(cluster);
    cluster_node_kill(cluster, leader);
    load_wait(load, 200, 30000);
    assert_int_not_equal(cluster_wait_leader(cluster), leader);
    cluster_node_start(cluster, leader);
    cluster_node_wait_ready(cluster, leader);
    load_wait(load, 200, 30000);
    load_pause(load);
    cluster_expect_agreement(cluster);
    load_verify(load, cluster_address(cluster, leader));
    load_free(load);
    cluster_stop(cluster);
}

static void one_node_of_three_alone_takes_no_writes_but_answers_stale_reads(void **state)
{
    struct cluster *cluster = cluster_start(3, flags);
    const char *survivor;

    (void)state;
    assert_int_equal(request_status((struct http_request){.method = "PUT",
                                                          .address = cluster_address(cluster, 0),
                                                          .path = "/key/k",
                                                          .body = "v",
                                                          .follow = true}),
                     200);
    cluster_expect_agreement(cluster);
    size_t leader = cluster_wait_leader(cluster);
    for (size_t i = 0; i < 3; i++)
        if (i != follower_of(leader))
            cluster_node_kill(cluster, i);
    survivor = cluster_address(cluster, follower_of(leader));
    /* Until it notices that the leader is gone it names it. */
    uint64_t deadline = test_now_ms() + 20000;
    long status = 0;
    while (status != 503 && test_now_ms() < deadline) {
        struct http_answer answer;
        http_run(
            &(struct http_request){
                .method = "PUT", .address = survivor, .path = "/key/k", .body = "w"},
            &answer);
        status = answer.status;
        assert_true(status == 503 || status == 307);
        if (status == 503)
            assert_non_null(http_header(&answer, "Retry-After"));
        http_free(&answer);
        test_sleep_ms(20);
    }
    assert_int_equal(status, 503);
    struct http_answer answer;
    http_run(&(struct http_request){.address = survivor, .path = "/key/k?raw&level=stale"},
             &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "v");
    http_free(&answer);
    assert_int_not_equal(http_get_status(survivor, "/key/k?level=consistent"), 200);
    assert_int_equal(http_get_status(survivor, "/livez"), 200);
    assert_int_not_equal(http_get_status(survivor, "/readyz"), 200);
    for (size_t i = 0; i < 3; i++)
        if (!cluster_node_running(cluster, i))
            cluster_node_start(cluster, i);
    for (size_t i = 0; i < 3; i++)
        cluster_node_wait_ready(cluster, i);
    cluster_expect_agreement(cluster);
    cluster_stop(cluster);
}

static void a_leader_that_was_cut_off_does_not_answer_with_old_values(void **state)
{
    struct cluster *cluster = cluster_start(3, flags);
    struct tierkv_client *client = NULL;
    char others[128] = "";

    (void)state;
    assert_int_equal(request_status((struct http_request){.method = "PUT",
                                                          .address = cluster_address(cluster, 0),
                                                          .path = "/key/k",
                                                          .body = "old",
                                                          .follow = true}),
                     200);
    size_t leader = cluster_wait_leader(cluster);
    for (size_t i = 0; i < 3; i++)
        if (i != leader)
            snprintf(others + strlen(others), sizeof(others) - strlen(others), "%s%s",
                     *others != '\0' ? "," : "", cluster_address(cluster, i));
    cluster_node_signal(cluster, leader, SIGSTOP);
    struct tierkv_client_options options = {.endpoints = others, .timeout_ms = 1000};
    assert_int_equal(tierkv_client_open(&options, &client), 0);
    uint64_t deadline = test_now_ms() + 30000;
    int status = -1;
    while (status != 0 && test_now_ms() < deadline)
        status = tierkv_put(client, "k", 1, "new", 3, NULL);
    assert_int_equal(status, 0);
    tierkv_client_close(client);
    cluster_node_signal(cluster, leader, SIGCONT);
    for (int i = 0; i < 50; i++) {
        struct http_answer answer;
        http_run(&(struct http_request){.address = cluster_address(cluster, leader),
                                        .path = "/key/k?raw&level=consistent",
                                        .follow = true},
                 &answer);
        if (answer.status == 200)
            assert_string_equal(answer.body, "new");
        http_free(&answer);
    }
    cluster_node_wait_ready(cluster, leader);
    cluster_expect_agreement(cluster);
    cluster_stop(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(writes_through_every_node_reach_all_when_redirects_are_followed,
                                  cluster_teardown),
        cmocka_unit_test_teardown(curl_with_l_works_through_each_node, cluster_teardown),
        cmocka_unit_test_teardown(a_follower_redirects_to_the_leader_and_keeps_path_and_query,
                                  cluster_teardown),
        cmocka_unit_test_teardown(every_node_lists_all_members, cluster_teardown),
        cmocka_unit_test_teardown(joining_again_is_harmless, cluster_teardown),
        cmocka_unit_test_teardown(a_consistent_read_sees_every_write_before_it_through_any_node,
                                  cluster_teardown),
        cmocka_unit_test_teardown(writes_go_on_after_the_leader_was_killed_and_it_can_come_back,
                                  cluster_teardown),
        cmocka_unit_test_teardown(one_node_of_three_alone_takes_no_writes_but_answers_stale_reads,
                                  cluster_teardown),
        cmocka_unit_test_teardown(a_leader_that_was_cut_off_does_not_answer_with_old_values,
                                  cluster_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
