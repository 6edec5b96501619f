/* What a node says of itself in the member table: its addresses, its version. Raft loop.
 *
 * A leader sets its own row, and the cluster's id if there is none, once a term. Others have theirs
 * set by joining again (node/joiner.c), until they find themselves registered. */
#include "raft/replica_private.h"

#include "log.h"

#include <stdio.h>
#include <string.h>

void self_prepare(struct replica *replica)
{
    struct replica_join *join = &replica->self.join;

    join->incarnation = replica->identity.incarnation;
    snprintf(join->name, sizeof join->name, "%s", replica->identity.name);
    snprintf(join->http_address, sizeof join->http_address, "%s", replica->options.http_address);
    snprintf(join->raft_address, sizeof join->raft_address, "%s", replica->options.raft_address);
    snprintf(join->version, sizeof join->version, "%s", replica->options.version);
}

/* In the configuration that is committed: another leader may take a newer one back. */
static const struct raft_server *own_server(const struct replica *replica)
{
    const struct raft_configuration *configuration = &replica->driver.configuration;

    for (unsigned i = 0; i < configuration->n; i++)
        if (configuration->servers[i].id == replica->identity.raft_id)
            return &configuration->servers[i];
    return NULL;
}

bool self_registered(const struct replica *replica)
{
    const struct raft_server *server = own_server(replica);

    return server != NULL && server->role == RAFT_VOTER &&
           strcmp(server->address, replica->self.join.raft_address) == 0 &&
           join_row_equals(command_member_find(replica->state, replica->identity.raft_id),
                           &replica->self.join);
}

static uint64_t new_cluster_id(const struct replica *replica)
{
    /* Random enough to tell clusters apart, and never 0. */
    return (replica->identity.incarnation ^ (change_wall_clock_ms() << 20)) | 1;
}

/* Nobody waits for it: the operation is freed when it ends. */
static void row_set(struct replica *replica)
{
    struct replica_operation *operation = replica_change_new(REPLICA_JOIN, &replica->self);

    if (operation == NULL)
        return;
    atomic_fetch_add(&replica->waiting_n, 1);
    change_take(replica, operation);
}

void self_register(struct replica *replica)
{
    size_t bytes = 0;
    void *command;

    if (!change_term_established(replica) ||
        replica->self_proposed_term == replica->driver.raft.current_term)
        return;
    replica->self_proposed_term = replica->driver.raft.current_term;
    if (replica->options.force_new_cluster) {
        replica->options.force_new_cluster = false; /* Once */
        command = command_cluster_reset(new_cluster_id(replica), replica->identity.raft_id,
                                        change_wall_clock_ms(), &bytes);
        propose_internal(replica, command, bytes);
        propose_pump(replica);
        log_warning("this node forms a new cluster by itself: members of the old one must not be "
                    "started again with their old directories");
    }
    /* Its row before the cluster's id: self_is_known. */
    if (!self_registered(replica))
        row_set(replica);
    if (command_cluster_id(replica->state) == 0) {
        command = command_cluster_init(new_cluster_id(replica), change_wall_clock_ms(), &bytes);
        propose_internal(replica, command, bytes);
        propose_pump(replica);
    }
}

bool self_is_known(struct replica *replica)
{
    const struct identity *own = &replica->identity;
    const struct command_member *row = command_member_find(replica->state, own->raft_id);
    const struct log_cache *log = &replica->driver.log;

    /* In no cluster yet, but for one that it is about to form. */
    if (own->cluster_id == 0)
        return true;
    if (row != NULL)
        replica->self_known =
            replica->self_known || row->incarnation == own->incarnation || row->incarnation == 0;
    for (raft_index i = replica->driver.applied + 1; !replica->self_known && log_cache_has(log, i);
         i++) {
        const struct log_slot *slot = log_cache_at(log, i);
        struct command_member set;
        replica->self_known = slot->type == RAFT_COMMAND &&
                              command_entry_member(replica->state, slot->payload.base,
                                                   slot->payload.len, own->raft_id, &set) &&
                              set.incarnation == own->incarnation;
    }
    return replica->self_known;
}
