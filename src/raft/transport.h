/* Connections between peers: our raft_uv_transport over TCP.
 *
 * A connection carries messages one way, from the node that opened it. It begins with a preamble
 * that names the protocol, the kind of connection, the cluster, both nodes and the incarnation of
 * the destination's data directory that the source knows of (integers little-endian):
 *   u32 magic "TKVP"  u16 version  u16 kind  u64 cluster  u64 source  u64 destination
 *   u64 incarnation  u16 address bytes  6 zero bytes  address of the source, padded with zeros to
 * 256 The acceptor refuses a connection that is not meant for it by closing it. Raft loop only.
 */
#ifndef TIERKV_RAFT_TRANSPORT_H
#define TIERKV_RAFT_TRANSPORT_H

#include <raft.h>
#include <raft/uv.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

enum transport_kind { TRANSPORT_RAFT = 1 };

#define TRANSPORT_ADDRESS_BYTES  256
#define TRANSPORT_PREAMBLE_BYTES (48 + TRANSPORT_ADDRESS_BYTES)

struct transport_preamble {
    enum transport_kind kind;
    uint64_t cluster_id; /* 0: the source has none yet */
    uint64_t source;
    uint64_t destination;
    uint64_t incarnation; /* Of the destination; 0: not known */
    char address[TRANSPORT_ADDRESS_BYTES];
};

/* Pure. decode: false if the bytes are no preamble of ours. */
void transport_preamble_encode(const struct transport_preamble *preamble,
                               unsigned char ret_bytes[TRANSPORT_PREAMBLE_BYTES]);
bool transport_preamble_decode(const unsigned char bytes[TRANSPORT_PREAMBLE_BYTES],
                               struct transport_preamble *ret_preamble);

struct transport_callbacks {
    /* Whether a connection that begins so is taken. */
    bool (*admit)(void *context, const struct transport_preamble *preamble);
    /* Fills in cluster and incarnation for a connection to that node. */
    void (*introduce)(void *context, raft_id destination, struct transport_preamble *preamble);
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
