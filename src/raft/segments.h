/* Repairs raft_uv's directory before it is loaded, if the process was killed within a truncation.
 *
 * raft_uv truncates its log by writing the part of a closed segment that stays under a new name and
 * removing the old file, and those after it, one by one. A crash in between leaves
 *   two closed segments with the same first index: the shorter one goes, which undoes the
 *   truncation; Raft will ask for it again;
 *   or segments behind a gap: they go, which completes it, but only if the gap begins where a
 *   truncation was noted. A log with any other gap is damaged, and refused by the load.
 * Entries that are truncated were never committed: losing or keeping them is both right.
 */
#ifndef TIERKV_RAFT_SEGMENTS_H
#define TIERKV_RAFT_SEGMENTS_H

#include <stddef.h>
#include <stdint.h>

/* Before the backend truncates the log from that index on: notes it durably, in a file that the
 * backend does not look at. 0, or -1 with errno. */
int segments_note_truncation(const char *directory, uint64_t index);

/* *ret_removed: how many files. 0, or -1 with one sentence in error_text. */
int segments_repair(const char *directory, unsigned *ret_removed, char *error_text,
                    size_t error_text_size);

#endif
