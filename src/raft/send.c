/* Messages to peers. AppendEntries are filled from the log cache, or from the spill what is older,
 * and split; memory that waits in a
 * socket is bounded per peer. A lost message needs no care: the core repeats what matters. */
#include "raft/driver.h"

#include "log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Larger messages delay the heartbeats behind them. */
#define MESSAGE_BYTES_MAX (1u << 20)
/* The backend's; a payload has at least 8 bytes. */
#define MESSAGE_ENTRIES_MAX 262144u
_Static_assert(MESSAGE_BYTES_MAX / 8 < MESSAGE_ENTRIES_MAX, "an append takes a message's entries");
/* A peer that does not drain its socket gets heartbeats only, until it does. */
#define QUEUED_BYTES_MAX (16u << 20)
/* Nor does a peer that takes nothing at all keep more small messages waiting than this. */
#define QUEUED_MAX           1024
#define ENTRY_OVERHEAD_BYTES 64
/* A server without a vote that lacks more than this is sent it at a pace. */
#define LAG_BYTES_MAX (1u << 20)
/* And than so many entries not at once. */
#define PACED_ENTRIES_MAX 65536u

struct send_request {
    struct raft_io_send request;
    struct driver *driver;
    raft_id peer;
    size_t bytes;
    /* A snapshot's offer owns these: */
    struct raft_configuration configuration;
    void *manifest;
    char *address;
    struct raft_io_snapshot_get get;
    struct raft_message message;
    size_t n_batches;
    struct log_batch *batches[];
};

/* NULL: out of memory, or the peer has too many messages waiting. */
static struct send_request *send_request_new(struct driver *driver, raft_id id, size_t n_batches)
{
    struct driver_peer *peer = driver_peer(driver, id);
    struct send_request *send = NULL;

    if (peer != NULL && peer->queued < QUEUED_MAX)
        send = calloc(1, sizeof *send + n_batches * sizeof(struct log_batch *));
    if (send == NULL)
        return NULL;
    peer->queued++;
    send->driver = driver;
    send->peer = id;
    send->request.data = send->get.data = send;
    raft_configuration_init(&send->configuration);
    return send;
}

static void send_request_free(struct send_request *send)
{
    /* Its place is kept as long as something is queued. */
    struct driver_peer *peer = driver_peer(send->driver, send->peer);

    assert(peer != NULL && peer->queued > 0 && peer->queued_bytes >= send->bytes);
    peer->queued--;
    peer->queued_bytes -= send->bytes;
    for (size_t i = 0; i < send->n_batches; i++)
        log_batch_release(send->batches[i]);
    raft_configuration_close(&send->configuration);
    raft_free(send->manifest);
    free(send->address);
    free(send);
}

static void send_done(struct raft_io_send *request, int status)
{
    (void)status;
    send_request_free(request->data);
}

/* To the backend. A peer that moved says so by what it sends, and is sent to there until the
 * configuration has changed: to change it may need the peer's vote. */
static int hand_over(struct send_request *send, const struct raft_message *message)
{
    struct driver *driver = send->driver;
    const struct driver_peer *peer = driver_peer(driver, send->peer);
    struct raft_message told = *message;

    assert(peer != NULL);
    if (peer->moved_to[0] != '\0' && strcmp(message->server_address, peer->moved_from) == 0)
        told.server_address = peer->moved_to;
    return driver->io->send(driver->io, &send->request, &told, send_done);
}

void driver_send_plain(struct driver *driver, const struct raft_message *message)
{
    struct send_request *send = send_request_new(driver, message->server_id, 0);

    if (send != NULL && hand_over(send, message) != 0)
        send_request_free(send);
}

void driver_reconnect(struct driver *driver, raft_id id)
{
    const struct raft_server *server = driver_server_find(driver, id);
    /* A vote that was not given, in no term: should it arrive, it says nothing. */
    struct raft_message message = {.type = RAFT_REQUEST_VOTE_RESULT};

    if (server == NULL || id == driver->raft.id)
        return;
    message.server_id = id;
    message.server_address = server->address;
    driver_send_plain(driver, &message);
}

/* Entries from `index` on, in memory, that fit into one message. A change of the configuration
 * begins a message of its own: behind another entry the core of the receiver would misplace it. */
