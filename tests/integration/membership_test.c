/* Members come, go and move while real processes run: by the command line, by signals. */
#include "lib/cluster.h"
#include "lib/http.h"
#include "lib/port.h"
#include "lib/process.h"
#include "lib/random.h"
#include "lib/temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 30000

static const char *const flags[] = {"--election-timeout=500ms", "--heartbeat=50ms", NULL};

/* Runs `tierkv -t 40s members …` and checks its exit code. */
#define MEMBERS(cluster, status, ...)                                                              \
    members((cluster), (status),                                                                   \
            (const char *[16]){TIERKV_PATH, "-t", "40s", "-e", cluster_endpoints(cluster),         \
                               "members", __VA_ARGS__, NULL})

static void members(struct cluster *cluster, int status, const char *const arguments[])
{
    struct process_result result;

    (void)cluster;
    process_run(arguments, NULL, 0, WAIT_MS * 2, &result);
    if (result.status != status)
        print_message("tierkv members %s: status %d: %s\n", arguments[6], result.status,
                      result.errors);
    assert_int_equal(result.status, status);
    process_result_free(&result);
}

/* Whether GET /members of the leader has that text. */
static bool leader_lists(struct cluster *cluster, const char *text)
{
    struct http_answer answer;
    bool found;

    http_run(
        &(struct http_request){.address = cluster_address(cluster, cluster_wait_leader(cluster)),
                               .path = "/members"},
        &answer);
    found = answer.body != NULL && strstr(answer.body, text) != NULL;
    http_free(&answer);
    return found;
}

static void wait_until_listed(struct cluster *cluster, const char *text)
{
    uint64_t deadline = test_now_ms() + WAIT_MS;

    while (!leader_lists(cluster, text)) {
        assert_true(test_now_ms() < deadline);
        test_sleep_ms(10);
    }
}

static void write_through_leader(struct cluster *cluster, const char *value)
{
    long status = 0;
    uint64_t deadline = test_now_ms() + WAIT_MS;

    while (status != 200 && test_now_ms() < deadline) {
        struct http_answer answer;
        http_run(&(struct http_request){.method = "PUT",
                                        .address =
                                            cluster_address(cluster, cluster_wait_leader(cluster)),
                                        .path = "/key/k",
                                        .body = value,
                                        .follow = true},
                 &answer);
        status = answer.status;
        http_free(&answer);
    }
    assert_int_equal(status, 200);
}

static void a_killed_member_is_replaced_from_the_command_line(void **state)
{
    struct cluster *cluster = cluster_new(4, flags);

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        cluster_node_start(cluster, i);
        cluster_node_wait_ready(cluster, i);
    }
    write_through_leader(cluster, "1");
    cluster_node_kill(cluster, 2);
    cluster_node_start(cluster, 3);
    MEMBERS(cluster, 0, "replace", "n2", "n3", cluster_address(cluster, 3),
            cluster_raft_address(cluster, 3));
    cluster_node_wait_ready(cluster, 3);
    assert_true(leader_lists(cluster, "\"n3\""));
    assert_false(leader_lists(cluster, "\"n2\""));
    MEMBERS(cluster, 0, "transfer", "n3");
    assert_int_equal(cluster_wait_leader(cluster), 3);
    write_through_leader(cluster, "2");
    MEMBERS(cluster, 0, "remove", "n3"); /* It leads: its successor does it */
    assert_int_not_equal(cluster_wait_leader(cluster), 3);
    write_through_leader(cluster, "3");
    MEMBERS(cluster, 1, "remove", "n3");
    MEMBERS(cluster, 2, "remove", "a/b");
    MEMBERS(cluster, 2, "promote", "n0");
    cluster_node_kill(cluster, 3);
    cluster_expect_agreement(cluster);
    cluster_stop(cluster);
}

