/* Replicas in one process: threads, real backends in temporary folders, loopback connections. */
#ifndef TIERKV_TESTS_RAFT_NODES_FIXTURE_H
#define TIERKV_TESTS_RAFT_NODES_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/port.h"
#include "lib/random.h"
#include "lib/temp_folder.h"
#include "raft/replica.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define VOTERS      3
#define NODES       5 /* The voters, and others to join them */
#define WAIT_MS_MAX 20000
/* Short for the tests' sake, but longer than a busy machine lets a thread wait. */
#ifdef __SANITIZE_THREAD__
#define ELECTION_TIMEOUT_MS 1000
#else
#define ELECTION_TIMEOUT_MS 300
#endif

struct node {
    struct tiers *tiers;
    _Atomic(struct replica *) replica;
    pthread_mutex_t callback_mutex; /* The mover's callbacks must not meet the replica's end */
    struct replica *callback_replica;
    struct inbox *reply;
    char raft_address[64];
    char http_address[64];
    char name[16];
    char directory[TEMP_FOLDER_PATH_BYTES + 16];
    /* State transfer: the place in use is directory/state<N>. */
    _Atomic unsigned place;
    _Atomic bool state_received;
    _Atomic unsigned begun; /* Transfers */
    uint64_t transfer_bytes_per_second_max;
    uint64_t transfer_log_bytes_max, log_retained_bytes, log_cache_bytes;
    uint64_t flush_interval_ms; /* 0: short */
    bool force_new_cluster;
};

struct fixture {
    char directory[TEMP_FOLDER_PATH_BYTES];
    struct node nodes[NODES];
};

static inline uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline void callbacks_lead_to(struct node *node, struct replica *replica)
{
    pthread_mutex_lock(&node->callback_mutex);
    node->callback_replica = replica;
    pthread_mutex_unlock(&node->callback_mutex);
}

static inline void on_durable(void *context, uint64_t index)
{
    struct node *node = context;
    pthread_mutex_lock(&node->callback_mutex);
    if (node->callback_replica != NULL)
        replica_on_durable(node->callback_replica, index);
    pthread_mutex_unlock(&node->callback_mutex);
}

static inline void on_ready(void *context)
{
    struct node *node = context;
    pthread_mutex_lock(&node->callback_mutex);
    if (node->callback_replica != NULL)
        replica_on_tiers_ready(node->callback_replica);
    pthread_mutex_unlock(&node->callback_mutex);
}

static inline void on_failed(void *context, const char *reason)
{
    (void)context;
    fprintf(stderr, "replica failed: %s\n", reason);
}

static inline void place_of(const struct node *node, unsigned place, char *ret_path, size_t size)
{
    snprintf(ret_path, size, "%s/state%u", node->directory, place);
}

static inline int on_state_begin(void *context, struct replica_state_paths *ret_paths, char *text,
                                 size_t text_size)
{
    struct node *node = context;
    char place[TEMP_FOLDER_PATH_BYTES + 32];
    (void)text;
    (void)text_size;
    place_of(node, node->place + 1, place, sizeof place);
    if (access(place, F_OK) == 0)
        temp_folder_remove(place); /* Of a transfer that broke off */
    mkdir(place, 0700);
    snprintf(ret_paths->warm, sizeof ret_paths->warm, "%s/warm", place);
    snprintf(ret_paths->cold, sizeof ret_paths->cold, "%s/cold", place);
    snprintf(ret_paths->manifest, sizeof ret_paths->manifest, "%s/manifest", place);
    node->begun++;
    return 0;
}

static inline int on_state_commit(void *context, char *text, size_t text_size)
{
    struct node *node = context;
    (void)text;
    (void)text_size;
    node->place++;
    return 0;
}

static inline void on_state_received(void *context)
{
    ((struct node *)context)->state_received = true;
}

static inline void tiers_start(struct node *node)
{
    struct tiers_options tiers;
    char place[TEMP_FOLDER_PATH_BYTES + 32];
    char warm[TEMP_FOLDER_PATH_BYTES + 64], cold[TEMP_FOLDER_PATH_BYTES + 64], error[512];

    place_of(node, node->place, place, sizeof place);
    snprintf(warm, sizeof warm, "%s/warm", place);
    snprintf(cold, sizeof cold, "%s/cold", place);
    mkdir(node->directory, 0700);
    mkdir(place, 0700);
    tiers_options_init(&tiers);
    tiers.warm_dir = warm;
    tiers.cold_dir = cold;
    tiers.hot_bytes = 8 << 20;
    tiers.warm_bytes = 64 << 20;
    tiers.warm_map_bytes = 1ull << 30;
    tiers.flush_interval_ms = node->flush_interval_ms != 0 ? node->flush_interval_ms : 50;
    tiers.context = node;
    tiers.on_durable = on_durable;
    tiers.on_ready = on_ready;
    if (tiers_open(&tiers, &node->tiers, error, sizeof error) != 0)
        fail_msg("tiers: %s", error);
}

