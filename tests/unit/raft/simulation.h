/* Several drivers in one thread over a simulated clock, network and disk: a seed replays a story.
 *
 * Time passes in steps of a millisecond. Messages take a random while, get lost where the network
 * is cut, and are delivered out of order. A disk completes its requests in order, later. A crash
 * loses what was not completed. Each node notes what it applied; whenever two nodes apply different
 * entries at one index, or two lead in one term, the test fails at once. */
#ifndef TIERKV_TESTS_RAFT_SIMULATION_H
#define TIERKV_TESTS_RAFT_SIMULATION_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/random.h"
#include "raft/driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIM_NODES_MAX    5
#define SIM_ENTRIES_MAX  65536
#define SIM_MESSAGES_MAX 16384
#define SIM_DISK_MAX     4096
#define SIM_MANIFEST     "manifest"
#define SIM_ELECTION_MS  300
#define SIM_HEARTBEAT_MS 50

struct sim_stored {
    raft_term term;
    enum raft_entry_type type;
    size_t len;
    void *bytes;
};

/* One request to the disk: entries to append, a truncation, or a snapshot. */
struct sim_request {
    struct raft_io_append *append;
    struct raft_io_snapshot_put *put;
    struct raft_io_snapshot_get *get;
    raft_index truncate;
    const struct raft_entry *entries;
    unsigned n;
    const struct raft_snapshot *snapshot;
};

struct sim;

struct sim_node {
    struct sim *sim;
    struct driver driver;
    struct raft_io io;
    raft_id id;
    char address[32];
    bool running;
    uint64_t timer_ms;
    /* Disk */
    raft_term term;
    raft_id vote;
    raft_index first, last; /* Of the stored entries */
    struct sim_stored *stored;
    bool have_snapshot;
    raft_index snapshot_index, snapshot_configuration_index;
    raft_term snapshot_term;
    struct raft_configuration snapshot_configuration;
    struct sim_request requests[SIM_DISK_MAX];
    size_t n_requests;
    bool disk_stalled;
    /* State */
    raft_index applied;
    /* What callbacks answer and count */
    bool log_full, disk_full, apply_paused, may_not_stand;
    size_t held_bytes_max; /* 0: no bound */
    unsigned offered, reported_behind, failures;
};

struct sim_message {
    size_t from, to;
    uint64_t due_ms;
    struct raft_message message;
    struct raft_io_send *request; /* To be answered; NULL: was */
};

struct sim {
    uint64_t now_ms;
    struct random random;
    size_t n;
    struct sim_node nodes[SIM_NODES_MAX];
    bool cut[SIM_NODES_MAX][SIM_NODES_MAX];
    struct sim_message messages[SIM_MESSAGES_MAX];
    size_t n_messages;
    uint64_t applied[SIM_ENTRIES_MAX]; /* By index: what the first node applied there, 0 if none */
    raft_id leaders[SIM_ENTRIES_MAX];  /* By term */
    raft_index committed;              /* Highest index applied by any node */
    uint64_t value;                    /* Of the next command */
};

/* ---- Callbacks of the driver ---- */

static inline uint64_t sim_now_ms(void *context)
{
    return ((struct sim_node *)context)->sim->now_ms;
}

static inline void sim_set_timer(void *context, uint64_t at_ms)
{
    ((struct sim_node *)context)->timer_ms = at_ms;
}

static inline uint64_t sim_digest(raft_term term, enum raft_entry_type type,
                                  const struct raft_buffer *payload)
{
    uint64_t digest = (uint64_t)term * 31 + (uint64_t)type + 1;
    const unsigned char *bytes = payload->base;
    for (size_t i = 0; i < payload->len; i++)
        digest = (digest ^ bytes[i]) * UINT64_C(0x100000001b3);
    return digest | 1;
}

static inline int sim_apply(void *context, raft_index index, raft_term term,
                            enum raft_entry_type type, const struct raft_buffer *payload)
{
    struct sim_node *node = context;
    struct sim *sim = node->sim;
    uint64_t digest = sim_digest(term, type, payload);
    assert_true(index < SIM_ENTRIES_MAX);
    assert_true(index == node->applied + 1);
    if (sim->applied[index] == 0)
        sim->applied[index] = digest;
    assert_true(sim->applied[index] == digest);
    node->applied = index;
    if (index > sim->committed)
        sim->committed = index;
    return 0;
}

static inline bool sim_apply_ready(void *context)
{
    return !((struct sim_node *)context)->apply_paused;
}

static inline bool sim_may_stand(void *context)
{
    return !((struct sim_node *)context)->may_not_stand;
}

