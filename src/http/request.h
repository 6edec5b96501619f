/* A request that waits: for Raft, or for a disk.
 *
 * h2o may dispose of an h2o_req_t at any time (stream reset, connection closed). What waits is
 * therefore held in a struct request of its own, which a dispose hook on the request's pool tells
 * that its h2o_req_t is gone. References: one of the pool, one of each operation or read under way;
 * the last frees. After an answer is sent the h2o_req_t is not touched: sending may dispose of it.
 *
 * Transitions: waiting -> answered (a reply, a timeout) -> freed; waiting -> vanished -> freed when
 * the operation comes back; its result is then dropped. At a shutdown it may come back after the
 * loop's thread has ended.
 */
#ifndef TIERKV_HTTP_REQUEST_H
#define TIERKV_HTTP_REQUEST_H

#include "http/loop.h"
#include "http/uri.h"

struct request {
    h2o_req_t *req; /* NULL: answered or vanished */
    struct loop *loop;
    unsigned references;
    bool listed;
    bool reading;       /* `read` is under way */
    bool outcome_known; /* A timeout can say that nothing was applied */
    bool no_timeout;    /* The replica has a timeout of its own for it */
    uint64_t began_us;
    uint64_t read_us;              /* When `read` began to wait */
    struct request *older, *newer; /* In the list of those that wait */
    struct request *next;          /* In a batch of consistent reads */
    struct tiers_read read;
    void (*replied)(struct request *request, const struct replica_operation *operation);
    struct replica_change *change; /* Of the membership; owned */
    struct uri_query query;
    bool head;       /* HEAD: no body */
    const char *key; /* In the request's pool: valid while req is not NULL */
    size_t key_len;
};

/* A GET that needs no confirmation: answers at once if no disk is needed, else waits. Makes a
 * struct request only then. */
void request_get(h2o_req_t *req, struct loop *loop, const struct uri_query *query, bool head,
                 const char *key, size_t key_len);

/* NULL: the request was answered (too many wait, or no memory). */
struct request *request_new(h2o_req_t *req, struct loop *loop);
void request_release(struct request *request);

/* Hands the operation over and waits for `replied`; takes the operation. Answers by itself when it
 * is refused at once. */
void request_submit(struct request *request, struct replica_operation *operation,
                    void (*replied)(struct request *, const struct replica_operation *));
/* Waits for the next read-index operation, which many reads share; then `replied`. */
void request_submit_consistent(struct request *request,
                               void (*replied)(struct request *, const struct replica_operation *));
/* Starts a read of the tiers. `done` runs with a reference to the record, or a status; at once or
 * later. */
void request_read(struct request *request);

/* Called before an answer is sent: the request no longer waits. Returns the h2o_req_t. */
h2o_req_t *request_take(struct request *request);

/* ---- Called by the loop ---- */
void request_replies(struct loop *loop);
void request_consistent_flush(struct loop *loop);
/* Sends off what was submitted in this round. */
void request_outgoing_flush(struct loop *loop);
void request_expire(struct loop *loop);
/* Answers 503 to all that wait. Their operations still come back. */
void request_end_all(struct loop *loop);

#endif
