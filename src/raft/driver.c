/* The step: feeds one event to the core and carries out what it asks for, in the order that safety
 * needs. Term and vote first (synchronously), then entries into the log and to the disk, then
 * messages, and only then what may step again (state, commits).
 *
 * Any failure of the disk is final: driver_fail, and nothing is sent or applied from then on.
 */
#include "raft/driver.h"

#include "log.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BARRIER_BYTES 8 /* The least that the backend's format allows */

void driver_fail(struct driver *driver, const char *format, ...)
{
    char reason[512];
    va_list arguments;

    if (driver->failed)
        return;
    driver->failed = true;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    driver_reads_fail(driver, RAFT_IOERR);
    driver->callbacks->failed(driver->context, reason);
}

int driver_configuration_copy(const struct raft_configuration *from, struct raft_configuration *to)
{
    raft_configuration_init(to);
    for (unsigned i = 0; i < from->n; i++) {
        const struct raft_server *server = &from->servers[i];
        int rv = raft_configuration_add(to, server->id, server->address, server->role);
        if (rv != 0) {
            raft_configuration_close(to);
            return rv;
        }
    }
    return 0;
}

struct driver_peer *driver_peer(struct driver *driver, raft_id id)
{
    for (size_t i = 0; i < driver->n_peers; i++)
        if (driver->peers[i].id == id)
            return &driver->peers[i];
    if (driver->n_peers == DRIVER_PEERS_MAX) {
        /* A server that left makes room once nothing is under way to it. */
        for (size_t i = 0; i < driver->n_peers; i++) {
            if (driver_server_find(driver, driver->peers[i].id) == NULL &&
                driver->peers[i].queued == 0) {
                driver->peers[i] = (struct driver_peer){.id = id};
                return &driver->peers[i];
            }
        }
        return NULL;
    }
    driver->peers[driver->n_peers] = (struct driver_peer){.id = id};
    return &driver->peers[driver->n_peers++];
}

static const struct driver_peer *peer_find(const struct driver *driver, raft_id id)
{
    for (size_t i = 0; i < driver->n_peers; i++)
        if (driver->peers[i].id == id)
            return &driver->peers[i];
    return NULL;
}

bool driver_peer_answers(const struct driver *driver, raft_id id)
{
    const struct driver_peer *peer = peer_find(driver, id);

    return id == driver->raft.id || (peer != NULL && peer->heard_ms != 0 &&
                                     driver->callbacks->now_ms(driver->context) - peer->heard_ms <
                                         driver->raft.election_timeout);
}

bool driver_newly_elected(const struct driver *driver)
{
    return driver_is_leader(driver) &&
           driver->callbacks->now_ms(driver->context) - driver->elected_ms <
               driver->raft.election_timeout;
}

bool driver_is_leader(const struct driver *driver)
{
    return driver->raft.state == RAFT_LEADER && !driver->closing && !driver->failed;
}

/* ---- Entries to the disk ---- */

struct append_request {
    struct raft_io_append request;
    struct driver *driver;
    raft_index index;
    unsigned n;
    uint64_t serial; /* Of the first entry */
    struct log_batch *batch;
    struct raft_entry entries[];
};

/* The longest prefix of the request that is still in the log: later truncations voided the rest. */
static unsigned still_logged(const struct append_request *append)
{
    const struct log_cache *log = &append->driver->log;
    unsigned n = append->n;

    while (n > 0 && (!log_cache_has(log, append->index + n - 1) ||
                     log_cache_at(log, append->index + n - 1)->serial != append->serial + n - 1))
        n--;
    return n;
}

static void append_done(struct raft_io_append *request, int status)
{
    struct append_request *append = request->data;
    struct driver *driver = append->driver;

    if (status != 0 && !driver->closing)
        driver_fail(driver, "writing the log failed: %s (%s)", raft_strerror(status),
                    driver->io->errmsg);
    if (status == 0) {
        unsigned n = still_logged(append);
        if (n > 0 && append->index + n - 1 > driver->persisted)
            driver->persisted = append->index + n - 1;
    }
    log_batch_release(append->batch);
    free(append);
}

static int truncate_log(struct driver *driver, raft_index from)
{
    log_cache_truncate(&driver->log, from);
    if (driver->persisted >= from)
        driver->persisted = from - 1;
    return driver->io->truncate(driver->io, from);
}

/* When a change of the configuration is truncated away, the core goes back to the newest one that
 * was reported to it as committed. But one between the two may be in the log, committed already and
 * just not yet applied here: that is in force, and the core would ignore its report. */
static int adopt_logged_configuration(struct driver *driver)
{
    struct raft *raft = &driver->raft;
    struct raft_configuration configuration;
    raft_index index = driver->log.last;
    int rv;

    if (raft->configuration_uncommitted_index != 0)
        return 0; /* Not truncated, or replaced by a newer one */
    while (index > raft->configuration_committed_index && log_cache_has(&driver->log, index) &&
           log_cache_at(&driver->log, index)->type != RAFT_CHANGE)
        index--;
    if (index <= raft->configuration_committed_index || !log_cache_has(&driver->log, index))
        return 0;
    rv = raft_configuration_decode(&log_cache_at(&driver->log, index)->payload, &configuration);
    if (rv != 0)
        return rv;
    raft_configuration_close(&raft->configuration);
    raft->configuration = configuration;
    raft->configuration_uncommitted_index = index;
    return 0;
}