static void a_leader_hands_over_before_it_stops(void **state)
{
    struct cluster *cluster = cluster_start(3, flags);
    size_t leader = cluster_wait_leader(cluster);
    char *log;

    (void)state;
    write_through_leader(cluster, "1");
    cluster_node_signal(cluster, leader, SIGTERM);
    assert_int_equal(cluster_node_wait_exit(cluster, leader, WAIT_MS), 0);
    log = cluster_log(cluster, leader);
    assert_non_null(strstr(log, "change=\"transfer of leadership\" name=\"\" result=done"));
    free(log);
    assert_int_not_equal(cluster_wait_leader(cluster), leader);
    write_through_leader(cluster, "2");
    cluster_node_start(cluster, leader);
    cluster_node_wait_ready(cluster, leader);
    cluster_expect_agreement(cluster);
    cluster_stop(cluster);
}

static void a_node_that_comes_back_elsewhere_tells_the_cluster(void **state)
{
    struct cluster *cluster = cluster_start(3, flags);
    char address[32], flag[64];

    (void)state;
    write_through_leader(cluster, "1");
    cluster_node_kill(cluster, 1);
    write_through_leader(cluster, "2");
    snprintf(address, sizeof(address), "127.0.0.1:%u", port_free());
    snprintf(flag, sizeof(flag), "--raft-listen=%s", address);
    cluster_node_flag(cluster, 1, flag);
    cluster_node_start(cluster, 1);
    cluster_node_wait_ready(cluster, 1);
    wait_until_listed(cluster, address);
    cluster_expect_agreement(cluster);
    /* It is part of the quorum again. */
    cluster_node_kill(cluster, 2);
    write_through_leader(cluster, "3");
    cluster_stop(cluster);
}

/* It is refused for now, and the answer says with what outcome. */
static void assert_removal_unavailable(const char *address, const char *path, const char *outcome)
{
    struct http_answer answer;

    http_run(
        &(struct http_request){
            .method = "DELETE", .address = address, .path = path, .timeout_ms = WAIT_MS},
        &answer);
    assert_int_equal(answer.status, 503);
    assert_non_null(strstr(answer.body, outcome));
    http_free(&answer);
}

/* The leader cannot commit the removal that it has begun, and steps down: it does not know whether
 * the next one will. */
static void a_removal_that_is_begun_and_lost_says_that_its_outcome_is_unknown(void **state)
{
    struct cluster *cluster = cluster_start(3, flags);
    size_t leader = cluster_wait_leader(cluster);
    size_t stopped = (leader + 1) % 3, leaving = (leader + 2) % 3;
    char path[64];

    (void)state;
    write_through_leader(cluster, "1");
    cluster_node_signal(cluster, stopped, SIGSTOP);
    snprintf(path, sizeof(path), "/members/n%zu?force=true", leaving);
    assert_removal_unavailable(cluster_address(cluster, leader), path, "\"outcome\":\"unknown\"");
    /* Whoever asks when nothing can be begun is told so. */
    assert_removal_unavailable(cluster_address(cluster, leader), path,
                               "\"outcome\":\"not applied\"");
    cluster_node_signal(cluster, stopped, SIGCONT);
    write_through_leader(cluster, "2");
    cluster_node_kill(cluster, leaving);
    cluster_expect_agreement(cluster);
    cluster_stop(cluster);
}

static void a_node_that_cannot_be_reached_does_not_stop_changes(void **state)
{
    struct cluster *cluster = cluster_new(4, flags);
    char flag[64];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        cluster_node_start(cluster, i);
        cluster_node_wait_ready(cluster, i);
    }
    snprintf(flag, sizeof(flag), "--raft-address=127.0.0.1:%u", port_free());
    cluster_node_flag(cluster, 3, flag);
    cluster_node_start(cluster, 3);
    wait_until_listed(cluster, "\"n3\"");
    uint64_t began = test_now_ms();
    MEMBERS(cluster, 0, "remove", "n2");
    assert_true(test_now_ms() - began < WAIT_MS / 3);
    cluster_node_kill(cluster, 2);
    cluster_node_kill(cluster, 3);
    MEMBERS(cluster, 0, "remove", "n3");
    assert_true(test_now_ms() - began < WAIT_MS / 3);
    write_through_leader(cluster, "1");
    cluster_expect_agreement(cluster);
    cluster_stop(cluster);
}