static inline bool sim_log_takes(void *context, size_t held_bytes, size_t bytes, bool former)
{
    const struct sim_node *node = context;
    (void)bytes;
    return !node->log_full && (!node->disk_full || former) &&
           (node->held_bytes_max == 0 || held_bytes <= node->held_bytes_max);
}

static inline bool sim_manifest_fits(void *context, const void *manifest, size_t bytes,
                                     raft_index index, char *error_text, size_t error_text_size)
{
    (void)context;
    (void)index;
    (void)error_text;
    (void)error_text_size;
    return bytes == sizeof SIM_MANIFEST && memcmp(manifest, SIM_MANIFEST, bytes) == 0;
}

static inline void sim_state_changed(void *context)
{
    struct sim_node *node = context;
    struct raft *raft = &node->driver.raft;
    if (raft->state != RAFT_LEADER)
        return;
    assert_true(raft->current_term < SIM_ENTRIES_MAX);
    if (node->sim->leaders[raft->current_term] == 0)
        node->sim->leaders[raft->current_term] = node->id;
    assert_true(node->sim->leaders[raft->current_term] == node->id);
}

static inline void sim_snapshot_offered(void *context, raft_index index)
{
    (void)index;
    ((struct sim_node *)context)->offered++;
}

static inline void sim_peer_too_far_behind(void *context, raft_id id, raft_index first_index)
{
    (void)id;
    (void)first_index;
    ((struct sim_node *)context)->reported_behind++;
}

static inline void sim_failed(void *context, const char *reason)
{
    struct sim_node *node = context;
    node->failures++;
    fail_msg("node %llu failed: %s", node->id, reason);
}

static const struct driver_callbacks sim_callbacks = {
    .now_ms = sim_now_ms,
    .set_timer = sim_set_timer,
    .apply = sim_apply,
    .apply_ready = sim_apply_ready,
    .may_stand = sim_may_stand,
    .log_takes = sim_log_takes,
    .manifest_fits = sim_manifest_fits,
    .state_changed = sim_state_changed,
    .snapshot_offered = sim_snapshot_offered,
    .peer_too_far_behind = sim_peer_too_far_behind,
    .failed = sim_failed,
};

/* ---- Disk ---- */

static inline struct sim_node *sim_of(struct raft_io *io)
{
    return io->impl;
}

static inline int sim_set_term(struct raft_io *io, raft_term term)
{
    sim_of(io)->term = term;
    sim_of(io)->vote = 0; /* As the real one does */
    return 0;
}

static inline int sim_set_vote(struct raft_io *io, raft_id vote)
{
    sim_of(io)->vote = vote;
    return 0;
}

static inline int sim_request(struct raft_io *io, struct sim_request request)
{
    struct sim_node *node = sim_of(io);
    assert_true(node->n_requests < SIM_DISK_MAX);
    node->requests[node->n_requests++] = request;
    return 0;
}

static inline int sim_append(struct raft_io *io, struct raft_io_append *append,
                             const struct raft_entry entries[], unsigned n, raft_io_append_cb done)
{
    append->cb = done;
    return sim_request(io, (struct sim_request){.append = append, .entries = entries, .n = n});
}

static inline int sim_truncate(struct raft_io *io, raft_index index)
{
    return sim_request(io, (struct sim_request){.truncate = index});
}

static inline int sim_snapshot_put(struct raft_io *io, unsigned trailing,
                                   struct raft_io_snapshot_put *put,
                                   const struct raft_snapshot *snapshot,
                                   raft_io_snapshot_put_cb done)
{
    assert_true(trailing > 0);
    put->cb = done;
    return sim_request(io, (struct sim_request){.put = put, .snapshot = snapshot, .n = trailing});
}

static inline int sim_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *get,
                                   raft_io_snapshot_get_cb done)
{
    get->cb = done;
    return sim_request(io, (struct sim_request){.get = get});
}

static inline void *sim_copy(const void *bytes, size_t n)
{
    void *copy = raft_malloc(n);
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    return copy;
}

static inline void sim_forget(struct sim_node *node, raft_index first, raft_index last)
{
    for (raft_index i = first; i <= last; i++)
        raft_free(node->stored[i].bytes);
}

