/* Compaction: gets back the space of cold records that no key points to any more. */
#ifndef TIERS_COLD_COMPACT_H
#define TIERS_COLD_COMPACT_H

#include "mover.h"

/* Mover thread. Deletes a segment without live records, or begins to rewrite one that is more dead
 * than alive or in trouble, or goes on with that by one batch; all within the bandwidth limits.
 * True if it did anything that makes another look worthwhile. */
bool cold_compact_step(struct mover *mover);

/* Gives up the compaction under way, which loses nothing. */
void cold_compact_close(struct mover *mover);

/* Pure: which of `segments` to compact next, the one with the least share of live bytes among those
 * that are less than half alive and not excluded; n: none. */
size_t cold_compact_choose(const struct warm_segment *segments, size_t n,
                           bool (*excluded)(const void *context, uint64_t id), const void *context);

#endif
