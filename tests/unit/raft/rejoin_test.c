/* What a node must not conclude from a log whose end it has not seen yet, and what it tells others
 * who know less than it does. */
#include "traps_fixture.h"

#define LONG_MS (20 * SIM_ELECTION_MS)

static bool anybody_leads(struct sim *sim)
{
    for (size_t i = 0; i < sim->n; i++)
        if (sim->nodes[i].running && driver_is_leader(&sim->nodes[i].driver))
            return true;
    return false;
}

static void a_sole_voter_of_long_ago_does_not_lead_unless_it_may_stand(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 2, 1);
    struct sim_node *node = sim_wait_for_leader(sim);
    raft_index index;

    assert_int_equal(sim_write(node, 8, &index), 0);
    wait_until_applied(sim, node, index);
    sim_crash(node);
    node->may_not_stand = true;
    sim_start(node);
    assert_false(driver_is_leader(&node->driver));
    sim_run(sim, LONG_MS);
    assert_false(driver_is_leader(&node->driver));
    sim_crash(node);
    node->may_not_stand = false;
    sim_start(node);
    assert_true(driver_is_leader(&node->driver));
    sim_close(sim);
}

static void who_may_not_stand_asks_for_no_votes(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *other = sim_other_than(sim, leader);

    raft_term term = leader->driver.raft.current_term;

    sim_wait_for_agreement(sim);
    for (size_t i = 0; i < 3; i++)
        sim->nodes[i].may_not_stand = true;
    sim_crash(leader);
    sim_run(sim, LONG_MS);
    assert_false(anybody_leads(sim));
    assert_true(other->driver.raft.current_term == term);
    for (size_t i = 0; i < 3; i++)
        sim->nodes[i].may_not_stand = false;
    sim_wait_for_leader(sim);
    sim_close(sim);
}

static struct raft_request_vote_result told;

static int send_and_keep_vote_results(struct raft_io *io, struct raft_io_send *request,
                                      const struct raft_message *message, raft_io_send_cb done)
{
    if (message->type == RAFT_REQUEST_VOTE_RESULT)
        told = message->request_vote_result;
    return sim_send(io, request, message, done);
}

static void a_refused_pre_vote_tells_the_newer_term(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *node = &sim->nodes[1];
    struct raft_message ask = {.type = RAFT_REQUEST_VOTE,
                               .server_id = 3,
                               .server_address = sim->nodes[2].address,
                               .request_vote = {.version = 2,
                                                .term = 3,
                                                .candidate_id = 3,
                                                .last_log_index = 1,
                                                .last_log_term = LOG_FIRST_TERM,
                                                .pre_vote = true}};

    receive_entries(node, 9, 1, LOG_FIRST_TERM, 1, NULL, 0);
    node->io.send = send_and_keep_vote_results;
    driver_receive(&node->driver, &ask);
    assert_true(told.pre_vote);
    assert_false(told.vote_granted);
    assert_true(told.term == 9);
    sim_close(sim);
}

static void a_configuration_that_the_state_contains_is_known_right_after_the_start(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 4, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct raft_configuration configuration;
    raft_index index, changed;

    assert_int_equal(driver_server_add(&leader->driver, 4, sim->nodes[3].address, RAFT_SPARE), 0);
    assert_int_equal(sim_write(leader, 8, &index), 0);
    wait_until_applied(sim, leader, index);
    /* The others' disks may have been enough to commit it: this one's must have it, too. */
    for (int i = 0; i < 20000 && leader->driver.raft.last_stored < index; i++)
        sim_turn(sim);
    sim_crash(leader);
    sim_start(leader);
    assert_true(leader->driver.committed_seen < index);
    assert_int_equal(driver_configuration_applied(&leader->driver, index, &configuration, &changed),
                     0);
    assert_int_equal(configuration.n, 4);
    assert_true(changed > 1 && changed < index);
    raft_configuration_close(&configuration);
    sim_close(sim);
}

static raft_id watched_id;
static char watched_address[DRIVER_ADDRESS_BYTES];
static unsigned watched_sends;

static int send_and_keep_address(struct raft_io *io, struct raft_io_send *request,
                                 const struct raft_message *message, raft_io_send_cb done)
{
    if (message->server_id == watched_id) {
        snprintf(watched_address, sizeof watched_address, "%s", message->server_address);
        watched_sends++;
    }
    return sim_send(io, request, message, done);
}

/* A vote that is of no use to a leader: all that it tells is where it comes from. */
static void hear_from(struct sim_node *node, raft_id id, const char *address)
{
    struct raft_message vote = {
        .type = RAFT_REQUEST_VOTE_RESULT, .server_id = id, .server_address = address};

    driver_receive(&node->driver, &vote);
    watched_sends = 0;
    for (int i = 0; i < 20000 && watched_sends == 0; i++)
        sim_turn(node->sim);
    assert_true(watched_sends > 0);
}

static void who_moved_is_sent_to_where_it_says_it_is(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct sim_node *moved = sim_other_than(sim, leader);
    static char longer[DRIVER_ADDRESS_BYTES + 1];

    watched_id = moved->driver.raft.id;
    leader->io.send = send_and_keep_address;
    sim_cut_off(sim, moved, true); /* It says nothing by itself */
    hear_from(leader, watched_id, "elsewhere:1");
    assert_string_equal(watched_address, "elsewhere:1");
    hear_from(leader, watched_id, moved->address);
    assert_string_equal(watched_address, moved->address);
    memset(longer, 'a', sizeof longer - 1);
    hear_from(leader, watched_id, longer);
    assert_string_equal(watched_address, moved->address);
    sim_close(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sole_voter_of_long_ago_does_not_lead_unless_it_may_stand),
        cmocka_unit_test(who_may_not_stand_asks_for_no_votes),
        cmocka_unit_test(who_moved_is_sent_to_where_it_says_it_is),
        cmocka_unit_test(a_refused_pre_vote_tells_the_newer_term),
        cmocka_unit_test(a_configuration_that_the_state_contains_is_known_right_after_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
