/* Handing leadership to another voter. Raft loop; see change.c.
 *
 * The driver lets the log come to rest, then the core sends the successor TimeoutNow (Ongaro's
 * thesis, 3.10). No entries are taken meanwhile: writes wait in propose.c and either go on here, if
 * the successor does not manage in time, or are sent to the new leader. Done once another leader is
 * known. */
#include "raft/replica_private.h"

/* The voter that has most of the log, of those that answer. 0: there is none. */
static raft_id best_successor(const struct driver *driver, raft_id except)
{
    raft_id best = 0;
    raft_index best_match = 0;

    for (unsigned i = 0; i < driver->raft.configuration.n; i++) {
        const struct raft_server *server = &driver->raft.configuration.servers[i];
        raft_index match = 0;
        if (server->role != RAFT_VOTER || server->id == driver->raft.id || server->id == except ||
            !driver_peer_answers(driver, server->id) ||
            raft_match_index(&driver->raft, server->id, &match) != 0)
            continue;
        if (best == 0 || match > best_match) {
            best = server->id;
            best_match = match;
        }
    }
    return best;
}

static bool has_other_voter(const struct driver *driver)
{
    for (unsigned i = 0; i < driver->raft.configuration.n; i++)
        if (driver->raft.configuration.servers[i].role == RAFT_VOTER &&
            driver->raft.configuration.servers[i].id != driver->raft.id)
            return true;
    return false;
}

static int begin(struct replica *replica, struct change *change, const char *name)
{
    struct driver *driver = &replica->driver;
    raft_id target = *name != '\0' ? identity_raft_id(name) : 0;
    int rv;

    if (target == driver->raft.id)
        return 0;
    /* One that did not manage before is tried again only if there is no other. */
    if (target == 0)
        target = best_successor(driver, change->handover_to);
    if (target == 0)
        target = best_successor(driver, 0);
    if (target == 0 && driver_newly_elected(driver) && has_other_voter(driver))
        return CHANGE_WAITS;
    if (target == 0) {
        change_explain(change, "there is no other voter that answers");
        return REPLICA_CONFLICT;
    }
    change->handover_to = target;
    rv = driver_transfer(driver, target);
    if (rv == RAFT_BADID) {
        change_explain(change, "%s is not a voter", name);
        return REPLICA_NO_MEMBER;
    }
    return rv == RAFT_NOMEM ? REPLICA_NO_MEMORY : CHANGE_WAITS;
}

int handover_step(struct replica *replica, struct change *change, const char *name)
{
    const struct driver *driver = &replica->driver;

    if (!driver_is_leader(driver)) {
        /* A change that only leaders make is given back by whoever noticed. */
        return replica_not_leader_status(replica) == REPLICA_NOT_LEADER ? 0 : CHANGE_WAITS;
    }
    if (driver_transferring(driver) || !change_term_established(replica))
        return CHANGE_WAITS;
    return begin(replica, change, name);
}
