/* Replicas in one process: threads, real backends in temporary folders, loopback connections. */
#include "raft/replica.h"

#include "log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NODES       3
#define WAIT_MS_MAX 20000

struct node {
    struct tiers *tiers;
    _Atomic(struct replica *) replica;
    struct inbox *reply;
    char raft_address[64];
    char http_address[64];
    char name[16];
    char directory[64];
};

struct fixture {
    char directory[32];
    struct node nodes[NODES];
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void on_durable(void *context, uint64_t index)
{
    struct replica *replica = ((struct node *)context)->replica;
    if (replica != NULL)
        replica_on_durable(replica, index);
}

static void on_ready(void *context)
{
    struct replica *replica = ((struct node *)context)->replica;
    if (replica != NULL)
        replica_on_tiers_ready(replica);
}

static void on_failed(void *context, const char *reason)
{
    (void)context;
    fprintf(stderr, "replica failed: %s\n", reason);
}

static void node_start(struct node *node, bool bootstrap)
{
    struct tiers_options tiers;
    char warm[160], cold[160], raft[160], identity[160], error[512];
    struct replica *replica = NULL;

    snprintf(warm, sizeof warm, "%s/warm", node->directory);
    snprintf(cold, sizeof cold, "%s/cold", node->directory);
    snprintf(raft, sizeof raft, "%s/raft", node->directory);
    snprintf(identity, sizeof identity, "%s/node", node->directory);
    mkdir(node->directory, 0700);
    mkdir(raft, 0700);
    tiers_options_init(&tiers);
    tiers.warm_dir = warm;
    tiers.cold_dir = cold;
    tiers.hot_bytes = 8 << 20;
    tiers.warm_bytes = 64 << 20;
    tiers.warm_map_bytes = 1ull << 30;
    tiers.flush_interval_ms = 50;
    tiers.context = node;
    tiers.on_durable = on_durable;
    tiers.on_ready = on_ready;
    if (tiers_open(&tiers, &node->tiers, error, sizeof error) != 0)
        fail_msg("tiers: %s", error);
    struct replica_options options = {.directory = raft,
                                      .identity_path = identity,
                                      .name = node->name,
                                      .raft_address = node->raft_address,
                                      .raft_listen = node->raft_address,
                                      .http_address = node->http_address,
                                      .bootstrap = bootstrap,
                                      .election_timeout_ms = 300,
                                      .heartbeat_ms = 50,
                                      .operations_max = 1024,
                                      .operations_bytes_max = 16 << 20,
                                      .entry_bytes_max = 1 << 20,
                                      .entries_in_flight_max = 8,
                                      .log_cache_bytes = 1 << 20,
                                      .tiers = node->tiers,
                                      .on_failed = on_failed,
                                      .context = node};
    if (replica_start(&options, &replica, error, sizeof error) != 0)
        fail_msg("replica: %s", error);
    node->replica = replica;
}

static void node_stop(struct node *node)
{
    struct replica *replica = node->replica;
    if (replica == NULL)
        return;
    replica_stop(replica);
    node->replica = NULL;
    assert_int_equal(tiers_close(node->tiers), 0);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    snprintf(fixture->directory, sizeof fixture->directory, "/tmp/tierkv-raft-XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    for (int i = 0; i < NODES; i++) {
        struct node *node = &fixture->nodes[i];
        snprintf(node->name, sizeof node->name, "node%d", i + 1);
        memcpy(node->directory, fixture->directory, sizeof fixture->directory);
        node->directory[strlen(node->directory) + 1] = 0;
        node->directory[strlen(node->directory)] = (char)(0x61 + i);
        snprintf(node->raft_address, sizeof node->raft_address, "127.0.0.1:%d", free_port());
        snprintf(node->http_address, sizeof node->http_address, "127.0.0.1:%d", free_port());
        node->reply = inbox_new(4096);
    }
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    for (int i = 0; i < NODES; i++) {
        node_stop(&fixture->nodes[i]);
        inbox_free(fixture->nodes[i].reply);
    }
    snprintf(command, sizeof command, "rm -rf %s %s?", fixture->directory, fixture->directory);
    assert_int_equal(system(command), 0);
    free(fixture);
    return 0;
}

/* Submits and waits; the status. The caller frees the operation. */
static int submit(struct node *node, struct replica_operation *operation)
{
    struct pollfd poll_fd = {.fd = inbox_fd(node->reply), .events = POLLIN};
    int rv;
    operation->reply = node->reply;
    rv = replica_submit(node->replica, operation);
    if (rv != 0)
        return rv;
    for (;;) {
        struct inbox_item *item = inbox_take(node->reply);
        if (item != NULL) {
            assert_ptr_equal(item, operation);
            assert_null(item->next);
            return operation->status;
        }
        assert_int_equal(poll(&poll_fd, 1, WAIT_MS_MAX * 3), 1);
    }
}

static int put(struct node *node, const char *key, const char *value)
{
    struct replica_put one = {key, strlen(key), value, strlen(value)};
    struct replica_operation *operation = replica_put_new(&one, 1);
    int rv = submit(node, operation);
    replica_operation_free(operation);
    return rv;
}

static int read_index(struct node *node)
{
    struct replica_operation *operation = replica_read_index_new();
    int rv = submit(node, operation);
    replica_operation_free(operation);
    return rv;
}

static int join(struct node *leader, struct node *node)
{
    struct replica_join request = {.incarnation = replica_incarnation(node->replica)};
    struct replica_operation *operation;
    int rv;
    snprintf(request.name, sizeof request.name, "%s", node->name);
    snprintf(request.http_address, sizeof request.http_address, "%s", node->http_address);
    snprintf(request.raft_address, sizeof request.raft_address, "%s", node->raft_address);
    operation = replica_join_new(&request);
    rv = submit(leader, operation);
    replica_operation_free(operation);
    return rv;
}

static struct node *wait_for_leader(struct fixture *fixture)
{
    uint64_t end = now_ms() + WAIT_MS_MAX;
    while (now_ms() < end) {
        for (int i = 0; i < NODES; i++)
            if (fixture->nodes[i].replica != NULL && replica_is_leader(fixture->nodes[i].replica))
                return &fixture->nodes[i];
        usleep(2000);
    }
    fail_msg("no leader");
    return NULL;
}

static void wait_for_agreement(struct fixture *fixture)
{
    uint64_t end = now_ms() + WAIT_MS_MAX;
    while (now_ms() < end) {
        struct tiers_position first = {0}, other;
        bool equal = true, have = false;
        for (int i = 0; i < NODES; i++) {
            if (fixture->nodes[i].replica == NULL)
                continue;
            tiers_position_applied(fixture->nodes[i].tiers, &other);
            if (!have) {
                first = other;
                have = true;
            } else if (other.index == first.index) {
                assert_true(other.state_hash == first.state_hash);
                assert_true(other.revision == first.revision);
            } else {
                equal = false;
            }
        }
        if (equal)
            return;
        usleep(2000);
    }
    fail_msg("the nodes do not reach the same index");
}

static void three_nodes(struct fixture *fixture)
{
    node_start(&fixture->nodes[0], true);
    struct node *leader = wait_for_leader(fixture);
    for (int i = 1; i < NODES; i++) {
        node_start(&fixture->nodes[i], false);
        assert_int_equal(join(leader, &fixture->nodes[i]), 0);
    }
}

static void a_single_node_bootstraps_and_takes_writes(void **state)
{
    struct fixture *fixture = *state;
    node_start(&fixture->nodes[0], true);
    wait_for_leader(fixture);
    assert_int_equal(put(&fixture->nodes[0], "foo", "bar"), 0);
    assert_int_equal(read_index(&fixture->nodes[0]), 0);
}

static void a_node_keeps_its_state_over_a_restart(void **state)
{
    struct fixture *fixture = *state;
    struct tiers_position before, after;
    node_start(&fixture->nodes[0], true);
    wait_for_leader(fixture);
    for (int i = 0; i < 500; i++) {
        char key[32];
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(put(&fixture->nodes[0], key, "value"), 0);
    }
    tiers_position_applied(fixture->nodes[0].tiers, &before);
    node_stop(&fixture->nodes[0]);
    node_start(&fixture->nodes[0], true);
    wait_for_leader(fixture);
    assert_int_equal(read_index(&fixture->nodes[0]), 0);
    tiers_position_applied(fixture->nodes[0].tiers, &after);
    assert_true(after.state_hash == before.state_hash);
    assert_true(after.index >= before.index);
}

static void joined_nodes_replicate_and_agree(void **state)
{
    struct fixture *fixture = *state;
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture);
    for (int i = 0; i < 200; i++) {
        char key[32];
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(put(leader, key, "value"), 0);
        assert_int_equal(read_index(leader), 0);
    }
    wait_for_agreement(fixture);
    /* Repeating a join is harmless; another incarnation under the same name is refused. */
    assert_int_equal(join(leader, &fixture->nodes[1]), 0);
    assert_int_equal(put(&fixture->nodes[leader == &fixture->nodes[0] ? 1 : 0], "x", "y"),
                     REPLICA_NOT_LEADER);
    struct replica_view view;
    replica_view(fixture->nodes[leader == &fixture->nodes[0] ? 1 : 0].replica, &view);
    assert_string_equal(view.leader_http_address, leader->http_address);
    assert_int_equal(view.n_members, NODES);
}

