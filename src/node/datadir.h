/* The data directory of a node: layout, lock, which state is live, and putting another in its
 * place.
 *
 *   DIR/lock             held exclusively while the node runs
 *   DIR/node             identity (src/raft)
 *   DIR/raft/            Raft's log
 *   DIR/cold/            unless cold_dir is given
 *   DIR/state/CURRENT    which N is live: "tierkv-state 2\nN\nN\n"
 *   DIR/state/N/warm/    warm tier
 *   DIR/state/N/manifest of a state that was copied from another node (src/raft/manifest.h)
 *   COLD_DIR/N/          cold tier
 *   COLD_DIR/lock        held like DIR/lock
 *
 * Other N than the live one are what an exchange left that was interrupted, or the state before it.
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
    char *manifest_path;
    char *state_directory;
    char *cold_directory;
};

/* Takes the locks, and creates with mode 0700 what is absent (but no parents of the directories
 * themselves). `cold_directory` "": DIR/cold. 0, or -1 with one sentence in error_text that names
 * path and cause: not writable, in use by another process, of an unknown version, or a cold
 * directory that does not belong to it. */
int datadir_open(const char *directory, const char *cold_directory, struct datadir *ret_datadir,
                 char *error_text, size_t error_text_size);
/* Where the next state is to be put: its directories and its manifest. */
struct datadir_next {
    char *warm_path; /* These two are absent, their parents exist */
    char *cold_path;
    char *manifest_path;
};
/* Any thread, one at a time. Removes what is there, if anything. Paths are the caller's, for
 * datadir_next_free. 0, or -1 with the reason. */
int datadir_next(const struct datadir *datadir, struct datadir_next *ret_next, char *error_text,
                 size_t error_text_size);
void datadir_next_free(struct datadir_next *next);
/* The next state, complete and durable, is the live one of the next datadir_open: one atomic
 * rename. */
int datadir_next_commit(const struct datadir *datadir, char *error_text, size_t error_text_size);

/* Gives the locks back. */
void datadir_close(struct datadir *datadir);

#endif
