/* The data directory of a node: layout, lock, and which state is live.
 *
 *   DIR/lock            held exclusively while the node runs    DIR/node    identity (src/raft)
 *   DIR/raft/           Raft's log                              DIR/cold/   unless cold_dir is
 * given DIR/state/CURRENT   which N is live: "tierkv-state 1\nN\n" DIR/state/N/warm/   warm tier
 * COLD_DIR/N/   cold tier   COLD_DIR/lock   held like DIR/lock
 */
#ifndef TIERKV_NODE_DATADIR_H
#define TIERKV_NODE_DATADIR_H

#include <stddef.h>
#include <stdint.h>

/* Paths belong to the struct; all but the identity, the warm and the cold tier's exist. */
struct datadir {
    int lock_fd;
    int cold_lock_fd;
    uint64_t state; /* N */
    char *raft_path;
    char *identity_path;
    char *warm_path; /* Its parent exists */
    char *cold_path; /* Exists */
};

/* Takes the locks, and creates with mode 0700 what is absent (but no parents of the directories
 * themselves). `cold_directory` "": DIR/cold. 0, or -1 with one sentence in error_text that names
 * path and cause: not writable, in use by another process, of an unknown version, or a cold
 * directory that does not belong to it. */
int datadir_open(const char *directory, const char *cold_directory, struct datadir *ret_datadir,
                 char *error_text, size_t error_text_size);
/* Gives the locks back. */
void datadir_close(struct datadir *datadir);

#endif
