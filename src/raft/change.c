/* Changes of the membership: joins, removals, replacements, handing over leadership. Raft loop.
 *
 * A change is a goal, not a script: each look at it does the next thing that is missing, so that a
 * request that is repeated, here or on a later leader, goes on where the last one ended. What is
 * missing is told by the committed member table and Raft's configuration alone.
 *
 * The oldest has its turn first. A server is caught up for as long as it takes; but a removal does
 * not wait for that, nor does a join if the server does not come further.
 *
 * Failure: a change that ends with leadership is given back, and its requester sent to the new
 * leader; one that does not get on in time ends as REPLICA_UNREACHABLE and may be repeated. */
#include "raft/replica_private.h"

#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CHANGE_MS_MAX 30000
/* A server that is caught up and confirms nothing for so long holds up nobody. */
#define PROMOTION_STALL_MS 2000
/* Handing over takes a round trip and an election. */
#define TRANSFER_ELECTION_TIMEOUTS 3

uint64_t change_wall_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool change_term_established(const struct replica *replica)
{
    return driver_is_leader(&replica->driver) &&
           replica->driver.applied >= replica->driver.election_index;
}

void change_explain(struct change *change, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(change->operation->change->detail, REPLICA_DETAIL_BYTES, format, arguments);
    va_end(arguments);
}

void change_propose_row(struct replica *replica, struct change *change, void *command, size_t bytes)
{
    change->row_proposed = command != NULL;
    change->logged = change->logged || change->row_proposed;
    propose_internal(replica, command, bytes);
    propose_pump(replica);
}

void change_rows_changed(struct replica *replica)
{
    for (size_t i = 0; i < CHANGES_MAX; i++)
        replica->changes[i].row_proposed = false;
}

/* Which node it is about, to tell changes of one node apart. */
static const char *subject_of(const struct replica_operation *operation)
{
    return operation->type == REPLICA_JOIN ? operation->change->join.name : operation->change->name;
}

static const char *type_name(enum replica_operation_type type)
{
    switch (type) {
    case REPLICA_JOIN:
        return "join";
    case REPLICA_REMOVE:
        return "removal";
    case REPLICA_REPLACE:
        return "replacement";
    default:
        return "transfer of leadership";
    }
}

/* What is in the log may still be committed, by whoever leads next. */
static int status_told(const struct change *change, int status)
{
    bool ended =
        status == REPLICA_NO_LEADER || status == REPLICA_SHUTDOWN || status == REPLICA_NO_MEMORY;

    return ended && (change->logged || change->handover_to != 0) ? REPLICA_UNKNOWN : status;
}

static void finish(struct replica *replica, struct change *change, int status)
{
    struct replica_operation *operation = change->operation;
    const char *detail = operation->change->detail;

    log_info("membership change finished", LOG_TEXT("change", type_name(operation->type)),
             LOG_TEXT("name", subject_of(operation)),
             LOG_TEXT("result", status == 0 ? "done" : replica_strerror(status)),
             LOG_TEXT("detail", detail));
    change->operation = NULL;
    replica_return(replica, operation, status_told(change, status));
}

/* The node that the change makes a voter; NULL: none. */
static const char *joiner_of(const struct replica_operation *operation)
{
    return operation->type == REPLICA_JOIN || operation->type == REPLICA_REPLACE
               ? operation->change->join.name
               : NULL;
}

/* A join and a removal of one node would undo each other's work for ever: a removal ends a join
 * that is under way, unless both are one replacement that was repeated. */
static bool ends(const struct replica_operation *removal, const struct replica_operation *join)
{
    if ((removal->type != REPLICA_REMOVE && removal->type != REPLICA_REPLACE) ||
        joiner_of(join) == NULL || strcmp(joiner_of(join), removal->change->name) != 0)
        return false;
    return join->type != removal->type || strcmp(subject_of(join), subject_of(removal)) != 0;
}

