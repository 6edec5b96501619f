/* Real tierkvd processes on loopback, each with a data directory in one temporary folder.
 *
 * Node 0 bootstraps, the others join it. Any failure of the harness itself (a node does not start,
 * does not become ready, …) prints the ends of the nodes' logs and fails the test. A cluster that
 * its test did not stop, because an assertion ended the test, is killed and its logs are printed by
 * cluster_teardown. TIERKV_KEEP=1 keeps the folder of a failed test.
 *
 * After hosts_open each node runs on a host of its own, and has its addresses there.
 *
 * Nodes are started and stopped from the main thread only (see process_start).
 */
#ifndef TIERKV_TESTS_CLUSTER_H
#define TIERKV_TESTS_CLUSTER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLUSTER_NODES_MAX 8

struct cluster;

/* The program that nodes run from now on, in place of tierkvd; NULL: tierkvd again. Borrowed. */
void cluster_use_program(const char *path);

/* Makes the folder and chooses ports; starts nothing. `flags` ("--name=value", NULL at the end; may
 * be NULL) are given to every node; the strings are copied. */
struct cluster *cluster_new(size_t n_nodes, const char *const flags[]);
/* cluster_new, then starts all nodes and waits until each is ready. */
struct cluster *cluster_start(size_t n_nodes, const char *const flags[]);
/* SIGTERM to each running node, which must end with status 0; removes the folder, frees. */
void cluster_stop(struct cluster *cluster);
/* For cmocka: ends what a failed test left behind. */
int cluster_teardown(void **state);

/* Adds a flag for one node, from its next start on. */
void cluster_node_flag(struct cluster *cluster, size_t index, const char *flag);
void cluster_node_start(struct cluster *cluster, size_t index);
/* Waits until /readyz says 200. */
void cluster_node_wait_ready(struct cluster *cluster, size_t index);
/* kill -9, and waits for the end. */
void cluster_node_kill(struct cluster *cluster, size_t index);
/* Sends a signal, no more: SIGSTOP, SIGCONT, SIGTERM. */
void cluster_node_signal(struct cluster *cluster, size_t index, int signal);
/* The exit status as process_wait has it; the node counts as stopped. Fails the test if it still
 * runs after the time. */
int cluster_node_wait_exit(struct cluster *cluster, size_t index, uint64_t timeout_ms);
bool cluster_node_running(const struct cluster *cluster, size_t index);

/* Address and port for clients; borrowed. */
const char *cluster_address(const struct cluster *cluster, size_t index);
const char *cluster_raft_address(const struct cluster *cluster, size_t index);
/* All addresses, separated by commas; borrowed. */
const char *cluster_endpoints(const struct cluster *cluster);
/* The node's data directory; borrowed. */
const char *cluster_directory(const struct cluster *cluster, size_t index);
/* All that a node has written so far; free it. */
char *cluster_log(const struct cluster *cluster, size_t index);

/* GET /status of a node; NULL: no answer. json_decref it. */
json_t *cluster_status(const struct cluster *cluster, size_t index);
/* A number of /status by its path, as "tiers.hits_hot". Fails the test if it is absent. */
uint64_t cluster_status_number(const struct cluster *cluster, size_t index, const char *path);
/* The running node that leads; waits for one. */
size_t cluster_wait_leader(struct cluster *cluster);
/* Waits until all running nodes have applied the same index, and fails the test unless their state
 * hashes are equal then. Nothing may be writing. */
void cluster_expect_agreement(struct cluster *cluster);

#endif
