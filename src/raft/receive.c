/* What peers say, before the core hears of it: what it would take wrongly or for nothing is left
 * out, and what there is no room for is left to be repeated.
 *
 * Raft loop. Fails only as the step does that follows: driver_fail. */
#include "raft/driver.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

void driver_message_free(struct raft_message *message)
{
    if (message->type == RAFT_INSTALL_SNAPSHOT) {
        raft_configuration_close(&message->install_snapshot.conf);
        raft_free(message->install_snapshot.data.base);
    }
    if (message->type == RAFT_APPEND_ENTRIES && message->append_entries.n_entries > 0) {
        raft_free(message->append_entries.entries[0].batch);
        raft_free(message->append_entries.entries);
    }
}

/* A rejection that was overtaken, say by a new connection: since then the peer has confirmed more
 * than it says it has. The core would go back below what is confirmed and then never send the peer
 * an entry again. */
static bool is_stale_rejection(const struct driver *driver, const struct raft_message *message)
{
    const struct raft_append_entries_result *result = &message->append_entries_result;
    raft_index match = 0;

    return driver_is_leader(driver) && result->rejected > 0 &&
           result->term == driver->raft.current_term &&
           raft_match_index(&driver->raft, message->server_id, &match) == 0 &&
           result->last_log_index < match;
}

static void note_address(struct driver_peer *peer, const char *configured, const char *said)
{
    peer->moved_to[0] = '\0';
    if (said == NULL || strcmp(said, configured) == 0 || strlen(said) >= DRIVER_ADDRESS_BYTES ||
        strlen(configured) >= DRIVER_ADDRESS_BYTES)
        return;
    snprintf(peer->moved_to, sizeof peer->moved_to, "%s", said);
    snprintf(peer->moved_from, sizeof peer->moved_from, "%s", configured);
}

/* Only servers of the configuration: others must not take up places among the peers. */
static void note_heard(struct driver *driver, const struct raft_message *message)
{
    const struct raft_server *server = driver_server_find(driver, message->server_id);
    struct driver_peer *peer = server != NULL ? driver_peer(driver, server->id) : NULL;

    if (peer == NULL)
        return;
    peer->heard_ms = driver->callbacks->now_ms(driver->context);
    note_address(peer, server->address, message->server_address);
}

/* What our snapshot stands for is committed, and so it is in the log of every leader: entries up to
 * there need not come again, and the leader may not know yet that we have them. The core would
 * reject what begins before its log. */
static void skip_known_entries(struct driver *driver, struct raft_message *message)
{
    struct raft_append_entries *append = &message->append_entries;
    raft_index known = driver->snapshot_index;

    if (append->prev_log_index >= known)
        return;
    if (append->prev_log_index + append->n_entries <= known) {
        driver_message_free(message);
        append->entries = NULL;
        append->n_entries = 0;
    } else {
        unsigned skip = (unsigned)(known - append->prev_log_index);
        assert(append->entries != NULL);
        append->n_entries -= skip;
        memmove(append->entries, append->entries + skip,
                append->n_entries * sizeof append->entries[0]);
    }
    append->prev_log_index = known;
    append->prev_log_term = driver->snapshot_term;
}

/* Where our log ends to be the leader's, as far as the message tells; false: the core rejects it.
 */
static bool agrees(const struct driver *driver, const struct raft_append_entries *append,
                   raft_index *ret_upto)
{
    const struct log_cache *log = &driver->log;
    raft_index index = append->prev_log_index;

    if (append->term < driver->raft.current_term ||
        (log_cache_has(log, index) ? log_cache_at(log, index)->term != append->prev_log_term
                                   : index != log->first - 1))
        return false;
    while (index < append->prev_log_index + append->n_entries && log_cache_has(log, index + 1) &&
           log_cache_at(log, index + 1)->term ==
               append->entries[index - append->prev_log_index].term)
        index++;
    *ret_upto = index;
    return true;
}

static size_t slot_bytes(const struct log_cache *log, raft_index index)
{
    return log_cache_at(log, index)->payload.len + sizeof(struct log_slot);
}

/* How much of the log in memory is known to be committed, if it is the leader's up to `agreed`. Its
 * first entry does not count: a truncation leaves that. */
static size_t held_bytes(const struct driver *driver, raft_index agreed, raft_index leader_commit)
{
    const struct log_cache *log = &driver->log;
    raft_index upto = leader_commit < agreed ? leader_commit : agreed;
    size_t bytes = log->bytes;

    upto = upto > driver->raft.commit_index ? upto : driver->raft.commit_index;
    for (raft_index index = log->last; index > upto && index > log->first; index--)
        bytes -= slot_bytes(log, index);
    return log_cache_has(log, log->first) ? bytes - slot_bytes(log, log->first) : 0;
}

/* Leaves out the first command for which there is no room, and what follows it, as if the message
 * had ended there: the leader repeats the rest. What is no command is small and passes, above all
 * the entry that begins a leader's term: without it nothing would ever be committed, and then
 * nothing truncated. */