/* 0, or -1 with the reason; the tiers are closed again then. */
static inline int node_try_start(struct node *node, bool bootstrap, char *error, size_t error_size)
{
    char raft[TEMP_FOLDER_PATH_BYTES + 32], identity[TEMP_FOLDER_PATH_BYTES + 32];
    char place[TEMP_FOLDER_PATH_BYTES + 32], manifest[TEMP_FOLDER_PATH_BYTES + 64];
    struct replica *replica = NULL;

    tiers_start(node);
    snprintf(raft, sizeof raft, "%s/raft", node->directory);
    snprintf(identity, sizeof identity, "%s/node", node->directory);
    mkdir(raft, 0700);
    place_of(node, node->place, place, sizeof place);
    snprintf(manifest, sizeof manifest, "%s/manifest", place);
    node->state_received = false;
    struct replica_options options = {.directory = raft,
                                      .identity_path = identity,
                                      .name = node->name,
                                      .raft_address = node->raft_address,
                                      .raft_listen = node->raft_address,
                                      .http_address = node->http_address,
                                      .version = "test",
                                      .bootstrap = bootstrap,
                                      .force_new_cluster = node->force_new_cluster,
                                      .election_timeout_ms = ELECTION_TIMEOUT_MS,
                                      .heartbeat_ms = 50,
                                      .operations_max = 1024,
                                      .operations_bytes_max = 16 << 20,
                                      .entry_bytes_max = 1 << 20,
                                      .entries_in_flight_max = 8,
                                      .log_compression = true,
                                      .log_cache_bytes = node->log_cache_bytes,
                                      .transfer_bytes_per_second_max =
                                          node->transfer_bytes_per_second_max,
                                      .log_retained_bytes = node->log_retained_bytes,
                                      .transfer_log_bytes_max = node->transfer_log_bytes_max,
                                      .tiers = node->tiers,
                                      .manifest_path = manifest,
                                      .state_begin = on_state_begin,
                                      .state_commit = on_state_commit,
                                      .state_received = on_state_received,
                                      .on_failed = on_failed,
                                      .context = node};
    if (replica_start(&options, &replica, error, error_size) != 0) {
        assert_int_equal(tiers_close(node->tiers), 0);
        return -1;
    }
    node->replica = replica;
    callbacks_lead_to(node, replica);
    return 0;
}

static inline void node_start(struct node *node, bool bootstrap)
{
    char error[512];
    if (node_try_start(node, bootstrap, error, sizeof error) != 0)
        fail_msg("replica: %s", error);
}

static inline void node_stop(struct node *node)
{
    struct replica *replica = node->replica;
    if (replica == NULL)
        return;
    callbacks_lead_to(node, NULL);
    replica_stop(replica);
    node->replica = NULL;
    assert_int_equal(tiers_close(node->tiers), 0);
}

static inline int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    char directory[TEMP_FOLDER_PATH_BYTES];
    assert_non_null(fixture);
    temp_folder_make(directory);
    memcpy(fixture->directory, directory, sizeof directory);
    for (int i = 0; i < NODES; i++) {
        struct node *node = &fixture->nodes[i];
        snprintf(node->name, sizeof node->name, "node%d", i + 1);
        snprintf(node->directory, sizeof node->directory, "%s/node%d", directory, i + 1);
        snprintf(node->raft_address, sizeof node->raft_address, "127.0.0.1:%d", port_free());
        snprintf(node->http_address, sizeof node->http_address, "127.0.0.1:%d", port_free());
        pthread_mutex_init(&node->callback_mutex, NULL);
        node->transfer_log_bytes_max = 64 << 20;
        node->log_cache_bytes = 1 << 20;
        node->reply = inbox_new(4096);
        assert_non_null(node->reply);
    }
    *state = fixture;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < NODES; i++) {
        node_stop(&fixture->nodes[i]);
        inbox_free(fixture->nodes[i].reply);
        pthread_mutex_destroy(&fixture->nodes[i].callback_mutex);
    }
    temp_folder_remove(fixture->directory);
    free(fixture);
    return 0;
}

/* Submits and waits; the status. The caller frees the operation. */
static inline int submit(struct node *node, struct replica_operation *operation)
{
    struct pollfd poll_fd = {.fd = inbox_fd(node->reply), .events = POLLIN};
    int rv;
    operation->reply = node->reply;
    rv = replica_submit(node->replica, operation);
    if (rv != 0)
        return rv;
    for (;;) {
        struct inbox_item *item = inbox_take(node->reply);
        if (item != NULL) {
            assert_ptr_equal(item, operation);
            assert_null(item->next);
            return operation->status;
        }
        assert_int_equal(poll(&poll_fd, 1, WAIT_MS_MAX * 3), 1);
    }
}

static inline int put(struct node *node, const char *key, const char *value)
{
    struct replica_put one = {key, strlen(key), value, strlen(value)};
    struct replica_operation *operation = replica_put_new(&one, 1);
    int rv = submit(node, operation);
    replica_operation_free(operation);
    return rv;
}

static inline int read_index(struct node *node)
{
    struct replica_operation *operation = replica_read_index_new();
    int rv = submit(node, operation);
    replica_operation_free(operation);
    return rv;
}

