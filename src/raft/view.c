/* What other threads may see of the replica: a copy that the raft loop publishes. */
#include "raft/replica_private.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static enum replica_role role_of(const struct replica *replica)
{
    const struct raft *raft = &replica->driver.raft;

    switch (raft->state) {
    case RAFT_LEADER:
        return REPLICA_LEADER;
    case RAFT_CANDIDATE:
        return REPLICA_CANDIDATE;
    default:
        break;
    }
    for (unsigned i = 0; i < raft->configuration.n; i++)
        if (raft->configuration.servers[i].id == raft->id &&
            raft->configuration.servers[i].role == RAFT_VOTER)
            return REPLICA_FOLLOWER;
    return REPLICA_JOINING;
}

static uint64_t leader_of(const struct replica *replica)
{
    struct raft *raft = (struct raft *)(uintptr_t)&replica->driver.raft;
    const char *address = NULL;
    raft_id id = 0;

    raft_leader(raft, &id, &address);
    return id;
}

static void fill_contact(const struct replica *replica, raft_id id, struct replica_member *member)
{
    const struct driver *driver = &replica->driver;

    member->last_contact_ms = UINT64_MAX;
    for (size_t i = 0; i < driver->n_peers; i++) {
        const struct driver_peer *peer = &driver->peers[i];
        if (peer->id != id)
            continue;
        member->too_far_behind = peer->too_far_behind;
        if (peer->heard_ms != 0)
            member->last_contact_ms = replica_now_ms(replica) - peer->heard_ms;
    }
}

static void fill_member(const struct replica *replica, const struct raft_server *server,
                        struct replica_member *member)
{
    const struct command_member *row = command_member_find(replica->state, server->id);
    raft_index match = 0;

    memset(member, 0, sizeof *member);
    member->raft_id = server->id;
    snprintf(member->raft_address, sizeof member->raft_address, "%s", server->address);
    if (row != NULL) {
        snprintf(member->name, sizeof member->name, "%s", row->name);
        snprintf(member->http_address, sizeof member->http_address, "%s", row->http_address);
        snprintf(member->version, sizeof member->version, "%s", row->version);
    }
    member->role = server->role == RAFT_VOTER     ? REPLICA_MEMBER_VOTER
                   : server->role == RAFT_STANDBY ? REPLICA_MEMBER_STANDBY
                                                  : REPLICA_MEMBER_SPARE;
    if (replica->driver.raft.state == RAFT_LEADER) {
        if (server->id == replica->driver.raft.id)
            match = replica->driver.raft.last_stored;
        else if (raft_match_index(&replica->driver.raft, server->id, &match) != 0)
            match = 0;
        if (server->id != replica->driver.raft.id)
            fill_contact(replica, server->id, member);
    } else if (server->id == replica->driver.raft.id) {
        member->too_far_behind = replica->too_far_behind;
    }
    member->match_index = match;
}

static void fill(const struct replica *replica, struct replica_view *view)
{
    const struct driver *driver = &replica->driver;
    const struct raft_configuration *configuration = &driver->raft.configuration;
    const struct command_member *leader;

    memset(view, 0, sizeof *view);
    view->role = role_of(replica);
    view->term = driver->raft.current_term;
    view->leader_id = leader_of(replica);
    leader = view->leader_id != 0 ? command_member_find(replica->state, view->leader_id) : NULL;
    if (leader != NULL)
        snprintf(view->leader_http_address, sizeof view->leader_http_address, "%s",
                 leader->http_address);
    view->commit_index = driver->raft.commit_index;
    view->applied_index = driver->applied;
    view->last_log_index = driver->log.last;
    view->first_log_index = driver->log.first;
    view->log_bytes = driver->log.bytes;
    if (view->role != REPLICA_LEADER)
        view->last_contact_ms =
            replica->last_contact_ms == 0 ? 0 : replica_now_ms(replica) - replica->last_contact_ms;
    view->proposals_waiting = atomic_load(&replica->waiting_n);
    view->caught_up = replica->caught_up;
    view->too_far_behind = replica->too_far_behind;
    view->no_space = atomic_load(&replica->no_space);
    view->registered = self_registered(replica);
    view->cluster_id = command_cluster_id(replica->state);
    view->entries_appended = replica->entries_appended;
    view->batches_appended = replica->batches_appended;
    view->proposed_bytes = replica->proposed_bytes;
    view->proposed_log_bytes = replica->proposed_log_bytes;
    view->read_rounds = driver->read_rounds;
    view->elections = driver->elections;
    for (unsigned i = 0; i < configuration->n && view->n_members < REPLICA_MEMBERS_MAX; i++)
        fill_member(replica, &configuration->servers[i], &view->members[view->n_members++]);
}

void view_publish(struct replica *replica)
{
    struct replica_view view;
    bool leader = driver_is_leader(&replica->driver) &&
                  replica->driver.applied >= replica->driver.election_index;
    bool changed;

    fill(replica, &view);
    pthread_mutex_lock(&replica->view_mutex);
    changed = view.role != replica->view.role || view.term != replica->view.term ||
              view.leader_id != replica->view.leader_id ||
              strcmp(view.leader_http_address, replica->view.leader_http_address) != 0 ||
              leader != atomic_load(&replica->leader);
    replica->view = view;
    pthread_mutex_unlock(&replica->view_mutex);
    atomic_store(&replica->leader, leader);
    if (changed)
        atomic_fetch_add(&replica->view_version, 1);
}

void view_refresh(struct replica *replica)
{
    const struct driver *driver = &replica->driver;
    bool leader = driver_is_leader(driver) && driver->applied >= driver->election_index;

    /* Only this thread writes the view: reading it needs no lock. */
    if (leader != atomic_load(&replica->leader) || role_of(replica) != replica->view.role ||
        driver->raft.current_term != replica->view.term ||
        leader_of(replica) != replica->view.leader_id)
        view_publish(replica);
}

uint64_t replica_view_version(const struct replica *replica)
{
    return atomic_load_explicit(&replica->view_version, memory_order_acquire);
}

void replica_view(const struct replica *replica, struct replica_view *ret_view)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)(uintptr_t)&replica->view_mutex;

    pthread_mutex_lock(mutex);
    *ret_view = replica->view;
    pthread_mutex_unlock(mutex);
}

bool replica_is_leader(const struct replica *replica)
{
    return atomic_load_explicit(&replica->leader, memory_order_acquire);
}

const char *replica_role_name(enum replica_role role)
{
    static const char *const names[] = {[REPLICA_FOLLOWER] = "follower",
                                        [REPLICA_CANDIDATE] = "candidate",
                                        [REPLICA_LEADER] = "leader",
                                        [REPLICA_JOINING] = "joining"};

    assert((size_t)role < sizeof names / sizeof names[0]);
    return names[role];
}

const char *replica_strerror(int error)
{
    switch (error) {
#define X(name, code, message)                                                                     \
    case name:                                                                                     \
        return message;
        REPLICA_ERRORS(X)
#undef X
    case 0:
        return "success";
    default:
        return "unknown error";
    }
}
