/* The observer: watches the load on a thread of its own, of the lowest priority.
 *
 * It takes the sampled accesses of readers and applier through the miniature simulation, keeps the
 * hits of the last minutes, and, for the policy "auto", chooses the policy of the hot tier; the
 * mover then makes the switch. Its time is bounded by the rates of the simulation, its memory by
 * the keys that may be tracked (about 10 MiB). It is no part of the mover, whose steps may take
 * seconds of disk time, in which samples would be lost, and which has better things to do.
 */
#ifndef TIERS_OBSERVER_H
#define TIERS_OBSERVER_H

#include "engine.h"

struct observer;

/* `policy` is the one in use; `automatic`: it may be switched. Without `curve` nothing is sampled
 * (then `automatic` must be false). 0 or TIERS_NO_MEMORY. */
struct observer_options {
    const struct policy_type *policy;
    bool automatic;
    bool curve;
};
int observer_open(struct tiers *tiers, const struct observer_options *options,
                  struct observer **ret_observer);
int observer_start(struct observer *observer);
/* Stops the thread if there is one, frees. The mover must not run any more. */
void observer_close(struct observer *observer);

/* Observer thread, or a test without one. */
void observer_step(struct observer *observer);

/* Any thread. */
void observer_curve(struct observer *observer, struct tiers_curve *ret_curve);
/* Any thread: fills in what it knows of hits and policy. */
void observer_placement(struct observer *observer, struct tiers_placement *placement);

/* Any thread: fills in its counters. */
void observer_stats(struct observer *observer, struct tiers_stats *stats);

/* Mover: the policy to switch the hot tier to, or NULL; it then must report how that went. */
const struct policy_type *observer_policy_wanted(struct observer *observer);
/* `error`: 0, or why the hot tier kept the policy it had. */
void observer_policy_switched(struct observer *observer, int error);

#endif