/* Its result; change->detail has the reason. */
static inline int change_as(struct node *node, enum replica_operation_type type,
                            struct replica_change *change)
{
    struct replica_operation *operation = replica_change_new(type, change);
    int rv;
    assert_non_null(operation);
    rv = submit(node, operation);
    replica_operation_free(operation);
    return rv;
}

static inline int join_as(struct node *leader, const struct replica_join *request)
{
    struct replica_change change = {.join = *request};
    return change_as(leader, REPLICA_JOIN, &change);
}

static inline struct replica_join join_request(const struct node *node)
{
    struct replica_join request = {.version = "test",
                                   .incarnation = replica_incarnation(node->replica)};
    snprintf(request.name, sizeof request.name, "%s", node->name);
    snprintf(request.http_address, sizeof request.http_address, "%s", node->http_address);
    snprintf(request.raft_address, sizeof request.raft_address, "%s", node->raft_address);
    return request;
}

static inline int join(struct node *leader, struct node *node)
{
    struct replica_join request = join_request(node);
    return join_as(leader, &request);
}

static inline struct node *wait_for_leader(struct fixture *fixture)
{
    uint64_t end = now_ms() + WAIT_MS_MAX;
    while (now_ms() < end) {
        for (int i = 0; i < NODES; i++)
            if (fixture->nodes[i].replica != NULL && replica_is_leader(fixture->nodes[i].replica))
                return &fixture->nodes[i];
        usleep(2000);
    }
    fail_msg("no leader");
    return NULL;
}

/* A write that outlives a change of leader: it may be committed twice, to the same effect. */
static inline void put_settled(struct fixture *fixture, const char *key, const char *value)
{
    uint64_t end = now_ms() + WAIT_MS_MAX;
    int rv;
    do
        rv = put(wait_for_leader(fixture), key, value);
    while ((rv == REPLICA_UNKNOWN || rv == REPLICA_NOT_LEADER || rv == REPLICA_NO_LEADER) &&
           now_ms() < end);
    assert_int_equal(rv, 0);
}

static inline void wait_for_agreement(struct fixture *fixture)
{
    uint64_t end = now_ms() + WAIT_MS_MAX;
    while (now_ms() < end) {
        struct tiers_position first = {0}, other;
        bool equal = true, have = false;
        for (int i = 0; i < NODES; i++) {
            if (fixture->nodes[i].replica == NULL)
                continue;
            tiers_position_applied(fixture->nodes[i].tiers, &other);
            if (!have) {
                first = other;
                have = true;
            } else if (other.index == first.index) {
                assert_true(other.state_hash == first.state_hash);
                assert_true(other.revision == first.revision);
            } else {
                equal = false;
            }
        }
        if (equal)
            return;
        usleep(2000);
    }
    fail_msg("the nodes do not reach the same index");
}

static inline void three_nodes(struct fixture *fixture)
{
    node_start(&fixture->nodes[0], true);
    struct node *leader = wait_for_leader(fixture);
    for (int i = 1; i < VOTERS; i++) {
        node_start(&fixture->nodes[i], false);
        assert_int_equal(join(leader, &fixture->nodes[i]), 0);
    }
}

/* Retries a change where the leader is, as a client does that follows redirects. */
static inline int change_on_leader(struct fixture *fixture, enum replica_operation_type type,
                                   struct replica_change *change)
{
    uint64_t end = now_ms() + WAIT_MS_MAX;
    int rv;

    do {
        rv = change_as(wait_for_leader(fixture), type, change);
        if (rv == REPLICA_NOT_LEADER || rv == REPLICA_NO_LEADER)
            usleep(2000);
    } while ((rv == REPLICA_NOT_LEADER || rv == REPLICA_NO_LEADER) && now_ms() < end);
    return rv;
}

static inline int remove_member(struct fixture *fixture, const char *name, bool force,
                                struct replica_change *ret_change)
{
    struct replica_change change = {.force = force};
    int rv;

    snprintf(change.name, sizeof change.name, "%s", name);
    rv = change_on_leader(fixture, REPLICA_REMOVE, &change);
    if (ret_change != NULL)
        *ret_change = change;
    return rv;
}

static inline struct node *a_follower(struct fixture *fixture, const struct node *leader)
{
    return leader == &fixture->nodes[1] ? &fixture->nodes[2] : &fixture->nodes[1];
}

static inline bool is_listed(struct node *at, const char *name)
{
    struct replica_view view;

    replica_view(at->replica, &view);
    for (size_t i = 0; i < view.n_members; i++)
        if (strcmp(view.members[i].name, name) == 0)
            return true;
    return false;
}

static inline void expect_voters(struct node *at, size_t n)
{
    struct replica_view view;
    size_t voters = 0;

    replica_view(at->replica, &view);
    for (size_t i = 0; i < view.n_members; i++)
        voters += view.members[i].role == REPLICA_MEMBER_VOTER;
    assert_int_equal(voters, n);
    assert_int_equal(view.n_members, n);
}

#endif
