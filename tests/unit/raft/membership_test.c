/* Members leave, are replaced, move, and hand leadership over. */
#include "nodes_fixture.h"

#include "log.h"

#include <signal.h>

static int replace_member(struct fixture *fixture, const char *name, const struct node *with)
{
    struct replica_change change = {.join = join_request(with)};

    snprintf(change.name, sizeof change.name, "%s", name);
    return change_on_leader(fixture, REPLICA_REPLACE, &change);
}

/* Starts with an empty directory, as after the loss of its disk. */
static void restart_empty(struct node *node)
{
    node_stop(node);
    temp_folder_remove(node->directory);
    node_start(node, false);
}

static void a_removed_member_is_gone_and_the_others_go_on(void **state)
{
    struct fixture *fixture = *state;
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture);
    struct node *leaving = a_follower(fixture, leader);

    assert_int_equal(remove_member(fixture, leaving->name, false, NULL), 0);
    assert_false(is_listed(leader, leaving->name));
    expect_voters(leader, 2);
    assert_int_equal(put(leader, "a", "1"), 0);
    node_stop(leaving);
    assert_int_equal(put(leader, "a", "2"), 0);
    assert_int_equal(read_index(leader), 0);
    assert_int_equal(remove_member(fixture, leaving->name, false, NULL), REPLICA_NO_MEMBER);
    wait_for_agreement(fixture);
}

static void a_member_that_does_not_answer_can_be_removed(void **state)
{
    struct fixture *fixture = *state;
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture);
    struct node *leaving = a_follower(fixture, leader);

    node_stop(leaving);
    assert_int_equal(remove_member(fixture, leaving->name, false, NULL), 0);
    expect_voters(wait_for_leader(fixture), 2);
}

/* Until the leader has noticed that a stopped peer no longer answers. */
static void wait_for_silence(struct node *leader, const char *name)
{
    uint64_t end = now_ms() + WAIT_MS_MAX;
    struct replica_view view;

    while (now_ms() < end) {
        replica_view(leader->replica, &view);
        for (size_t i = 0; i < view.n_members; i++)
            if (strcmp(view.members[i].name, name) == 0 &&
                view.members[i].last_contact_ms > ELECTION_TIMEOUT_MS + 100)
                return;
        usleep(5000);
    }
    fail_msg("%s still answers", name);
}

static void a_removal_that_would_lose_the_quorum_is_refused_unless_forced(void **state)
{
    struct fixture *fixture = *state;
    struct replica_change change;
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture);
    struct node *dead = a_follower(fixture, leader);
    struct node *alive = NULL;

    for (int i = 0; i < 3; i++)
        if (&fixture->nodes[i] != leader && &fixture->nodes[i] != dead)
            alive = &fixture->nodes[i];
    node_stop(dead);
    wait_for_silence(leader, dead->name);
    assert_int_equal(remove_member(fixture, alive->name, false, &change), REPLICA_CONFLICT);
    assert_non_null(strstr(change.detail, "force=true"));
    assert_non_null(strstr(change.detail, "2 voters, of which only 1 answer"));
    expect_voters(leader, 3);
    assert_int_equal(put(leader, "a", "1"), 0);
    assert_int_equal(remove_member(fixture, dead->name, false, NULL), 0);
    assert_int_equal(remove_member(fixture, alive->name, false, NULL), 0);
    expect_voters(wait_for_leader(fixture), 1);
    assert_int_equal(remove_member(fixture, wait_for_leader(fixture)->name, true, &change),
                     REPLICA_CONFLICT);
    assert_non_null(strstr(change.detail, "last voter"));
}

static void a_leader_that_is_removed_hands_over_first(void **state)
{
    struct fixture *fixture = *state;
    struct replica_change change = {0};
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture);

    snprintf(change.name, sizeof change.name, "%s", leader->name);
    assert_int_equal(change_as(leader, REPLICA_REMOVE, &change), REPLICA_NOT_LEADER);
    assert_int_equal(remove_member(fixture, leader->name, false, NULL), 0);
    struct node *next = wait_for_leader(fixture);
    assert_ptr_not_equal(next, leader);
    expect_voters(next, 2);
    assert_int_equal(put(next, "a", "1"), 0);
}