/* What a join has proposed is taken back by the removal, once it is there. */
static void end_joins(struct replica *replica, struct change *removal)
{
    for (size_t i = 0; i < CHANGES_MAX; i++) {
        struct change *join = &replica->changes[i];
        if (join == removal || join->operation == NULL ||
            !ends(removal->operation, join->operation))
            continue;
        removal->found = true;
        removal->row_proposed = removal->row_proposed || join->row_proposed;
        change_explain(join, "the member %s is being removed", removal->operation->change->name);
        finish(replica, join, REPLICA_CONFLICT);
    }
}

/* Whether another change of the same node is under way that goes on. */
static bool contradicts_another(const struct replica *replica,
                                const struct replica_operation *operation)
{
    if (operation->type == REPLICA_TRANSFER)
        return false;
    for (size_t i = 0; i < CHANGES_MAX; i++) {
        const struct replica_operation *other = replica->changes[i].operation;
        if (other != NULL && other->type != REPLICA_TRANSFER && other->type != operation->type &&
            strcmp(subject_of(other), subject_of(operation)) == 0 && !ends(operation, other))
            return true;
    }
    return false;
}

void change_take(struct replica *replica, struct replica_operation *operation)
{
    struct change *change = NULL;
    uint64_t ms_max = operation->type == REPLICA_TRANSFER
                          ? TRANSFER_ELECTION_TIMEOUTS * replica->options.election_timeout_ms
                          : CHANGE_MS_MAX;

    if (!driver_is_leader(&replica->driver)) {
        replica_return(replica, operation, replica_not_leader_status(replica));
        return;
    }
    for (size_t i = 0; i < CHANGES_MAX && change == NULL; i++)
        if (replica->changes[i].operation == NULL)
            change = &replica->changes[i];
    if (change == NULL) {
        replica_return(replica, operation, REPLICA_BUSY);
        return;
    }
    if (contradicts_another(replica, operation)) {
        snprintf(operation->change->detail, REPLICA_DETAIL_BYTES,
                 "another change of the same member is under way");
        replica_return(replica, operation, REPLICA_CONFLICT);
        return;
    }
    *change = (struct change){.operation = operation,
                              .turn = ++replica->turns,
                              .deadline_ms = replica_now_ms(replica) + ms_max};
    end_joins(replica, change);
    change_advance(replica);
}

/* The new node in first: the cluster is never smaller than before. Only a node that comes back
 * under its own name has to leave before: it must not count as the voter whose log it has lost. */
static int replace_step(struct replica *replica, struct change *change)
{
    const struct replica_change *request = change->operation->change;
    uint64_t new_id = identity_raft_id(request->join.name);
    uint64_t old_id = identity_raft_id(request->name);
    const struct command_member *row = command_member_find(replica->state, old_id);
    int result;

    if (new_id == old_id) {
        if (request->join.incarnation == 0) {
            change_explain(change,
                           "a node that replaces itself must tell its incarnation: see its log "
                           "or GET /status, or give it another name");
            return REPLICA_CONFLICT;
        }
        if (row != NULL && row->incarnation != request->join.incarnation) {
            result = removal_step(replica, change, request->name);
            if (result != 0)
                return result;
        }
        return join_step(replica, change);
    }
    if (row == NULL && driver_server_find(&replica->driver, old_id) == NULL &&
        driver_server_find(&replica->driver, new_id) == NULL) {
        change_explain(change, "there is no member %s to be replaced", request->name);
        return REPLICA_NO_MEMBER;
    }
    result = join_step(replica, change);
    if (result != 0)
        return result;
    result = removal_step(replica, change, request->name);
    /* Gone already: an earlier request has done it. */
    return result == REPLICA_NO_MEMBER ? 0 : result;
}

static int step(struct replica *replica, struct change *change)
{
    const struct replica_operation *operation = change->operation;

    switch (operation->type) {
    case REPLICA_JOIN:
        return join_step(replica, change);
    case REPLICA_REMOVE:
        return removal_step(replica, change, operation->change->name);
    case REPLICA_REPLACE:
        return replace_step(replica, change);
    default:
        return handover_step(replica, change, operation->change->name);
    }
}

/* Where there is no leadership to do it with: the requester is sent to the new leader, once it is
 * known. Only a transfer outlives leadership: that is what it is for. */
