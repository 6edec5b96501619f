/* Who belongs to the simulated cluster, and the operator who changes that.
 *
 * Nodes ask to be members as node/joiner.c does, until they are. The operator pursues one goal at a
 * time: takes a member out, puts one in, exchanges one for another or for itself with an empty
 * disk, gives one another address, hands leadership over. Requests go to whoever leads, and are
 * repeated where that is what an operator would do.
 */
#ifndef TIERKV_TESTS_SIM_MEMBERS_H
#define TIERKV_TESTS_SIM_MEMBERS_H

#include "sim/sim_world.h"

struct sim_members *sim_members_new(struct sim_world *world);
/* No node runs any more. */
void sim_members_free(struct sim_members *members);

/* The operator has goals from now on, or no new ones. */
void sim_members_change(struct sim_members *members, bool on);
/* All that should be members are, and the operator is done. */
bool sim_members_idle(const struct sim_members *members);

uint64_t sim_members_due_ms(const struct sim_members *members);
void sim_members_turn(struct sim_members *members);

/* The disk of that member was exchanged, and the cluster does not count without it yet. */
bool sim_members_lost_disk(const struct sim_members *members, const struct sim_node *node);

#endif
