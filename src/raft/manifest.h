/* What Raft has to know of a state that was copied from another node: where in the log it belongs.
 *
 * It goes before the state over the wire, and lies beside it on disk as state/N/manifest. Integers
 * little-endian:
 *   "TKVMANI" and a zero   u64 version   u64 cluster   u64 index   u64 term   u64 index of the
 *   configuration   u64 bytes of the configuration   configuration as libraft encodes it
 *   u64 XXH3-64 of all before
 */
#ifndef TIERKV_RAFT_MANIFEST_H
#define TIERKV_RAFT_MANIFEST_H

#include <raft.h>
#include <stddef.h>
#include <stdint.h>

#define MANIFEST_BYTES_MAX 65536

struct manifest {
    uint64_t cluster_id;
    raft_index index;
    raft_term term; /* Of the entry at the index */
    raft_index configuration_index;
    struct raft_configuration configuration; /* manifest_close closes it */
};

void manifest_close(struct manifest *manifest);

/* *ret_bytes is malloc'ed and the caller's. 0 or RAFT_NOMEM. */
int manifest_encode(const struct manifest *manifest, void **ret_bytes, size_t *ret_n);
/* 0; RAFT_MALFORMED; RAFT_NOMEM. */
int manifest_decode(const void *bytes, size_t n, struct manifest *ret_manifest);

/* Writes a file durably, its name included: 0, or -1 with errno. */
int manifest_store(const char *path, const void *bytes, size_t n);
/* 0; RAFT_NOTFOUND: there is no file; RAFT_MALFORMED; RAFT_NOMEM; RAFT_IOERR with errno. */
int manifest_load(const char *path, struct manifest *ret_manifest);

#endif
