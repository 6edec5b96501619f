/* Making a node a voter, or changing a voter's addresses. Raft loop; see change.c.
 *
 *   missing                         next
 *   member's row                    propose MEMBER_SET
 *   server in the configuration     add it as a spare
 *   the server's address            a change of the configuration that has it
 *   its answer                      ask for one: who cannot be reached would only be waited for
 *   voter                           catch it up; the driver then makes it a voter
 *   nothing, change committed       done
 *
 * A node that replaces another may have its addresses. Raft has one server at an address, so then
 * the other one leaves before, unless it still answers there. */
#include "raft/replica_private.h"

#include "log.h"

#include <string.h>

/* An AppendEntries that no log continues, of the kind that read_index.c confirms its rounds with,
 * but of none of them: it is answered and changes nothing. */
#define PROBE_INDEX (UINT64_C(3) << 61)

static void member_of(const struct replica_join *join, uint64_t raft_id,
                      const struct command_member *present, struct command_member *ret_member)
{
    *ret_member = (struct command_member){.raft_id = raft_id, .incarnation = join->incarnation};
    memcpy(ret_member->name, join->name, sizeof ret_member->name);
    memcpy(ret_member->http_address, join->http_address, sizeof ret_member->http_address);
    memcpy(ret_member->raft_address, join->raft_address, sizeof ret_member->raft_address);
    memcpy(ret_member->version, join->version, sizeof ret_member->version);
    /* What the request does not tell stays as it is. */
    if (present != NULL && join->incarnation == 0)
        ret_member->incarnation = present->incarnation;
    if (present != NULL && join->version[0] == '\0')
        memcpy(ret_member->version, present->version, sizeof ret_member->version);
}

bool join_row_equals(const struct command_member *row, const struct replica_join *join)
{
    return row != NULL && strcmp(row->http_address, join->http_address) == 0 &&
           strcmp(row->raft_address, join->raft_address) == 0 &&
           (join->version[0] == '\0' || strcmp(row->version, join->version) == 0) &&
           (join->incarnation == 0 || row->incarnation == join->incarnation);
}

/* The member that the node replaces, also if it is itself; 0: none. */
static uint64_t replaced_by(const struct change *change)
{
    const struct replica_operation *operation = change->operation;

    return operation->type == REPLICA_REPLACE ? identity_raft_id(operation->change->name) : 0;
}

/* Whether the table forbids the join. A node that lost its disk comes with another incarnation: it
 * has forgotten its vote and its log, and must not count as the voter that it was. */
static bool conflicts(const struct replica *replica, struct change *change, uint64_t raft_id,
                      const struct command_member *present)
{
    const struct replica_join *join = &change->operation->change->join;
    size_t n;
    const struct command_member *members = command_members(replica->state, &n);

    if (present != NULL && strcmp(present->name, join->name) != 0) {
        change_explain(change, "the name has the same id as %s: choose another", present->name);
        return true;
    }
    if (present != NULL && present->incarnation != 0 && join->incarnation != 0 &&
        present->incarnation != join->incarnation) {
        change_explain(change,
                       "the node has lost the state of the member %s that it was: replace that "
                       "member (POST /members/%.64s/replace), or join under another name",
                       join->name, join->name);
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        if (members[i].raft_id != raft_id && members[i].raft_id != replaced_by(change) &&
            (strcmp(members[i].http_address, join->http_address) == 0 ||
             strcmp(members[i].raft_address, join->raft_address) == 0)) {
            change_explain(change, "an address belongs to the member %s", members[i].name);
            return true;
        }
    }
    if (present == NULL && n >= COMMAND_MEMBERS_MAX) {
        change_explain(change, "the cluster has %zu members, which is the most there can be", n);
        return true;
    }
    return false;
}

static int row_step(struct replica *replica, struct change *change, uint64_t raft_id,
                    const struct command_member *present)
{
    struct command_member member;
    size_t bytes = 0;
    void *command;

    if (change->row_proposed)
        return CHANGE_WAITS;
    member_of(&change->operation->change->join, raft_id, present, &member);
    command = command_member_set(&member, change_wall_clock_ms(), &bytes);
    change_propose_row(replica, change, command, bytes);
    return CHANGE_WAITS;
}

