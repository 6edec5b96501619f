/* The network between simulated nodes: a raft_io's half that sends.
 *
 * Messages take a random while, so that they overtake each other; some are lost, some come twice,
 * and where a link is cut none arrives. Each carries the preamble with which its sender would have
 * opened a connection, and is shown to the receiver's admission first. One thread.
 */
#ifndef TIERKV_TESTS_SIM_NETWORK_H
#define TIERKV_TESTS_SIM_NETWORK_H

#include "lib/random.h"
#include "raft/preamble.h"

#include <raft.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_ENDPOINTS_MAX 8
#define SIM_MESSAGES_MAX  16384
#define SIM_ANSWERS_MAX   16384
#define SIM_ADDRESS_BYTES 64

struct sim_network;

/* A node's place in the network; up while its process lives. */
struct sim_endpoint {
    struct sim_network *network;
    char address[SIM_ADDRESS_BYTES];
    raft_id id;
    bool up;
    /* NULL: messages carry no preamble, and all are admitted. */
    void (*introduce)(void *context, raft_id destination, struct preamble *preamble);
    bool (*admit)(void *context, const struct preamble *preamble);
    /* A connection for a state transfer was admitted. */
    void (*serve_state)(void *context, const struct preamble *preamble, int fd);
    /* Takes the message. */
    void (*receive)(void *context, struct raft_message *message);
    void *context;
    /* Sends to be answered in the node's next turn. */
    struct raft_io_send *answers[SIM_ANSWERS_MAX];
    size_t n_answers;
};

struct sim_message {
    size_t from, to;
    uint64_t due_ms;
    uint64_t serial;
    struct preamble preamble;
    struct raft_message message;
};

struct sim_network {
    const uint64_t *now_ms;
    struct random *random;
    struct sim_endpoint *endpoints[SIM_ENDPOINTS_MAX];
    size_t n;
    bool cut[SIM_ENDPOINTS_MAX][SIM_ENDPOINTS_MAX]; /* From, to */
    unsigned loss_permille;
    unsigned duplicate_permille;
    uint64_t delay_ms_max; /* At least 1 */
    /* A message is about to be delivered. NULL: nobody is told. */
    void (*observe)(void *context, const struct sim_message *message);
    void *context;
    uint64_t serial;
    uint64_t delivered[SIM_ENDPOINTS_MAX][SIM_ENDPOINTS_MAX]; /* Highest serial, from and to */
    struct sim_message messages[SIM_MESSAGES_MAX];
    size_t n_messages;
};

/* `now_ms` and `random` are borrowed. */
void sim_network_open(struct sim_network *network, const uint64_t *now_ms, struct random *random);
void sim_network_close(struct sim_network *network);

/* Adds a place; address, id and callbacks are set. Borrowed until the network is closed. */
void sim_network_join(struct sim_network *network, struct sim_endpoint *endpoint);
/* Fills in io->send; io->data becomes the endpoint. */
void sim_network_io(struct sim_endpoint *endpoint, struct raft_io *io);

/* Links between two places, both ways or one. */
void sim_network_cut_off(struct sim_network *network, size_t place, bool off);
void sim_network_heal(struct sim_network *network);

/* When something is to be delivered to that place; UINT64_MAX. */
uint64_t sim_network_due_ms(const struct sim_network *network, size_t place);
/* Answers the place's sends and delivers what is due to it. */
void sim_network_deliver(struct sim_network *network, size_t place);
/* The process of that place ended: its sends are answered with RAFT_CANCELED. What is under way
 * stays under way. */
void sim_network_crash(struct sim_network *network, size_t place);

#endif