/* Small log and tiers, so that little is enough to leave a node behind, and all tiers are used. */
static const char *const small_flags[] = {
    "--election-timeout=500ms", "--heartbeat=50ms",          "--log-cache-bytes=1MiB",
    "--log-retained-bytes=0",   "--hot-bytes=4MiB",          "--warm-bytes=4MiB",
    "--flush-interval=50ms",    "--cold-segment-bytes=1MiB", NULL};

static void fill(struct cluster *cluster, size_t from, size_t to)
{
    static char value[16384];

    random_text(1, value, sizeof value);
    for (size_t i = from; i < to; i++) {
        struct http_answer answer;
        char path[32];
        snprintf(path, sizeof(path), "/key/fill%zu", i);
        http_run(&(struct http_request){.method = "PUT",
                                        .address =
                                            cluster_address(cluster, cluster_wait_leader(cluster)),
                                        .path = path,
                                        .body = value},
                 &answer);
        assert_int_equal(answer.status, 200);
        http_free(&answer);
    }
}

/* The node lists itself as too far behind until it has started on the state of another. */
static void wait_for_transfer(struct cluster *cluster, size_t node)
{
    uint64_t deadline = test_now_ms() + WAIT_MS;
    bool received = false;

    while (!received) {
        char *log = cluster_log(cluster, node);
        received =
            strstr(log, "event=\"log replaced: it continues the state that was received\"") != NULL;
        free(log);
        assert_true(test_now_ms() < deadline);
        test_sleep_ms(10);
    }
    cluster_node_wait_ready(cluster, node);
}

static void a_node_that_was_away_for_long_gets_the_state(void **state)
{
    struct cluster *cluster = cluster_start(3, small_flags);

    (void)state;
    fill(cluster, 0, 50);
    cluster_node_kill(cluster, 2);
    fill(cluster, 0, 1000);
    cluster_node_start(cluster, 2);
    wait_for_transfer(cluster, 2);
    cluster_expect_agreement(cluster);
    assert_true(cluster_status_number(cluster, 2, "tiers.cold_keys") > 0);
    /* It is a full member: with it and without another there is a quorum. */
    cluster_node_kill(cluster, 1);
    write_through_leader(cluster, "1");
    cluster_node_kill(cluster, 2);
    cluster_node_start(cluster, 1);
    cluster_node_start(cluster, 2);
    cluster_node_wait_ready(cluster, 1);
    cluster_node_wait_ready(cluster, 2);
    cluster_expect_agreement(cluster);
    cluster_stop(cluster);
}

/* Killed at whatever moment of the transfer, it comes back with the old state or the new. */
static void a_node_that_is_killed_while_it_gets_the_state_begins_anew(void **state)
{
    struct cluster *cluster = cluster_new(3, small_flags);

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        cluster_node_flag(cluster, i, "--transfer-bytes-per-second-max=16MiB");
        cluster_node_start(cluster, i);
        cluster_node_wait_ready(cluster, i);
    }
    cluster_node_kill(cluster, 2);
    fill(cluster, 0, 700);
    for (uint64_t pause_ms = 40; pause_ms <= 400; pause_ms += 60) {
        cluster_node_start(cluster, 2);
        test_sleep_ms(pause_ms); /* Not for anything: the moment is what varies */
        cluster_node_kill(cluster, 2);
    }
    cluster_node_start(cluster, 2);
    wait_for_transfer(cluster, 2);
    cluster_expect_agreement(cluster);
    cluster_stop(cluster);
}

/* A node that is down has lost its disk, and replaces itself. */
static void replace_by_itself(struct cluster *cluster, size_t node)
{
    char incarnation[32], name[8];
    json_t *status;

    snprintf(name, sizeof(name), "n%zu", node);
    temp_folder_remove(cluster_directory(cluster, node));
    cluster_node_start(cluster, node);
    uint64_t deadline = test_now_ms() + WAIT_MS;
    while ((status = cluster_status(cluster, node)) == NULL) {
        assert_true(test_now_ms() < deadline);
        test_sleep_ms(10);
    }
    snprintf(incarnation, sizeof(incarnation), "%s",
             json_string_value(json_object_get(status, "incarnation")));
    json_decref(status);
    MEMBERS(cluster, 0, "replace", name, name, cluster_address(cluster, node),
            cluster_raft_address(cluster, node), incarnation);
    cluster_node_wait_ready(cluster, node);
}

