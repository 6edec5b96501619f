/* Notices when a peer ends an outgoing connection.
 *
 * The backend writes to its connections and never reads: by itself it learns that a peer has gone,
 * say to start again, from the messages that fail, and those are lost: a request for a vote, or the
 * first entries of a term. A peer never sends on such a connection, so that whatever there is to be
 * read is its end. The connection is watched through a descriptor of its own, since the stream is
 * the backend's; reading from the stream would make libuv refuse the writes by which the backend
 * is to find out.
 *
 * Raft loop only.
 */
#ifndef TIERKV_RAFT_PEER_WATCH_H
#define TIERKV_RAFT_PEER_WATCH_H

#include <raft.h>
#include <stdbool.h>
#include <uv.h>

struct peer_watch;

struct peer_watches {
    uv_loop_t *loop;
    /* Once for a connection, if it was of use for a while: one that is refused again and again is
     * left to fail by itself. Every write to it fails from then on. */
    void (*gone)(void *context, raft_id peer);
    /* A watch has ended: peer_watches_closed may be true now. */
    void (*ended)(void *context);
    void *context;
    struct peer_watch *first;
    unsigned n; /* Allocated, those that are ending included */
};

/* Watches the connection, in place of an earlier one to the same peer. Without memory or
 * descriptors it is not watched. */
void peer_watches_add(struct peer_watches *watches, raft_id peer, uv_stream_t *stream);
/* Ends all; closed once `ended` was called for the last one. */
void peer_watches_close(struct peer_watches *watches);
bool peer_watches_closed(const struct peer_watches *watches);

#endif
