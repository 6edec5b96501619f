/* A node that lost its directory is started as when it formed its cluster, and forms another one. A
 * member of the old one, played by hand, calls it. */
#include "nodes_fixture.h"

#include "lib/wire.h"
#include "log.h"
#include "raft/preamble.h"

#include <signal.h>

#define OTHER_CLUSTER 0xc0ffee
#define REFUSED_MS    10000

/* Calls the node as a member of that cluster does, which knows it by that incarnation, and waits
 * for the connection to be refused. */
static void call(const struct node *node, uint64_t cluster_id, uint64_t raft_id,
                 uint64_t incarnation)
{
    struct preamble preamble = {.kind = PREAMBLE_RAFT,
                                .cluster_id = cluster_id,
                                .source = 4711,
                                .destination = raft_id,
                                .incarnation = incarnation,
                                .address = "127.0.0.1:1"};
    unsigned char bytes[PREAMBLE_BYTES];
    int fd = wire_connect(node->raft_address);

    preamble_encode(&preamble, bytes);
    assert_true(wire_send(fd, bytes, sizeof bytes));
    assert_true(wire_wait_closed(fd, REFUSED_MS));
    close(fd);
}

/* As a member of its old cluster would. */
static void call_the_lost_one(const struct node *node)
{
    call(node, OTHER_CLUSTER, replica_raft_id(node->replica),
         replica_incarnation(node->replica) + 1);
}

static void a_node_that_formed_a_cluster_in_place_of_its_old_one_stops(void **state)
{
    struct fixture *fixture = *state;
    struct node *node = &fixture->nodes[0];

    node_start(node, true);
    wait_for_leader(fixture);
    assert_int_equal(put(node, "a", "1"), 0);
    call_the_lost_one(node);
    assert_int_equal(put(node, "a", "2"), REPLICA_STOPPED);
    assert_int_equal(read_index(node), REPLICA_STOPPED);
    assert_false(replica_is_leader(node->replica));
    /* And again, however often it is started. */
    node_stop(node);
    node_start(node, true);
    call_the_lost_one(node);
    assert_int_equal(put(node, "a", "2"), REPLICA_STOPPED);
}

static void who_does_not_name_another_directory_of_it_in_another_cluster_stops_no_node(void **state)
{
    struct fixture *fixture = *state;
    struct node *node = &fixture->nodes[0];
    struct replica_view view;

    node_start(node, true);
    wait_for_leader(fixture);
    assert_int_equal(put(node, "a", "1"), 0);
    replica_view(node->replica, &view);
    uint64_t id = replica_raft_id(node->replica);
    uint64_t incarnation = replica_incarnation(node->replica);
    call(node, OTHER_CLUSTER, id + 1, incarnation + 1);
    call(node, OTHER_CLUSTER, id, incarnation);
    call(node, OTHER_CLUSTER, id, 0);
    call(node, view.cluster_id, id, incarnation + 1);
    call(node, 0, id, incarnation + 1);
    assert_int_equal(put(node, "a", "2"), 0);
}

static void a_node_that_has_other_members_is_not_stopped_by_a_stranger(void **state)
{
    struct fixture *fixture = *state;

    node_start(&fixture->nodes[0], true);
    struct node *leader = wait_for_leader(fixture);
    node_start(&fixture->nodes[1], false);
    assert_int_equal(join(leader, &fixture->nodes[1]), 0);
    call_the_lost_one(&fixture->nodes[0]);
    call_the_lost_one(&fixture->nodes[1]);
    put_settled(fixture, "a", "1");
    wait_for_agreement(fixture);
}

static void a_node_that_has_yet_to_join_is_not_stopped_by_a_stranger(void **state)
{
    struct fixture *fixture = *state;

    node_start(&fixture->nodes[0], true);
    struct node *leader = wait_for_leader(fixture);
    node_start(&fixture->nodes[1], false);
    call_the_lost_one(&fixture->nodes[1]);
    assert_int_equal(join(leader, &fixture->nodes[1]), 0);
}

static void a_node_that_has_long_been_in_use_is_not_stopped_by_a_stranger(void **state)
{
    struct fixture *fixture = *state;
    struct node *node = &fixture->nodes[0];
    static char value[4096];
    struct replica_view view = {0};
    uint64_t end = now_ms() + WAIT_MS_MAX;

    node_start(node, true);
    wait_for_leader(fixture);
    random_text(1, value, sizeof value);
    while (view.first_log_index <= 1 && now_ms() < end) {
        assert_int_equal(put(node, "foo", value), 0);
        replica_view(node->replica, &view);
    }
    assert_true(view.first_log_index > 1);
    call_the_lost_one(node);
    assert_int_equal(put(node, "a", "1"), 0);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* As main does */
    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_node_that_formed_a_cluster_in_place_of_its_old_one_stops,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            who_does_not_name_another_directory_of_it_in_another_cluster_stops_no_node, setup,
            teardown),
        cmocka_unit_test_setup_teardown(a_node_that_has_other_members_is_not_stopped_by_a_stranger,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_node_that_has_yet_to_join_is_not_stopped_by_a_stranger,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_node_that_has_long_been_in_use_is_not_stopped_by_a_stranger, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
