/* Start and stop of the driver: loads the log, checks that it belongs to the state, starts the
 * core. */
#include "raft/driver.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INFLIGHT_ENTRIES_MAX  65536
#define CATCH_UP_ROUND_MS_MAX 30000

int driver_init(struct driver *driver, struct raft_io *io, const struct driver_options *options,
                const struct driver_callbacks *callbacks, void *context)
{
    struct raft *raft = &driver->raft;
    int rv;

    memset(driver, 0, sizeof *driver);
    driver->io = io;
    driver->callbacks = callbacks;
    driver->context = context;
    driver->applied = options->applied;
    driver->reads_end = &driver->reads;
    log_cache_open(&driver->log, 1);
    log_spill_open(&driver->spill, options->spill_directory, options->spill_bytes_max,
                   options->spill_free_bytes_min);
    raft_configuration_init(&driver->configuration);
    rv = raft_init(raft, NULL, NULL, options->id, options->address);
    if (rv != 0)
        return rv;
    raft->tracer = NULL; /* Else each message is formatted although nobody listens */
    raft_seed(raft, options->seed);
    raft_set_pre_vote(raft, true);
    raft_set_election_timeout(raft, options->election_timeout_ms);
    raft_set_heartbeat_timeout(raft, options->heartbeat_ms);
    raft_set_max_inflight_entries(raft, INFLIGHT_ENTRIES_MAX);
    raft_set_max_catch_up_round_duration(raft, CATCH_UP_ROUND_MS_MAX);
    raft_set_install_snapshot_timeout(raft, DRIVER_SNAPSHOT_OFFER_MS);
    return 0;
}

static int cache_loaded(struct driver *driver, raft_index start, struct raft_entry *entries,
                        size_t n)
{
    struct log_batch *batch = NULL;
    int rv = 0;

    log_cache_open(&driver->log, start);
    rv = log_cache_reserve(&driver->log, n);
    for (size_t i = 0; i < n && rv == 0; i++) {
        if (batch == NULL || batch->base != entries[i].batch) {
            if (batch != NULL)
                log_batch_release(batch);
            batch = log_batch_new(entries[i].batch);
            if (batch == NULL)
                return RAFT_NOMEM;
        }
        log_cache_push(&driver->log, &entries[i], batch);
    }
    if (batch != NULL)
        log_batch_release(batch);
    return rv;
}

static void snapshot_release(struct raft_snapshot *snapshot)
{
    for (unsigned i = 0; i < snapshot->n_bufs; i++)
        raft_free(snapshot->bufs[i].base);
    raft_free(snapshot->bufs);
    raft_free(snapshot);
}

/* What is on disk must belong together: the entries that the snapshot stands for have to be in the
 * state, and a state must not meet a log that knows nothing of it. */
static int check_loaded(const struct driver *driver, const struct raft_snapshot *snapshot,
                        char *error_text, size_t error_text_size)
{
    if (snapshot == NULL && driver->disk_term == 0 && driver->applied > 0) {
        snprintf(error_text, error_text_size,
                 "the state is at index %llu, but there is no log: it was removed or replaced",
                 driver->applied);
        return -1;
    }
    if (snapshot == NULL)
        return 0;
    if (driver->applied < snapshot->index) {
        snprintf(error_text, error_text_size,
                 "the log begins after index %llu, but the state is at %llu only: it was removed "
                 "or replaced",
                 snapshot->index, driver->applied);
        return -1;
    }
    if (snapshot->n_bufs != 1) {
        snprintf(error_text, error_text_size, "the snapshot of the log is damaged");
        return -1;
    }
    return driver->callbacks->manifest_fits(driver->context, snapshot->bufs[0].base,
                                            snapshot->bufs[0].len, snapshot->index, error_text,
                                            error_text_size)
               ? 0
               : -1;
}

/* The core takes the snapshot's configuration with the metadata; the rest is freed. */
static int take_snapshot_metadata(struct driver *driver, struct raft_snapshot *snapshot,
                                  struct raft_snapshot_metadata *ret_metadata)
{
    int rv = driver_configuration_copy(&snapshot->configuration, &driver->configuration);

    if (rv != 0) {
        raft_configuration_close(&snapshot->configuration);
        snapshot_release(snapshot);
        return rv;
    }
    *ret_metadata =
        (struct raft_snapshot_metadata){.index = snapshot->index,
                                        .term = snapshot->term,
                                        .configuration = snapshot->configuration,
                                        .configuration_index = snapshot->configuration_index};
    driver->configuration_index = snapshot->configuration_index;
    driver->snapshot_index = driver->committed_seen = snapshot->index;
    driver->snapshot_term = snapshot->term;
    snapshot_release(snapshot);
    return 0;
}

static bool is_sole_voter(const struct raft_configuration *configuration, raft_id id)
{
    bool self = false;

    for (unsigned i = 0; i < configuration->n; i++) {
        if (configuration->servers[i].role != RAFT_VOTER)
            continue;
        if (configuration->servers[i].id != id)
            return false;
        self = true;
    }
    return self;
}

