/* The mover: the one thread that writes to the warm and the cold tier.
 *
 * It works in steps, each bounded, the most urgent first: flush what is dirty, demote while the
 * warm tier is over its budget, promote what readers offered, compact segments that are more dead
 * than alive. Between two steps, and between the batches of a long one, a flush that has become due
 * goes first. Readers and the applier only queue and wake; they never wait for it, tiers_flush
 * excepted.
 */
#ifndef TIERS_MOVER_H
#define TIERS_MOVER_H

#include "engine.h"

int mover_open(struct tiers *tiers, struct mover **ret_mover);
int mover_start(struct mover *mover);
/* Stops the thread if there is one, drops what is queued, frees. */
void mover_close(struct mover *mover);

/* Any thread. */
void mover_wake(struct mover *mover);
/* Any thread: see tiers_flush. */
int mover_flush(struct mover *mover);
/* Any thread: see tiers_flush_soon. */
void mover_flush_soon(struct mover *mover);
/* Applier: on_ready is wanted once the engine is ready again. True if it is now. */
bool mover_ready_or_notify(struct mover *mover);
/* Readers: the cold value of `record` lies at `location` and is read often. Takes a reference of
 * its own, or drops the offer when the queue is full. */
void mover_offer(struct mover *mover, const struct tiers_record *record,
                 const struct cold_location *location);
/* Readers: the record at `location` (segment 0: an inline value) failed its check. */
void mover_report_damage(struct mover *mover, const struct cold_location *location);

/* Any thread: fills in `control`. */
void mover_placement(struct mover *mover, struct tiers_placement *placement);

/* Mover thread, or a test without one: does one step. True if there is more to do at once. */
bool mover_step(struct mover *mover);

#endif
