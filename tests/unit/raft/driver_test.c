/* The driver on a simulated network, disk and clock. */
#include "simulation.h"

#include "lib/temp_folder.h"

struct reading {
    bool done;
    int status;
    raft_index index;
    raft_index committed; /* By anybody, when the read began */
};

static uint64_t reads_served;

static void read_done(void *owner, int status, raft_index index)
{
    struct reading *reading = owner;
    assert_false(reading->done);
    if (status == 0) {
        assert_true(index >= reading->committed);
        reads_served++;
    }
    reading->done = true;
    reading->status = status;
    reading->index = index;
}

static void a_leader_begins_its_term_with_an_entry_of_its_own(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    /* All there is is committed, so that the core sees no need for one. */
    struct driver *driver = &sim_wait_for_leader(sim)->driver;
    const struct log_slot *last = log_cache_at(&driver->log, driver->election_index);
    assert_int_equal(last->type, RAFT_BARRIER);
    assert_true(last->term == driver->raft.current_term);
    assert_true(driver->raft.commit_index >= driver->election_index);
    sim_close(sim);
}

static void a_read_is_served_once_a_majority_confirmed_it(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct reading reading = {0};
    raft_index index;
    assert_int_equal(sim_write(leader, 8, &index), 0);
    sim_run(sim, 100);
    assert_int_equal(driver_read(&leader->driver, read_done, &reading), 0);
    assert_false(reading.done);
    sim_run(sim, 100);
    assert_true(reading.done);
    assert_int_equal(reading.status, 0);
    assert_true(reading.index >= index);
    sim_close(sim);
}

static void a_single_voter_confirms_a_read_by_itself(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 1, 1);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct reading reading = {0};
    assert_int_equal(driver_read(&leader->driver, read_done, &reading), 0);
    assert_true(reading.done);
    assert_int_equal(reading.status, 0);
    sim_close(sim);
}

static void a_leader_that_was_cut_off_serves_no_read(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct reading reading = {0};
    sim_run(sim, 100);
    sim_cut_off(sim, leader, true);
    assert_true(driver_is_leader(&leader->driver)); /* It cannot know yet */
    assert_int_equal(driver_read(&leader->driver, read_done, &reading), 0);
    sim_run(sim, 10 * SIM_ELECTION_MS);
    assert_true(reading.done);
    assert_int_equal(reading.status, RAFT_LEADERSHIPLOST);
    assert_ptr_not_equal(sim_wait_for_leader(sim), leader);
    sim_close(sim);
}

static void a_lost_read_round_is_repeated(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct reading reading = {0};
    sim_run(sim, 100);
    sim_cut_off(sim, leader, true);
    assert_int_equal(driver_read(&leader->driver, read_done, &reading), 0);
    sim_run(sim, 20);
    sim_cut_off(sim, leader, false);
    sim_run(sim, 200);
    assert_true(reading.done);
    assert_int_equal(reading.status, 0);
    sim_close(sim);
}

static void the_leader_goes_on_without_a_follower_that_is_too_far_behind(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *behind = sim_other_than(sim, leader);
    raft_index index;
    uint64_t elections = 0;
    sim_cut_off(sim, behind, true);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(sim_write(leader, 64, &index), 0);
        sim_run(sim, 5);
    }
    sim_run(sim, 200);
    assert_int_equal(driver_snapshot(&leader->driver, leader->applied, 5, UINT64_MAX, SIM_MANIFEST,
                                     sizeof SIM_MANIFEST),
                     0);
    sim_run(sim, 50);
    assert_true(leader->driver.log.first > behind->driver.log.last + 1);
    sim_cut_off(sim, behind, false);
    sim_run(sim, 3 * SIM_ELECTION_MS);
    leader = sim_wait_for_leader(sim);
    for (size_t i = 0; i < sim->n; i++)
        elections += sim->nodes[i].driver.elections;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(sim_write(leader, 64, &index), 0);
        sim_run(sim, 50);
    }
    assert_true(sim->committed >= index - 2);
    assert_int_equal(leader->reported_behind, 1);
    /* One may get lost: offered until it helps, but seldom. */
    assert_in_range(behind->offered, 2, 2 + 5500 / DRIVER_SNAPSHOT_OFFER_MS);
    assert_true(behind->applied < 20);
    for (size_t i = 0; i < sim->n; i++)
        elections -= sim->nodes[i].driver.elections;
    assert_true(elections == 0); /* It still follows: nobody else was elected */
    sim_close(sim);
}

/* A follower that was cut off for a hundred entries; of these the leader has the last ones in its
 * log, and the others in its spill. Returns the follower. */
