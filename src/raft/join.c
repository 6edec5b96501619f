/* Makes nodes voters. A join is a goal, not a script: each look at it does the next thing that is
 * missing, so that a request that is repeated, here or on a later leader, goes on where the
 * last one ended.
 *
 *   missing                         next
 *   member's row                    propose MEMBER_SET
 *   server in the configuration     add it as a spare
 *   voter                           catch it up; the driver then makes it a voter
 *   nothing, change committed       done
 */
#include "raft/replica_private.h"

#include "log.h"

#include <string.h>
#include <time.h>

#define JOIN_MS_MAX 30000

static uint64_t wall_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool term_established(const struct replica *replica)
{
    return driver_is_leader(&replica->driver) &&
           replica->driver.applied >= replica->driver.election_index;
}

void join_take(struct replica *replica, struct replica_operation *operation)
{
    struct join *join = NULL;

    if (!driver_is_leader(&replica->driver)) {
        replica_return(replica, operation, replica_not_leader_status(replica));
        return;
    }
    for (size_t i = 0; i < JOINS_MAX && join == NULL; i++)
        if (replica->joins[i].operation == NULL)
            join = &replica->joins[i];
    if (join == NULL) {
        replica_return(replica, operation, REPLICA_BUSY);
        return;
    }
    *join =
        (struct join){.operation = operation, .deadline_ms = replica_now_ms(replica) + JOIN_MS_MAX};
    join_advance(replica);
}

static void finish(struct replica *replica, struct join *join, int status)
{
    struct replica_operation *operation = join->operation;

    log_info("join finished", LOG_TEXT("name", operation->join->name),
             LOG_TEXT("result", status == 0 ? "voter" : replica_strerror(status)));
    join->operation = NULL;
    replica_return(replica, operation, status);
}

static void member_of(const struct replica_join *request, uint64_t raft_id,
                      struct command_member *ret_member)
{
    *ret_member = (struct command_member){.raft_id = raft_id, .incarnation = request->incarnation};
    memcpy(ret_member->name, request->name, sizeof ret_member->name);
    memcpy(ret_member->http_address, request->http_address, sizeof ret_member->http_address);
    memcpy(ret_member->raft_address, request->raft_address, sizeof ret_member->raft_address);
}

/* Whether the table forbids the join. A node that lost its disk comes with another incarnation: it
 * has forgotten its vote and its log, and must not count as the voter that it was. */
static bool conflicts(const struct replica *replica, const struct replica_join *request,
                      uint64_t raft_id, const struct command_member *present)
{
    size_t n;
    const struct command_member *members = command_members(replica->state, &n);
    const struct raft_server *server = driver_server_find(&replica->driver, raft_id);

    if (present != NULL && (strcmp(present->name, request->name) != 0 ||
                            (present->incarnation != 0 && request->incarnation != 0 &&
                             present->incarnation != request->incarnation)))
        return true;
    if (server != NULL && strcmp(server->address, request->raft_address) != 0)
        return true;
    for (size_t i = 0; i < n; i++)
        if (members[i].raft_id != raft_id &&
            (strcmp(members[i].http_address, request->http_address) == 0 ||
             strcmp(members[i].raft_address, request->raft_address) == 0))
            return true;
    return false;
}

static bool same_addresses(const struct command_member *present, const struct replica_join *request)
{
    return present != NULL && strcmp(present->http_address, request->http_address) == 0 &&
           strcmp(present->raft_address, request->raft_address) == 0 &&
           (request->incarnation == 0 || present->incarnation == request->incarnation);
}

static void advance_server(struct replica *replica, struct join *join, uint64_t raft_id)
{
    struct driver *driver = &replica->driver;
    const struct raft_server *server = driver_server_find(driver, raft_id);
    int rv = 0;

    if (driver->raft.configuration_uncommitted_index != 0 || driver->promoting != 0)
        return;
    if (server == NULL) {
        rv = driver_server_add(driver, raft_id, join->operation->join->raft_address, RAFT_SPARE);
    } else if (server->role == RAFT_VOTER) {
        finish(replica, join, 0);
        return;
    } else {
        rv = driver_server_promote(driver, raft_id);
        join->promotion_begun = true;
    }
    if (rv != 0 && rv != RAFT_CANTCHANGE)
        finish(replica, join, REPLICA_CONFLICT);
}

static void advance(struct replica *replica, struct join *join)
{
    const struct replica_join *request = join->operation->join;
    uint64_t raft_id = identity_raft_id(request->name);
    const struct command_member *present = command_member_find(replica->state, raft_id);
    struct driver_peer *peer = driver_peer(&replica->driver, raft_id);

    if (conflicts(replica, request, raft_id, present)) {
        finish(replica, join, REPLICA_CONFLICT);
        return;
    }
    if ((join->promotion_begun && peer != NULL && peer->too_far_behind) ||
        replica_now_ms(replica) >= join->deadline_ms) {
        finish(replica, join, REPLICA_UNREACHABLE);
        return;
    }
    if (!same_addresses(present, request)) {
        struct command_member member;
        size_t bytes = 0;
        if (join->member_proposed)
            return;
        join->member_proposed = true;
        member_of(request, raft_id, &member);
        if (present != NULL && member.incarnation == 0)
            member.incarnation = present->incarnation;
        void *command = command_member_set(&member, wall_clock_ms(), &bytes);
        propose_internal(replica, command, bytes);
        propose_pump(replica);
        return;
    }
    advance_server(replica, join, raft_id);
}

void join_advance(struct replica *replica)
{
    if (!term_established(replica))
        return;
    for (size_t i = 0; i < JOINS_MAX; i++)
        if (replica->joins[i].operation != NULL && driver_is_leader(&replica->driver))
            advance(replica, &replica->joins[i]);
}

void join_abandon(struct replica *replica, int status)
{
    for (size_t i = 0; i < JOINS_MAX; i++)
        if (replica->joins[i].operation != NULL)
            finish(replica, &replica->joins[i], status);
}

static uint64_t new_cluster_id(const struct replica *replica)
{
    /* Random enough to tell clusters apart, and never 0. */
    return (replica->identity.incarnation ^ (wall_clock_ms() << 20)) | 1;
}

void join_self(struct replica *replica)
{
    const struct command_member *present =
        command_member_find(replica->state, replica->identity.raft_id);
    struct replica_join self = {.incarnation = replica->identity.incarnation};
    struct command_member member;
    size_t bytes = 0;
    void *command;

    if (!term_established(replica) ||
        replica->self_proposed_term == replica->driver.raft.current_term)
        return;
    replica->self_proposed_term = replica->driver.raft.current_term;
    if (command_cluster_id(replica->state) == 0) {
        command = command_cluster_init(new_cluster_id(replica), wall_clock_ms(), &bytes);
        propose_internal(replica, command, bytes);
    }
    memcpy(self.name, replica->identity.name, sizeof self.name);
    strncpy(self.http_address, replica->options.http_address, sizeof self.http_address - 1);
    strncpy(self.raft_address, replica->options.raft_address, sizeof self.raft_address - 1);
    if (!same_addresses(present, &self)) {
        member_of(&self, replica->identity.raft_id, &member);
        command = command_member_set(&member, wall_clock_ms(), &bytes);
        propose_internal(replica, command, bytes);
    }
    propose_pump(replica);
}
