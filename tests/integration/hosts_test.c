/* Nodes on hosts of their own, in network namespaces, and clients that judge what they saw while
 * the network between the hosts is cut, nodes are killed, stopped or restarted over and over, a
 * disk fills up and a dead node is replaced.
 *
 * TIERKV_ROUNDS sets the number of disturbances of each test, TIERKV_SEED repeats their choice.
 * Skipped where namespaces are not to be had. */
#include "lib/clients.h"
#include "lib/hosts.h"
#include "lib/http.h"
#include "lib/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define NODES          5
#define FEW            3 /* Where a majority of five shows nothing more */
#define ROUNDS_MAX     100
#define WAIT_MS        60000
#define FINDING_TRIALS 4 /* Each finds a defect almost always */
#define SMALL_FS       (192u << 20)
#define FS_LEFT_BYTES  (1u << 20)

static const char *const flags[] = {"--election-timeout=500ms", "--heartbeat=50ms",
                                    "--request-timeout=2s", NULL};

struct trial {
    struct cluster *cluster;
    struct clients *clients;
    struct random random;
    uint64_t rounds;
};

static void require_hosts(void)
{
    if (hosts_count() == 0)
        skip();
}

static void trial_begin(struct trial *trial, struct cluster *cluster, size_t n_nodes,
                        uint64_t rounds)
{
    uint64_t seed = random_seed();

    random_init(&trial->random, seed);
    trial->cluster = cluster;
    trial->rounds = environment_number("TIERKV_ROUNDS", rounds);
    trial->rounds = trial->rounds < ROUNDS_MAX ? trial->rounds : ROUNDS_MAX;
    trial->clients = clients_start(cluster, n_nodes, seed);
    clients_wait(trial->clients, 100);
}

/* All is whole again: the cluster serves, and what was seen is judged. */
static void trial_end(struct trial *trial)
{
    clients_wait(trial->clients, 200);
    clients_stop(trial->clients);
    assert_true(clients_judge(trial->clients));
    clients_free(trial->clients);
    cluster_expect_agreement(trial->cluster);
}

static void kill_node(struct trial *trial, size_t node)
{
    cluster_node_kill(trial->cluster, node);
    clients_node_ended(trial->clients, node);
}

/* ---- Partitions ---- */

/* The node and its successors, n of them, against the rest. */
static void part_from_rest(size_t node, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t other = n; other < NODES; other++)
            hosts_part((node + i) % NODES, (node + other) % NODES);
}

/* Each sees its two neighbours only. */
static void part_to_ring(void)
{
    for (size_t i = 0; i < NODES; i++)
        hosts_part(i, (i + 2) % NODES);
}

/* That the cuts are real: another node leads, whatever the old leader believes. */
static void wait_for_successor(struct cluster *cluster, size_t leader, size_t n_nodes)
{
    uint64_t deadline = test_now_ms() + WAIT_MS;

    for (size_t node = 0;; node = (node + 1) % n_nodes) {
        json_t *status = node != leader ? cluster_status(cluster, node) : NULL;
        const char *role = json_string_value(json_object_get(status, "role"));
        bool leads = role != NULL && strcmp(role, "leader") == 0;
        json_decref(status);
        if (leads)
            return;
        assert_true(test_now_ms() < deadline);
        test_sleep_ms(5);
    }
}

/* A majority that sees each other is left, unless it is a ring. */
static void cut_network(struct trial *trial, uint64_t kind)
{
    size_t leader = cluster_wait_leader(trial->cluster);

    switch (kind % 6) {
    case 0: /* The leader alone */
        part_from_rest(leader, 1);
        break;
    case 1: /* The leader in the minority */
        part_from_rest(leader, 2);
        break;
    case 2: /* Followers in the minority */
        part_from_rest(leader + 1, 2);
        break;
    case 3:
        part_to_ring();
        break;
    case 4: /* Nobody hears the leader, but it hears all */
        for (size_t i = 1; i < NODES; i++)
            hosts_cut(leader, (leader + i) % NODES);
        break;
    default: /* The leader hears nobody, but all hear it */
        for (size_t i = 1; i < NODES; i++)
            hosts_cut((leader + i) % NODES, leader);
    }
    if (kind % 6 != 2 && kind % 6 != 3)
        wait_for_successor(trial->cluster, leader, NODES);
}

