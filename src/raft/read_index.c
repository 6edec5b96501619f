/* Linearizable reads without a log entry: ReadIndex (Ongaro's thesis, section 6.4) by a probe.
 *
 * The results of ordinary AppendEntries carry no request id and prove nothing about a read that
 * came after they were sent. So the leader sends an empty AppendEntries whose previous index is
 * impossible, 2^62 + nonce: the follower checks the term, rejects it, and echoes the index. That
 * reply says: at some time after the round began, this voter knew no newer term. It is taken out
 * before the core sees it, unless its term is newer.
 *
 * All reads that wait when a round begins share it; a read that comes during a round waits for the
 * next. A read is served when a majority of the voters confirmed its round and the entries up
 * to the commit index of its arrival are applied. Nothing is served before an entry of the
 * leader's own term is committed: only then does it know what is. */
#include "raft/driver.h"

#include <assert.h>
#include <stdlib.h>

#define NONCE_BASE (UINT64_C(1) << 62)
/* A round that is not answered in this time is taken for lost. */
#define ROUND_MS_MAX 50

static void begin_round(struct driver *driver)
{
    const struct raft_configuration *configuration = &driver->raft.configuration;

    driver->nonce++;
    driver->nonce_ms = driver->callbacks->now_ms(driver->context);
    driver->read_rounds++;
    for (unsigned i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];
        struct raft_message message = {.type = RAFT_APPEND_ENTRIES};
        if (server->id == driver->raft.id || server->role != RAFT_VOTER)
            continue;
        message.server_id = server->id;
        message.server_address = server->address;
        message.append_entries.term = driver->raft.current_term;
        message.append_entries.prev_log_index = NONCE_BASE + driver->nonce;
        message.append_entries.prev_log_term = driver->raft.current_term;
        driver_send_plain(driver, &message);
    }
}

static bool confirmed_by_majority(struct driver *driver, uint64_t nonce)
{
    const struct raft_configuration *configuration = &driver->raft.configuration;
    unsigned voters = 0, confirmations = 0;

    for (unsigned i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];
        struct driver_peer *peer;
        if (server->role != RAFT_VOTER)
            continue;
        voters++;
        if (server->id == driver->raft.id) {
            confirmations++;
            continue;
        }
        peer = driver_peer(driver, server->id);
        confirmations += peer != NULL && peer->nonce_acked >= nonce;
    }
    return confirmations > voters / 2;
}

static bool term_established(const struct driver *driver)
{
    return raft_commit_index(&driver->raft) >= driver->election_index;
}

void driver_reads_serve(struct driver *driver)
{
    struct driver_read *read;

    if (!driver_is_leader(driver) || !term_established(driver))
        return;
    while ((read = driver->reads) != NULL) {
        if (read->index < driver->election_index)
            read->index = driver->election_index;
        if (!read->confirmed)
            read->confirmed = confirmed_by_majority(driver, read->nonce);
        if (!read->confirmed || driver->applied < read->index)
            break;
        driver->reads = read->next;
        if (driver->reads == NULL)
            driver->reads_end = &driver->reads;
        read->done(read->owner, 0, read->index);
        free(read);
    }
    if (driver->reads != NULL && !driver->reads->confirmed && driver->reads->nonce > driver->nonce)
        begin_round(driver);
}

void driver_reads_fail(struct driver *driver, int status)
{
    struct driver_read *read = driver->reads;

    driver->reads = NULL;
    driver->reads_end = &driver->reads;
    while (read != NULL) {
        struct driver_read *next = read->next;
        read->done(read->owner, status, 0);
        free(read);
        read = next;
    }
}

void driver_reads_retry(struct driver *driver)
{
    if (driver->reads != NULL && !driver->reads->confirmed && driver_is_leader(driver) &&
        driver->callbacks->now_ms(driver->context) - driver->nonce_ms > ROUND_MS_MAX)
        begin_round(driver);
}

bool driver_read_result(struct driver *driver, const struct raft_message *message)
{
    const struct raft_append_entries_result *result = &message->append_entries_result;
    uint64_t nonce = result->rejected - NONCE_BASE;
    struct driver_peer *peer;

    if (result->rejected < NONCE_BASE)
        return false;
    if (result->term > driver->raft.current_term)
        return false; /* The core is to step down */
    peer = driver_peer(driver, message->server_id);
    if (peer != NULL && driver_is_leader(driver) && result->term == driver->raft.current_term &&
        nonce <= driver->nonce && nonce > peer->nonce_acked) {
        peer->nonce_acked = nonce;
        driver_reads_serve(driver);
    }
    return true; /* The core would take it for a mismatch of the logs */
}

int driver_read(struct driver *driver, driver_read_done done, void *owner)
{
    struct driver_read *read;
    bool idle = driver->reads == NULL;

    if (!driver_is_leader(driver))
        return RAFT_NOTLEADER;
    read = malloc(sizeof *read);
    if (read == NULL)
        return RAFT_NOMEM;
    *read = (struct driver_read){.done = done,
                                 .owner = owner,
                                 .index = raft_commit_index(&driver->raft),
                                 .nonce = driver->nonce + 1};
    *driver->reads_end = read;
    driver->reads_end = &read->next;
    if (idle)
        driver_reads_serve(driver);
    if (idle && driver->reads == read && driver->nonce < read->nonce)
        begin_round(driver);
    return 0;
}