static void leave_out_what_has_no_room(struct driver *driver, struct raft_message *message)
{
    struct raft_append_entries *append = &message->append_entries;
    raft_index agreed;
    size_t held;
    unsigned n;

    if (append->n_entries == 0 || !agrees(driver, append, &agreed))
        return;
    held = held_bytes(driver, agreed, append->leader_commit);
    for (n = (unsigned)(agreed - append->prev_log_index); n < append->n_entries; n++) {
        const struct raft_entry *entry = &append->entries[n];
        if (entry->type == RAFT_COMMAND &&
            !driver->callbacks->log_takes(driver->context, held, entry->buf.len,
                                          entry->term < append->term))
            break;
    }
    if (n == 0) {
        driver_message_free(message);
        append->entries = NULL;
    }
    append->n_entries = n;
}

/* The state that is offered is here already, say since a transfer that ended a moment ago; then the
 * core only answers that it is. */
static bool has_snapshot(const struct driver *driver, const struct raft_message *message)
{
    const struct raft_install_snapshot *install = &message->install_snapshot;

    return install->last_index <= driver->snapshot_index ||
           (log_cache_has(&driver->log, install->last_index) &&
            log_cache_at(&driver->log, install->last_index)->term == install->last_term);
}

/* The peer has reached what is left of the log. */
static void note_caught_up(struct driver *driver, raft_id id)
{
    struct driver_peer *peer = driver_peer(driver, id);
    raft_index match = 0;

    if (peer != NULL && peer->too_far_behind && driver_is_leader(driver) &&
        raft_match_index(&driver->raft, id, &match) == 0 && match + 1 >= driver_log_first(driver)) {
        peer->too_far_behind = false;
        peer->offered_ms = 0;
    }
}

static struct raft_server *own_server(struct driver *driver)
{
    struct raft_configuration *configuration = &driver->raft.configuration;

    for (unsigned i = 0; i < configuration->n; i++)
        if (configuration->servers[i].id == driver->raft.id)
            return &configuration->servers[i];
    return NULL;
}

/* A vote counts by the candidate's configuration, not by the voter's (Ongaro, "Consensus: Bridging
 * Theory and Practice", 2014, 4.1): a node that an entry has made a voter which it does not have
 * yet may be just the one that a majority lacks. The core refuses unless its own configuration says
 * that it is a voter, so it is one for that step. */
static int step_as_voter(struct driver *driver, struct raft_event *event)
{
    struct raft_server *own = own_server(driver);
    struct raft *raft = &driver->raft;
    int role, rv;

    if (own == NULL || own->role == RAFT_VOTER || !driver->callbacks->may_stand(driver->context))
        return driver_step(driver, event);
    if (raft->state == RAFT_FOLLOWER &&
        !driver_peer_answers(driver, raft->follower_state.current_leader.id))
        raft->follower_state.current_leader.id = 0;
    role = own->role;
    own->role = RAFT_VOTER;
    rv = driver_step(driver, event);
    own = own_server(driver);
    if (own != NULL)
        own->role = role;
    return rv;
}

/* Only a candidate has a use for votes. Whether one answers a pre-vote, whose term nobody is at,
 * the core looks up in what it knows as a candidate: anyone else has something else in that memory,
 * and may take the term for real. */
static bool is_vote_of_no_use(const struct driver *driver, const struct raft_message *message)
{
    return message->type == RAFT_REQUEST_VOTE_RESULT && driver->raft.state != RAFT_CANDIDATE;
}

void driver_receive(struct driver *driver, struct raft_message *message)
{
    struct raft_event event = {.type = RAFT_RECEIVE};
    int rv;

    if (driver->closing || driver->failed) {
        driver_message_free(message);
        return;
    }
    note_heard(driver, message);
    if (is_vote_of_no_use(driver, message))
        return;
    if (message->type == RAFT_APPEND_ENTRIES_RESULT &&
        (driver_read_result(driver, message) || is_stale_rejection(driver, message)))
        return;
    if (message->type == RAFT_INSTALL_SNAPSHOT && !has_snapshot(driver, message)) {
        /* The message is a manifest without the state: there is nothing to install from. */
        driver->callbacks->snapshot_offered(driver->context, message->install_snapshot.last_index);
        driver_message_free(message);
        return;
    }
    if (message->type == RAFT_APPEND_ENTRIES) {
        skip_known_entries(driver, message);
        leave_out_what_has_no_room(driver, message);
    }
    event.receive.message = message;
    rv = message->type == RAFT_REQUEST_VOTE ? step_as_voter(driver, &event)
                                            : driver_step(driver, &event);
    if (rv != 0)
        driver_fail(driver, "raft refused a message: %s", raft_strerror(rv));
    if (message->type == RAFT_APPEND_ENTRIES_RESULT && !driver->failed) {
        note_caught_up(driver, message->server_id);
        driver_answered(driver, message->server_id, &message->append_entries_result);
    }
    /* The payload went to the log or was freed by the core; the array is always ours. */
    if (message->type == RAFT_APPEND_ENTRIES && message->append_entries.n_entries > 0)
        raft_free(message->append_entries.entries);
}