static void a_dead_member_is_replaced_in_one_request_that_may_be_repeated(void **state)
{
    struct fixture *fixture = *state;
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture);
    struct node *dead = a_follower(fixture, leader), *fresh = &fixture->nodes[3];

    assert_int_equal(put(leader, "a", "1"), 0);
    node_stop(dead);
    node_start(fresh, false);
    assert_int_equal(replace_member(fixture, dead->name, fresh), 0);
    expect_voters(wait_for_leader(fixture), 3);
    assert_true(is_listed(leader, fresh->name));
    assert_false(is_listed(leader, dead->name));
    assert_int_equal(replace_member(fixture, dead->name, fresh), 0);
    expect_voters(wait_for_leader(fixture), 3);
    wait_for_agreement(fixture);
    /* And the new one counts: without any other it is half of what is left. */
    assert_int_equal(put(leader, "a", "2"), 0);
}

static void nothing_is_replaced_by_a_stranger_if_there_is_no_such_member(void **state)
{
    struct fixture *fixture = *state;
    three_nodes(fixture);
    struct node *fresh = &fixture->nodes[3];

    node_start(fresh, false);
    assert_int_equal(replace_member(fixture, "nobody", fresh), REPLICA_NO_MEMBER);
    expect_voters(wait_for_leader(fixture), 3);
}

static void a_node_that_lost_its_disk_replaces_itself(void **state)
{
    struct fixture *fixture = *state;
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture);
    struct node *lost = a_follower(fixture, leader);

    assert_int_equal(put(leader, "a", "1"), 0);
    restart_empty(lost);
    assert_int_equal(join(leader, lost), REPLICA_CONFLICT);
    assert_int_equal(replace_member(fixture, lost->name, lost), 0);
    expect_voters(wait_for_leader(fixture), 3);
    wait_for_agreement(fixture);
    assert_int_equal(replace_member(fixture, lost->name, lost), 0);
    expect_voters(wait_for_leader(fixture), 3);
}

static void a_change_that_was_begun_and_lost_has_an_unknown_outcome(void **state)
{
    struct fixture *fixture = *state;
    struct replica_change change = {.force = true};
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture);
    struct node *leaving = a_follower(fixture, leader);

    for (int i = 0; i < VOTERS; i++)
        if (&fixture->nodes[i] != leader)
            node_stop(&fixture->nodes[i]);
    snprintf(change.name, sizeof change.name, "%s", leaving->name);
    assert_int_equal(change_as(leader, REPLICA_REMOVE, &change), REPLICA_UNKNOWN);
    assert_int_equal(change_as(leader, REPLICA_REMOVE, &change), REPLICA_NO_LEADER);
}

static void leadership_is_handed_to_the_voter_that_is_named(void **state)
{
    struct fixture *fixture = *state;
    three_nodes(fixture);
    for (int round = 0; round < 4; round++) {
        struct replica_change change = {0};
        struct node *leader = wait_for_leader(fixture);
        struct node *next = a_follower(fixture, leader);

        snprintf(change.name, sizeof change.name, "%s", next->name);
        assert_int_equal(change_as(leader, REPLICA_TRANSFER, &change), 0);
        assert_ptr_equal(wait_for_leader(fixture), next);
        assert_int_equal(put(next, "a", "1"), 0);
    }
    struct replica_change nobody = {.name = "nobody"};
    assert_int_equal(change_as(wait_for_leader(fixture), REPLICA_TRANSFER, &nobody),
                     REPLICA_NO_MEMBER);
}

