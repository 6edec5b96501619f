/* What src/http sees of a replica, without Raft: a role and results that a test sets, writes that
 * go straight to real tiers, and operations that are held back until the test lets them go. Stands
 * in for replica.c and view.c at link time; operations are made by the real operation.c.
 */
#ifndef TIERKV_TESTS_FAKE_REPLICA_H
#define TIERKV_TESTS_FAKE_REPLICA_H

#include "raft/replica.h"

/* The leader of term 7 at first, with one member. The tiers are borrowed. */
struct replica *fake_replica_new(struct tiers *tiers);
/* Nothing may be held. */
void fake_replica_free(struct replica *replica);

/* `leader`: the leader's client address, or "" if none is known. */
void fake_replica_become(struct replica *replica, enum replica_role role, const char *leader);
/* Results of the operations to come: when they are admitted, and when they come back. 0: they are
 * carried out. */
void fake_replica_answer(struct replica *replica, int admitted, int status);
/* From now on operations stay away. */
void fake_replica_hold(struct replica *replica);
/* Waits until `n` are held. Fails the test if it takes too long. */
void fake_replica_wait_held(struct replica *replica, size_t n);
size_t fake_replica_held(struct replica *replica);
/* Carries out those that are held, and all to come. */
void fake_replica_release(struct replica *replica);

#endif
