/* What libraft's core (0.22) does to those who do not know it, with time and with what is under
 * way. Each test fails if the driver's guard against that trap is removed. */
#include "traps_fixture.h"

static void set_timer_and_check(void *context, uint64_t at_ms)
{
    assert_true(at_ms > sim_now_ms(context));
    sim_set_timer(context, at_ms);
}

static void a_server_without_traffic_keeps_no_leader_busy(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 4, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct driver_callbacks callbacks = sim_callbacks;
    uint64_t last = 0;
    unsigned timeouts = 0;

    assert_int_equal(driver_server_add(&leader->driver, 4, sim->nodes[3].address, RAFT_STANDBY), 0);
    sim_run(sim, 200);
    assert_int_equal(driver_server_assign(&leader->driver, 4, RAFT_SPARE), 0);
    sim_run(sim, 200);
    callbacks.set_timer = set_timer_and_check;
    leader->driver.callbacks = &callbacks;
    for (int i = 0; i < 20 * SIM_HEARTBEAT_MS; i++) {
        sim_turn(sim);
        timeouts += leader->driver.last_timeout_ms != last;
        last = leader->driver.last_timeout_ms;
    }
    assert_in_range(timeouts, 10, 21); /* Not one a millisecond */
    sim_close(sim);
}

static raft_id watched;
static unsigned entries_sent;

static int send_and_count_entries(struct raft_io *io, struct raft_io_send *request,
                                  const struct raft_message *message, raft_io_send_cb done)
{
    if (message->type == RAFT_APPEND_ENTRIES && message->server_id == watched)
        entries_sent += message->append_entries.n_entries;
    return sim_send(io, request, message, done);
}

/* The core keeps entries for the next heartbeat if it has not heard of a follower since its own
 * last timeout; and nobody hears of one that is down. */
static void a_leader_with_little_to_do_sends_a_write_at_once(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *down = sim_other_than(sim, leader);
    raft_index index;

    followers_confirm_a_write(sim, leader);
    sim_crash(down);
    assert_int_equal(sim_write(leader, 8, &index), 0);
    wait_until_applied(sim, leader, index);
    sim_run(sim, 100);
    leader->io.send = send_and_count_entries;
    watched = 6 - down->id - leader->id;
    for (int i = 0; i < 200; i++) {
        entries_sent = 0;
        assert_int_equal(sim_write(leader, 8, &index), 0);
        assert_int_equal(entries_sent, 1);
        sim_run(sim, 10 + random_below(&sim->random, 4 * SIM_HEARTBEAT_MS));
    }
    sim_close(sim);
}

static void a_node_that_was_cut_off_elects_nobody_when_it_returns(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *away = sim_other_than(sim, leader);
    raft_term term = leader->driver.raft.current_term;

    sim_cut_off(sim, away, true);
    sim_run(sim, 20 * SIM_ELECTION_MS);
    assert_true(away->driver.raft.current_term == term);
    sim_cut_off(sim, away, false);
    sim_run(sim, 5 * SIM_ELECTION_MS);
    assert_ptr_equal(sim_wait_for_leader(sim), leader);
    assert_true(leader->driver.raft.current_term == term);
    sim_close(sim);
}

/* A follower that knows no leader has zeros where a candidate notes that it is in a pre-vote. */
static void a_vote_that_comes_late_changes_no_term(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *node = &sim->nodes[1];
    raft_term term = node->driver.raft.current_term;
    struct raft_message vote = {
        .type = RAFT_REQUEST_VOTE_RESULT,
        .server_id = 3,
        .server_address = sim->nodes[2].address,
        .request_vote_result = {
            .version = 2, .term = term + 1, .vote_granted = true, .pre_vote = true}};

    assert_int_equal(node->driver.raft.state, RAFT_FOLLOWER);
    driver_receive(&node->driver, &vote);
    assert_true(node->driver.raft.current_term == term);
    sim_close(sim);
}

/* ---- What is under way ---- */

static raft_index sent_upto;

static int send_and_note_entries(struct raft_io *io, struct raft_io_send *request,
                                 const struct raft_message *message, raft_io_send_cb done)
{
    const struct raft_append_entries *append = &message->append_entries;

    if (message->type == RAFT_APPEND_ENTRIES && message->server_id == watched &&
        append->prev_log_index + append->n_entries > sent_upto &&
        append->prev_log_index < UINT64_C(1) << 62)
        sent_upto = append->prev_log_index + append->n_entries;
    return sim_send(io, request, message, done);
}

static void many_entries_are_in_flight_at_once(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *follower = sim_other_than(sim, leader);
    raft_index first = 0, index;

    watched = follower->id;
    sent_upto = 0;
    leader->io.send = send_and_note_entries;
    /* More than once: messages that overtook each other make the core hesitate. */
    for (int round = 0; round < 10 && sent_upto < first + 200; round++) {
        sim->cut[follower->id - 1][leader->id - 1] = false;
        followers_confirm_a_write(sim, leader);
        sim->cut[follower->id - 1][leader->id - 1] = true; /* No answer comes back */
        assert_int_equal(sim_write(leader, 8, &first), 0);
        for (int i = 0; i < 300; i++)
            assert_int_equal(sim_write(leader, 8, &index), 0);
    }
    assert_true(sent_upto >= first + 200);
    sim_close(sim);
}