static struct sim_node *behind_the_log(struct sim *sim, struct sim_node *leader,
                                       const char *directory)
{
    struct sim_node *behind = sim_other_than(sim, leader);
    raft_index index;

    log_spill_open(&leader->driver.spill, directory, 1 << 20, 0);
    sim_cut_off(sim, behind, true);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(sim_write(leader, 64, &index), 0);
        sim_run(sim, 5);
    }
    sim_run(sim, 200);
    assert_int_equal(driver_snapshot(&leader->driver, leader->applied, 5, behind->driver.log.last,
                                     SIM_MANIFEST, sizeof SIM_MANIFEST),
                     0);
    sim_run(sim, 50);
    assert_true(leader->driver.log.first > behind->driver.log.last + 1);
    assert_true(driver_log_first(&leader->driver) == behind->driver.log.last);
    return behind;
}

static void a_follower_that_lacks_what_is_on_disk_only_is_continued_from_there(void **unused)
{
    (void)unused;
    char directory[TEMP_FOLDER_PATH_BYTES];
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim), *behind;

    temp_folder_make(directory);
    behind = behind_the_log(sim, leader, directory);
    sim_cut_off(sim, behind, false);
    for (int i = 0; i < 100 && behind->applied < sim->committed; i++)
        sim_run(sim, SIM_HEARTBEAT_MS);
    assert_true(behind->applied >= leader->driver.log.first);
    assert_int_equal(behind->offered, 0);
    assert_int_equal(leader->reported_behind, 0);
    /* Nobody wants it any more: it goes with the next truncation, for the core too. */
    assert_int_equal(driver_snapshot(&leader->driver, leader->applied, 1, UINT64_MAX, SIM_MANIFEST,
                                     sizeof SIM_MANIFEST),
                     RAFT_BUSY);
    for (int i = 0; i < 10; i++)
        assert_int_equal(sim_write(leader, 64, &(raft_index){0}), 0);
    sim_run(sim, 500);
    assert_int_equal(driver_snapshot(&leader->driver, leader->applied, 1, UINT64_MAX, SIM_MANIFEST,
                                     sizeof SIM_MANIFEST),
                     0);
    sim_run(sim, 50);
    assert_true(driver_log_first(&leader->driver) == leader->driver.log.first);
    assert_true(leader->driver.raft.trail.offset + 1 == leader->driver.log.first);
    sim_close(sim);
    temp_folder_remove(directory);
}

/* The core does not know. */
static void
a_follower_whose_entries_were_lost_on_disk_is_told_that_it_needs_the_state(void **unused)
{
    (void)unused;
    char directory[TEMP_FOLDER_PATH_BYTES];
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim), *behind;
    raft_index before;

    temp_folder_make(directory);
    behind = behind_the_log(sim, leader, directory);
    before = behind->driver.log.last;
    log_spill_drop(&leader->driver.spill);
    sim_cut_off(sim, behind, false);
    sim_run(sim, 2 * DRIVER_SNAPSHOT_OFFER_MS);
    assert_true(behind->driver.log.last == before);
    assert_true(behind->offered >= 1);
    assert_int_equal(leader->reported_behind, 1);
    assert_true(driver_is_leader(&leader->driver)); /* And nobody else was elected */
    sim_close(sim);
    temp_folder_remove(directory);
}

