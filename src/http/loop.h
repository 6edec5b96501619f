/* One front loop: a thread with an h2o event loop, its connections, its inbox of replies and its
 * reader of the tiers. Everything here is that thread's but for what is marked. */
#ifndef TIERKV_HTTP_LOOP_H
#define TIERKV_HTTP_LOOP_H

#define H2O_USE_LIBUV 0
#include <h2o.h>
#include <h2o/http1.h>
#include <h2o/http2.h>

#include "bridge/inbox.h"
#include "http/server.h"
#include "raft/replica.h"
#include "tiers/tiers.h"

#include <pthread.h>
#include <stdatomic.h>

struct request;

struct http_server {
    struct http_server_options options; /* Texts are copies */
    h2o_globalconf_t config;
    uint16_t port;
    uint64_t started_ms;
    _Atomic uint32_t connections;
    size_t n_loops;
    struct loop *loops;
};

struct connection {
    struct loop *loop;
    h2o_socket_t *socket;
    struct connection *next, **link;
    /* As of the last look, for buffers.c */
    size_t held_bytes;
    bool receiving, answering; /* Some request */
    bool cut;                  /* It closes as soon as libh2o finds out */
    uint64_t busy_ms;          /* Since when it did either at each look; 0: it does not */
    uint64_t marked_ms;        /* When the kernel's counters were these */
    uint64_t received_mark, taken_mark;
    bool can_mark; /* It has such counters */
};

struct loop {
    struct http_server *server;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    pthread_t thread;
    bool thread_started;
    h2o_socket_t *listener;
    uint64_t accept_again_ms;  /* 0, or when connections are taken again after a failure */
    uint64_t accept_warned_ms; /* When that was last logged */
    h2o_socket_t *inbox_socket;
    h2o_socket_t *reader_socket;
    struct inbox *inbox; /* Replies of the replica */
    uint64_t replies_us; /* When those that are being handed out were taken */
    struct tiers_reader *reader;
    unsigned reads_begun; /* Wraps */
    struct connection *connections;
    size_t n_waiting; /* Operations and disk reads under way, those of vanished requests included */
    struct request *waiting_oldest; /* Waiting requests by age, for the timeout */
    struct request *waiting_newest;
    struct replica_operation *outgoing_first, *outgoing_last; /* Submitted in this round */
    size_t outgoing_n;
    struct {                 /* Of buffers.c */
        uint64_t check_ms;   /* When it is time for the next check */
        uint64_t looked_ms;  /* When the last look was */
        uint64_t held_bytes; /* By all connections, as of the last look */
        uint64_t made_bytes; /* Large answers since then */
        bool refused;        /* For want of room, since then */
        uint64_t warned_ms;
    } buffers;
    struct request *spare;      /* For the next GET: most need it only while they look */
    struct request *consistent; /* Reads that the next read-index operation will serve */
    struct {                    /* What every answer says; renewed when the view's version moves */
        uint64_t version;
        bool known;
        char leader[256];
        size_t leader_len;
        char term[24];
        size_t term_len;
        enum replica_role role;
    } view;
    struct { /* For stale reads; renewed every few milliseconds */
        uint64_t renewed_ms;
        uint64_t at_ms;
        bool known;
    } contact;
    _Atomic bool stopping;        /* Any thread */
    _Atomic uint64_t drain_until; /* Any thread: monotonic ms */
};

uint64_t loop_now_ms(void);
uint64_t loop_now_us(void);
/* The view of the replica as of now. */
void loop_view_renew(struct loop *loop);
/* Milliseconds since the leader was last heard of: 0 on the leader, never too few. False: it was
 * not heard of yet. */
bool loop_last_contact(struct loop *loop, uint64_t *ret_ms);

int loop_open(struct loop *loop, struct http_server *server, int listen_fd, char *error_text,
              size_t error_text_size);
/* The thread is not running. Only the inbox is left, for operations that are still to come back. */
void loop_close(struct loop *loop);
/* Takes those that have; after it none may come. */
void loop_free(struct loop *loop);
int loop_start(struct loop *loop);

#endif
