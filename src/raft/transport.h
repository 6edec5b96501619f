/* Connections between peers: our raft_uv_transport over TCP.
 *
 * A connection carries messages one way, from the node that opened it, and begins with a preamble
 * (preamble.h). The acceptor refuses a connection that is not meant for it by closing it. Raft loop
 * only.
 */
#ifndef TIERKV_RAFT_TRANSPORT_H
#define TIERKV_RAFT_TRANSPORT_H

#include "raft/preamble.h"

#include <raft.h>
#include <raft/uv.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct transport_callbacks {
    /* Whether a connection that begins so is taken; its destination is not checked yet. */
    bool (*admit)(void *context, const struct preamble *preamble);
    /* Fills in cluster and incarnation for a connection to that node. */
    void (*introduce)(void *context, raft_id destination, struct preamble *preamble);
    /* A connection of the kind PREAMBLE_STATE was admitted; takes the descriptor. */
    void (*serve_state)(void *context, const struct preamble *preamble, int fd);
    /* The peer has ended the connection to it, which the backend does not know: the next message
     * is lost, and makes the backend connect anew. */
    void (*peer_gone)(void *context, raft_id peer);
};

struct transport;

/* Binds `listen` (HOST:PORT); connections are accepted once the backend starts. On failure
 * error_text says what and why. */
int transport_open(uv_loop_t *loop, const char *listen, const struct transport_callbacks *callbacks,
                   void *context, struct transport **ret_transport, char *error_text,
                   size_t error_text_size);
/* For raft_uv_init. */
struct raft_uv_transport *transport_base(struct transport *transport);
/* The port that was bound. */
int transport_port(const struct transport *transport);
/* After the backend has closed it (raft_io.close), or if no backend was ever given it. */
void transport_free(struct transport *transport);

#endif