static void a_single_voter_has_nobody_to_hand_over_to(void **state)
{
    struct fixture *fixture = *state;
    struct replica_change change = {0};
    node_start(&fixture->nodes[0], true);
    struct node *leader = wait_for_leader(fixture);

    assert_int_equal(change_as(leader, REPLICA_TRANSFER, &change), REPLICA_CONFLICT);
    assert_false(replica_hand_over(leader->replica));
    assert_int_equal(put(leader, "a", "1"), 0);
}

/* Writes that were under way while leadership went to another are done or sent there: none is left
 * with an unknown outcome, and none waits for an election timeout. */
static void writes_that_wait_during_a_handover_are_sent_to_the_new_leader(void **state)
{
    enum { WRITES = 64 };
    struct fixture *fixture = *state;
    struct replica_operation *operations[WRITES];
    size_t done = 0, redirected = 0;
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture);
    struct replica_change change = {0};
    struct replica_operation *transfer = replica_change_new(REPLICA_TRANSFER, &change);
    size_t returned = 0;

    for (int i = 0; i < WRITES; i++) {
        struct replica_put one = {"k", 1, "v", 1};
        operations[i] = replica_put_new(&one, 1);
        assert_non_null(operations[i]);
        operations[i]->reply = leader->reply;
        if (i == WRITES / 2) {
            transfer->reply = leader->reply;
            assert_int_equal(replica_submit(leader->replica, transfer), 0);
        }
        assert_int_equal(replica_submit(leader->replica, operations[i]), 0);
    }
    while (returned < WRITES + 1) {
        struct pollfd readable = {.fd = inbox_fd(leader->reply), .events = POLLIN};
        assert_int_equal(poll(&readable, 1, WAIT_MS_MAX), 1);
        for (struct inbox_item *item = inbox_take(leader->reply); item != NULL; item = item->next)
            returned++;
    }
    assert_int_equal(transfer->status, 0);
    replica_operation_free(transfer);
    for (int i = 0; i < WRITES; i++) {
        done += operations[i]->status == 0;
        redirected += operations[i]->status == REPLICA_NOT_LEADER;
        replica_operation_free(operations[i]);
    }
    assert_int_equal(done + redirected, WRITES);
    assert_ptr_not_equal(wait_for_leader(fixture), leader);
}

static void a_member_that_moved_is_found_at_its_new_address(void **state)
{
    struct fixture *fixture = *state;
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture);
    struct node *moved = a_follower(fixture, leader);
    struct replica_view view;

    node_stop(moved);
    assert_int_equal(put(leader, "a", "1"), 0);
    snprintf(moved->raft_address, sizeof moved->raft_address, "127.0.0.1:%d", port_free());
    node_start(moved, false);
    replica_view(moved->replica, &view);
    assert_false(view.registered);
    assert_int_equal(join(wait_for_leader(fixture), moved), 0);
    wait_for_agreement(fixture);
    uint64_t end = now_ms() + WAIT_MS_MAX;
    do {
        replica_view(moved->replica, &view);
        usleep(2000);
    } while (!view.registered && now_ms() < end);
    assert_true(view.registered);
    /* It counts again. */
    node_stop(a_follower(fixture, moved) == wait_for_leader(fixture) ? &fixture->nodes[0]
                                                                     : a_follower(fixture, moved));
    assert_int_equal(put(wait_for_leader(fixture), "a", "2"), 0);
}

static void a_leader_that_moved_says_so_itself(void **state)
{
    struct fixture *fixture = *state;
    struct node *node = &fixture->nodes[0];
    struct replica_view view;
    node_start(node, true);
    wait_for_leader(fixture);
    node_stop(node);
    snprintf(node->raft_address, sizeof node->raft_address, "127.0.0.1:%d", port_free());
    snprintf(node->http_address, sizeof node->http_address, "127.0.0.1:%d", port_free());
    node_start(node, true);
    wait_for_leader(fixture);
    uint64_t end = now_ms() + WAIT_MS_MAX;
    do {
        replica_view(node->replica, &view);
        usleep(2000);
    } while (!view.registered && now_ms() < end);
    assert_true(view.registered);
    assert_string_equal(view.members[0].raft_address, node->raft_address);
    assert_string_equal(view.members[0].version, "test");
    node_start(&fixture->nodes[1], false);
    assert_int_equal(join(node, &fixture->nodes[1]), 0);
    wait_for_agreement(fixture);
}

