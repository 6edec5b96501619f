/* The driver where the log or the disk of a node is full: what it refuses, and what has to pass. On
 * a simulated network, disk and clock. */
#include "simulation.h"

static void a_follower_whose_log_is_full_takes_entries_once_it_has_room_again(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *full = sim_other_than(sim, leader);
    raft_index last, index;
    sim_run(sim, 100);
    last = full->driver.log.last;
    full->log_full = true;
    for (int i = 0; i < 200; i++) {
        assert_int_equal(sim_write(leader, 64, &index), 0);
        sim_run(sim, 10);
    }
    assert_true(full->driver.log.last == last);
    assert_true(sim->committed >= index - 5); /* The others go on, under the same leader */
    assert_ptr_equal(sim_wait_for_leader(sim), leader);
    full->log_full = false;
    sim_wait_for_agreement(sim);
    assert_true(full->applied >= index);
    sim_close(sim);
}

static void sim_restart(struct sim *sim)
{
    for (size_t i = 0; i < sim->n; i++)
        sim_crash(&sim->nodes[i]);
    for (size_t i = 0; i < sim->n; i++)
        sim_start(&sim->nodes[i]);
}

/* As after a restart with a smaller bound. */
static void a_leaders_first_entry_passes_where_commands_have_no_room(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    raft_index index;

    assert_int_equal(sim_write(leader, 64, &index), 0);
    sim_wait_for_agreement(sim);
    sim_run(sim, 100);
    for (size_t i = 0; i < sim->n; i++)
        sim->nodes[i].log_full = true;
    sim_restart(sim);
    leader = sim_wait_for_leader(sim);
    assert_true(leader->applied > index);
    sim_close(sim);
}

static void a_change_passes_where_commands_have_no_room(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 4, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);

    sim_run(sim, 100);
    for (size_t i = 0; i < sim->n; i++)
        sim->nodes[i].log_full = true;
    assert_int_equal(driver_server_add(&leader->driver, 4, sim->nodes[3].address, RAFT_SPARE), 0);
    sim_run(sim, 1000);
    assert_true(leader->driver.raft.configuration_uncommitted_index == 0);
    assert_int_equal(leader->driver.configuration.n, 4);
    sim_close(sim);
}

/* All nodes are down; the first that led is to stay so, and of the others one has entries that the
 * other lacks. */
static struct sim *two_of_which_one_lacks_entries(struct sim_node **ret_longer,
                                                  struct sim_node **ret_shorter,
                                                  raft_index *ret_last)
{
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *shorter = sim_other_than(sim, leader);

    sim_run(sim, 100);
    for (int i = 0; i < 40; i++) {
        sim_cut_off(sim, shorter, i >= 20);
        assert_int_equal(sim_write(leader, 1024, ret_last), 0);
        sim_run(sim, 30);
    }
    sim_run(sim, 50);
    for (size_t i = 0; i < sim->n; i++)
        if (&sim->nodes[i] != leader && &sim->nodes[i] != shorter)
            *ret_longer = &sim->nodes[i];
    assert_true((*ret_longer)->driver.log.last >= *ret_last);
    *ret_shorter = shorter;
    for (size_t i = 0; i < sim->n; i++)
        sim_crash(&sim->nodes[i]); /* The leader for good */
    sim_cut_off(sim, shorter, false);
    return sim;
}

/* Its log is over the bound with what nobody knows to be committed: to refuse the rest would keep
 * it there for ever. */
static void a_full_log_takes_what_the_leader_has_yet_to_commit(void **unused)
{
    (void)unused;
    struct sim_node *longer, *shorter;
    raft_index last;
    struct sim *sim = two_of_which_one_lacks_entries(&longer, &shorter, &last);

    shorter->held_bytes_max = 4096;
    sim_start(longer);
    sim_start(shorter);
    assert_ptr_equal(sim_wait_for_leader(sim), longer);
    assert_true(longer->applied > last);
    sim_close(sim);
}

static void a_full_log_takes_no_more_of_what_is_committed(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *full = sim_other_than(sim, leader);
    raft_index index = 0;

    sim_run(sim, 100);
    full->held_bytes_max = 64 << 10;
    for (int i = 0; i < 400; i++) {
        assert_int_equal(sim_write(leader, 1024, &index), 0);
        sim_run(sim, 5);
    }
    assert_true(sim->committed >= index - 5);
    assert_in_range(full->driver.log.bytes, 64 << 10, (64 << 10) + 32 * 1024);
    assert_true(full->applied > 40 && full->applied < index);
    full->held_bytes_max = 0;
    sim_wait_for_agreement(sim);
    sim_close(sim);
}

static void a_disk_that_is_nearly_full_has_room_for_what_earlier_leaders_left(void **unused)
{
    (void)unused;
    struct sim_node *longer, *shorter;
    raft_index last, index;
    struct sim *sim = two_of_which_one_lacks_entries(&longer, &shorter, &last);

    longer->disk_full = shorter->disk_full = true;
    sim_start(longer);
    sim_start(shorter);
    assert_ptr_equal(sim_wait_for_leader(sim), longer);
    assert_true(longer->applied > last);
    sim_run(sim, 100);
    last = shorter->driver.log.last;
    assert_int_equal(sim_write(longer, 64, &index), 0);
    sim_run(sim, 500);
    assert_true(shorter->driver.log.last == last);
    sim_close(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_follower_whose_log_is_full_takes_entries_once_it_has_room_again),
        cmocka_unit_test(a_leaders_first_entry_passes_where_commands_have_no_room),
        cmocka_unit_test(a_change_passes_where_commands_have_no_room),
        cmocka_unit_test(a_full_log_takes_what_the_leader_has_yet_to_commit),
        cmocka_unit_test(a_full_log_takes_no_more_of_what_is_committed),
        cmocka_unit_test(a_disk_that_is_nearly_full_has_room_for_what_earlier_leaders_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
