/* Repairs raft_uv's directory before it is loaded.
 *
 * raft_uv truncates its log by writing the part of a closed segment that stays under a new name and
 * removing the old file afterwards. A crash in between leaves two closed segments with the same
 * first index, which the next load takes for damage. The shorter one is the complete result of
 * the truncation only if the crash came after its fsync; the longer one still holds every entry,
 * so the shorter is removed and the truncation, which Raft will ask for again, is undone.
 */
#ifndef TIERKV_RAFT_SEGMENTS_H
#define TIERKV_RAFT_SEGMENTS_H

#include <stddef.h>

/* *ret_removed: how many files. 0, or -1 with one sentence in error_text. */
int segments_repair(const char *directory, unsigned *ret_removed, char *error_text,
                    size_t error_text_size);

#endif