static unsigned fill_from_memory(struct driver *driver, struct send_request *send, raft_index index,
                                 unsigned n_max, size_t bytes_max)
{
    size_t bytes = 0;
    unsigned n = 0;

    while (n < n_max) {
        struct log_slot *slot = log_cache_at(&driver->log, index + n);
        if (n > 0 && (bytes >= bytes_max || slot->type == RAFT_CHANGE))
            break;
        driver->message_entries[n] = (struct raft_entry){.term = slot->term,
                                                         .type = slot->type,
                                                         .buf = slot->payload,
                                                         .batch = slot->batch->base};
        if (send->n_batches == 0 || send->batches[send->n_batches - 1] != slot->batch) {
            slot->batch->references++;
            send->batches[send->n_batches++] = slot->batch;
        }
        bytes += slot->payload.len;
        n++;
    }
    return n;
}

/* Likewise, on disk. 0: it cannot be read, or memory is short. */
static unsigned fill_from_disk(struct driver *driver, struct send_request *send, raft_index index,
                               unsigned n_max, size_t bytes_max)
{
    unsigned n = 0;
    int error = log_spill_read(&driver->spill, index, bytes_max, n_max, driver->message_entries, &n,
                               &send->batches[0]);

    if (error == 0) {
        send->n_batches = 1;
    } else if (error != ENOMEM) {
        log_warning("the log that was kept for others cannot be read",
                    LOG_TEXT("cause", strerror(error)));
        log_spill_drop(&driver->spill);
    }
    return n;
}

/* How many entries the message has. */
static unsigned fill(struct driver *driver, struct send_request *send, raft_index index,
                     unsigned n_max, size_t bytes_max)
{
    unsigned n = 0;

    if (bytes_max > MESSAGE_BYTES_MAX)
        bytes_max = MESSAGE_BYTES_MAX;
    if (n_max == 0)
        n = 0;
    else if (log_cache_has(&driver->log, index))
        n = fill_from_memory(driver, send, index, n_max, bytes_max);
    else if (log_spill_has(&driver->spill, index))
        n = fill_from_disk(driver, send, index, n_max, bytes_max);
    for (unsigned i = 0; i < n; i++)
        send->bytes += driver->message_entries[i].buf.len + ENTRY_OVERHEAD_BYTES;
    return n;
}

static bool reserve_entries(struct driver *driver, unsigned n)
{
    void *grown;

    if (n <= driver->message_entries_capacity)
        return true;
    grown = realloc(driver->message_entries, n * sizeof *driver->message_entries);
    if (grown == NULL)
        return false;
    driver->message_entries = grown;
    driver->message_entries_capacity = n;
    return true;
}

/* Whether the log behind that index is longer than a server may lack. */
static bool lags(struct driver *driver, raft_index match)
{
    size_t bytes = 0;

    if (match + 1 < driver->log.first)
        return true;
    for (raft_index index = match + 1; index <= driver->log.last && bytes <= LAG_BYTES_MAX; index++)
        bytes += log_cache_at(&driver->log, index)->payload.len + ENTRY_OVERHEAD_BYTES;
    return bytes > LAG_BYTES_MAX;
}

/* False: the entry is not known any more. */
static bool term_of(struct driver *driver, raft_index index, raft_term *ret_term)
{
    if (log_cache_has(&driver->log, index)) {
        *ret_term = log_cache_at(&driver->log, index)->term;
        return true;
    }
    return log_spill_has(&driver->spill, index) &&
           log_spill_term(&driver->spill, index, ret_term) == 0;
}

static bool reaches(const struct driver *driver, raft_index index)
{
    return log_cache_has(&driver->log, index) || log_spill_has(&driver->spill, index);
}

/* Whether the server is sent what it lacks at a pace, and behind which entry: it has no vote and
 * lags behind, or it is so far behind that it needs what is on disk only, or the core does not know
 * that it can be continued at all. */
static bool is_paced(struct driver *driver, const struct driver_peer *peer, raft_index *ret_match)
{
    const struct raft_server *server = driver_server_find(driver, peer->id);

    if (server == NULL || raft_match_index(&driver->raft, peer->id, ret_match) != 0)
        return false;
    if (!reaches(driver, *ret_match)) {
        *ret_match = peer->told_last;
        return peer->snapshot_due && reaches(driver, *ret_match);
    }
    return (server->role != RAFT_VOTER || *ret_match + 1 < driver->log.first) &&
           lags(driver, *ret_match);
}

