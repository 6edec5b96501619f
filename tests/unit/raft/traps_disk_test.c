/* What libraft's core (0.22) does to those who do not know it, with its start and with the disk.
 * Each test fails if the driver's guard against that trap is removed. */
#include "traps_fixture.h"

static uint64_t first_timeout(unsigned seed, unsigned char dirt)
{
    struct sim *sim = calloc(1, sizeof *sim);
    struct sim_node *node = &sim->nodes[0];
    struct given given = {1, RAFT_CHANGE, 3};
    struct driver_options options = {.id = 1,
                                     .address = "node1:1",
                                     .election_timeout_ms = SIM_ELECTION_MS,
                                     .heartbeat_ms = SIM_HEARTBEAT_MS,
                                     .seed = seed};
    struct raft_buffer payload;
    char error_text[256];
    uint64_t at;

    assert_non_null(sim);
    sim->now_ms = 1000;
    for (size_t i = 0; i < 3; i++)
        snprintf(sim->nodes[i].address, sizeof sim->nodes[i].address, "node%zu:1", i + 1);
    payload = payload_of(sim, &given);
    struct sim_stored stored[2] = {
        [1] = {.term = 1, .type = RAFT_CHANGE, .len = payload.len, .bytes = payload.base}};
    node->sim = sim;
    node->id = node->term = node->first = node->last = 1;
    node->stored = stored;
    node->io = (struct raft_io){.version = 2, .impl = node, .load = sim_load};
    memset(&node->driver, dirt, sizeof node->driver);
    assert_int_equal(driver_init(&node->driver, &node->io, &options, &sim_callbacks, node), 0);
    assert_int_equal(driver_start(&node->driver, error_text, sizeof error_text), 0);
    assert_null(node->driver.raft.tracer);
    at = raft_timeout(&node->driver.raft);
    driver_stop(&node->driver);
    driver_close(&node->driver);
    raft_free(payload.base);
    free(sim);
    return at;
}

/* Else all nodes stand for election in the same moment, and again after it. */
static void when_a_node_stands_for_election_is_its_seeds_choice(void **unused)
{
    (void)unused;
    unsigned differ = 0;

    for (unsigned seed = 1; seed <= 8; seed++) {
        uint64_t at = first_timeout(seed, 0);
        assert_true(at == first_timeout(seed, 0));
        assert_in_range(at, 1000 + SIM_ELECTION_MS, 1000 + 2 * SIM_ELECTION_MS);
        differ += at != first_timeout(0, 0);
    }
    assert_true(differ >= 6);
}

static void what_was_in_the_drivers_memory_does_not_matter(void **unused)
{
    (void)unused;
    assert_true(first_timeout(7, 0xa5) == first_timeout(7, 0));
}

/* ---- Disk ---- */

static unsigned terms_stored, votes_stored;

static int set_term_and_check(struct raft_io *io, raft_term term)
{
    assert_true(term > sim_of(io)->term); /* It wipes the vote: never without need */
    terms_stored++;
    return sim_set_term(io, term);
}

static int set_vote_and_check(struct raft_io *io, raft_id vote)
{
    assert_true(sim_of(io)->term == sim_of(io)->driver.raft.current_term);
    assert_true(sim_of(io)->vote == 0 && vote != 0); /* One vote a term */
    votes_stored++;
    return sim_set_vote(io, vote);
}

static void request_vote(struct sim_node *node, raft_id candidate, raft_term term,
                         raft_index last_index)
{
    struct raft_message message = {.type = RAFT_REQUEST_VOTE,
                                   .server_id = candidate,
                                   .server_address = node->sim->nodes[candidate - 1].address,
                                   .request_vote = {.term = term,
                                                    .candidate_id = candidate,
                                                    .last_log_index = last_index,
                                                    .last_log_term = LOG_FIRST_TERM,
                                                    .disrupt_leader = true}};

    driver_receive(&node->driver, &message);
}

static void a_vote_is_stored_after_its_term_and_once(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *node = &sim->nodes[1];

    terms_stored = votes_stored = 0;
    node->io.set_term = set_term_and_check;
    node->io.set_vote = set_vote_and_check;
    request_vote(node, 1, 5, 0); /* Its log is too short */
    assert_true(node->term == 5 && node->vote == 0);
    request_vote(node, 3, 5, 1);
    assert_true(node->term == 5 && node->vote == 3);
    request_vote(node, 3, 5, 1); /* Again, as the answer may have been lost */
    request_vote(node, 1, 5, 1);
    assert_true(node->term == 5 && node->vote == 3);
    request_vote(node, 3, 6, 1); /* To the same one, in another term */
    assert_true(node->term == 6 && node->vote == 3);
    assert_true(terms_stored == 2 && votes_stored == 2);
    sim_crash(node);
    sim_start(node);
    request_vote(node, 1, 6, 1);
    assert_true(node->term == 6 && node->vote == 3);
    sim_close(sim);
}

