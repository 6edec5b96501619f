/* Taking a member out. Raft loop; see change.c.
 *
 *   found                           next
 *   it is this node, the leader     hand leadership over; the new leader goes on
 *   server in the configuration     a change of the configuration without it
 *   its row                         propose MEMBER_REMOVE
 *   neither, change committed       done
 *
 * A removal that would leave the cluster without a quorum that answers is refused, unless forced:
 * the change itself may still find its majority, and then nothing else ever would. */
#include "raft/replica_private.h"

#include <string.h>

static bool quorum_survives(const struct driver *driver, struct change *change,
                            const struct raft_server *leaving, const char *name)
{
    unsigned left = 0, answering = 0;

    for (unsigned i = 0; i < driver->raft.configuration.n; i++) {
        const struct raft_server *server = &driver->raft.configuration.servers[i];
        if (server->role != RAFT_VOTER || server->id == leaving->id)
            continue;
        left++;
        answering += driver_peer_answers(driver, server->id) ? 1 : 0;
    }
    if (left == 0) {
        change_explain(change, "%s is the last voter: it cannot be removed", name);
        return false;
    }
    if (answering > left / 2 || change->operation->change->force)
        return true;
    change_explain(change,
                   "without %s there are %u voters, of which only %u answer: the cluster would "
                   "lose its quorum (force=true removes it nevertheless)",
                   name, left, answering);
    return false;
}

int removal_server_step(struct replica *replica, struct change *change,
                        const struct raft_server *server, const char *name)
{
    struct driver *driver = &replica->driver;
    int rv;

    if (server->role == RAFT_VOTER && !quorum_survives(driver, change, server, name))
        return driver_newly_elected(driver) ? CHANGE_WAITS : REPLICA_CONFLICT;
    if (server->id == driver->raft.id) {
        /* Its successor is asked again, by the requester, who is sent there. */
        int result = handover_step(replica, change, "");
        return result == 0 ? CHANGE_WAITS : result;
    }
    /* What catches up can go on later. */
    if (driver->promoting != 0)
        change_promotion_give_up(replica);
    if (driver->raft.configuration_uncommitted_index != 0 || driver->promoting != 0)
        return CHANGE_WAITS;
    rv = driver_server_remove(driver, server->id);
    change->logged = change->logged || rv == 0;
    if (rv == 0 || rv == RAFT_CANTCHANGE || rv == RAFT_NOTLEADER)
        return CHANGE_WAITS;
    return rv == RAFT_NOMEM ? REPLICA_NO_MEMORY : REPLICA_CONFLICT;
}

int removal_step(struct replica *replica, struct change *change, const char *name)
{
    uint64_t raft_id = identity_raft_id(name);
    const struct raft_server *server = driver_server_find(&replica->driver, raft_id);
    const struct command_member *row = command_member_find(replica->state, raft_id);
    size_t bytes = 0;
    void *command;

    if (server != NULL) {
        change->found = true;
        return removal_server_step(replica, change, server, name);
    }
    if (replica->driver.raft.configuration_uncommitted_index != 0 || change->row_proposed)
        return CHANGE_WAITS;
    if (row != NULL) {
        change->found = true;
        command = command_member_remove(raft_id, change_wall_clock_ms(), &bytes);
        change_propose_row(replica, change, command, bytes);
        return CHANGE_WAITS;
    }
    if (change->found)
        return 0;
    change_explain(change, "there is no member %s", name);
    return REPLICA_NO_MEMBER;
}