/* A server that is paced (pace.h) is sent, whatever the core would send now, what follows the last
 * entry that it confirmed, and more once that has arrived, or seems lost. False: nothing now.
 * *append then is what is to be sent, and *ret_bytes_max how much of it. */
static bool pace(struct driver *driver, struct driver_peer *peer, raft_index match,
                 struct raft_append_entries *append, size_t *ret_bytes_max)
{
    uint64_t now = driver->callbacks->now_ms(driver->context);
    bool heartbeat_due = now >= peer->paced_ms + driver->raft.heartbeat_timeout;

    if (match < peer->paced_upto) {
        if (!heartbeat_due)
            return false;
        pace_lost(&driver->pace);
    }
    if (!term_of(driver, match, &append->prev_log_term))
        return false;
    *ret_bytes_max = pace_allowance(&driver->pace, now);
    if (*ret_bytes_max == 0 && !heartbeat_due)
        return false;
    append->prev_log_index = match;
    append->n_entries = 0;
    if (*ret_bytes_max > 0)
        append->n_entries = driver->log.last - match < PACED_ENTRIES_MAX
                                ? (unsigned)(driver->log.last - match)
                                : PACED_ENTRIES_MAX;
    return true;
}

void driver_note_commit(struct driver *driver, uint64_t took_ms, size_t bytes)
{
    pace_committed(&driver->pace, driver->callbacks->now_ms(driver->context), took_ms, bytes);
}

/* ---- Offering a snapshot: the manifest only, so that the peer can say that it is too far behind
 */

static void offer_loaded(struct raft_io_snapshot_get *get, struct raft_snapshot *snapshot,
                         int status)
{
    struct send_request *send = get->data;
    struct driver *driver = send->driver;
    struct raft_install_snapshot *install = &send->message.install_snapshot;

    if (status != 0) {
        raft_free(snapshot);
        send_request_free(send);
        return;
    }
    /* It may be newer than the one asked for: all of its metadata belongs together. */
    install->last_index = snapshot->index;
    install->last_term = snapshot->term;
    install->conf_index = snapshot->configuration_index;
    install->data = snapshot->bufs[0];
    send->manifest = snapshot->bufs[0].base;
    send->configuration = snapshot->configuration;
    install->conf = send->configuration;
    raft_free(snapshot->bufs);
    raft_free(snapshot);
    send->message.server_address = send->address;
    if (!driver_is_leader(driver) || driver->raft.current_term != install->term ||
        hand_over(send, &send->message) != 0)
        send_request_free(send);
}

static void offer_snapshot(struct driver *driver, struct driver_peer *peer)
{
    const struct raft_server *server = driver_server_find(driver, peer->id);
    uint64_t now = driver->callbacks->now_ms(driver->context);
    struct send_request *send;

    if (server == NULL)
        return;
    if (!peer->too_far_behind) {
        peer->too_far_behind = true;
        driver->callbacks->peer_too_far_behind(driver->context, peer->id, driver_log_first(driver));
    }
    if (peer->offered_ms != 0 && now - peer->offered_ms < DRIVER_SNAPSHOT_OFFER_MS)
        return;
    peer->offered_ms = now;
    send = send_request_new(driver, peer->id, 0);
    if (send == NULL)
        return;
    send->message = (struct raft_message){.type = RAFT_INSTALL_SNAPSHOT, .server_id = peer->id};
    send->message.install_snapshot.term = driver->raft.current_term;
    send->address = strdup(server->address); /* The core's may go with a configuration */
    if (send->address == NULL ||
        driver->io->snapshot_get(driver->io, &send->get, offer_loaded) != 0)
        send_request_free(send);
}

/* ---- Sending ---- */

/* What of the entries fits into `bytes_max` and the peer's queue, in messages of a bounded size;
 * without entries one message, a heartbeat. Where it comes to: *ret_upto, with so many bytes. */
