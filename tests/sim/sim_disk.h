/* The disk of a simulated node's Raft log: a raft_io's half that stores.
 *
 * Requests are completed in order and later, each after a latency of its own; term and vote are
 * synced at once. A crash loses what was not completed: all of it, or the later part, since what
 * was written may have reached the disk though nobody was told. One thread.
 */
#ifndef TIERKV_TESTS_SIM_DISK_H
#define TIERKV_TESTS_SIM_DISK_H

#include "lib/random.h"

#include <raft.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_DISK_REQUESTS_MAX 4096

struct sim_stored {
    raft_term term;
    enum raft_entry_type type;
    size_t len;
    void *bytes;
};

/* One request: entries to append, a truncation, or a snapshot. */
struct sim_disk_request {
    uint64_t due_ms;
    struct raft_io_append *append;
    struct raft_io_snapshot_put *put;
    struct raft_io_snapshot_get *get;
    raft_index truncate;
    const struct raft_entry *entries;
    unsigned n;
    const struct raft_snapshot *snapshot;
};

struct sim_disk {
    const uint64_t *now_ms;
    struct random *random;
    /* Told of each entry once it is stored. NULL: nobody is. */
    void (*stored_entry)(void *context, raft_index index, const struct sim_stored *entry);
    /* An installed snapshot begins the log anew, behind its index. NULL: nobody is told. */
    void (*stored_base)(void *context, raft_index index, raft_term term);
    void *context;

    /* What it does, for the story to change: */
    uint64_t latency_ms_max;
    bool stalled; /* Completes nothing */
    bool full;    /* Appends and snapshots fail */
    bool failed;  /* A write did: none is done until the log is opened again */
    /* Defects, to see them found: what does not outlive a crash, though it should. */
    bool forgets_vote, forgets_entries;

    raft_term term;
    raft_id vote;
    raft_index first, last; /* Of the stored entries */
    struct sim_stored *stored;
    size_t stored_capacity;
    bool have_snapshot;
    raft_index snapshot_index, snapshot_configuration_index;
    raft_term snapshot_term;
    struct raft_configuration snapshot_configuration;
    struct raft_buffer snapshot_contents;

    struct sim_disk_request requests[SIM_DISK_REQUESTS_MAX];
    size_t n_requests;
};

/* `now_ms` and `random` are borrowed. */
void sim_disk_open(struct sim_disk *disk, const uint64_t *now_ms, struct random *random);
void sim_disk_close(struct sim_disk *disk);
/* It is exchanged for an empty one. Nothing waits. */
void sim_disk_replace(struct sim_disk *disk);

/* Fills in the storing half; io->impl becomes the disk. */
void sim_disk_io(struct sim_disk *disk, struct raft_io *io);

/* When the next request is completed; UINT64_MAX. */
uint64_t sim_disk_due_ms(const struct sim_disk *disk);
/* Completes what is due; with `all` whatever waits. */
void sim_disk_complete(struct sim_disk *disk, bool all);

/* Answers what waits with RAFT_CANCELED. A part of it, as `random` says, is stored all the same. */
void sim_disk_crash(struct sim_disk *disk);

/* The stored entry, or NULL. */
const struct sim_stored *sim_disk_entry(const struct sim_disk *disk, raft_index index);

#endif
