/* A node that was removed while it was away and comes back as it was started before. */
#include "lib/cluster.h"
#include "lib/http.h"
#include "lib/temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 30000

static bool has_member(const struct cluster *cluster, size_t asked, const char *id)
{
    struct http_answer answer;
    char wanted[64];
    bool found;

    http_run(&(struct http_request){.address = cluster_address(cluster, asked), .path = "/members"},
             &answer);
    assert_int_equal(answer.status, 200);
    snprintf(wanted, sizeof(wanted), "\"id\":\"%s\"", id);
    found = strstr(answer.body, wanted) != NULL;
    http_free(&answer);
    return found;
}

static void log_wait(const struct cluster *cluster, size_t node, const char *text)
{
    uint64_t end = test_now_ms() + WAIT_MS;
    bool found = false;

    while (!found && test_now_ms() < end) {
        char *log = cluster_log(cluster, node);
        found = strstr(log, text) != NULL;
        free(log);
        if (!found)
            test_sleep_ms(20);
    }
    assert_true(found);
}

/* Node 0 was never told to join anybody. */
static void a_removed_node_stays_out_until_it_begins_anew(void **state)
{
    static const char *const flags[] = {"--election-timeout=500ms", "--heartbeat=50ms",
                                        "--flush-interval=50ms", NULL};
    struct cluster *cluster = cluster_start(3, flags);
    struct http_answer answer;
    size_t leader;
    char flag[128];

    (void)state;
    cluster_expect_agreement(cluster);
    cluster_node_kill(cluster, 0);
    leader = cluster_wait_leader(cluster);
    http_run(&(struct http_request){.method = "DELETE",
                                    .address = cluster_address(cluster, leader),
                                    .path = "/members/n0",
                                    .timeout_ms = 40000},
             &answer);
    assert_int_equal(answer.status, 200);
    http_free(&answer);
    cluster_node_start(cluster, 0);
    log_wait(cluster, 0, "no longer a member");
    assert_false(has_member(cluster, leader, "n0"));
    cluster_node_kill(cluster, 0);
    snprintf(flag, sizeof(flag), "--join=%s", cluster_address(cluster, leader));
    cluster_node_flag(cluster, 0, flag);
    temp_folder_remove(cluster_directory(cluster, 0));
    cluster_node_start(cluster, 0);
    cluster_node_wait_ready(cluster, 0);
    assert_true(has_member(cluster, leader, "n0"));
    cluster_stop(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_removed_node_stays_out_until_it_begins_anew, cluster_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