static void a_configuration_behind_other_new_entries_takes_effect_on_followers(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 4, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *follower = sim_other_than(sim, leader);
    raft_index index;
    sim_cut_off(sim, follower, true);
    for (int i = 0; i < 5; i++)
        assert_int_equal(sim_write(leader, 64, &index), 0);
    assert_int_equal(driver_server_add(&leader->driver, 4, sim->nodes[3].address, RAFT_SPARE), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(sim_write(leader, 64, &index), 0);
    sim_run(sim, 50);
    sim_cut_off(sim, follower, false);
    sim_run(sim, 1000);
    assert_int_equal(follower->driver.raft.configuration.n, 4);
    assert_true(follower->driver.raft.configuration_uncommitted_index == 0);
    assert_true(follower->driver.raft.configuration_committed_index ==
                sim_wait_for_leader(sim)->driver.raft.configuration_committed_index);
    sim_close(sim);
}

static void a_spare_becomes_a_voter_once_it_has_caught_up(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 4, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    raft_index index;
    for (int i = 0; i < 50; i++)
        assert_int_equal(sim_write(leader, 64, &index), 0);
    assert_int_equal(driver_server_add(&leader->driver, 4, sim->nodes[3].address, RAFT_SPARE), 0);
    assert_int_equal(driver_server_promote(&leader->driver, 4), RAFT_CANTCHANGE);
    sim_run(sim, 100);
    assert_int_equal(driver_server_promote(&leader->driver, 4), 0);
    sim_run(sim, 1000);
    assert_int_equal(driver_server_find(&leader->driver, 4)->role, RAFT_VOTER);
    sim_wait_for_agreement(sim);
    assert_true(sim->nodes[3].applied >= index);
    sim_close(sim);
}

/* Of four voters one is dead, and one does not know yet that it is one: both others need its vote.
 */
static void who_does_not_know_yet_that_it_is_a_voter_votes(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 4, 3);
    struct sim_node *leader = sim_wait_for_leader(sim), *made = &sim->nodes[3], *dead;
    raft_index index;
    assert_int_equal(driver_server_add(&leader->driver, 4, made->address, RAFT_STANDBY), 0);
    sim_run(sim, 300);
    dead = sim_other_than(sim, leader);
    sim_crash(dead);
    sim_cut_off(sim, made, true);
    assert_int_equal(driver_server_assign(&leader->driver, 4, RAFT_VOTER), 0);
    sim_run(sim, 50);
    assert_int_equal(driver_server_find(&made->driver, 4)->role, RAFT_STANDBY);
    sim_crash(leader);
    sim_start(leader);
    sim_cut_off(sim, made, false);
    leader = sim_wait_for_leader(sim);
    assert_int_equal(driver_server_find(&made->driver, 4)->role, RAFT_VOTER);
    assert_int_equal(sim_write(leader, 64, &index), 0);
    sim_run(sim, 300);
    sim_wait_for_agreement(sim);
    assert_true(made->applied >= index);
    sim_close(sim);
}

/* No write waits for it, so it must not take from those that others wait for. */
static void who_has_no_vote_catches_up_at_a_pace(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 4, 3);
    struct sim_node *leader = sim_wait_for_leader(sim), *spare = &sim->nodes[3];
    raft_index index, before;
    assert_int_equal(driver_server_add(&leader->driver, 4, spare->address, RAFT_STANDBY), 0);
    sim_run(sim, 300);
    sim_cut_off(sim, spare, true);
    before = spare->driver.log.last;
    for (int i = 0; i < 800; i++) {
        assert_int_equal(sim_write(leader, 64 << 10, &index), 0);
        sim_run(sim, 2);
    }
    sim_run(sim, 1000);
    sim_cut_off(sim, spare, false);
    /* 8 MiB a second, and a quarter more after each tenth of it. */
    sim_run(sim, 500);
    assert_in_range(spare->driver.log.last - before, 10, 12 << 4);
    for (int i = 0; i < 100; i++) { /* Meanwhile it goes on */
        assert_int_equal(sim_write(leader, 64, &index), 0);
        sim_run(sim, 2);
    }
    sim_wait_for_agreement(sim);
    assert_true(spare->applied >= index);
    sim_close(sim);
}

static void what_a_crashed_sole_voter_had_sent_is_not_taken_for_what_it_writes_next(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 2, 1);
    struct sim_node *leader = sim_wait_for_leader(sim);
    raft_index index, joined;
    assert_int_equal(driver_server_add(&leader->driver, 2, sim->nodes[1].address, RAFT_STANDBY), 0);
    sim_run(sim, 300);
    joined = sim->nodes[1].applied;
    assert_true(joined == leader->applied);
    leader->disk_stalled = true;
    assert_int_equal(sim_write(leader, 16, &index), 0);
    sim_run(sim, 100);
    assert_true(sim->nodes[1].driver.log.last == index);
    sim_crash(leader);
    leader->disk_stalled = false;
    sim_start(leader);
    sim_wait_for_leader(sim);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sim_write(leader, 16, &index), 0);
    sim_run(sim, 500); /* Fails if the two apply different entries */
    sim_wait_for_agreement(sim);
    assert_true(sim->nodes[1].applied >= index);
    sim_close(sim);
}

/* ---- Random stories ---- */

#define READS_MAX 64

static void disturb(struct sim *sim)
{
    struct sim_node *node = &sim->nodes[random_below(&sim->random, sim->n)];
    unsigned crashed = 0;

    for (size_t i = 0; i < sim->n; i++)
        crashed += !sim->nodes[i].running;
    switch (random_below(&sim->random, 8)) {
    case 0:
        sim_cut_off(sim, node, true);
        break;
    case 1:
    case 2:
        sim_cut_off(sim, node, false);
        break;
    case 3: /* One direction only */
        sim->cut[node->id - 1][random_below(&sim->random, sim->n)] = true;
        break;
    case 4:
        node->disk_stalled = !node->disk_stalled;
        break;
    case 5:
        if (node->running && crashed < sim->n)
            sim_crash(node);
        break;
    case 6:
        if (!node->running)
            sim_start(node);
        break;
    default:
        node->log_full = !node->log_full;
    }
}

