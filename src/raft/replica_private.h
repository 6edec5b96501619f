/* The replica's insides, shared by its parts: replica.c (start, stop), loop.c (what its thread
 * runs), propose.c (writes into entries and back), join.c (making nodes voters), view.c (what
 * others may see), truncate.c (keeping the log short). Everything is the raft loop's but for what
 * is marked. */
#ifndef TIERKV_RAFT_REPLICA_PRIVATE_H
#define TIERKV_RAFT_REPLICA_PRIVATE_H

#include "command/command.h"
#include "raft/driver.h"
#include "raft/identity.h"
#include "raft/replica.h"
#include "raft/transport.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#define JOINS_MAX 16

/* Writes that travel in one log entry, until it is applied. */
struct batch {
    struct batch *next;
    raft_index index;
    raft_term term;
    size_t n;
    struct replica_operation *operations[];
};

/* A REPLICA_JOIN under way. */
struct join {
    struct replica_operation *operation; /* NULL: free slot */
    uint64_t deadline_ms;
    bool member_proposed;
    bool promotion_begun;
};

/* Operations that go back to one inbox, gathered so that its owner is woken once. */
struct replica_returns {
    struct inbox *inbox;
    struct inbox_item *first, *last;
    size_t n;
};

/* How far a start came; a failure takes down what each stage opened. */
enum replica_stage {
    REPLICA_STAGE_NONE,
    REPLICA_STAGE_LOOP,      /* uv_loop_init */
    REPLICA_STAGE_HANDLES,   /* replica_loop_open */
    REPLICA_STAGE_TRANSPORT, /* transport_open */
    REPLICA_STAGE_BACKEND,   /* raft_uv_init */
    REPLICA_STAGE_DRIVER,    /* driver_init */
    REPLICA_STAGE_RUNNING,   /* raft_io.init: from here on raft_io.close takes everything down */
};

struct replica {
    enum replica_stage stage;
    struct replica_options options; /* Its texts are copies */
    struct identity identity;
    struct tiers *tiers;
    struct command_state *state;

    pthread_t thread;
    uv_loop_t loop;
    uv_poll_t inbox_poll;
    uv_async_t wake; /* Any thread: something of the atomics below changed */
    uv_timer_t raft_timer;
    uv_timer_t housekeeping;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle; /* Active while there is more to apply: the loop must not sleep */

    struct transport *transport;
    struct raft_io io;
    int (*backend_truncate)(struct raft_io *io, raft_index index); /* io.truncate is ours */
    struct driver driver;

    struct inbox *inbox;
    _Atomic uint64_t waiting_bytes; /* Any thread. Of commands admitted and not yet returned */
    _Atomic uint64_t waiting_n;
    _Atomic bool stopping;
    _Atomic bool stopped; /* Failed: nothing is taken any more */
    _Atomic bool no_space;
    _Atomic uint64_t durable_index;
    _Atomic bool leader;
    _Atomic uint64_t view_version;

    struct replica_operation *pending; /* Writes not yet in an entry */
    struct replica_operation **pending_end;
    struct batch *batches; /* In flight, by index */
    struct batch **batches_end;
    size_t n_batches;
    struct command_result *results;
    size_t results_capacity;
    struct replica_returns returns;
    struct join joins[JOINS_MAX];

    uint64_t self_proposed_term; /* Own address or cluster id were proposed in this term */
    uint64_t last_contact_ms;
    raft_index catch_up_target; /* 0: not known yet */
    bool caught_up;
    bool too_far_behind;
    uint64_t disk_checked_ms;
    uint64_t refusal_logged_ms;
    uint64_t entries_appended;
    uint64_t batches_appended;

    pthread_mutex_t view_mutex;
    struct replica_view view; /* Under view_mutex */
};

uint64_t replica_now_ms(const struct replica *replica);
/* Gives the operation back with a status; it leaves with the next replica_returns_flush, at the end
 * of the loop's turn at the latest. */
void replica_return(struct replica *replica, struct replica_operation *operation, int status);
void replica_returns_flush(struct replica *replica);
/* What a request that needs the leader gets here. */
int replica_not_leader_status(struct replica *replica);

/* loop.c */
extern const struct driver_callbacks replica_loop_driver_callbacks;
/* The handles that the loop itself needs; replica_loop_close closes them, the loop then ends. 0, or
 * a UV_ code and nothing stays open. */
int replica_loop_open(struct replica *replica);
void replica_loop_close(struct replica *replica);
/* Of the raft_io. */
void replica_loop_received(struct raft_io *io, struct raft_message *message);
void replica_loop_tick(struct raft_io *io);
void replica_loop_io_closed(struct raft_io *io);
/* The thread; of the replica. */
void *replica_loop_run(void *argument);

/* admission.c */
extern const struct transport_callbacks admission_callbacks;
/* Remembers durably, if the node is in no cluster yet. */
void admission_adopt_cluster(struct replica *replica, uint64_t cluster_id);

/* propose.c */
void propose_take(struct replica *replica, struct replica_operation *operation);
void propose_pump(struct replica *replica);
/* Takes the command (malloc'ed; NULL: out of memory). Its result is nobody's. */
void propose_internal(struct replica *replica, void *command, size_t bytes);
/* Applies a committed command entry and returns its operations. 0 or a TIERS_ code. */
int propose_apply(struct replica *replica, raft_index index, raft_term term,
                  const struct raft_buffer *payload, bool *ret_members_changed);
/* Gives back the requesters' writes that wait and are not yet in an entry. */
void propose_refuse(struct replica *replica, int status);
/* Leadership is lost, or everything ends: what is in flight has an unknown outcome. */
void propose_abandon(struct replica *replica, int pending_status);

/* join.c */
void join_take(struct replica *replica, struct replica_operation *operation);
void join_advance(struct replica *replica);
void join_abandon(struct replica *replica, int status);
/* Proposes the cluster's id and this node's own address if the table lacks them. */
void join_self(struct replica *replica);

/* view.c */
void view_publish(struct replica *replica);
/* Publishes if role, term, leader or its address changed. */
void view_refresh(struct replica *replica);

/* truncate.c */
void truncate_log_if_long(struct replica *replica);
/* As raft_io.truncate, the other end of the log: what conflicts with the leader's. Notes first what
 * is about to happen, so that an interrupted one can be completed (segments.h). */
int truncate_backend(struct raft_io *io, raft_index index);
/* Is this the manifest of a snapshot at that index, of that cluster? */
bool truncate_manifest_check(const void *bytes, size_t n, raft_index index, uint64_t cluster_id,
                             char *error_text, size_t error_text_size);

#endif