static unsigned changes, barriers;

static int append_and_check_payloads(struct raft_io *io, struct raft_io_append *append,
                                     const struct raft_entry entries[], unsigned n,
                                     raft_io_append_cb done)
{
    assert_in_range(n, 1, 262144);
    for (unsigned i = 0; i < n; i++) {
        assert_true(entries[i].buf.len > 0);
        assert_int_equal(entries[i].buf.len % 8, 0);
        changes += entries[i].type == RAFT_CHANGE;
        barriers += entries[i].type == RAFT_BARRIER;
    }
    return sim_append(io, append, entries, n, done);
}

static void every_payload_is_a_multiple_of_8_bytes_and_none_is_empty(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 4, 3);
    struct sim_node *leader;

    changes = barriers = 0;
    for (size_t i = 0; i < sim->n; i++)
        sim->nodes[i].io.append = append_and_check_payloads;
    leader = sim_wait_for_leader(sim);
    assert_int_equal(driver_server_add(&leader->driver, 4, "a:1", RAFT_SPARE), 0);
    sim_run(sim, 100);
    assert_true(changes >= 3 && barriers >= 3); /* One a node */
    sim_close(sim);
}

static void what_was_truncated_while_it_was_written_does_not_count_as_stored(void **unused)
{
    (void)unused;
    static const struct given first = {2, RAFT_COMMAND, 0}, second = {3, RAFT_COMMAND, 0};
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *node = &sim->nodes[1];

    receive_entries(node, 2, 1, LOG_FIRST_TERM, 1, &first, 1);
    receive_entries(node, 3, 1, LOG_FIRST_TERM, 1, &second, 1);
    assert_int_equal(node->n_requests, 3); /* Append, truncate, append */
    sim_disk_complete(node);
    sim_disk_complete(node);
    driver_flush(&node->driver);
    assert_true(node->driver.raft.last_stored == 1);
    sim_disk_complete(node);
    driver_flush(&node->driver);
    assert_true(node->driver.raft.last_stored == 2);
    sim_close(sim);
}

static void count_failure(void *context, const char *reason)
{
    assert_non_null(strstr(reason, "writing the log failed"));
    ((struct sim_node *)context)->failures++;
}

static void after_a_failed_write_a_node_does_nothing_more(void **unused)
{
    (void)unused;
    struct sim *sim = sim_open(random_seed(), 3, 3);
    struct sim_node *leader = sim_wait_for_leader(sim);
    struct driver_callbacks callbacks = sim_callbacks;
    raft_index index;

    sim_wait_for_agreement(sim);
    callbacks.failed = count_failure;
    leader->driver.callbacks = &callbacks;
    leader->disk_stalled = true;
    assert_int_equal(sim_write(leader, 8, &index), 0);
    struct raft_io_append *append = leader->requests[0].append;
    assert_non_null(append);
    leader->n_requests = 0;
    append->cb(append, RAFT_IOERR);
    assert_int_equal(leader->failures, 1);
    assert_false(driver_is_leader(&leader->driver));
    assert_int_equal(sim_write(leader, 8, &index), RAFT_NOTLEADER);
    size_t messages = sim->n_messages;
    driver_timeout(&leader->driver);
    driver_flush(&leader->driver);
    assert_false(driver_resume(&leader->driver));
    assert_int_equal(sim->n_messages, messages);
    assert_ptr_not_equal(sim_wait_for_leader(sim), leader);
    sim_close(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(when_a_node_stands_for_election_is_its_seeds_choice),
        cmocka_unit_test(what_was_in_the_drivers_memory_does_not_matter),
        cmocka_unit_test(a_vote_is_stored_after_its_term_and_once),
        cmocka_unit_test(every_payload_is_a_multiple_of_8_bytes_and_none_is_empty),
        cmocka_unit_test(what_was_truncated_while_it_was_written_does_not_count_as_stored),
        cmocka_unit_test(after_a_failed_write_a_node_does_nothing_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
