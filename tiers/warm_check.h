/* Checks LMDB's file before LMDB itself reads it.
 *
 * LMDB has no checksums and trusts what its pages say: a flipped bit in one can hide keys, hand
 * live pages out as free ones, or crash the process. The check walks the trees through reads of its
 * own, follows nothing that it has not checked, and sees that
 *
 *   the two meta pages belong to consecutive transactions;
 *   each page is what its parent takes it for, its nodes fill exactly the room they should, and
 *   keys are in order throughout;
 *   no page is used twice, or both used and free; the counts of each tree are right;
 *   the trees are ours; each item is well-formed and belongs to its key.
 *
 * Values are not read: each is checked when it is used. The layout is that of LMDB 0.9 on machines
 * with 64-bit little-endian words.
 */
#ifndef TIERS_WARM_CHECK_H
#define TIERS_WARM_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct warm_check {
    bool complete;    /* False: the file was too large, the users' items were not looked at */
    uint64_t digests; /* The sum over all items: the state hash */
};

/* Walks the file if its used part has at most `bytes_max`, else only what opening it reads: the
 * meta pages, the tree of trees, and all of these but the users' items. 0, TIERS_CORRUPT, TIERS_IO
 * or TIERS_NO_MEMORY. What cannot be opened, is no LMDB file at all, or of another version, is left
 * to LMDB to refuse: 0, not complete. */
int warm_check(const char *path, uint64_t bytes_max, struct warm_check *ret_check, char *error_text,
               size_t error_text_size);

#endif