static void store_entries(struct driver *driver, raft_index index, struct raft_entry *entries,
                          unsigned n)
{
    struct append_request *append = calloc(1, sizeof *append + n * sizeof *entries);
    int rv = RAFT_NOMEM;

    if (append == NULL || (append->batch = log_batch_new(entries[0].batch)) == NULL)
        goto fail;
    if (index <= driver->log.last &&
        ((rv = truncate_log(driver, index)) != 0 || (rv = adopt_logged_configuration(driver)) != 0))
        goto fail;
    assert(index == driver->log.last + 1);
    if ((rv = log_cache_reserve(&driver->log, n)) != 0)
        goto fail;
    append->request.data = append;
    append->driver = driver;
    append->index = index;
    append->n = n;
    append->serial = driver->log.serial + 1;
    memcpy(append->entries, entries, n * sizeof *entries);
    for (unsigned i = 0; i < n; i++) {
        assert(entries[i].batch == entries[0].batch);
        log_cache_push(&driver->log, &entries[i], append->batch);
        /* The core records the first new entry of the message instead of this one; a change would
         * then never commit here. */
        if (entries[i].type == RAFT_CHANGE)
            driver->raft.configuration_uncommitted_index = index + i;
    }
    rv = driver->io->append(driver->io, &append->request, append->entries, n, append_done);
    if (rv == 0)
        return;
    log_batch_release(append->batch);
    free(append);
    driver_fail(driver, "writing the log failed: %s", driver->io->errmsg);
    return;
fail:
    if (append != NULL && append->batch != NULL)
        log_batch_release(append->batch);
    else
        raft_free(entries[0].batch);
    free(append);
    driver_fail(driver, "appending to the log failed: %s", raft_strerror(rv));
}

/* ---- The step ---- */

/* The backend's set_term forgets the vote, and the core raises both flags on each vote: store
 * only what changed, the term first. */
static void store_term_and_vote(struct driver *driver)
{
    struct raft *raft = &driver->raft;

    if (raft->current_term != driver->disk_term) {
        if (driver->io->set_term(driver->io, raft->current_term) != 0) {
            driver_fail(driver, "storing the term failed: %s", driver->io->errmsg);
            return;
        }
        driver->disk_term = raft->current_term;
        driver->disk_vote = 0;
    }
    if (raft->voted_for != driver->disk_vote) {
        if (driver->io->set_vote(driver->io, raft->voted_for) != 0) {
            driver_fail(driver, "storing the vote failed: %s", driver->io->errmsg);
            return;
        }
        driver->disk_vote = raft->voted_for;
    }
}

/* The core adds a barrier only if it has uncommitted entries. But without an entry of its own term
 * a leader must not change the configuration: a change that an older leader began and nobody here
 * knows of could then be committed beside ours, by disjoint majorities. So there is always one. */
static void begin_term(struct driver *driver)
{
    raft_index last = driver->log.last;

    driver->barrier_due = !log_cache_has(&driver->log, last) ||
                          log_cache_at(&driver->log, last)->term != driver->raft.current_term;
    driver->election_index = raft_last_index(&driver->raft) + (driver->barrier_due ? 1 : 0);
    driver->elections++;
    driver->elected_ms = driver->callbacks->now_ms(driver->context);
    if (driver->applied > raft_last_index(&driver->raft))
        driver_fail(driver,
                    "the state is at index %llu, but the log ends at %llu: one of the two "
                    "was replaced",
                    driver->applied, raft_last_index(&driver->raft));
}

static void role_changed(struct driver *driver)
{
    driver->barrier_due = false;
    if (driver->raft.state == RAFT_LEADER) {
        begin_term(driver);
        if (driver->failed)
            return;
        for (size_t i = 0; i < driver->n_peers; i++) {
            driver->peers[i].nonce_acked = 0;
            driver->peers[i].offered_ms = 0;
            driver->peers[i].too_far_behind = false;
            driver->peers[i].snapshot_due = false;
        }
    } else {
        driver->promoting = 0;
        driver->successor = 0;
        driver_reads_fail(driver, RAFT_LEADERSHIPLOST);
    }
    driver->callbacks->state_changed(driver->context);
}

/* A timeout makes the leader's core send heartbeats to those servers for whom they are due, and to
 * those that were not heard from since the last timeout, entries go only with heartbeats from then
 * on. So a timeout comes when a heartbeat is due for all, if need be a little later: then all are
 * heard from before the next. A server that is sent nothing is due for ever. */