static void writes_go_on_after_the_leader_stopped(void **state)
{
    struct fixture *fixture = *state;
    three_nodes(fixture);
    for (int round = 0; round < 3; round++) {
        struct node *leader = wait_for_leader(fixture);
        for (int i = 0; i < 100; i++) {
            char key[32];
            snprintf(key, sizeof key, "r%dk%d", round, i);
            assert_int_equal(put(leader, key, "value"), 0);
        }
        node_stop(leader);
        struct node *next = wait_for_leader(fixture);
        assert_ptr_not_equal(next, leader);
        assert_int_equal(put(next, "after", "failover"), 0);
        node_start(leader, false);
        wait_for_agreement(fixture);
    }
}

static void the_log_is_truncated_below_what_is_durable(void **state)
{
    struct fixture *fixture = *state;
    static char value[4096];
    struct replica_view view;
    node_start(&fixture->nodes[0], true);
    wait_for_leader(fixture);
    memset(value, 'v', sizeof value - 1);
    for (int i = 0; i < 2000; i++) {
        char key[32];
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(put(&fixture->nodes[0], key, value), 0);
    }
    uint64_t end = now_ms() + WAIT_MS_MAX;
    do {
        usleep(10000);
        replica_view(fixture->nodes[0].replica, &view);
    } while (now_ms() < end && (view.first_log_index == 1 || view.log_bytes > 2 << 20));
    assert_true(view.first_log_index > 1);
    assert_true(view.log_bytes <= 2 << 20);
    struct tiers_position before, after;
    tiers_position_applied(fixture->nodes[0].tiers, &before);
    node_stop(&fixture->nodes[0]);
    node_start(&fixture->nodes[0], true);
    wait_for_leader(fixture);
    tiers_position_applied(fixture->nodes[0].tiers, &after);
    assert_true(after.state_hash == before.state_hash);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* As main does */
    log_configure(LOG_LEVEL_WARNING, LOG_FORMAT_LOGFMT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_single_node_bootstraps_and_takes_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_node_keeps_its_state_over_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(joined_nodes_replicate_and_agree, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_go_on_after_the_leader_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(the_log_is_truncated_below_what_is_durable, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