static inline struct raft_snapshot *sim_snapshot_load(struct sim_node *node)
{
    struct raft_snapshot *snapshot = raft_calloc(1, sizeof *snapshot);
    assert_non_null(snapshot);
    snapshot->index = node->snapshot_index;
    snapshot->term = node->snapshot_term;
    snapshot->configuration_index = node->snapshot_configuration_index;
    assert_int_equal(
        driver_configuration_copy(&node->snapshot_configuration, &snapshot->configuration), 0);
    snapshot->bufs = raft_malloc(sizeof *snapshot->bufs);
    assert_non_null(snapshot->bufs);
    snapshot->bufs[0].len = sizeof SIM_MANIFEST;
    snapshot->bufs[0].base = sim_copy(SIM_MANIFEST, sizeof SIM_MANIFEST);
    snapshot->n_bufs = 1;
    return snapshot;
}

static inline void sim_snapshot_store(struct sim_node *node, const struct raft_snapshot *snapshot,
                                      unsigned trailing)
{
    raft_configuration_close(&node->snapshot_configuration);
    assert_int_equal(
        driver_configuration_copy(&snapshot->configuration, &node->snapshot_configuration), 0);
    node->have_snapshot = true;
    node->snapshot_index = snapshot->index;
    node->snapshot_term = snapshot->term;
    node->snapshot_configuration_index = snapshot->configuration_index;
    while (node->first + trailing <= snapshot->index) {
        sim_forget(node, node->first, node->first);
        node->first++;
    }
}

static inline void sim_disk_complete(struct sim_node *node)
{
    struct sim_request request = node->requests[0];
    node->n_requests--;
    memmove(node->requests, node->requests + 1, node->n_requests * sizeof request);
    if (request.truncate > 0) {
        sim_forget(node, request.truncate, node->last);
        node->last = request.truncate - 1;
    } else if (request.append != NULL) {
        for (unsigned i = 0; i < request.n; i++) {
            const struct raft_entry *entry = &request.entries[i];
            assert_true(++node->last < SIM_ENTRIES_MAX);
            node->stored[node->last] =
                (struct sim_stored){.term = entry->term,
                                    .type = entry->type,
                                    .len = entry->buf.len,
                                    .bytes = sim_copy(entry->buf.base, entry->buf.len)};
        }
        request.append->cb(request.append, 0);
    } else if (request.put != NULL) {
        sim_snapshot_store(node, request.snapshot, request.n);
        request.put->cb(request.put, 0);
    } else {
        request.get->cb(request.get, sim_snapshot_load(node), 0);
    }
}

static inline void sim_disk_cancel(struct sim_node *node)
{
    for (size_t i = 0; i < node->n_requests; i++) {
        struct sim_request *request = &node->requests[i];
        if (request->append != NULL)
            request->append->cb(request->append, RAFT_CANCELED);
        else if (request->put != NULL)
            request->put->cb(request->put, RAFT_CANCELED);
        else if (request->get != NULL)
            request->get->cb(request->get, NULL, RAFT_CANCELED);
    }
    node->n_requests = 0;
}

static inline int sim_load(struct raft_io *io, raft_term *term, raft_id *vote,
                           struct raft_snapshot **snapshot, raft_index *start,
                           struct raft_entry *entries[], size_t *n)
{
    struct sim_node *node = sim_of(io);
    *term = node->term;
    *vote = node->vote;
    *snapshot = node->have_snapshot ? sim_snapshot_load(node) : NULL;
    *start = node->first;
    *n = (size_t)(node->last + 1 - node->first);
    *entries = *n > 0 ? raft_malloc(*n * sizeof **entries) : NULL;
    for (size_t i = 0; i < *n; i++) {
        const struct sim_stored *stored = &node->stored[node->first + i];
        struct raft_entry *entry = &(*entries)[i];
        entry->term = stored->term;
        entry->type = stored->type;
        entry->buf.len = stored->len;
        entry->buf.base = entry->batch = sim_copy(stored->bytes, stored->len);
    }
    return 0;
}

/* ---- Network ---- */

/* As if decoded from the wire: everything is the receiver's. */
static inline void sim_message_copy(const struct raft_message *from, struct raft_message *to)
{
    *to = *from;
    if (from->type == RAFT_INSTALL_SNAPSHOT) {
        struct raft_install_snapshot *install = &to->install_snapshot;
        assert_int_equal(driver_configuration_copy(&from->install_snapshot.conf, &install->conf),
                         0);
        install->data.base = sim_copy(install->data.base, install->data.len);
    }
    if (from->type == RAFT_APPEND_ENTRIES && from->append_entries.n_entries > 0) {
        const struct raft_append_entries *append = &from->append_entries;
        size_t bytes = 0;
        for (unsigned i = 0; i < append->n_entries; i++)
            bytes += append->entries[i].buf.len;
        char *batch = raft_malloc(bytes);
        struct raft_entry *entries = sim_copy(append->entries, append->n_entries * sizeof *entries);
        assert_non_null(batch);
        bytes = 0;
        for (unsigned i = 0; i < append->n_entries; i++) {
            memcpy(batch + bytes, entries[i].buf.base, entries[i].buf.len);
            entries[i].buf.base = batch + bytes;
            entries[i].batch = batch;
            bytes += entries[i].buf.len;
        }
        to->append_entries.entries = entries;
    }
}