/* The server that is replaced and has the address that the node comes to; NULL: none. */
static const struct raft_server *server_in_the_way(const struct driver *driver,
                                                   const struct change *change, uint64_t joining)
{
    const struct replica_join *join = &change->operation->change->join;
    uint64_t replaced = replaced_by(change);
    const struct raft_server *server =
        replaced != joining ? driver_server_find(driver, replaced) : NULL;

    return server != NULL && strcmp(server->address, join->raft_address) == 0 ? server : NULL;
}

static int leave_first(struct replica *replica, struct change *change,
                       const struct raft_server *server)
{
    struct replica_change *request = change->operation->change;

    if (driver_peer_answers(&replica->driver, server->id)) {
        change_explain(change, "%s still answers at that address: stop it first", request->name);
        return CHANGE_WAITS;
    }
    request->detail[0] = '\0';
    return removal_server_step(replica, change, server, request->name);
}

/* The core sends to no spare before it catches it up. */
static void probe(struct driver *driver, struct change *change, const struct raft_server *server)
{
    struct raft_message message = {
        .type = RAFT_APPEND_ENTRIES, .server_id = server->id, .server_address = server->address};
    uint64_t now = driver->callbacks->now_ms(driver->context);

    if (change->probed_ms != 0 && now - change->probed_ms < driver->raft.heartbeat_timeout)
        return;
    change->probed_ms = now;
    message.append_entries.term = driver->raft.current_term;
    message.append_entries.prev_log_index = PROBE_INDEX;
    message.append_entries.prev_log_term = driver->raft.current_term;
    driver_send_plain(driver, &message);
}

static int server_step(struct replica *replica, struct change *change, uint64_t raft_id)
{
    struct driver *driver = &replica->driver;
    const struct replica_join *join = &change->operation->change->join;
    const struct raft_server *server = driver_server_find(driver, raft_id);
    const struct raft_server *other = server_in_the_way(driver, change, raft_id);
    int rv = 0;

    if (driver->promoting != 0 && driver->promoting != raft_id && change_promotion_stalls(replica))
        change_promotion_give_up(replica);
    if (driver->raft.configuration_uncommitted_index != 0 || driver->promoting != 0 ||
        driver_transferring(driver))
        return CHANGE_WAITS;
    if (other != NULL)
        return leave_first(replica, change, other);
    if (server == NULL) {
        rv = driver_server_add(driver, raft_id, join->raft_address, RAFT_SPARE);
    } else if (strcmp(server->address, join->raft_address) != 0) {
        rv = driver_server_readdress(driver, raft_id, join->raft_address);
    } else if (server->role == RAFT_VOTER) {
        return 0;
    } else if (!driver_peer_answers(driver, raft_id)) {
        probe(driver, change, server);
        return CHANGE_WAITS;
    } else {
        rv = driver_server_promote(driver, raft_id);
    }
    change->logged = change->logged || rv == 0;
    if (rv == 0 || rv == RAFT_CANTCHANGE || rv == RAFT_NOTLEADER)
        return CHANGE_WAITS;
    log_warning("change of the configuration refused", LOG_TEXT("name", join->name),
                LOG_TEXT("cause", raft_strerror(rv)));
    return rv == RAFT_NOMEM ? REPLICA_NO_MEMORY : REPLICA_CONFLICT;
}

int join_step(struct replica *replica, struct change *change)
{
    const struct replica_join *join = &change->operation->change->join;
    uint64_t raft_id = identity_raft_id(join->name);
    const struct command_member *present = command_member_find(replica->state, raft_id);

    if (conflicts(replica, change, raft_id, present))
        return REPLICA_CONFLICT;
    if (!join_row_equals(present, join))
        return row_step(replica, change, raft_id, present);
    return server_step(replica, change, raft_id);
}