static void heal(struct sim *sim)
{
    memset(sim->cut, 0, sizeof sim->cut);
    for (size_t i = 0; i < sim->n; i++) {
        sim->nodes[i].disk_stalled = sim->nodes[i].log_full = false;
        if (!sim->nodes[i].running)
            sim_start(&sim->nodes[i]);
    }
}

static void read_somewhere(struct sim *sim, struct reading *readings)
{
    struct sim_node *node = &sim->nodes[random_below(&sim->random, sim->n)];
    struct reading *reading = &readings[random_below(&sim->random, READS_MAX)];

    if (!node->running || (reading->committed != 0 && !reading->done))
        return;
    *reading = (struct reading){.committed = sim->committed};
    if (driver_read(&node->driver, read_done, reading) != 0)
        *reading = (struct reading){0};
}

static void snapshot_somewhere(struct sim *sim)
{
    struct sim_node *node = &sim->nodes[random_below(&sim->random, sim->n)];

    /* Long enough a log that nobody is left behind in this story. */
    if (node->running && node->applied > 10)
        driver_snapshot(&node->driver, node->applied - random_below(&sim->random, 10), 20000,
                        UINT64_MAX, SIM_MANIFEST, sizeof SIM_MANIFEST);
}

struct told {
    uint64_t committed, elections;
};

static void story(uint64_t seed, struct told *told)
{
    struct sim *sim = sim_open(seed, 3, 3);
    struct reading readings[READS_MAX] = {{0}};
    raft_index index;

    for (int i = 0; i < 6000; i++) {
        struct sim_node *node = &sim->nodes[random_below(&sim->random, sim->n)];
        if (node->running && driver_is_leader(&node->driver) && random_below(&sim->random, 2) == 0)
            sim_write(node, 8 + 8 * random_below(&sim->random, 32), &index);
        if (random_below(&sim->random, 3) == 0)
            read_somewhere(sim, readings);
        if (random_below(&sim->random, 60) == 0)
            disturb(sim);
        if (random_below(&sim->random, 200) == 0)
            snapshot_somewhere(sim);
        if (random_below(&sim->random, 600) == 0)
            heal(sim);
        sim_turn(sim);
    }
    heal(sim);
    sim_write(sim_wait_for_leader(sim), 8, &index);
    sim_wait_for_agreement(sim);
    told->committed += sim->committed;
    for (size_t term = 0; term < SIM_ENTRIES_MAX; term++)
        told->elections += sim->leaders[term] != 0;
    sim_close(sim);
}

static void nodes_agree_and_reads_are_never_stale_whatever_breaks(void **unused)
{
    (void)unused;
    struct told told = {0};
    uint64_t seed = random_seed(), n = environment_number("TIERKV_STORIES", 20);
    reads_served = 0;
    for (uint64_t i = 0; i < n; i++)
        story(seed + i, &told);
    print_message("%llu stories: %llu entries, %llu reads, %llu elections\n", (unsigned long long)n,
                  (unsigned long long)told.committed, (unsigned long long)reads_served,
                  (unsigned long long)told.elections);
    assert_true(told.committed > 100 * n && reads_served > 100 * n && told.elections > 2 * n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leader_begins_its_term_with_an_entry_of_its_own),
        cmocka_unit_test(a_read_is_served_once_a_majority_confirmed_it),
        cmocka_unit_test(a_single_voter_confirms_a_read_by_itself),
        cmocka_unit_test(a_leader_that_was_cut_off_serves_no_read),
        cmocka_unit_test(a_lost_read_round_is_repeated),
        cmocka_unit_test(the_leader_goes_on_without_a_follower_that_is_too_far_behind),
        cmocka_unit_test(a_follower_that_lacks_what_is_on_disk_only_is_continued_from_there),
        cmocka_unit_test(
            a_follower_whose_entries_were_lost_on_disk_is_told_that_it_needs_the_state),
        cmocka_unit_test(a_configuration_behind_other_new_entries_takes_effect_on_followers),
        cmocka_unit_test(a_spare_becomes_a_voter_once_it_has_caught_up),
        cmocka_unit_test(who_does_not_know_yet_that_it_is_a_voter_votes),
        cmocka_unit_test(who_has_no_vote_catches_up_at_a_pace),
        cmocka_unit_test(what_a_crashed_sole_voter_had_sent_is_not_taken_for_what_it_writes_next),
        cmocka_unit_test(nodes_agree_and_reads_are_never_stale_whatever_breaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
