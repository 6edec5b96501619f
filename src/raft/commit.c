/* Committed entries: configurations go back to the core, everything goes to the application.
 *
 * Two cursors, because the state may be ahead of the log after a restart: entries that it already
 * contains are not applied again, but their configurations are reported all the same. */
#include "raft/driver.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Work a call: heartbeats must not wait for a long backlog. */
#define ENTRIES_PER_CALL 64
#define BYTES_PER_CALL   (4u << 20)

/* Tells the core that the configuration of entry `index` is committed. */
static void report_configuration(struct driver *driver, raft_index index,
                                 const struct raft_buffer *payload)
{
    struct raft *raft = &driver->raft;
    struct raft_event event = {.type = RAFT_CONFIGURATION};
    struct raft_configuration configuration, copy;
    int rv = raft_configuration_decode(payload, &configuration);

    if (rv != 0)
        goto fail;
    rv = driver_configuration_copy(&configuration, &copy);
    if (rv != 0) {
        raft_configuration_close(&configuration);
        goto fail;
    }
    raft_configuration_close(&driver->configuration);
    driver->configuration = configuration;
    driver->configuration_index = index;
    if (raft->configuration_uncommitted_index > index &&
        raft->configuration_committed_index < index) {
        /* A newer change is pending: the core would ignore this one, and a rollback of the newer
         * one would go back too far. */
        raft_configuration_close(&raft->configuration_committed);
        raft->configuration_committed = copy;
        raft->configuration_committed_index = index;
        return;
    }
    event.configuration.index = index;
    event.configuration.conf = copy; /* Taken in every case */
    rv = driver_step(driver, &event);
    if (rv == 0)
        return;
fail:
    driver_fail(driver, "the configuration of entry %llu was refused: %s", index,
                raft_strerror(rv));
}

static size_t apply_bytes(const struct driver *driver, const struct log_slot *slot)
{
    if (slot->type != RAFT_COMMAND || driver->callbacks->apply_bytes == NULL)
        return slot->payload.len;
    return driver->callbacks->apply_bytes(driver->context, &slot->payload);
}

/* False: not now. Otherwise the size of what was applied is added. */
static bool commit_one(struct driver *driver, size_t *bytes)
{
    raft_index index = driver->committed_seen + 1;
    struct log_slot slot;

    if (index > driver->applied && !driver->callbacks->apply_ready(driver->context))
        return false;
    slot = *log_cache_at(&driver->log, index); /* A nested step may move the slots */
    driver->committed_seen = index;
    *bytes += apply_bytes(driver, &slot);
    slot.batch->references++;
    if (slot.type == RAFT_CHANGE)
        report_configuration(driver, index, &slot.payload);
    if (index > driver->applied && !driver->failed) {
        int rv =
            driver->callbacks->apply(driver->context, index, slot.term, slot.type, &slot.payload);
        driver->applied = index;
        if (rv != 0)
            driver_fail(driver, "entry %llu cannot be applied", index);
    }
    log_batch_release(slot.batch);
    return true;
}

bool driver_resume(struct driver *driver)
{
    bool progress = true;
    size_t bytes = 0;

    if (driver->committing || driver->closing || driver->failed)
        return false;
    driver->committing = true;
    for (unsigned i = 0;
         i < ENTRIES_PER_CALL && bytes < BYTES_PER_CALL && progress && !driver->failed &&
         !driver->closing && driver->committed_seen < raft_commit_index(&driver->raft);
         i++)
        progress = commit_one(driver, &bytes);
    driver->committing = false;
    if (driver->closing || driver->failed)
        return false;
    driver_reads_serve(driver);
    return progress && driver->committed_seen < raft_commit_index(&driver->raft);
}

void driver_commit(struct driver *driver)
{
    driver_resume(driver);
}
