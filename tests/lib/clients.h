/* Clients that write and read a few registers through all nodes of a cluster and remember what they
 * saw, and the judgement of it:
 *  - writes and `consistent` reads are linearizable: each took effect at one moment between its
 * request and its answer;
 *  - what one client reads at `default` or `stale` from one node never goes back to an older write,
 * as long as the node is not restarted;
 *  - no read returns what was never written.
 *
 * Each client is a thread with one request under way. One set of clients at a time.
 */
#ifndef TIERKV_TESTS_CLIENTS_H
#define TIERKV_TESTS_CLIENTS_H

#include "lib/cluster.h"
#include "lib/history.h"

#include <stdint.h>

struct clients;

/* They go on until clients_stop. Of the cluster's nodes they ask the first n_nodes. */
struct clients *clients_start(struct cluster *cluster, size_t n_nodes, uint64_t seed);

/* Waits until so many more writes and consistent reads were answered: then the cluster serves. */
void clients_wait(struct clients *clients, uint64_t n);

/* To be called when a node has ended, before it is started again: what it knew of entries that were
 * not yet on its disk's state is gone, and sessions with it begin anew. */
void clients_node_ended(struct clients *clients, size_t node);

/* The threads end; more is not asked. */
void clients_stop(struct clients *clients);

/* After clients_stop. Says how much was judged. False: a history is wrong; it is printed. */
bool clients_judge(struct clients *clients);
/* After clients_stop. Of writes and consistent reads only: the worst verdict on a register. */
enum history_verdict clients_verdict(const struct clients *clients);

/* Ends those that a failed test left behind. */
void clients_teardown(void);

/* After clients_stop. */
void clients_free(struct clients *clients);

#endif
