/* How a connection between peers begins: who calls whom, in which cluster, and for what.
 *
 * It names the protocol, the kind of connection, the cluster, both nodes, and the incarnation of
 * the destination's data directory that the source knows of. 304 bytes, integers little-endian:
 *   u32 magic "TKVP"  u16 version  u16 kind  u64 cluster  u64 source  u64 destination
 *   u64 incarnation  u16 address bytes  6 zero bytes  address of the source, zeros up to 256 bytes
 */
#ifndef TIERKV_RAFT_PREAMBLE_H
#define TIERKV_RAFT_PREAMBLE_H

#include <stdbool.h>
#include <stdint.h>

enum preamble_kind {
    PREAMBLE_RAFT = 1,  /* Raft's messages follow */
    PREAMBLE_STATE = 2, /* The state is wanted: it comes back over the same connection */
};

#define PREAMBLE_ADDRESS_BYTES 256
#define PREAMBLE_BYTES         (48 + PREAMBLE_ADDRESS_BYTES)

struct preamble {
    enum preamble_kind kind;
    uint64_t cluster_id; /* 0: the source has none yet */
    uint64_t source;
    uint64_t destination;
    uint64_t incarnation; /* Of the destination; 0: not known */
    char address[PREAMBLE_ADDRESS_BYTES];
};

/* Pure. decode: false if the bytes are no preamble of ours. */
void preamble_encode(const struct preamble *preamble, unsigned char ret_bytes[PREAMBLE_BYTES]);
bool preamble_decode(const unsigned char bytes[PREAMBLE_BYTES], struct preamble *ret_preamble);

#endif