static struct raft_io_send *held[4096];
static size_t n_held, message_bytes_max;

/* To one peer nothing goes out: as if its socket took nothing. */
static int send_or_hold(struct raft_io *io, struct raft_io_send *request,
                        const struct raft_message *message, raft_io_send_cb done)
{
    const struct raft_append_entries *append = &message->append_entries;
    size_t bytes = 0;

    for (unsigned i = 0; message->type == RAFT_APPEND_ENTRIES && i < append->n_entries; i++)
        bytes += append->entries[i].buf.len;
    if (bytes > message_bytes_max)
        message_bytes_max = bytes;
    if (message->server_id != watched)
        return sim_send(io, request, message, done);
    assert_true(n_held < sizeof held / sizeof held[0]);
    request->cb = done;
    held[n_held++] = request;
    return 0;
}

static void held_answer(void)
{
    for (size_t i = 0; i < n_held; i++)
        held[i]->cb(held[i], RAFT_NOCONNECTION);
    n_held = 0;
}

#define ENTRY_BYTES (128u << 10)

static void what_waits_for_a_peer_is_bounded_in_bytes(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *slow = sim_other_than(sim, leader);
    const struct driver_peer *peer = driver_peer(&leader->driver, slow->id);
    raft_index index;

    sim_wait_for_agreement(sim);
    watched = slow->id;
    n_held = message_bytes_max = 0;
    leader->io.send = send_or_hold;
    for (int i = 0; i < 512; i++) { /* 64 MiB */
        assert_int_equal(sim_write(leader, ENTRY_BYTES, &index), 0);
        sim_turn(sim);
        assert_true(peer->queued_bytes <= 18 << 20);
    }
    sim_run(sim, 3000);
    assert_true(sim->committed >= index); /* The others go on */
    assert_true(peer->queued_bytes <= 18 << 20 && peer->queued <= 1024);
    assert_true(message_bytes_max <= (1 << 20) + ENTRY_BYTES);
    held_answer();
    watched = 0;
    sim_wait_for_agreement(sim);
    assert_true(slow->applied >= index && peer->queued_bytes == 0);
    sim_close(sim);
}

static void a_peer_far_behind_is_sent_a_bounded_part_at_a_time(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *away = sim_other_than(sim, leader);
    const struct driver_peer *peer = driver_peer(&leader->driver, away->id);
    raft_index index;

    sim_wait_for_agreement(sim);
    sim_cut_off(sim, away, true);
    for (int i = 0; i < 512; i++) {
        assert_int_equal(sim_write(leader, ENTRY_BYTES, &index), 0);
        sim_turn(sim);
    }
    sim_run(sim, 200);
    sim_cut_off(sim, away, false);
    for (int i = 0; i < 20000 && away->applied < index; i++) {
        sim_turn(sim);
        assert_true(peer->queued_bytes <= 18 << 20);
    }
    assert_true(away->applied >= index);
    sim_close(sim);
}

/* The core tells a successor to take over as soon as that confirms any entry, and a successor that
 * is still storing later ones does not listen. */
static void leadership_goes_at_once_to_a_follower_that_is_still_storing(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    raft_index index;

    for (int round = 0; round < 50; round++) {
        struct sim_node *leader = sim_wait_for_leader(sim);
        struct sim_node *next = sim_other_than(sim, leader);
        followers_confirm_a_write(sim, leader);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(sim_write(leader, 8, &index), 0);
            sim_turn(sim);
        }
        assert_int_equal(driver_transfer(&leader->driver, next->id), 0);
        assert_int_equal(sim_write(leader, 8, &index), RAFT_NOTLEADER);
        for (int i = 0; i < SIM_ELECTION_MS && sim_leader(sim) != next; i++)
            sim_turn(sim);
        assert_ptr_equal(sim_leader(sim), next);
        assert_true(raft_last_index(&next->driver.raft) >= index);
    }
    sim_close(sim);
}

static void leadership_stays_if_its_successor_does_not_get_the_log(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *next = sim_other_than(sim, leader);
    raft_index index;

    followers_confirm_a_write(sim, leader);
    next->disk_stalled = true;
    assert_int_equal(sim_write(leader, 8, &index), 0);
    assert_int_equal(driver_transfer(&leader->driver, next->id), 0);
    for (int i = 0; i < 2 * SIM_ELECTION_MS && driver_transferring(&leader->driver); i++)
        sim_turn(sim);
    assert_false(driver_transferring(&leader->driver));
    assert_int_equal(sim_write(leader, 8, &index), 0);
    next->disk_stalled = false;
    wait_until_applied(sim, leader, index);
    sim_close(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_without_traffic_keeps_no_leader_busy),
        cmocka_unit_test(a_leader_with_little_to_do_sends_a_write_at_once),
        cmocka_unit_test(a_node_that_was_cut_off_elects_nobody_when_it_returns),
        cmocka_unit_test(a_vote_that_comes_late_changes_no_term),
        cmocka_unit_test(many_entries_are_in_flight_at_once),
        cmocka_unit_test(what_waits_for_a_peer_is_bounded_in_bytes),
        cmocka_unit_test(a_peer_far_behind_is_sent_a_bounded_part_at_a_time),
        cmocka_unit_test(leadership_goes_at_once_to_a_follower_that_is_still_storing),
        cmocka_unit_test(leadership_stays_if_its_successor_does_not_get_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
