/* Keeps the log short. What the tiers hold durably needs no log: a manifest snapshot at or below
 * that index lets the core and the backend forget the entries before it. About half of
 * log_cache_bytes stays, for followers that are a little behind; and on disk what a follower that
 * was away lacks, or a node that was given the state. */
#include "raft/replica_private.h"

#include "raft/segments.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#define CONTENTS_MAGIC   0x4d564b54u /* "TKVM" */
#define CONTENTS_VERSION 1

/* What a snapshot says: the state at this index lies in the tiers. Little-endian. */
struct contents {
    uint32_t magic;
    uint32_t version;
    uint64_t cluster_id;
    uint64_t index;
};
_Static_assert(sizeof(struct contents) == TRUNCATE_CONTENTS_BYTES, "as declared");

void truncate_contents(uint64_t cluster_id, raft_index index,
                       unsigned char ret_bytes[TRUNCATE_CONTENTS_BYTES])
{
    struct contents contents = {.magic = htole32(CONTENTS_MAGIC),
                                .version = htole32(CONTENTS_VERSION),
                                .cluster_id = htole64(cluster_id),
                                .index = htole64(index)};

    memcpy(ret_bytes, &contents, sizeof contents);
}

bool truncate_manifest_check(const void *bytes, size_t n, raft_index index,
                             const struct command_state *state, char *error_text,
                             size_t error_text_size)
{
    struct contents manifest;

    if (n < sizeof manifest)
        goto damaged;
    memcpy(&manifest, bytes, sizeof manifest);
    if (le32toh(manifest.magic) != CONTENTS_MAGIC)
        goto damaged;
    if (le32toh(manifest.version) != CONTENTS_VERSION) {
        snprintf(error_text, error_text_size,
                 "the log's snapshot has version %u, which is not known",
                 le32toh(manifest.version));
        return false;
    }
    if (le64toh(manifest.index) != index)
        goto damaged;
    if (le64toh(manifest.cluster_id) != command_cluster_id(state) &&
        le64toh(manifest.cluster_id) != command_cluster_id_before(state)) {
        snprintf(error_text, error_text_size, "the log and the state belong to different clusters");
        return false;
    }
    return true;
damaged:
    snprintf(error_text, error_text_size, "the log's snapshot is damaged");
    return false;
}

static size_t entry_bytes(const struct log_cache *log, raft_index index)
{
    return log_cache_at(log, index)->payload.len + sizeof(struct log_slot);
}

size_t truncate_log_bytes(const struct replica *replica)
{
    const struct log_cache *log = &replica->driver.log;

    return log_cache_has(log, log->first) ? log->bytes - entry_bytes(log, log->first) : 0;
}

/* Entries up to `index` that fit into the bytes to keep; at least 1. One that does not fit by
 * itself must not stay for the sake of those behind it: it would fill the log. */
static unsigned trailing_entries(const struct log_cache *log, raft_index index, size_t keep_bytes)
{
    size_t bytes = entry_bytes(log, index);
    unsigned n = 1;

    while (--index >= log->first && n < UINT32_MAX) {
        bytes += entry_bytes(log, index);
        if (bytes > keep_bytes)
            break;
        n++;
    }
    return n;
}

/* The first index at which there is so much to free that it is worth it: each truncation ends a
 * segment of the log, whatever it frees. Found once for each beginning of the log. */
static raft_index index_worth_it(struct replica *replica)
{
    const struct log_cache *log = &replica->driver.log;
    size_t bytes = 0;

    if (replica->log_first_seen == log->first && replica->truncation_worth_it <= log->last)
        return replica->truncation_worth_it;
    replica->log_first_seen = log->first;
    replica->truncation_worth_it = log->first;
    while (replica->truncation_worth_it <= log->last) {
        bytes += entry_bytes(log, replica->truncation_worth_it);
        if (bytes >= replica->options.log_cache_bytes / 4 * 3) /* Of which half stays */
            break;
        replica->truncation_worth_it++;
    }
    return replica->truncation_worth_it;
}

/* Of the members that the log can continue, what the one that is furthest behind continues from. */
static raft_index wanted_by_members(const struct replica *replica)
{
    const struct driver *driver = &replica->driver;
    const struct raft_configuration *configuration = &driver->raft.configuration;
    raft_index least = UINT64_MAX, match;

    for (unsigned i = 0; i < configuration->n; i++)
        if (configuration->servers[i].id != driver->raft.id &&
            raft_match_index(&driver->raft, configuration->servers[i].id, &match) == 0 &&
            match >= driver_log_first(driver) && match < least)
            least = match;
    return least;
}

/* From which entry on others will want the log although this node does not. UINT64_MAX: none. */
static raft_index wanted_by_others(struct replica *replica)
{
    raft_index transfers = transfer_serve_hold(replica), members = UINT64_MAX;

    if (driver_is_leader(&replica->driver) &&
        log_spill_bytes(&replica->driver.spill) < replica->options.log_retained_bytes)
        members = wanted_by_members(replica);
    return members < transfers ? members : transfers;
}

/* Writes wait when the log is longer still (propose.c), and what they overwrite makes it longer
 * without making more dirty: the tiers must not wait for their interval. Once for each of their
 * flushes. */
static void flush_ask(struct replica *replica)
{
    raft_index durable = atomic_load(&replica->durable_index);

    if (truncate_log_bytes(replica) < replica->options.log_cache_bytes / 2 * 3 ||
        durable >= replica->driver.committed_seen || replica->flush_asked == durable + 1)
        return;
    replica->flush_asked = durable + 1;
    tiers_flush_soon(replica->tiers);
}

void truncate_log_if_long(struct replica *replica)
{
    struct driver *driver = &replica->driver;
    raft_index index = atomic_load(&replica->durable_index);
    unsigned char contents[TRUNCATE_CONTENTS_BYTES];
    raft_index wanted = wanted_by_others(replica);
    unsigned trailing;

    if (wanted == UINT64_MAX)
        log_spill_drop(&driver->spill);
    if (driver->log.bytes < replica->options.log_cache_bytes || driver->failed || driver->closing)
        return;
    flush_ask(replica);
    /* The state that is being received may be older than what is durable here by the time it is
     * complete, and needs the log from there on. */
    if (replica->fetch != NULL || replica->state_received)
        return;
    if (index > driver->committed_seen)
        index = driver->committed_seen;
    if (index > driver->raft.last_stored)
        index = driver->raft.last_stored;
    if (!log_cache_has(&driver->log, index) || index < index_worth_it(replica))
        return;
    trailing = trailing_entries(&driver->log, index, replica->options.log_cache_bytes / 2);
    if (index - driver->log.first < trailing)
        return; /* It would free nothing */
    truncate_contents(command_cluster_id(replica->state), index, contents);
    driver_snapshot(driver, index, trailing, wanted, contents, sizeof contents);
}

int truncate_backend(struct raft_io *io, raft_index index)
{
    struct replica *replica = (struct replica *)((char *)io - offsetof(struct replica, io));

    if (segments_note_truncation(replica->options.directory, index) != 0)
        return RAFT_IOERR;
    return replica->backend_truncate(io, index);
}
