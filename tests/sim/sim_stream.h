/* The connections over which a state is transferred: src/raft/transfer_socket.c and the socket
 * calls of transfer_fetch.c, in simulated time.
 *
 * The bytes go through a pair of real sockets, so that closing and shutting down are the system's;
 * how fast, and whether at all, is the simulated network's choice. What blocks does so on a fiber.
 */
#ifndef TIERKV_TESTS_SIM_STREAM_H
#define TIERKV_TESTS_SIM_STREAM_H

#include <stdbool.h>

struct sim_node;

/* A connection has come for that node, which has not taken it yet. */
bool sim_streams_wait(const struct sim_node *node);
/* Shows the connections that have come to the node's admission, and gives it those it admits. */
void sim_streams_accept(struct sim_node *node);
/* Nobody will take them any more. */
void sim_streams_refuse(struct sim_node *node);

#endif
