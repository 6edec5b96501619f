/* Snapshots in Raft's sense: a manifest of a few bytes that lets the log be truncated. The state
 * itself is durable in the tiers before a manifest names its index. */
#include "raft/driver.h"

#include "log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct snapshot_request {
    struct raft_io_snapshot_put put;
    struct driver *driver;
    struct raft_snapshot snapshot;
    struct raft_buffer manifest;
    unsigned trailing;
    raft_index wanted;
};

static void snapshot_free(struct snapshot_request *request)
{
    raft_free(request->manifest.base);
    free(request);
}

raft_index driver_log_first(const struct driver *driver)
{
    return driver->spill.fd >= 0 ? driver->spill.first : driver->log.first;
}

/* The log is about to begin behind `upto`: what is wanted from there on goes to the spill. */
static void spill(struct driver *driver, raft_index upto, raft_index wanted)
{
    raft_index from = driver->spill.fd >= 0 ? driver->spill.last + 1 : driver->log.first;
    int error;

    if (wanted > upto || driver->spill.bytes_max == 0) {
        log_spill_drop(&driver->spill);
        return;
    }
    log_spill_trim(&driver->spill, wanted);
    if (driver->spill.fd < 0 && from < wanted)
        from = wanted;
    error = log_spill_take(&driver->spill, &driver->log, from, upto);
    if (error != 0)
        log_warning("the log cannot be kept for nodes that lack it",
                    LOG_TEXT("cause", strerror(error)));
}

/* The disk has forgotten all but `trailing` entries before the index: so does the cache. The core
 * forgets what nobody can be sent any more, which tells it when a peer needs the state. */
static unsigned forget(struct driver *driver, raft_index index, unsigned trailing,
                       raft_index wanted)
{
    raft_index upto = index > trailing ? index - trailing : 0;
    raft_index first;

    if (upto < driver->log.first)
        return trailing;
    spill(driver, upto, wanted);
    log_cache_trim(&driver->log, upto);
    first = driver_log_first(driver);
    return index - first < UINT32_MAX ? (unsigned)(index + 1 - first) : UINT32_MAX;
}

static void snapshot_done(struct raft_io_snapshot_put *put, int status)
{
    struct snapshot_request *request = put->data;
    struct driver *driver = request->driver;
    struct raft_event event = {.type = RAFT_SNAPSHOT};
    int rv;

    driver->snapshotting = false;
    if (status != 0 || driver->closing || driver->failed) {
        if (status != 0 && !driver->closing)
            log_warning("raft snapshot failed", LOG_TEXT("cause", raft_strerror(status)));
        raft_configuration_close(&request->snapshot.configuration);
        snapshot_free(request);
        return;
    }
    driver->snapshot_index = request->snapshot.index;
    driver->snapshot_term = request->snapshot.term;
    event.snapshot.metadata = (struct raft_snapshot_metadata){
        .index = request->snapshot.index,
        .term = request->snapshot.term,
        .configuration = request->snapshot.configuration, /* The core's from now on */
        .configuration_index = request->snapshot.configuration_index};
    event.snapshot.trailing =
        forget(driver, request->snapshot.index, request->trailing, request->wanted);
    snapshot_free(request);
    rv = driver_step(driver, &event);
    if (rv != 0)
        driver_fail(driver, "raft refused a snapshot: %s", raft_strerror(rv));
}

int driver_snapshot(struct driver *driver, raft_index index, unsigned trailing, raft_index wanted,
                    const void *manifest, size_t manifest_bytes)
{
    struct snapshot_request *request;
    int rv = RAFT_NOMEM;

    assert(trailing >= 1); /* 0 would make the backend wipe the log */
    if (driver->snapshotting || driver->closing || driver->failed ||
        index <= driver->snapshot_index || index > driver->committed_seen ||
        index > driver->raft.last_stored || index < driver->configuration_index ||
        !log_cache_has(&driver->log, index))
        return RAFT_BUSY;
    request = calloc(1, sizeof *request);
    if (request == NULL)
        return RAFT_NOMEM;
    request->manifest.base = raft_malloc(manifest_bytes);
    if (request->manifest.base == NULL)
        goto fail;
    memcpy(request->manifest.base, manifest, manifest_bytes);
    request->manifest.len = manifest_bytes;
    request->driver = driver;
    request->put.data = request;
    request->trailing = trailing;
    request->wanted = wanted;
    request->snapshot.index = index;
    request->snapshot.term = log_cache_at(&driver->log, index)->term;
    request->snapshot.configuration_index = driver->configuration_index;
    request->snapshot.bufs = &request->manifest;
    request->snapshot.n_bufs = 1;
    rv = driver_configuration_copy(&driver->configuration, &request->snapshot.configuration);
    if (rv != 0)
        goto fail;
    rv = driver->io->snapshot_put(driver->io, trailing, &request->put, &request->snapshot,
                                  snapshot_done);
    if (rv != 0) {
        raft_configuration_close(&request->snapshot.configuration);
        goto fail;
    }
    driver->snapshotting = true;
    return 0;
fail:
    snapshot_free(request);
    return rv;
}