static void cuts_of_the_network_show_nobody_anything_wrong(void **state)
{
    struct trial trial;
    uint64_t first;

    (void)state;
    require_hosts();
    trial_begin(&trial, cluster_start(NODES, flags), NODES, 6);
    first = random_below(&trial.random, 6);
    for (uint64_t round = 0; round < trial.rounds; round++) {
        uint64_t kind = first + round;
        cut_network(&trial, kind);
        test_sleep_ms(random_below(&trial.random, 1000)); /* How long it lasts at least */
        if (kind % 6 != 3)
            clients_wait(trial.clients, 50);
        hosts_heal();
        clients_wait(trial.clients, 50);
    }
    trial_end(&trial);
    cluster_stop(trial.cluster);
}

/* ---- Nodes that end ---- */

static void nodes_that_are_killed_and_stopped_lose_nothing(void **state)
{
    struct trial trial;

    (void)state;
    require_hosts();
    trial_begin(&trial, cluster_start(FEW, flags), FEW, 4);
    for (uint64_t round = 0; round < trial.rounds; round++) {
        size_t leader = cluster_wait_leader(trial.cluster);
        size_t node =
            random_below(&trial.random, 3) == 0 ? random_below(&trial.random, FEW) : leader;
        if (round % 2 == 0) {
            kill_node(&trial, node);
            clients_wait(trial.clients, 50);
            cluster_node_start(trial.cluster, node);
        } else {
            cluster_node_signal(trial.cluster, node, SIGSTOP);
            test_sleep_ms(300 + random_below(&trial.random, 1200)); /* The length of the pause */
            cluster_node_signal(trial.cluster, node, SIGCONT);
        }
        cluster_node_wait_ready(trial.cluster, node);
        clients_wait(trial.clients, 50);
    }
    trial_end(&trial);
    cluster_stop(trial.cluster);
}

/* Killed again before they are up, all or some, as by a supervisor of a machine in trouble. */
static void a_storm_of_restarts_loses_nothing(void **state)
{
    struct trial trial;

    (void)state;
    require_hosts();
    trial_begin(&trial, cluster_start(FEW, flags), FEW, 3);
    for (uint64_t round = 0; round < trial.rounds; round++) {
        for (int restart = 0; restart < 8; restart++) {
            size_t node = random_below(&trial.random, FEW);
            kill_node(&trial, node);
            cluster_node_start(trial.cluster, node);
            test_sleep_ms(random_below(&trial.random, 150)); /* As far as it comes */
        }
        for (size_t node = 0; node < FEW; node++)
            cluster_node_wait_ready(trial.cluster, node);
        clients_wait(trial.clients, 100);
    }
    trial_end(&trial);
    cluster_stop(trial.cluster);
}

/* ---- A disk that is full ---- */