static inline int sim_send(struct raft_io *io, struct raft_io_send *request,
                           const struct raft_message *message, raft_io_send_cb done)
{
    struct sim_node *node = sim_of(io);
    struct sim *sim = node->sim;
    struct sim_message *sent = &sim->messages[sim->n_messages];
    assert_true(sim->n_messages < SIM_MESSAGES_MAX);
    assert_in_range(message->server_id, 1, sim->n);
    request->cb = done;
    sent->request = request;
    sent->from = (size_t)node->id - 1;
    sent->to = (size_t)message->server_id - 1;
    sent->due_ms = sim->now_ms + 1 + random_below(&sim->random, 5);
    sim_message_copy(message, &sent->message);
    sent->message.server_id = node->id;
    sent->message.server_address = node->address;
    sim->n_messages++;
    return 0;
}

static inline void sim_message_answer(struct sim_message *message, int status)
{
    struct raft_io_send *request = message->request;
    message->request = NULL;
    if (request != NULL)
        request->cb(request, status);
}

static inline void sim_network_pass(struct sim *sim)
{
    for (size_t i = 0; i < sim->n_messages;) {
        struct sim_message message;
        sim_message_answer(&sim->messages[i], 0);
        if (sim->messages[i].due_ms > sim->now_ms) {
            i++;
            continue;
        }
        message = sim->messages[i];
        sim->messages[i] = sim->messages[--sim->n_messages];
        if (sim->cut[message.from][message.to] || !sim->nodes[message.to].running)
            driver_message_free(&message.message);
        else
            driver_receive(&sim->nodes[message.to].driver, &message.message);
    }
}

/* ---- Nodes ---- */

static inline void sim_start(struct sim_node *node)
{
    struct driver_options options = {.id = node->id,
                                     .address = node->address,
                                     .election_timeout_ms = SIM_ELECTION_MS,
                                     .heartbeat_ms = SIM_HEARTBEAT_MS,
                                     .seed = (unsigned)random_next(&node->sim->random),
                                     .applied = node->applied};
    char error_text[256] = "";
    node->io = (struct raft_io){.version = 2,
                                .impl = node,
                                .load = sim_load,
                                .set_term = sim_set_term,
                                .set_vote = sim_set_vote,
                                .send = sim_send,
                                .append = sim_append,
                                .truncate = sim_truncate,
                                .snapshot_put = sim_snapshot_put,
                                .snapshot_get = sim_snapshot_get};
    assert_int_equal(driver_init(&node->driver, &node->io, &options, &sim_callbacks, node), 0);
    node->running = true;
    if (driver_start(&node->driver, error_text, sizeof error_text) != 0)
        fail_msg("%s", error_text);
}

/* Loses what the disk has not completed; messages under way stay under way. */
static inline void sim_crash(struct sim_node *node)
{
    struct sim *sim = node->sim;
    driver_stop(&node->driver);
    sim_disk_cancel(node);
    for (size_t i = 0; i < sim->n_messages; i++)
        if (sim->messages[i].from + 1 == node->id)
            sim_message_answer(&sim->messages[i], RAFT_CANCELED);
    driver_close(&node->driver);
    node->running = false;
    node->timer_ms = 0;
}

/* `n` nodes, of which the first `voters` form the cluster. */
static inline struct sim *sim_open(uint64_t seed, size_t n, size_t voters)
{
    struct sim *sim = calloc(1, sizeof *sim);
    struct raft_configuration configuration;
    assert_non_null(sim);
    random_init(&sim->random, seed);
    sim->n = n;
    sim->now_ms = 1000;
    raft_configuration_init(&configuration);
    for (size_t i = 0; i < n; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->sim = sim;
        node->id = i + 1;
        snprintf(node->address, sizeof node->address, "node%zu:1", i + 1);
        node->stored = calloc(SIM_ENTRIES_MAX, sizeof *node->stored);
        assert_non_null(node->stored);
        node->first = 1;
        raft_configuration_init(&node->snapshot_configuration);
        if (i < voters)
            assert_int_equal(
                raft_configuration_add(&configuration, node->id, node->address, RAFT_VOTER), 0);
    }
    for (size_t i = 0; i < n; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (i < voters) {
            struct raft_buffer payload;
            assert_int_equal(raft_configuration_encode(&configuration, &payload), 0);
            node->term = 1;
            node->stored[++node->last] = (struct sim_stored){
                .term = 1, .type = RAFT_CHANGE, .len = payload.len, .bytes = payload.base};
        }
        sim_start(node);
    }
    raft_configuration_close(&configuration);
    return sim;
}

