/* Messages to peers. AppendEntries are filled from the log cache and split; memory that waits in a
 * socket is bounded per peer. A lost message needs no care: the core repeats what matters. */
#include "raft/driver.h"

#include <assert.h>
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

void driver_send_plain(struct driver *driver, const struct raft_message *message)
{
    struct send_request *send = send_request_new(driver, message->server_id, 0);

    if (send != NULL && driver->io->send(driver->io, &send->request, message, send_done) != 0)
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

/* Entries from `index` on that fit into one message. A change of the configuration begins a message
 * of its own: behind another entry the core of the receiver would misplace it. */
static unsigned fill(struct driver *driver, struct send_request *send, raft_index index,
                     unsigned n_max)
{
    size_t bytes = 0;
    unsigned n = 0;

    while (n < n_max) {
        struct log_slot *slot = log_cache_at(&driver->log, index + n);
        if (n > 0 && (bytes >= MESSAGE_BYTES_MAX || slot->type == RAFT_CHANGE))
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
    send->bytes = n > 0 ? bytes + (size_t)n * ENTRY_OVERHEAD_BYTES : 0;
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

static size_t entry_bytes(struct driver *driver, raft_index index)
{
    return log_cache_at(&driver->log, index)->payload.len + ENTRY_OVERHEAD_BYTES;
}

/* Whether the log behind that index is longer than a server may lack. */
static bool lags(struct driver *driver, raft_index match)
{
    size_t bytes = 0;

    for (raft_index index = match + 1; index <= driver->log.last && bytes <= LAG_BYTES_MAX; index++)
        bytes += entry_bytes(driver, index);
    return bytes > LAG_BYTES_MAX;
}

/* Entries from `index` on that the pace allows: at least one, if anything. */
static unsigned allowed(struct driver *driver, raft_index index)
{
    size_t allowance = pace_allowance(&driver->pace, driver->callbacks->now_ms(driver->context));
    size_t bytes = 0;
    unsigned n = 0;

    while (index + n <= driver->log.last && bytes < allowance) {
        bytes += entry_bytes(driver, index + n);
        n++;
    }
    pace_sent(&driver->pace, bytes);
    return n;
}

/* A server without a vote that lags behind is sent what it lacks at a pace (pace.h), whatever the
 * core would send now: what follows the last entry that it confirmed, and more once that has
 * arrived, or seems lost. False: nothing now. *append then is what is to be sent. */
static bool pace(struct driver *driver, struct driver_peer *peer,
                 struct raft_append_entries *append)
{
    const struct raft_server *server = driver_server_find(driver, peer->id);
    uint64_t now = driver->callbacks->now_ms(driver->context);
    bool heartbeat_due = now >= peer->paced_ms + driver->raft.heartbeat_timeout;
    raft_index match = 0;

    if (server == NULL || server->role == RAFT_VOTER ||
        raft_match_index(&driver->raft, peer->id, &match) != 0 ||
        !log_cache_has(&driver->log, match) || !lags(driver, match))
        return true;
    if (match < peer->paced_upto) {
        if (!heartbeat_due)
            return false;
        pace_lost(&driver->pace);
    }
    append->prev_log_index = match;
    append->prev_log_term = log_cache_at(&driver->log, match)->term;
    append->n_entries = allowed(driver, match + 1);
    if (append->n_entries == 0 && !heartbeat_due)
        return false;
    peer->paced_upto = match + append->n_entries;
    peer->paced_ms = now;
    return true;
}

void driver_note_commit(struct driver *driver, uint64_t took_ms, size_t bytes)
{
    pace_committed(&driver->pace, driver->callbacks->now_ms(driver->context), took_ms, bytes);
}

static void send_append_entries(struct driver *driver, const struct raft_message *message)
{
    struct raft_message part = *message;
    struct raft_append_entries *append = &part.append_entries;
    struct driver_peer *peer = driver_peer(driver, message->server_id);
    unsigned left;
    raft_index index;

    if (peer == NULL || !pace(driver, peer, append))
        return;
    left = append->n_entries;
    index = append->prev_log_index + 1;
    /* In probe state the core sends everything again with each heartbeat. Without entries the
     * message is a heartbeat, and a later rejection brings the core back to what is missing. */
    if (peer->queued_bytes > QUEUED_BYTES_MAX || !reserve_entries(driver, left))
        left = 0;
    do {
        struct send_request *send = send_request_new(driver, message->server_id, left);
        unsigned n;
        if (send == NULL)
            return;
        n = fill(driver, send, index, left);
        append->entries = driver->message_entries; /* Read during the call only */
        append->n_entries = n;
        peer->queued_bytes += send->bytes;
        if (driver->io->send(driver->io, &send->request, &part, send_done) != 0) {
            send_request_free(send);
            return;
        }
        left -= n;
        index += n;
        append->prev_log_index = index - 1;
        if (left > 0)
            append->prev_log_term = log_cache_at(&driver->log, index - 1)->term;
        /* What is left out comes again like what was lost. */
    } while (left > 0 && peer->queued_bytes <= QUEUED_BYTES_MAX);
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
        driver->io->send(driver->io, &send->request, &send->message, send_done) != 0)
        send_request_free(send);
}

static void offer_snapshot(struct driver *driver, const struct raft_message *message)
{
    struct driver_peer *peer = driver_peer(driver, message->server_id);
    uint64_t now = driver->callbacks->now_ms(driver->context);
    struct send_request *send;

    if (peer == NULL)
        return;
    if (!peer->too_far_behind) {
        peer->too_far_behind = true;
        driver->callbacks->peer_too_far_behind(driver->context, peer->id, driver->log.first);
    }
    if (peer->offered_ms != 0 && now - peer->offered_ms < DRIVER_SNAPSHOT_OFFER_MS)
        return;
    peer->offered_ms = now;
    send = send_request_new(driver, message->server_id, 0);
    if (send == NULL)
        return;
    send->message = *message;
    send->address = strdup(message->server_address); /* The core's may go with a configuration */
    if (send->address == NULL ||
        driver->io->snapshot_get(driver->io, &send->get, offer_loaded) != 0)
        send_request_free(send);
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
        offer_snapshot(driver, message);
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        send_vote_result(driver, message);
        break;
    default:
        driver_send_plain(driver, message);
    }
}