static void send_entries(struct driver *driver, struct driver_peer *peer,
                         const struct raft_message *message, size_t bytes_max, raft_index *ret_upto,
                         size_t *ret_bytes)
{
    struct raft_message part = *message;
    struct raft_append_entries *append = &part.append_entries;
    unsigned left = append->n_entries;
    size_t bytes = 0;

    /* In probe state the core sends everything again with each heartbeat. Without entries the
     * message is a heartbeat, and a later rejection brings the core back to what is missing. */
    if (peer->queued_bytes > QUEUED_BYTES_MAX || !reserve_entries(driver, left))
        left = 0;
    do {
        raft_index index = append->prev_log_index + 1;
        struct send_request *send =
            send_request_new(driver, message->server_id, left > 0 ? left : 1);
        unsigned n;
        if (send == NULL)
            break;
        n = fill(driver, send, index, left, bytes_max - bytes);
        if (n == 0 && left > 0) {
            offer_snapshot(driver, peer); /* The core believes that they are there */
            left = 0;
        }
        append->entries = driver->message_entries; /* Read during the call only */
        append->n_entries = n;
        peer->queued_bytes += send->bytes;
        bytes += send->bytes;
        if (hand_over(send, &part) != 0) {
            send_request_free(send);
            break;
        }
        left -= n;
        append->prev_log_index += n;
        if (n > 0)
            append->prev_log_term = driver->message_entries[n - 1].term;
        /* What is left out comes again like what was lost. */
    } while (left > 0 && bytes < bytes_max && peer->queued_bytes <= QUEUED_BYTES_MAX);
    *ret_upto = append->prev_log_index;
    *ret_bytes = bytes;
}

static void send_append_entries(struct driver *driver, const struct raft_message *message)
{
    struct driver_peer *peer = driver_peer(driver, message->server_id);
    struct raft_message paced = *message;
    raft_index match = 0, upto = 0;
    size_t bytes_max = SIZE_MAX, bytes = 0;

    if (peer == NULL)
        return;
    if (!is_paced(driver, peer, &match)) {
        send_entries(driver, peer, message, SIZE_MAX, &upto, &bytes);
        return;
    }
    if (!pace(driver, peer, match, &paced.append_entries, &bytes_max))
        return;
    send_entries(driver, peer, &paced, bytes_max, &upto, &bytes);
    pace_sent(&driver->pace, bytes);
    peer->paced_upto = upto;
    peer->paced_ms = driver->callbacks->now_ms(driver->context);
}

/* The core offers the snapshot without having asked the peer what it has, which may be the state of
 * a moment ago; and it does not listen to the answers when its own snapshot has changed since. So
 * nothing is offered before a peer has said in that very moment that its log ends where nothing
 * here continues it. The core's heartbeats make it say so. */
void driver_answered(struct driver *driver, raft_id id,
                     const struct raft_append_entries_result *result)
{
    struct driver_peer *peer = driver_peer(driver, id);
    const struct raft_server *server = driver_server_find(driver, id);
    struct raft_message message = {.type = RAFT_APPEND_ENTRIES, .server_id = id};
    raft_index match = 0;

    if (peer == NULL || server == NULL || !driver_is_leader(driver) ||
        result->term != driver->raft.current_term)
        return;
    if (result->rejected == 0)
        peer->snapshot_due = false;
    if (!peer->snapshot_due)
        return;
    peer->told_last = result->last_log_index;
    if (!is_paced(driver, peer, &match)) {
        if (!reaches(driver, match))
            offer_snapshot(driver, peer);
        return;
    }
    message.server_address = server->address;
    message.append_entries.term = driver->raft.current_term;
    message.append_entries.leader_commit = driver->raft.commit_index;
    send_append_entries(driver, &message);
}

/* The core answers a pre-vote in the term that was asked for, also if it refuses because its own is
 * newer. A candidate that hears of that term nowhere else would ask for ever. */
static void send_vote_result(struct driver *driver, const struct raft_message *message)
{
    struct raft_message told = *message;
    struct raft_request_vote_result *result = &told.request_vote_result;

    if (result->pre_vote && !result->vote_granted && result->term < driver->raft.current_term)
        result->term = driver->raft.current_term;
    driver_send_plain(driver, &told);
}

void driver_send(struct driver *driver, const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_APPEND_ENTRIES:
        driver->last_append_ms = driver->callbacks->now_ms(driver->context);
        send_append_entries(driver, message);
        break;
    case RAFT_INSTALL_SNAPSHOT:
        if (driver_peer(driver, message->server_id) != NULL)
            driver_peer(driver, message->server_id)->snapshot_due = true;
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        send_vote_result(driver, message);
        break;
    default:
        driver_send_plain(driver, message);
    }
}
