/* The part of the Raft log that is on disk for others: entries that this node needs no more,
 * neither in memory nor in its own log, but that a node which was away or was given the state will
 * ask for.
 *
 * A run of consecutive entries in a file without a name, which goes with the process: written in
 * order, read anywhere, given up from the front. Each entry has a checksum, since what is sent from
 * here becomes another node's log. Reads and writes go through the page cache. Raft loop only.
 */
#ifndef TIERKV_RAFT_LOG_SPILL_H
#define TIERKV_RAFT_LOG_SPILL_H

#include "raft/log_cache.h"

#include <raft.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_spill_mark;

struct log_spill {
    const char *directory;
    uint64_t bytes_max;
    uint64_t free_bytes_min;
    int fd;                       /* -1: none, and no entries */
    raft_index first, last;       /* last = first - 1 when there are none */
    uint64_t begin, end;          /* Of what is in use in the file */
    struct log_spill_mark *marks; /* Where some of the entries lie, by index */
    size_t n_marks, marks_capacity;
    raft_index next_index; /* What a sequential read continues with, and where; 0: not known */
    uint64_t next_offset;
};

/* The directory's text is the caller's and must stay. `bytes_max`: of the file, 0 for none ever; it
 * does not grow either while its file system has less than `free_bytes_min`. */
void log_spill_open(struct log_spill *spill, const char *directory, uint64_t bytes_max,
                    uint64_t free_bytes_min);
/* Gives everything up, and can be used on. */
void log_spill_drop(struct log_spill *spill);

/* Of disk. */
uint64_t log_spill_bytes(const struct log_spill *spill);
bool log_spill_has(const struct log_spill *spill, raft_index index);

/* Takes over what the cache has from `from` on up to `upto`: behind what is here, or as the first.
 * 0, or an errno number and everything is given up: EFBIG, beyond bytes_max; ENOSPC; any of the
 * disk's. */
int log_spill_take(struct log_spill *spill, const struct log_cache *cache, raft_index from,
                   raft_index upto);
/* Gives up what is below `index`, as far as it is worth it; first may stay below. */
void log_spill_trim(struct log_spill *spill, raft_index index);

/* The term of an entry that is here. 0, or an errno number: EBADMSG if it is damaged. */
int log_spill_term(struct log_spill *spill, raft_index index, raft_term *ret_term);
/* Reads entries from `index`, which is here, on: at least one, else as many as are here, lie in
 * about `bytes_max` and are no more than `n_max`. A change of the configuration is the first of a
 * run, or not in it. The payloads lie in the batch, of which the caller gets a reference. 0, or an
 * errno number: EBADMSG if one is damaged, ENOMEM. */
int log_spill_read(struct log_spill *spill, raft_index index, size_t bytes_max, unsigned n_max,
                   struct raft_entry *entries, unsigned *ret_n, struct log_batch **ret_batch);

#endif