/* Takes the room that the file system has, but for a little. */
static void fill_disk(const char *filler)
{
    int file = open(filler, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    struct statvfs fs;

    assert_true(file >= 0);
    assert_int_equal(fstatvfs(file, &fs), 0);
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
    assert_true(left > FS_LEFT_BYTES);
    assert_int_equal(posix_fallocate(file, 0, (off_t)(left - FS_LEFT_BYTES)), 0);
    close(file);
}

static uint64_t occurrences(const char *text, const char *part)
{
    uint64_t n = 0;

    for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
        n++;
    return n;
}

static void wait_for_log(const struct cluster *cluster, size_t node, const char *text,
                         uint64_t times)
{
    uint64_t deadline = test_now_ms() + WAIT_MS, n = 0;

    while (n < times) {
        char *log = cluster_log(cluster, node);
        n = occurrences(log, text);
        free(log);
        assert_true(n >= times || test_now_ms() < deadline);
        test_sleep_ms(10);
    }
}

static void a_full_disk_of_one_node_shows_nobody_anything_wrong(void **state)
{
    struct trial trial;
    struct cluster *cluster;
    char image[600], filler[600];
    bool mounted;

    (void)state;
    require_hosts();
    cluster = cluster_new(FEW, flags);
    cluster_node_flag(cluster, FEW - 1, "--disk-free-bytes-min=0");
    snprintf(image, sizeof image, "%s.image", cluster_directory(cluster, FEW - 1));
    snprintf(filler, sizeof filler, "%s/filler", cluster_directory(cluster, FEW - 1));
    assert_int_equal(mkdir(cluster_directory(cluster, FEW - 1), 0700), 0);
    mounted = hosts_mount_small(cluster_directory(cluster, FEW - 1), image, SMALL_FS);
    if (!mounted)
        skip();
    for (size_t node = 0; node < FEW; node++) {
        cluster_node_start(cluster, node);
        cluster_node_wait_ready(cluster, node);
    }
    trial_begin(&trial, cluster, FEW, 2);
    for (uint64_t round = 0; round < trial.rounds; round++) {
        bool leads = cluster_wait_leader(cluster) == FEW - 1;
        fill_disk(filler);
        wait_for_log(cluster, FEW - 1, "disk of the raft log is full", round + 1);
        if (!leads)
            clients_wait(trial.clients, 100); /* The others go on */
        kill_node(&trial, FEW - 1);
        assert_int_equal(unlink(filler), 0);
        cluster_node_start(cluster, FEW - 1);
        cluster_node_wait_ready(cluster, FEW - 1);
        clients_wait(trial.clients, 100);
    }
    trial_end(&trial);
    hosts_unmount(cluster_directory(cluster, FEW - 1));
    cluster_stop(cluster);
}

/* ---- A node that never comes back ---- */

static void replace(struct cluster *cluster, const char *leaver, size_t node)
{
    uint64_t deadline = test_now_ms() + WAIT_MS;
    char path[64], body[256];
    long status = 0;

    snprintf(path, sizeof path, "/members/%s/replace", leaver);
    snprintf(body, sizeof body, "{\"id\":\"n%zu\",\"httpAddr\":\"%s\",\"raftAddr\":\"%s\"}", node,
             cluster_address(cluster, node), cluster_raft_address(cluster, node));
    while (status != 200 && test_now_ms() < deadline) {
        struct http_answer answer;
        http_run(&(struct http_request){.method = "POST",
                                        .address =
                                            cluster_address(cluster, cluster_wait_leader(cluster)),
                                        .path = path,
                                        .body = body,
                                        .follow = true},
                 &answer);
        status = answer.status;
        if (status != 200)
            print_message("replace: %ld %s\n", status, answer.body != NULL ? answer.body : "");
        http_free(&answer);
    }
    assert_int_equal(status, 200);
}

static void a_dead_node_is_replaced_under_load(void **state)
{
    struct trial trial;
    struct cluster *cluster;

    (void)state;
    require_hosts();
    cluster = cluster_new(FEW + 1, flags);
    for (size_t node = 0; node < FEW; node++) {
        cluster_node_start(cluster, node);
        cluster_node_wait_ready(cluster, node);
    }
    trial_begin(&trial, cluster, FEW, 1);
    kill_node(&trial, FEW - 1);
    clients_wait(trial.clients, 50);
    cluster_node_start(cluster, FEW);
    replace(cluster, "n2", FEW);
    cluster_node_wait_ready(cluster, FEW);
    /* It is a voter: with another one dead, it makes the majority. */
    kill_node(&trial, 1);
    clients_wait(trial.clients, 50);
    cluster_node_start(cluster, 1);
    cluster_node_wait_ready(cluster, 1);
    trial_end(&trial);
    cluster_stop(trial.cluster);
}

/* ---- That breaches are found ---- */

static void make_leader(struct cluster *cluster, size_t node)
{
    uint64_t deadline = test_now_ms() + WAIT_MS;
    char body[32];

    snprintf(body, sizeof body, "{\"id\":\"n%zu\"}", node);
    for (size_t leader; (leader = cluster_wait_leader(cluster)) != node;) {
        struct http_answer answer;
        http_run(&(struct http_request){.method = "POST",
                                        .address = cluster_address(cluster, leader),
                                        .path = "/transfer",
                                        .body = body},
                 &answer);
        http_free(&answer);
        assert_true(test_now_ms() < deadline);
    }
}

/* Whether clients of a cluster with that defect see it, while its leader is cut off again and
 * again. This leader is slow to notice that nobody hears it: the others have long elected a new
 * one. */
static bool is_found(const char *defect)
{
    struct trial trial;
    struct cluster *cluster;
    bool found;

    assert_int_equal(setenv("BROKEN", defect, 1), 0);
    cluster_use_program(BROKEN_PATH);
    cluster = cluster_new(FEW, flags);
    cluster_node_flag(cluster, 0, "--election-timeout=3s");
    for (size_t node = 0; node < FEW; node++) {
        cluster_node_start(cluster, node);
        cluster_node_wait_ready(cluster, node);
    }
    trial_begin(&trial, cluster, FEW, 2);
    for (uint64_t round = 0; round < trial.rounds; round++) {
        make_leader(cluster, 0);
        hosts_part(0, 1);
        hosts_part(0, 2);
        wait_for_successor(cluster, 0, FEW);
        clients_wait(trial.clients, 100);
        hosts_heal();
        clients_wait(trial.clients, 30);
    }
    clients_stop(trial.clients);
    found = clients_verdict(trial.clients) == HISTORY_NOT_LINEARIZABLE;
    clients_free(trial.clients);
    cluster_stop(cluster);
    cluster_use_program(NULL);
    return found;
}

/* On a machine that is busy with other work the clients may all come too late to see it. */
static bool is_found_in_time(const char *defect)
{
    bool found = false;

    for (int trials = 0; trials < FINDING_TRIALS && !found; trials++)
        found = is_found(defect);
    return found;
}

static void a_read_without_a_quorum_is_found(void **state)
{
    (void)state;
    require_hosts();
    assert_true(is_found_in_time("read without a quorum"));
}

static void an_answer_before_the_commit_is_found(void **state)
{
    (void)state;
    require_hosts();
    assert_true(is_found_in_time("answer before commit"));
}

static void without_a_defect_nothing_is_found(void **state)
{
    (void)state;
    require_hosts();
    assert_false(is_found("no"));
}

static int teardown(void **state)
{
    clients_teardown();
    cluster_use_program(NULL);
    if (hosts_count() > 0)
        hosts_heal();
    return cluster_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(cuts_of_the_network_show_nobody_anything_wrong, teardown),
        cmocka_unit_test_teardown(nodes_that_are_killed_and_stopped_lose_nothing, teardown),
        cmocka_unit_test_teardown(a_storm_of_restarts_loses_nothing, teardown),
        cmocka_unit_test_teardown(a_full_disk_of_one_node_shows_nobody_anything_wrong, teardown),
        cmocka_unit_test_teardown(a_dead_node_is_replaced_under_load, teardown),
        cmocka_unit_test_teardown(a_read_without_a_quorum_is_found, teardown),
        cmocka_unit_test_teardown(an_answer_before_the_commit_is_found, teardown),
        cmocka_unit_test_teardown(without_a_defect_nothing_is_found, teardown),
    };

    hosts_open(NODES);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