static inline void sim_close(struct sim *sim)
{
    for (size_t i = 0; i < sim->n; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->running)
            sim_crash(node);
        sim_forget(node, node->first, node->last);
        raft_configuration_close(&node->snapshot_configuration);
        free(node->stored);
    }
    for (size_t i = 0; i < sim->n_messages; i++)
        driver_message_free(&sim->messages[i].message);
    free(sim);
}

static inline void sim_node_turn(struct sim_node *node)
{
    if (!node->disk_stalled && node->n_requests > 0 && random_below(&node->sim->random, 2) == 0)
        sim_disk_complete(node);
    if (node->timer_ms != 0 && node->timer_ms <= node->sim->now_ms) {
        node->timer_ms = 0;
        driver_timeout(&node->driver);
    }
    driver_flush(&node->driver);
    driver_resume(&node->driver);
}

static inline void sim_turn(struct sim *sim)
{
    sim->now_ms++;
    sim_network_pass(sim);
    for (size_t i = 0; i < sim->n; i++)
        if (sim->nodes[i].running)
            sim_node_turn(&sim->nodes[i]);
}

static inline void sim_run(struct sim *sim, uint64_t ms)
{
    for (uint64_t end = sim->now_ms + ms; sim->now_ms < end;)
        sim_turn(sim);
}

/* ---- What tests do and ask ---- */

static inline void sim_cut_off(struct sim *sim, const struct sim_node *node, bool off)
{
    for (size_t i = 0; i < sim->n; i++)
        sim->cut[i][node->id - 1] = sim->cut[node->id - 1][i] = off;
}

/* The leader of the highest term, if it has established itself. */
static inline struct sim_node *sim_leader(struct sim *sim)
{
    struct sim_node *leader = NULL;
    for (size_t i = 0; i < sim->n; i++) {
        struct sim_node *node = &sim->nodes[i];
        if (node->running && driver_is_leader(&node->driver) &&
            node->driver.applied >= node->driver.election_index &&
            (leader == NULL || node->driver.raft.current_term > leader->driver.raft.current_term))
            leader = node;
    }
    return leader;
}

static inline struct sim_node *sim_wait_for_leader(struct sim *sim)
{
    struct sim_node *leader = NULL;
    for (int i = 0; i < 20000 && (leader = sim_leader(sim)) == NULL; i++)
        sim_turn(sim);
    assert_non_null(leader);
    return leader;
}

static inline int sim_write(struct sim_node *node, size_t bytes, raft_index *ret_index)
{
    struct raft_buffer payload = {.len = bytes, .base = raft_calloc(1, bytes)};
    int rv;
    assert_non_null(payload.base);
    *(uint64_t *)payload.base = ++node->sim->value;
    rv = driver_submit(&node->driver, RAFT_COMMAND, payload, ret_index);
    if (rv != 0)
        raft_free(payload.base);
    return rv;
}

static inline bool sim_agree(const struct sim *sim)
{
    for (size_t i = 0; i < sim->n; i++)
        if (sim->nodes[i].running && sim->nodes[i].applied != sim->committed)
            return false;
    return true;
}

/* One of the nodes that is not this one. */
static inline struct sim_node *sim_other_than(struct sim *sim, const struct sim_node *node)
{
    return node == &sim->nodes[0] ? &sim->nodes[1] : &sim->nodes[0];
}

static inline void sim_wait_for_agreement(struct sim *sim)
{
    for (int i = 0; i < 20000 && !sim_agree(sim); i++)
        sim_turn(sim);
    if (sim_agree(sim))
        return;
    for (size_t i = 0; i < sim->n; i++) {
        const struct driver *driver = &sim->nodes[i].driver;
        print_error(
            "node %zu: %s term %llu log %llu to %llu stored %llu commit %llu applied %llu\n", i + 1,
            raft_state_name(driver->raft.state), driver->raft.current_term, driver->log.first,
            driver->log.last, driver->raft.last_stored, driver->raft.commit_index, driver->applied);
    }
    fail_msg("the nodes do not reach index %llu", sim->committed);
}

#endif