static uint64_t next_timeout(const struct driver *driver)
{
    uint64_t at = raft_timeout(&driver->raft), earliest, all_due;

    if (driver->raft.state != RAFT_LEADER)
        return at;
    earliest = driver->last_timeout_ms + driver->raft.heartbeat_timeout;
    at = at < earliest ? earliest : at;
    all_due = driver->last_append_ms + driver->raft.heartbeat_timeout;
    if (at < all_due && all_due <= at + driver->raft.heartbeat_timeout)
        at = all_due;
    return at;
}

static void arm_timer(struct driver *driver)
{
    uint64_t now = driver->callbacks->now_ms(driver->context);
    uint64_t at = next_timeout(driver);

    at = at <= now ? now + 1 : at;
    if (driver->timer_ms > now && driver->timer_ms <= at)
        return; /* It fires earlier and arms itself again */
    driver->timer_ms = at;
    driver->callbacks->set_timer(driver->context, at);
}

int driver_step(struct driver *driver, struct raft_event *event)
{
    struct raft *raft = &driver->raft;
    struct raft_update update;
    raft_term term = raft->current_term;
    int rv;

    assert(!driver->closing && !driver->failed);
    event->time = driver->callbacks->now_ms(driver->context);
    event->capacity = 0;
    rv = raft_step(raft, event, &update);
    if (rv != 0)
        return rv;
    if ((update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) != 0)
        store_term_and_vote(driver);
    if ((update.flags & (RAFT_UPDATE_ENTRIES)) != 0 && !driver->failed)
        store_entries(driver, update.entries.index, update.entries.batch, update.entries.n);
    /* The array is the core's and lives until the next step. */
    if ((update.flags & (RAFT_UPDATE_MESSAGES)) != 0)
        for (unsigned i = 0; i < update.messages.n && !driver->failed; i++)
            driver_send(driver, &update.messages.batch[i]);
    if (driver->failed)
        return 0;
    if ((update.flags & (RAFT_UPDATE_STATE)) != 0)
        role_changed(driver);
    else if (raft->current_term != term)
        driver->callbacks->state_changed(driver->context);
    if ((update.flags & (RAFT_UPDATE_COMMIT_INDEX)) != 0)
        driver_commit(driver);
    if (driver->failed)
        return 0;
    driver_promotion_check(driver);
    if (!driver->failed)
        driver_transfer_check(driver);
    if (!driver->failed)
        arm_timer(driver);
    return 0;
}

int driver_mark_log(struct driver *driver)
{
    int rv = 0;

    /* The core knows nothing of it; what it sets next is not less. */
    if (driver->disk_term == 0 && !driver->closing && !driver->failed)
        rv = driver->io->set_term(driver->io, 1);
    if (rv != 0)
        driver_fail(driver, "writing the term failed: %s", driver->io->errmsg);
    return rv;
}

void driver_timeout(struct driver *driver)
{
    struct raft_event event = {.type = RAFT_TIMEOUT};
    uint64_t now = driver->callbacks->now_ms(driver->context);

    driver->timer_ms = 0;
    if (driver->closing || driver->failed)
        return;
    if (driver->raft.state == RAFT_FOLLOWER && !driver->callbacks->may_stand(driver->context))
        driver->raft.election_timer_start = now;
    if (now >= next_timeout(driver)) {
        int rv;
        driver->last_timeout_ms = now;
        rv = driver_step(driver, &event);
        if (rv != 0)
            driver_fail(driver, "raft refused a timeout: %s", raft_strerror(rv));
    }
    if (driver->failed)
        return;
    driver_reads_retry(driver);
    arm_timer(driver);
}

static void submit_barrier(struct driver *driver)
{
    struct raft_buffer payload = {.len = BARRIER_BYTES, .base = raft_calloc(1, BARRIER_BYTES)};

    if (payload.base == NULL)
        return; /* Still due */
    driver->barrier_due = false;
    if (driver_submit(driver, RAFT_BARRIER, payload, NULL) != 0) {
        raft_free(payload.base);
        driver->barrier_due = driver_is_leader(driver);
    }
}

void driver_flush(struct driver *driver)
{
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};
    int rv;

    if (driver->barrier_due && driver_is_leader(driver))
        submit_barrier(driver);
    if (driver->closing || driver->failed || driver->persisted <= driver->raft.last_stored)
        return;
    event.persisted_entries.index = driver->persisted;
    rv = driver_step(driver, &event);
    if (rv != 0)
        driver_fail(driver, "raft refused stored entries: %s", raft_strerror(rv));
}

int driver_submit(struct driver *driver, enum raft_entry_type type, struct raft_buffer payload,
                  raft_index *ret_index)
{
    struct raft_entry entry = {
        .term = driver->raft.current_term, .type = type, .buf = payload, .batch = payload.base};
    struct raft_event event = {.type = RAFT_SUBMIT};
    raft_index index = raft_last_index(&driver->raft) + 1;
    int rv;

    if (!driver_is_leader(driver) || driver_transferring(driver))
        return RAFT_NOTLEADER;
    event.submit.entries = &entry;
    event.submit.n = 1;
    if (ret_index != NULL)
        *ret_index = index; /* Before the step: it may commit, and apply, at once */
    rv = driver_step(driver, &event);
    return rv;
}