/* Node 1 has the replacement of node 2 in its log only, and after its start does not know yet that
 * it is committed: to learn that it has to vote for node 2. */
static void who_has_yet_to_apply_a_replacement_votes_for_the_replaced(void **state)
{
    static const char *const late_flags[] = {"--election-timeout=500ms", "--heartbeat=50ms",
                                             "--flush-interval=600s", NULL};
    struct cluster *cluster = cluster_start(3, late_flags);

    (void)state;
    write_through_leader(cluster, "1");
    cluster_node_signal(cluster, 1, SIGTERM); /* Then its tiers have all of the old table */
    assert_int_equal(cluster_node_wait_exit(cluster, 1, WAIT_MS), 0);
    cluster_node_start(cluster, 1);
    cluster_node_wait_ready(cluster, 1);
    if (cluster_wait_leader(cluster) != 0)
        MEMBERS(cluster, 0, "transfer", "n0");
    cluster_node_kill(cluster, 2);
    replace_by_itself(cluster, 2);
    write_through_leader(cluster, "2");
    cluster_expect_agreement(cluster);
    for (size_t i = 0; i < 3; i++)
        cluster_node_kill(cluster, i);
    cluster_node_start(cluster, 1);
    cluster_node_start(cluster, 2);
    write_through_leader(cluster, "3");
    cluster_stop(cluster);
}

/* Node 0 is the one that is started without --join. */
static void a_founder_that_lost_its_data_does_not_go_on_alone(void **state)
{
    struct cluster *cluster = cluster_start(3, flags);
    char *log;

    (void)state;
    write_through_leader(cluster, "1");
    cluster_node_kill(cluster, 0);
    write_through_leader(cluster, "2");
    temp_folder_remove(cluster_directory(cluster, 0));
    cluster_node_start(cluster, 0);
    assert_int_equal(cluster_node_wait_exit(cluster, 0, WAIT_MS), 1);
    log = cluster_log(cluster, 0);
    assert_non_null(strstr(log, "this node's data was lost"));
    assert_non_null(strstr(log, "--join"));
    free(log);
    cluster_node_start(cluster, 0);
    assert_int_equal(cluster_node_wait_exit(cluster, 0, WAIT_MS), 1);
    write_through_leader(cluster, "3");
    /* As it is told. */
    char join[64];
    snprintf(join, sizeof(join), "--join=%s", cluster_address(cluster, 1));
    cluster_node_flag(cluster, 0, join);
    replace_by_itself(cluster, 0);
    write_through_leader(cluster, "4");
    cluster_expect_agreement(cluster);
    cluster_stop(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_killed_member_is_replaced_from_the_command_line,
                                  cluster_teardown),
        cmocka_unit_test_teardown(a_leader_hands_over_before_it_stops, cluster_teardown),
        cmocka_unit_test_teardown(a_node_that_comes_back_elsewhere_tells_the_cluster,
                                  cluster_teardown),
        cmocka_unit_test_teardown(a_founder_that_lost_its_data_does_not_go_on_alone,
                                  cluster_teardown),
        cmocka_unit_test_teardown(a_removal_that_is_begun_and_lost_says_that_its_outcome_is_unknown,
                                  cluster_teardown),
        cmocka_unit_test_teardown(a_node_that_cannot_be_reached_does_not_stop_changes,
                                  cluster_teardown),
        cmocka_unit_test_teardown(who_has_yet_to_apply_a_replacement_votes_for_the_replaced,
                                  cluster_teardown),
        cmocka_unit_test_teardown(a_node_that_was_away_for_long_gets_the_state, cluster_teardown),
        cmocka_unit_test_teardown(a_node_that_is_killed_while_it_gets_the_state_begins_anew,
                                  cluster_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