static int step_elsewhere(struct replica *replica, struct change *change)
{
    int status = replica_not_leader_status(replica);

    if (change->operation->type == REPLICA_TRANSFER)
        return handover_step(replica, change, change->operation->change->name);
    if (status != REPLICA_NO_LEADER)
        return status;
    return replica_now_ms(replica) < change->deadline_ms ? CHANGE_WAITS : status;
}

/* ---- Catching up ---- */

/* Notes how far the server that is caught up has come. */
static void promotion_watch(struct replica *replica)
{
    struct promotion *promotion = &replica->promotion;
    struct driver *driver = &replica->driver;
    raft_id id = driver->promoting;
    raft_index match = 0;

    if (id == 0 && promotion->round_ms_max != 0)
        raft_set_max_catch_up_round_duration(&driver->raft, promotion->round_ms_max);
    if (id == 0) {
        *promotion = (struct promotion){0};
        return;
    }
    if (raft_match_index(&driver->raft, id, &match) != 0 ||
        (id == promotion->id && match == promotion->match))
        return;
    promotion->id = id;
    promotion->match = match;
    promotion->advanced_ms = replica_now_ms(replica);
}

bool change_promotion_stalls(const struct replica *replica)
{
    const struct promotion *promotion = &replica->promotion;

    return promotion->id != 0 && promotion->id == replica->driver.promoting &&
           replica_now_ms(replica) - promotion->advanced_ms >= PROMOTION_STALL_MS;
}

void change_promotion_give_up(struct replica *replica)
{
    struct promotion *promotion = &replica->promotion;
    struct raft *raft = &replica->driver.raft;

    if (promotion->round_ms_max != 0)
        return;
    /* The core knows no other way: a round that takes longer than allowed is its end. */
    promotion->round_ms_max = raft->max_catch_up_round_duration;
    raft_set_max_catch_up_round_duration(raft, 0);
    for (size_t i = 0; i < CHANGES_MAX; i++) {
        struct change *change = &replica->changes[i];
        if (change->operation != NULL && joiner_of(change->operation) != NULL &&
            identity_raft_id(joiner_of(change->operation)) == replica->driver.promoting)
            change->turn = ++replica->turns;
    }
}

/* ---- One after the other ---- */

/* Whose turn follows; NULL: all have had theirs. */
static struct change *next_change(struct replica *replica, uint64_t turn)
{
    struct change *next = NULL;

    for (size_t i = 0; i < CHANGES_MAX; i++) {
        struct change *change = &replica->changes[i];
        if (change->operation != NULL && change->turn > turn &&
            (next == NULL || change->turn < next->turn))
            next = change;
    }
    return next;
}

void change_advance(struct replica *replica)
{
    struct change *change;
    uint64_t turn = 0;

    promotion_watch(replica);
    while ((change = next_change(replica, turn)) != NULL) {
        int result = CHANGE_WAITS;
        turn = change->turn;
        if (!driver_is_leader(&replica->driver))
            result = step_elsewhere(replica, change);
        else if (change_term_established(replica))
            result = step(replica, change);
        if (change->operation == NULL)
            continue; /* The driver has failed, and everything was given back */
        if (result == CHANGE_WAITS && replica_now_ms(replica) >= change->deadline_ms)
            result = REPLICA_UNREACHABLE;
        if (result != CHANGE_WAITS)
            finish(replica, change, result);
    }
}

void change_suspend(struct replica *replica)
{
    uint64_t deadline_ms = replica_now_ms(replica) + replica->options.election_timeout_ms;

    for (size_t i = 0; i < CHANGES_MAX; i++) {
        struct change *change = &replica->changes[i];
        /* Leadership may come back: then it begins anew. */
        change->row_proposed = false;
        if (change->operation != NULL && change->operation->type != REPLICA_TRANSFER &&
            change->deadline_ms > deadline_ms)
            change->deadline_ms = deadline_ms;
    }
}

void change_abandon(struct replica *replica, int status)
{
    for (size_t i = 0; i < CHANGES_MAX; i++)
        if (replica->changes[i].operation != NULL)
            finish(replica, &replica->changes[i], status);
}