/* The newest one that is stored: of an entry, or of the snapshot; *ret_change is then NULL. Without
 * servers if there is none. */
static int newest_configuration(const struct raft_snapshot *snapshot, struct raft_entry *entries,
                                size_t n, struct raft_configuration *ret_configuration,
                                struct raft_entry **ret_change)
{
    size_t i = n;

    while (i > 0 && entries[i - 1].type != RAFT_CHANGE)
        i--;
    *ret_change = i > 0 ? &entries[i - 1] : NULL;
    if (i > 0)
        return raft_configuration_decode(&entries[i - 1].buf, ret_configuration);
    raft_configuration_init(ret_configuration);
    return snapshot != NULL ? driver_configuration_copy(&snapshot->configuration, ret_configuration)
                            : 0;
}

static void make_spare(struct raft_configuration *configuration, raft_id id)
{
    for (unsigned i = 0; i < configuration->n; i++)
        if (configuration->servers[i].id == id)
            configuration->servers[i].role = RAFT_SPARE;
}

/* A sole voter is made leader by the core at once, in the term that is on disk. But in that term it
 * may have sent entries to a server that is just joining, and lost them itself in a crash: new ones
 * under the same index and term would be taken for them. So it begins a new term.
 *
 * One that may not stand for election is shown to the core as a spare: in *ret_shown, which takes
 * the place of the payload of *ret_change, or, if that is NULL, of the snapshot's configuration. */
static int sole_voter_begin(struct driver *driver, const struct raft_snapshot *snapshot,
                            struct raft_entry *entries, size_t n, struct raft_buffer *ret_shown,
                            struct raft_entry **ret_change)
{
    struct raft_configuration configuration;
    int rv = newest_configuration(snapshot, entries, n, &configuration, ret_change);
    bool sole;

    if (rv != 0)
        return rv;
    sole = is_sole_voter(&configuration, driver->raft.id);
    if (sole && !driver->callbacks->may_stand(driver->context)) {
        make_spare(&configuration, driver->raft.id);
        rv = raft_configuration_encode(&configuration, ret_shown);
        sole = false;
    }
    raft_configuration_close(&configuration);
    if (!sole)
        return rv;
    rv = driver->io->set_term(driver->io, driver->disk_term + 1);
    if (rv != 0)
        return rv;
    driver->disk_term++;
    rv = driver->io->set_vote(driver->io, driver->raft.id);
    driver->disk_vote = driver->raft.id;
    return rv;
}

int driver_start(struct driver *driver, char *error_text, size_t error_text_size)
{
    struct raft_snapshot *snapshot = NULL;
    struct raft_snapshot_metadata metadata;
    struct raft_entry *entries = NULL, *change = NULL;
    struct raft_buffer shown = {0};
    struct raft_event event = {.type = RAFT_START};
    raft_index start;
    size_t n;
    int rv = driver->io->load(driver->io, &driver->disk_term, &driver->disk_vote, &snapshot, &start,
                              &entries, &n);

    if (rv != 0) {
        snprintf(error_text, error_text_size, "%s (%s)", raft_strerror(rv), driver->io->errmsg);
        return -1;
    }
    rv = cache_loaded(driver, start, entries, n);
    if (rv == 0 && check_loaded(driver, snapshot, error_text, error_text_size) != 0) {
        if (snapshot != NULL) {
            raft_configuration_close(&snapshot->configuration);
            snapshot_release(snapshot);
        }
        raft_free(entries);
        return -1;
    }
    if (rv == 0)
        rv = sole_voter_begin(driver, snapshot, entries, n, &shown, &change);
    if (rv != 0 && snapshot != NULL) {
        raft_configuration_close(&snapshot->configuration);
        snapshot_release(snapshot);
        snapshot = NULL;
    }
    if (rv == 0 && snapshot != NULL) {
        rv = take_snapshot_metadata(driver, snapshot, &metadata);
        event.start.metadata = &metadata;
        if (rv == 0 && shown.base != NULL && change == NULL)
            make_spare(&metadata.configuration, driver->raft.id);
    }
    if (shown.base != NULL && change != NULL)
        change->buf = shown;
    if (rv == 0) {
        event.start.term = driver->disk_term;
        event.start.voted_for = driver->disk_vote;
        event.start.start_index = start;
        event.start.entries = entries;
        event.start.n_entries = (unsigned)n;
        rv = driver_step(driver, &event);
    }
    raft_free(shown.base);
    raft_free(entries); /* The array; the batches are the log's */
    if (rv != 0)
        snprintf(error_text, error_text_size, "%s", raft_strerror(rv));
    return rv == 0 ? 0 : -1;
}

void driver_stop(struct driver *driver)
{
    if (driver->closing)
        return;
    driver->closing = true;
    driver_reads_fail(driver, RAFT_SHUTDOWN);
}

void driver_close(struct driver *driver)
{
    assert(driver->reads == NULL);
    log_cache_close(&driver->log);
    log_spill_drop(&driver->spill);
    free(driver->message_entries);
    raft_configuration_close(&driver->configuration);
    raft_close(&driver->raft, NULL);
}