/* Two of three are gone for good: the third goes on alone, with all that was acknowledged, as
 * another cluster, with which those of the old one cannot be mixed up. */
static void a_lost_majority_is_recovered_from_by_force(void **state)
{
    struct fixture *fixture = *state;
    struct replica_view view;
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture);
    for (int i = 0; i < 100; i++)
        assert_int_equal(put(leader, "a", "1"), 0);
    wait_for_agreement(fixture);
    struct node *survivor = a_follower(fixture, leader);
    replica_view(survivor->replica, &view);
    uint64_t cluster_before = view.cluster_id;
    struct tiers_position before, after;
    tiers_position_applied(survivor->tiers, &before);
    for (int i = 0; i < VOTERS; i++)
        node_stop(&fixture->nodes[i]);

    survivor->force_new_cluster = true;
    node_start(survivor, false);
    survivor->force_new_cluster = false;
    assert_ptr_equal(wait_for_leader(fixture), survivor);
    assert_int_equal(put(survivor, "a", "2"), 0);
    expect_voters(survivor, 1);
    tiers_position_applied(survivor->tiers, &after);
    assert_true(after.revision > before.revision);
    for (int restart = 0; restart < 2; restart++) {
        replica_view(survivor->replica, &view);
        assert_true(view.cluster_id != 0 && view.cluster_id != cluster_before);
        node_stop(survivor);
        node_start(survivor, false);
        wait_for_leader(fixture);
        assert_int_equal(put(survivor, "a", "3"), 0);
    }
    /* One of the old cluster is not taken for a member, nor does it disturb. */
    node_start(leader, false);
    assert_int_equal(put(survivor, "a", "4"), 0);
    expect_voters(survivor, 1);
    node_stop(leader);
    /* New ones join. */
    node_start(&fixture->nodes[3], false);
    assert_int_equal(join(survivor, &fixture->nodes[3]), 0);
    wait_for_agreement(fixture);
    expect_voters(survivor, 2);
}

static void a_node_that_was_in_no_cluster_has_none_to_go_on_with(void **state)
{
    struct fixture *fixture = *state;
    char error[512] = "";
    fixture->nodes[0].force_new_cluster = true;
    assert_int_equal(node_try_start(&fixture->nodes[0], true, error, sizeof error), -1);
    assert_non_null(strstr(error, "force_new_cluster"));
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* As main does */
    log_configure(LOG_LEVEL_WARNING, LOG_FORMAT_LOGFMT);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_removed_member_is_gone_and_the_others_go_on),
        TEST(a_member_that_does_not_answer_can_be_removed),
        TEST(a_removal_that_would_lose_the_quorum_is_refused_unless_forced),
        TEST(a_leader_that_is_removed_hands_over_first),
        TEST(a_dead_member_is_replaced_in_one_request_that_may_be_repeated),
        TEST(nothing_is_replaced_by_a_stranger_if_there_is_no_such_member),
        TEST(a_node_that_lost_its_disk_replaces_itself),
        TEST(a_change_that_was_begun_and_lost_has_an_unknown_outcome),
        TEST(leadership_is_handed_to_the_voter_that_is_named),
        TEST(a_single_voter_has_nobody_to_hand_over_to),
        TEST(writes_that_wait_during_a_handover_are_sent_to_the_new_leader),
        TEST(a_member_that_moved_is_found_at_its_new_address),
        TEST(a_leader_that_moved_says_so_itself),
        TEST(a_lost_majority_is_recovered_from_by_force),
        TEST(a_node_that_was_in_no_cluster_has_none_to_go_on_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
