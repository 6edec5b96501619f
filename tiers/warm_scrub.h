/* Verifies LMDB's file while it is in use, piece by piece: what warm_check does at once when the
 * file is small, and more.
 *
 * A pass goes through all trees in key order and sees that each page is what its parent takes it
 * for, that its nodes fill exactly their room, that its keys are in order and between those that
 * lead to it, that lists of free pages are in order, and that each item and row fits its check and
 * each inline value its digest. At its end the digests of all items must add up to the state hash,
 * else keys are lost; what is written behind the hand meanwhile is added as it is committed.
 *
 * Pages are read past LMDB and, where the file system allows it, past the page cache: what lies on
 * the disk is seen, and what is cached stays. Not seen is a free page that is used, too: what it
 * does to the trees later is.
 *
 * Mover thread, between two write transactions: nobody else changes the file, so that no snapshot
 * has to be held.
 */
#ifndef TIERS_WARM_SCRUB_H
#define TIERS_WARM_SCRUB_H

#include "warm.h"

struct warm_scrub;

/* What one piece of work came to. */
struct warm_scrub_piece {
    uint64_t bytes_read;
    uint64_t values_damaged;   /* Inline values that do not fit their digest... */
    uint64_t damaged_revision; /* ...and the revision of the first of them */
};

/* One for a warm at a time, which must outlive it. 0, TIERS_NO_MEMORY, TIERS_IO or TIERS_ACCESS. */
int warm_scrub_open(struct warm *warm, struct warm_scrub **ret_scrub);
void warm_scrub_close(struct warm_scrub *scrub); /* NULL is ignored */

/* Goes on for about so many bytes. 0: there is more; TIERS_NOT_FOUND: the pass is over, and the
 * next call begins another one. TIERS_CORRUPT, TIERS_IO: what warm_scrub_error_text says, and there
 * is no going on. TIERS_NO_MEMORY: may be repeated. *ret_piece is set in each case. */
int warm_scrub_step(struct warm_scrub *scrub, uint64_t bytes, struct warm_scrub_piece *ret_piece);

/* One sentence that names the file and the page. */
const char *warm_scrub_error_text(const struct warm_scrub *scrub);

/* For warm_write.c: whether the pass has come by the key, and what commits changed there. */
bool warm_scrub_passed(const struct warm_scrub *scrub, enum tiers_space space, const void *key,
                       size_t key_len);
void warm_scrub_adjust(struct warm_scrub *scrub, uint64_t digests);

#endif
