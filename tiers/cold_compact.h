/* Compaction: gets back the space of cold records that no key points to any more. */
#ifndef TIERS_COLD_COMPACT_H
#define TIERS_COLD_COMPACT_H

#include "mover.h"

/* Mover thread. Deletes a segment without live records, or rewrites one that is more dead than
 * alive and deletes it; flushes that become due meanwhile go between its batches. True if it did
 * anything that makes another look worthwhile. */
bool cold_compact_step(struct mover *mover);

/* Pure: which of `segments` to compact next, the one with the least share of live bytes among those
 * that are less than half alive, `skip` and the active one left out; n: none. */
size_t cold_compact_choose(const struct warm_segment *segments, size_t n, uint64_t skip,
                           bool (*active)(const void *context, uint64_t id), const void *context);

#endif
