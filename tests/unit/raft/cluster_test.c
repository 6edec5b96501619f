/* Replicas in one process form clusters, lose leaders, restart. */
#include "nodes_fixture.h"

#include "log.h"

#include <signal.h>

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
    assert_int_equal(view.n_members, VOTERS);
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
    random_text(1, value, sizeof value);
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

static void a_join_that_conflicts_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct node *leader = &fixture->nodes[0], *other = &fixture->nodes[1];
    node_start(leader, true);
    wait_for_leader(fixture);
    node_start(other, false);
    assert_int_equal(join(leader, other), 0);

    struct replica_join request = join_request(other);
    request.incarnation++; /* It lost its directory, and with it its vote */
    assert_int_equal(join_as(leader, &request), REPLICA_CONFLICT);
    request = join_request(other);
    snprintf(request.name, sizeof request.name, "newcomer");
    assert_int_equal(join_as(leader, &request), REPLICA_CONFLICT);
    /* It knows too that it is a voter, and not the leader. */
    request = join_request(other);
    assert_int_equal(join_as(other, &request), REPLICA_NOT_LEADER);
}

static void a_joined_node_may_move_its_client_address(void **state)
{
    struct fixture *fixture = *state;
    struct node *leader = &fixture->nodes[0], *other = &fixture->nodes[1];
    struct replica_view view;
    node_start(leader, true);
    wait_for_leader(fixture);
    node_start(other, false);
    assert_int_equal(join(leader, other), 0);
    snprintf(other->http_address, sizeof other->http_address, "127.0.0.1:1");
    assert_int_equal(join(leader, other), 0);
    replica_view(leader->replica, &view);
    bool found = false;
    for (size_t i = 0; i < view.n_members; i++)
        found |= strcmp(view.members[i].http_address, "127.0.0.1:1") == 0;
    assert_true(found);
}

static void remove_below(const struct node *node, const char *folder)
{
    char path[TEMP_FOLDER_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", node->directory, folder);
    temp_folder_remove(path);
}

static void assert_start_refused(struct node *node, const char *part)
{
    char error[512] = "";
    assert_int_equal(node_try_start(node, true, error, sizeof error), -1);
    if (strstr(error, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error, part);
}

static void a_state_without_its_log_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct node *node = &fixture->nodes[0];
    node_start(node, true);
    wait_for_leader(fixture);
    assert_int_equal(put(node, "foo", "bar"), 0);
    node_stop(node);
    remove_below(node, "raft");
    assert_start_refused(node, "there is no log");
}

static void a_node_that_lost_log_and_state_does_not_vote_again(void **state)
{
    struct fixture *fixture = *state;
    struct node *node = &fixture->nodes[0];
    node_start(node, true);
    wait_for_leader(fixture);
    assert_int_equal(put(node, "foo", "bar"), 0);
    node_stop(node);
    remove_below(node, "raft");
    remove_below(node, "state0");
    assert_start_refused(node, "its log is gone");
}

static void a_log_whose_beginning_is_in_no_state_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct node *node = &fixture->nodes[0];
    static char value[4096];
    struct replica_view view = {0};
    node_start(node, true);
    wait_for_leader(fixture);
    random_text(1, value, sizeof value);
    uint64_t end = now_ms() + WAIT_MS_MAX;
    while (view.first_log_index <= 1 && now_ms() < end) {
        assert_int_equal(put(node, "foo", value), 0);
        replica_view(node->replica, &view);
    }
    assert_true(view.first_log_index > 1);
    node_stop(node);
    remove_below(node, "state0");
    assert_start_refused(node, "the state is at 0 only");
}

static void a_port_in_use_is_named(void **state)
{
    struct fixture *fixture = *state;
    node_start(&fixture->nodes[0], true);
    memcpy(fixture->nodes[1].raft_address, fixture->nodes[0].raft_address,
           sizeof fixture->nodes[1].raft_address);
    assert_start_refused(&fixture->nodes[1], "address already in use");
    assert_start_refused(&fixture->nodes[1], fixture->nodes[0].raft_address);
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
        cmocka_unit_test_setup_teardown(a_join_that_conflicts_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_joined_node_may_move_its_client_address, setup, teardown),
        cmocka_unit_test_setup_teardown(a_state_without_its_log_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_node_that_lost_log_and_state_does_not_vote_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_log_whose_beginning_is_in_no_state_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_port_in_use_is_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
