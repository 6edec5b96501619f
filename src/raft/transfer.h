/* State transfer: a node whose log is too old to be continued gets the whole state from the leader.
 *
 * The node that lacks it opens a connection of a kind of its own (PREAMBLE_STATE) to the leader,
 * which answers with a manifest (manifest.h) and a checkpoint of its tiers
 * (include/tiers/checkpoint.h), each on a thread of its own, so that neither raft loop waits. The
 * state goes into a place beside the live one; once complete and durable it is made the live one by
 * one atomic switch, and the node starts again on it. If anything breaks on the way, the place is
 * abandoned and the transfer begun anew: a node has the old state or the new one.
 *
 * On the wire after the preamble: u32 bytes of the manifest, manifest, checkpoint.
 */
#ifndef TIERKV_RAFT_TRANSFER_H
#define TIERKV_RAFT_TRANSFER_H

#include "raft/preamble.h"

#include <raft.h>
#include <stdbool.h>

struct replica;

/* ---- Giving: transfer_serve.c ---- */

struct transfer_serving;

/* Raft loop. Answers the request that came over `fd`, which it takes. */
void transfer_serve(struct replica *replica, const struct preamble *preamble, int fd);
/* Raft loop, after a wake-up. Tells what the threads have asked for. */
void transfer_serve_poll(struct replica *replica);
/* Raft loop. Entries behind this index are still wanted by a node that was given a state;
 * UINT64_MAX: none are. */
raft_index transfer_serve_hold(struct replica *replica);
/* Raft loop, or nobody's any more: ends the threads. */
void transfer_serve_stop(struct replica *replica);

/* ---- Taking: transfer_fetch.c ---- */

struct transfer_fetch;

/* Raft loop. Begins, unless a transfer is under way, failed just now, or cannot be had here. */
void transfer_fetch(struct replica *replica);
/* Raft loop, after a wake-up. */
void transfer_fetch_poll(struct replica *replica);
void transfer_fetch_stop(struct replica *replica);

/* ---- Both ---- */

/* Blocking, on a socket with timeouts: all of it, or -1 with errno. */
int transfer_send(int fd, const void *bytes, size_t n);
int transfer_receive(int fd, void *bytes, size_t n);
/* Makes it blocking, each read and write bounded in time. */
void transfer_socket_configure(int fd);
/* For the threads: they get what processor time the others leave, and a little more. */
void transfer_thread_begin(void);

#endif
