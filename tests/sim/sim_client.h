/* Clients of the simulated cluster, what they ask for and what they were answered.
 *
 * Each has one request under way: a put, a delete, or a read of one of the three consistencies, at
 * the node that it takes for the leader, or at any. Requests and answers take a while; one that
 * stays out is given up. What a node's HTTP front does with an operation that came back is done
 * here: a read then looks into the tiers.
 */
#ifndef TIERKV_TESTS_SIM_CLIENT_H
#define TIERKV_TESTS_SIM_CLIENT_H

#include "sim/sim_world.h"

struct sim_clients *sim_clients_new(struct sim_world *world);
void sim_clients_free(struct sim_clients *clients);

/* No new requests from now on. */
void sim_clients_rest(struct sim_clients *clients);
/* None is under way. */
bool sim_clients_idle(const struct sim_clients *clients);

uint64_t sim_clients_due_ms(const struct sim_clients *clients);
/* Sends what is due, gives up what waited too long. */
void sim_clients_turn(struct sim_clients *clients);
/* Takes the operations that nodes have given back. */
void sim_clients_collect(struct sim_clients *clients);
/* What is under way at that node is answered no more. */
void sim_clients_lose(struct sim_clients *clients, const struct sim_node *node);

/* For SIM_DEFECT_ANSWER_BEFORE_COMMIT: the write is proposed. */
void sim_clients_acknowledge_early(struct sim_clients *clients,
                                   const struct replica_operation *operation);

#endif
