/* What the tests of traps share: a follower that is told by hand, on the simulation. Nothing of
 * what is told passes through another node's core, so that it may be what no core of today sends.
 */
#ifndef TIERKV_TESTS_RAFT_TRAPS_FIXTURE_H
#define TIERKV_TESTS_RAFT_TRAPS_FIXTURE_H

#include "simulation.h"

#define LOG_FIRST_TERM 1 /* Of the configuration that every log begins with */

static inline void wait_until_applied(struct sim *sim, const struct sim_node *node,
                                      raft_index index)
{
    for (int i = 0; i < 20000 && node->applied < index; i++)
        sim_turn(sim);
    assert_true(node->applied >= index);
}

/* So that each follower has confirmed entries of this leader. */
static inline void followers_confirm_a_write(struct sim *sim, struct sim_node *leader)
{
    raft_index index;

    assert_int_equal(sim_write(leader, 8, &index), 0);
    for (size_t i = 0; i < 3; i++)
        wait_until_applied(sim, &sim->nodes[i], index);
}

/* ---- A follower that is told by hand ---- */

struct given {
    raft_term term;
    enum raft_entry_type type;
    size_t n_servers; /* Of a change: the first servers of the simulation */
};

static inline struct raft_buffer payload_of(const struct sim *sim, const struct given *given)
{
    struct raft_buffer payload = {.len = 8};
    struct raft_configuration configuration;

    if (given->type != RAFT_CHANGE) {
        payload.base = raft_calloc(1, payload.len);
        assert_non_null(payload.base);
        return payload;
    }
    raft_configuration_init(&configuration);
    for (size_t i = 0; i < given->n_servers; i++)
        assert_int_equal(raft_configuration_add(&configuration, i + 1, sim->nodes[i].address,
                                                i < 3 ? RAFT_VOTER : RAFT_SPARE),
                         0);
    assert_int_equal(raft_configuration_encode(&configuration, &payload), 0);
    raft_configuration_close(&configuration);
    return payload;
}

/* As from the leader of the term, which is node 1; entries lie one behind the other in a batch. */
static inline void receive_entries(struct sim_node *node, raft_term term, raft_index prev_index,
                                   raft_term prev_term, raft_index commit,
                                   const struct given *given, unsigned n)
{
    struct raft_message message = {
        .type = RAFT_APPEND_ENTRIES, .server_id = 1, .server_address = node->sim->nodes[0].address};
    struct raft_append_entries *append = &message.append_entries;
    struct raft_buffer payloads[8];
    size_t bytes = 0;

    assert_true(n <= 8);
    append->term = term;
    append->prev_log_index = prev_index;
    append->prev_log_term = prev_term;
    append->leader_commit = commit;
    append->n_entries = n;
    for (unsigned i = 0; i < n; i++) {
        payloads[i] = payload_of(node->sim, &given[i]);
        bytes += payloads[i].len;
    }
    if (n > 0) {
        char *batch = raft_malloc(bytes);
        append->entries = raft_calloc(n, sizeof *append->entries);
        assert_non_null(batch);
        assert_non_null(append->entries);
        bytes = 0;
        for (unsigned i = 0; i < n; i++) {
            memcpy(batch + bytes, payloads[i].base, payloads[i].len);
            append->entries[i] =
                (struct raft_entry){.term = given[i].term,
                                    .type = given[i].type,
                                    .buf = {.base = batch + bytes, .len = payloads[i].len},
                                    .batch = batch};
            bytes += payloads[i].len;
            raft_free(payloads[i].base);
        }
    }
    driver_receive(&node->driver, &message);
}

static inline void disk_settles(struct sim_node *node)
{
    while (node->n_requests > 0)
        sim_disk_complete(node);
    driver_flush(&node->driver);
    driver_resume(&node->driver);
}

#endif
