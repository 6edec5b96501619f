/* What libraft's core (0.22) does to those who do not know it, with changes of the configuration
 * and with snapshots. Each test fails if the driver's guard against that trap is removed. */
#include "traps_fixture.h"

#include "raft/replica_private.h"

static unsigned changes_sent;

static int send_and_look_for_changes(struct raft_io *io, struct raft_io_send *request,
                                     const struct raft_message *message, raft_io_send_cb done)
{
    const struct raft_append_entries *append = &message->append_entries;

    for (unsigned i = 0; message->type == RAFT_APPEND_ENTRIES && i < append->n_entries; i++) {
        if (append->entries[i].type != RAFT_CHANGE)
            continue;
        assert_int_equal(i, 0);
        changes_sent++;
    }
    return sim_send(io, request, message, done);
}

static void a_change_begins_a_message_of_its_own(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 4, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *follower = sim_other_than(sim, leader);
    raft_index index;

    sim_crash(&sim->nodes[3]); /* A spare is sent nothing */
    sim_wait_for_agreement(sim);
    changes_sent = 0;
    leader->io.send = send_and_look_for_changes;
    sim_cut_off(sim, follower, true);
    for (int i = 0; i < 5; i++)
        assert_int_equal(sim_write(leader, 64, &index), 0);
    assert_int_equal(driver_server_add(&leader->driver, 4, sim->nodes[3].address, RAFT_SPARE), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(sim_write(leader, 64, &index), 0);
    sim_run(sim, 50);
    sim_cut_off(sim, follower, false); /* It is sent all of this at once */
    wait_until_applied(sim, follower, index);
    assert_true(changes_sent >= 3);
    sim_close(sim);
}

static void a_change_behind_other_entries_is_known_by_its_own_index(void **unused)
{
    (void)unused;
    static const struct given given[] = {{2, RAFT_COMMAND, 0}, {2, RAFT_CHANGE, 4}};
    struct sim *sim = sim_open(random_seed(), 4, 3);
    struct sim_node *node = &sim->nodes[1];
    const struct raft *raft = &node->driver.raft;

    receive_entries(node, 2, 1, LOG_FIRST_TERM, 1, given, 2);
    disk_settles(node);
    assert_true(raft->configuration_uncommitted_index == 3);
    receive_entries(node, 2, 3, 2, 3, NULL, 0);
    assert_true(raft->configuration_uncommitted_index == 0);
    assert_true(raft->configuration_committed_index == 3);
    assert_int_equal(raft->configuration.n, 4);
    sim_close(sim);
}

static void a_second_change_is_refused_until_the_first_is_committed(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 5, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct driver *driver = &leader->driver;
    raft_id follower = sim_other_than(sim, leader)->id;

    assert_int_equal(driver_server_add(driver, 4, sim->nodes[3].address, RAFT_SPARE), 0);
    assert_int_equal(driver_server_add(driver, 5, sim->nodes[4].address, RAFT_SPARE),
                     RAFT_CANTCHANGE);
    assert_int_equal(driver_server_assign(driver, 4, RAFT_STANDBY), RAFT_CANTCHANGE);
    assert_int_equal(driver_server_remove(driver, follower), RAFT_CANTCHANGE);
    assert_int_equal(driver_server_readdress(driver, follower, "elsewhere:1"), RAFT_CANTCHANGE);
    assert_int_equal(driver_server_promote(driver, 4), RAFT_CANTCHANGE);
    sim_run(sim, 100);
    assert_int_equal(driver_server_add(driver, 5, sim->nodes[4].address, RAFT_SPARE), 0);
    sim_run(sim, 100);
    assert_true(driver->raft.configuration_uncommitted_index == 0);
    assert_int_equal(driver->raft.configuration.n, 5);
    sim_close(sim);
}

static void a_change_that_the_core_refuses_leaves_no_trace(void **unused)
{
    (void)unused;
    static const struct given given = {2, RAFT_CHANGE, 4};
    struct sim *sim = sim_open(random_seed(), 4, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct driver *driver = &leader->driver;
    struct raft_buffer payload = payload_of(sim, &given);
    raft_index index, last;

    sim_crash(&sim->nodes[3]);
    assert_int_equal(driver_server_add(driver, 4, sim->nodes[3].address, RAFT_SPARE), 0);
    last = driver->log.last;
    assert_int_equal(driver_submit(driver, RAFT_CHANGE, payload, NULL), RAFT_CANTCHANGE);
    raft_free(payload.base);
    assert_true(driver->log.last == last && raft_last_index(&driver->raft) == last);
    assert_int_equal(sim_write(leader, 8, &index), 0);
    assert_true(index == last + 1);
    wait_until_applied(sim, leader, index);
    sim_close(sim);
}

/* The follower learns that the first is committed only when it has the second already. */
static void a_change_that_is_rolled_back_leaves_the_one_before_it(void **unused)
{
    (void)unused;
    static const struct given changes[] = {{2, RAFT_CHANGE, 4}, {2, RAFT_CHANGE, 5}};
    static const struct given instead = {3, RAFT_COMMAND, 0};
    struct sim *sim = sim_open(random_seed(), 5, 3);
    struct sim_node *node = &sim->nodes[1];
    const struct raft *raft = &node->driver.raft;

    receive_entries(node, 2, 1, LOG_FIRST_TERM, 1, &changes[0], 1);
    disk_settles(node);
    receive_entries(node, 2, 2, 2, 1, &changes[1], 1);
    disk_settles(node);
    assert_int_equal(raft->configuration.n, 5);
    receive_entries(node, 2, 3, 2, 2, NULL, 0);
    disk_settles(node);
    assert_true(raft->configuration_committed_index == 2);
    receive_entries(node, 3, 2, 2, 2, &instead, 1);
    disk_settles(node);
    assert_int_equal(raft->configuration.n, 4);
    assert_true(raft->configuration_uncommitted_index == 0);
    sim_close(sim);
}

/* The same, but the first is committed and not yet applied when the second is rolled back. */
static void a_change_that_is_committed_outlives_the_rollback_of_a_later_one(void **unused)
{
    (void)unused;
    static const struct given changes[] = {{2, RAFT_CHANGE, 4}, {2, RAFT_CHANGE, 5}};
    static const struct given instead = {3, RAFT_COMMAND, 0};
    struct sim *sim = sim_open(random_seed(), 5, 3);
    struct sim_node *node = &sim->nodes[1];
    const struct raft *raft = &node->driver.raft;

    node->apply_paused = true;
    receive_entries(node, 2, 1, LOG_FIRST_TERM, 1, &changes[0], 1);
    disk_settles(node);
    receive_entries(node, 2, 2, 2, 2, &changes[1], 1);
    disk_settles(node);
    assert_int_equal(raft->configuration.n, 5);
    receive_entries(node, 3, 2, 2, 2, &instead, 1);
    disk_settles(node);
    assert_int_equal(raft->configuration.n, 4); /* It counts votes by what the log says */
    assert_true(raft->configuration_uncommitted_index == 2);
    node->apply_paused = false;
    disk_settles(node);
    assert_true(node->applied == 2);
    assert_int_equal(raft->configuration.n, 4);
    assert_int_equal(node->driver.configuration.n, 4);
    assert_true(raft->configuration_uncommitted_index == 0);
    assert_true(raft->configuration_committed_index == 2);
    sim_close(sim);
}

/* ---- Snapshots ---- */

static void offer(struct sim_node *node, raft_term term, raft_index index)
{
    static const struct given given = {2, RAFT_CHANGE, 3};
    struct raft_message message = {.type = RAFT_INSTALL_SNAPSHOT,
                                   .server_id = 1,
                                   .server_address = node->sim->nodes[0].address};
    struct raft_install_snapshot *install = &message.install_snapshot;
    struct raft_buffer payload = payload_of(node->sim, &given);

    install->term = term;
    install->last_index = index;
    install->last_term = term;
    install->conf_index = 1;
    assert_int_equal(raft_configuration_decode(&payload, &install->conf), 0);
    raft_free(payload.base);
    install->data.len = sizeof SIM_MANIFEST;
    install->data.base = sim_copy(SIM_MANIFEST, sizeof SIM_MANIFEST);
    driver_receive(&node->driver, &message);
}

static void an_offered_snapshot_never_reaches_the_core(void **unused)
{
    (void)unused;
    static const struct given given = {2, RAFT_COMMAND, 0};
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *node = &sim->nodes[1];

    receive_entries(node, 2, 1, LOG_FIRST_TERM, 1, &given, 1);
    disk_settles(node);
    for (unsigned i = 1; i <= 3; i++) {
        offer(node, 2, 1000);
        assert_int_equal(node->offered, i);
    }
    assert_int_equal(node->n_requests, 0);
    assert_true(node->driver.log.last == 2 && raft_last_index(&node->driver.raft) == 2);
    assert_true(node->driver.raft.commit_index == 1 && node->applied == 1);
    /* The leader's heartbeats are taken as before. */
    receive_entries(node, 2, 2, 2, 2, NULL, 0);
    assert_true(node->driver.raft.commit_index == 2 && node->applied == 2);
    sim_close(sim);
}

/* Else a node that has just started on a state would fetch it once more. */
static void an_offer_of_what_a_node_has_is_only_answered(void **unused)
{
    (void)unused;
    static const struct given given = {2, RAFT_COMMAND, 0};
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *node = &sim->nodes[1];

    receive_entries(node, 2, 1, LOG_FIRST_TERM, 2, &given, 1);
    disk_settles(node);
    offer(node, 2, 2);
    assert_int_equal(node->offered, 0);
    assert_int_equal(node->n_requests, 0);
    assert_true(node->driver.log.last == 2 && raft_last_index(&node->driver.raft) == 2);
    offer(node, 2, 3);
    assert_int_equal(node->offered, 1);
    sim_close(sim);
}

static void an_offer_is_repeated_now_and_then_and_not_with_each_heartbeat(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *behind = sim_other_than(sim, leader);
    raft_index index;

    sim_cut_off(sim, behind, true);
    for (int i = 0; i < 100; i++)
        assert_int_equal(sim_write(leader, 64, &index), 0);
    sim_run(sim, 500);
    assert_int_equal(driver_snapshot(&leader->driver, leader->applied, 5, UINT64_MAX, SIM_MANIFEST,
                                     sizeof SIM_MANIFEST),
                     0);
    sim_run(sim, 50);
    sim_cut_off(sim, behind, false);
    sim_run(sim, 100000);
    assert_ptr_equal(sim_wait_for_leader(sim), leader);
    assert_in_range(behind->offered, 20, 2 + 100000 / DRIVER_SNAPSHOT_OFFER_MS);
    sim_close(sim);
}

static void one_snapshot_is_taken_at_a_time(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 1, 1);
    struct sim_node *node = sim_wait_for_leader(sim);
    struct driver *driver = &node->driver;
    raft_index index;

    for (int i = 0; i < 20; i++)
        assert_int_equal(sim_write(node, 8, &index), 0);
    sim_run(sim, 100);
    node->disk_stalled = true;
    assert_int_equal(driver_snapshot(driver, 10, 1, UINT64_MAX, SIM_MANIFEST, sizeof SIM_MANIFEST),
                     0);
    assert_int_equal(driver_snapshot(driver, 15, 1, UINT64_MAX, SIM_MANIFEST, sizeof SIM_MANIFEST),
                     RAFT_BUSY);
    node->disk_stalled = false;
    sim_run(sim, 50);
    assert_int_equal(driver_snapshot(driver, 15, 1, UINT64_MAX, SIM_MANIFEST, sizeof SIM_MANIFEST),
                     0);
    sim_run(sim, 50);
    assert_true(driver->snapshot_index == 15);
    assert_true(driver->log.first == driver->raft.trail.offset + 1);
    sim_close(sim);
}

static void a_snapshots_contents_are_not_taken_for_compressed_data(void **unused)
{
    (void)unused;
    static const unsigned char lz4_frame[] = {0x04, 0x22, 0x4d, 0x18};
    unsigned char contents[TRUNCATE_CONTENTS_BYTES];

    truncate_contents(0x184d2204, 0x184d2204, contents);
    assert_memory_not_equal(contents, lz4_frame, sizeof lz4_frame);
    assert_true(sizeof contents <= 4096); /* It travels as one message */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_begins_a_message_of_its_own),
        cmocka_unit_test(a_change_behind_other_entries_is_known_by_its_own_index),
        cmocka_unit_test(a_second_change_is_refused_until_the_first_is_committed),
        cmocka_unit_test(a_change_that_the_core_refuses_leaves_no_trace),
        cmocka_unit_test(a_change_that_is_rolled_back_leaves_the_one_before_it),
        cmocka_unit_test(a_change_that_is_committed_outlives_the_rollback_of_a_later_one),
        cmocka_unit_test(an_offered_snapshot_never_reaches_the_core),
        cmocka_unit_test(an_offer_of_what_a_node_has_is_only_answered),
        cmocka_unit_test(an_offer_is_repeated_now_and_then_and_not_with_each_heartbeat),
        cmocka_unit_test(one_snapshot_is_taken_at_a_time),
        cmocka_unit_test(a_snapshots_contents_are_not_taken_for_compressed_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
