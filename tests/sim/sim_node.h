/* A node of the simulation: the server's own replica and tiers, as one process would have them.
 *
 * Everything of src/raft, src/command and tiers is the real code. What a process gets from outside
 * comes from the simulation: libuv (sim_loop.h), the log's disk (sim_disk.h), the network
 * (sim_network.h), clocks, random numbers and the free space (sim_system.c). The tiers use files
 * in a folder of the node; their mover runs where the simulation makes it. One thread.
 */
#ifndef TIERKV_TESTS_SIM_NODE_H
#define TIERKV_TESTS_SIM_NODE_H

#include "lib/random.h"
#include "lib/temp_folder.h"
#include "node/datadir.h"
#include "raft/replica.h"
#include "sim/sim_disk.h"
#include "sim/sim_loop.h"
#include "sim/sim_network.h"

#include <pthread.h>

struct sim_world;

struct sim_node {
    struct sim_world *world;
    size_t place;
    char name[32];             /* A disk's first name: another disk, another name */
    unsigned disks, addresses; /* That it has had */
    char http_address[SIM_ADDRESS_BYTES];
    char folder[TEMP_FOLDER_PATH_BYTES + 16];
    struct datadir datadir;
    struct random random;

    struct sim_loop loop;
    struct sim_disk disk;
    struct sim_endpoint endpoint;
    uint64_t clock_ahead_ms; /* Of the monotonic clock: a suspended machine wakes up later */
    int64_t wall_clock_ahead_ms;
    uint64_t paused_until_ms; /* Gets no turn before */
    bool log_disk_low;        /* As statvfs tells */
    bool tiers_disk_full;     /* The tiers cannot write */
    unsigned crash_at_write;  /* In the middle of so many writes from now; 0: in none */
    uint64_t mover_due_ms;
    uint64_t mover_pause_ms_max; /* Between two of its steps */
    bool woken;                  /* Something waits in its inbox */

    bool running;
    bool crashing; /* Whatever it says from now on is not heard */
    bool failed;   /* It stopped by itself */
    bool fetches;  /* It is receiving a state */
    bool reopens;  /* It has received a state, and starts again on it */
    bool founded;  /* It is to run: once started, until it is taken away for good */
    bool joins;    /* It asks to be a member until it is one, as node/joiner.c does; it
                    * begins so */
    unsigned lives;
    struct tiers *tiers;
    struct replica *replica;
    struct raft_io *io;
    raft_io_recv_cb receive;
    raft_io_close_cb io_closed;
    struct raft_uv_transport *transport;
    bool transport_closed;
    void *(*thread)(void *argument);
    void *thread_argument;
};

/* The node on whose behalf code runs, for what it asks of the system; NULL: none. */
extern struct sim_node *sim_node_current;

void sim_node_init(struct sim_node *node, struct sim_world *world, size_t place);
void sim_node_free(struct sim_node *node);

/* `bootstrap`: form a cluster of one if the node is new. */
void sim_node_start(struct sim_node *node, bool bootstrap);
/* Loses what is not durable. */
void sim_node_crash(struct sim_node *node);
/* In order, as SIGTERM does. */
void sim_node_stop(struct sim_node *node);
/* Gets an empty disk and, with `rename`, another name. It does not run. */
void sim_node_replace_disk(struct sim_node *node, bool rename);
/* Gets another address. It does not run. */
void sim_node_move(struct sim_node *node);

/* When the node has something to do; SIM_NEVER. */
uint64_t sim_node_due_ms(const struct sim_node *node);
void sim_node_turn(struct sim_node *node);

/* As replica_submit. */
int sim_node_submit(struct sim_node *node, struct replica_operation *operation);

/* Its Raft log's or its tiers': it may stop by itself, and need not start. */
bool sim_node_disk_is_full(const struct sim_node *node);
bool sim_node_is_leader(const struct sim_node *node);

#endif
