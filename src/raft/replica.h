/* A replica: this node's part in the Raft group. The only header of src/raft that others include.
 *
 * It runs one thread with a libuv loop of its own, on which libraft is driven and committed entries
 * are applied to the tiers. Requests reach it as operations: objects that travel to the raft loop
 * through a bounded inbox and come back exactly once, into the inbox that the requester named.
 */
#ifndef TIERKV_RAFT_REPLICA_H
#define TIERKV_RAFT_REPLICA_H

#include "bridge/inbox.h"
#include "tiers/tiers.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLICA_ERRORS(X)                                                                          \
    X(REPLICA_NOT_LEADER, -1, "this node is not the leader")                                       \
    X(REPLICA_NO_LEADER, -2, "no leader is known")                                                 \
    X(REPLICA_BUSY, -3, "too many requests are waiting")                                           \
    X(REPLICA_UNKNOWN, -4, "leadership was lost meanwhile: the outcome is unknown")                \
    X(REPLICA_TOO_LARGE, -5, "the request is too large")                                           \
    X(REPLICA_NO_SPACE, -6, "the disk is full")                                                    \
    X(REPLICA_SHUTDOWN, -7, "the node is shutting down")                                           \
    X(REPLICA_CONFLICT, -8, "the request conflicts with the cluster's membership")                 \
    X(REPLICA_UNREACHABLE, -9, "the node did not answer or did not catch up in time")              \
    X(REPLICA_NO_MEMORY, -10, "out of memory")                                                     \
    X(REPLICA_STOPPED, -11, "the node stopped after a failure")                                    \
    X(REPLICA_INVALID, -12, "an argument is out of its range")                                     \
    X(REPLICA_NO_MEMBER, -13, "there is no such member")

enum replica_error {
#define X(name, code, message) name = code,
    REPLICA_ERRORS(X)
#undef X
};
const char *replica_strerror(int error);

/* ------------------------------------------------------------------------------------- operations
 */

enum replica_operation_type {
    REPLICA_WRITE,      /* Propose a command; done when applied here */
    REPLICA_READ_INDEX, /* Done when a read of the local state is linearizable */
    REPLICA_JOIN,       /* Make a node a voter, or update its addresses; done when it is */
    REPLICA_REMOVE,     /* Take a member out of the cluster; done when it is out */
    REPLICA_REPLACE,    /* A join, and then the removal of another member */
    REPLICA_TRANSFER,   /* Make another voter the leader; done when it is */
};

/* Made and freed by the requester; between replica_submit and its return through `reply` it belongs
 * to the raft loop. */
struct replica_operation {
    struct inbox_item item; /* First: an inbox_item * taken from `reply` is this operation */
    enum replica_operation_type type;
    struct inbox *reply; /* Gets it back; must outlive it */
    void *owner;         /* The requester's */
    void *replica_;      /* The replica's, while it has the operation */

    int status;        /* Result: 0 or REPLICA_ */
    uint64_t revision; /* Result of a write */
    uint64_t index;    /* Result: log index of the write, or read index */

    union {
        struct {
            void *command; /* malloc'ed, encoded (replica_write_new makes it) */
            size_t command_bytes;
        };
        struct replica_change *change; /* Of the membership. Borrowed until the return */
    };
};

struct replica_join {
    char name[65]; /* 1 to 64 of A-Z a-z 0-9 . _ - */
    char http_address[256];
    char raft_address[256];
    char version[33];     /* Of the node's program; empty: not told */
    uint64_t incarnation; /* 0: not told */
};

#define REPLICA_DETAIL_BYTES 256

struct replica_change {
    struct replica_join join; /* JOIN, REPLACE: the node that comes */
    char name[65];            /* REMOVE, REPLACE: who goes. TRANSFER: who leads; empty: any voter */
    bool force;               /* REMOVE, REPLACE: even if the remaining voters are no quorum */
    char detail[REPLICA_DETAIL_BYTES]; /* Result: one sentence why not; may be empty */
};

struct replica_put {
    const void *key;
    size_t key_len;
    const void *value;
    size_t value_len;
};

#define REPLICA_PUTS_MAX 4096

struct replica;

/* An operation that sets all these keys atomically / deletes one key. Copies everything. NULL: out
 * of memory or a size out of range. Any thread. */
struct replica_operation *replica_put_new(const struct replica_put *puts, size_t n);
struct replica_operation *replica_delete_new(const void *key, size_t key_len);
struct replica_operation *replica_read_index_new(void);
/* JOIN, REMOVE, REPLACE or TRANSFER. NULL: out of memory, or a name or an address is not valid. */
struct replica_operation *replica_change_new(enum replica_operation_type type,
                                             struct replica_change *change);
void replica_operation_free(struct replica_operation *operation);

/* Any thread. Never blocks. 0, or REPLICA_BUSY, REPLICA_SHUTDOWN, REPLICA_NO_SPACE: the operation
 * stays the caller's. Statuses NOT_LEADER and NO_LEADER come back like any other. */
int replica_submit(struct replica *replica, struct replica_operation *operation);

/* The same in two steps, for a caller that gathers operations: each is admitted alone, with
 * replica_submit's results, and what was admitted is sent off at once, linked by item.next from
 * `first` to `last`. */
int replica_admit(struct replica *replica, const struct replica_operation *operation);
void replica_send(struct replica *replica, struct replica_operation *first,
                  struct replica_operation *last, size_t n);

/* ------------------------------------------------------------------------------------------- view
 */

enum replica_role { REPLICA_FOLLOWER, REPLICA_CANDIDATE, REPLICA_LEADER, REPLICA_JOINING };
const char *replica_role_name(enum replica_role role);

#define REPLICA_MEMBERS_MAX 16

struct replica_member {
    uint64_t raft_id;
    char name[65];
    char http_address[256];
    char raft_address[256];
    enum { REPLICA_MEMBER_VOTER, REPLICA_MEMBER_STANDBY, REPLICA_MEMBER_SPARE } role;
    char version[33]; /* Of its program, as it last told; empty: never */
    /* Known by the leader only, else 0: */
    uint64_t match_index;
    uint64_t last_contact_ms; /* Since it was last heard of; UINT64_MAX: not in this term */
    bool too_far_behind; /* Needs a state transfer. Known by the leader, and by the node itself */
};

/* What the raft loop last published. A plain copy: no lock is held while it is used. */
struct replica_view {
    enum replica_role role;
    uint64_t term;
    uint64_t leader_id;            /* 0: none known */
    char leader_http_address[256]; /* Empty: none known, or its address is not known yet */
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t last_log_index;
    uint64_t first_log_index;
    uint64_t log_bytes;       /* Memory of the log cache */
    uint64_t last_contact_ms; /* Since the leader was last heard of; 0 on the leader */
    uint64_t proposals_waiting;
    bool caught_up; /* Has applied all that was committed when it started or was elected */
    bool too_far_behind;
    bool no_space;
    bool registered; /* A voter whose row in the member table is as this node would have it */
    uint64_t cluster_id;
    uint64_t entries_appended, batches_appended, read_rounds, elections; /* Counters */
    uint64_t proposed_bytes,
        proposed_log_bytes; /* Likewise: of entries before compression, after */
    size_t n_members;
    struct replica_member members[REPLICA_MEMBERS_MAX];
};

/* Any thread. Changes whenever role, term, leader or its address do: compare before copying. One
 * atomic load. */
uint64_t replica_view_version(const struct replica *replica);
/* Any thread; takes a mutex for the copy. */
void replica_view(const struct replica *replica, struct replica_view *ret_view);
/* Any thread, one atomic load: may a `default` read be answered here? */
bool replica_is_leader(const struct replica *replica);

/* --------------------------------------------------------------------------------- start and stop
 */

/* Where a state that comes from another node goes. */
struct replica_state_paths {
    char warm[4096]; /* Directories, absent or empty; their parents exist */
    char cold[4096];
    char manifest[4096]; /* A file */
};

struct replica_options {
    const char *directory;     /* DIR/raft; exists */
    const char *identity_path; /* DIR/node */
    const char *name;          /* Empty: the one stored at identity_path, or "node1" if none is */
    const char *raft_address;  /* Advertised to peers */
    const char *raft_listen;   /* host:port to bind */
    const char *http_address;  /* Advertised to clients */
    const char *version;       /* Of the program, for the member table */
    bool bootstrap; /* If the directory is new: form a cluster of one. Else wait to be joined */
    /* The majority is lost for good: this node becomes the only member of a new cluster, with all
     * that it has. Nobody of the old one may ever be started with its old directory. */
    bool force_new_cluster;
    uint32_t election_timeout_ms;
    uint32_t heartbeat_ms;
    uint32_t operations_max;       /* Waiting operations; beyond: REPLICA_BUSY */
    uint64_t operations_bytes_max; /* Of their commands */
    uint64_t entry_bytes_max;      /* A batch closes at this size */
    uint32_t entries_in_flight_max;
    bool log_compression;     /* Of entries that it makes as the leader; it reads both kinds */
    uint64_t log_cache_bytes; /* Truncation keeps the in-memory log about below this */
    /* Writes are refused when the log's disk has less than this, or than 16 MiB. */
    uint64_t disk_free_bytes_min;
    uint64_t transfer_bytes_per_second_max; /* At which a state is sent; 0: no limit */
    /* Disk for the log that members which are away will want. If it does not suffice, they get the
     * state. */
    uint64_t log_retained_bytes;
    /* Disk for the log that a node which is given the state will want. If it does not suffice, the
     * transfer begins anew. */
    uint64_t transfer_log_bytes_max;
    struct tiers *tiers; /* Borrowed */

    /* State transfer. The file that came with the live state, if it was copied from another node;
     * NULL: there can be none. */
    const char *manifest_path;
    /* Called on a thread of the replica's, with text for the reason of a failure (-1). NULL: the
     * state cannot be replaced here. begin makes an empty place for a new state; commit makes what
     * lies there the live state of the next start, atomically and durably. */
    int (*state_begin)(void *context, struct replica_state_paths *ret_paths, char *error_text,
                       size_t error_text_size);
    int (*state_commit)(void *context, char *error_text, size_t error_text_size);
    /* From the raft thread, once: stop the replica and close the tiers, and start both again on
     * the new state. */
    void (*state_received)(void *context);
    /* From the raft thread, once: the node cannot go on. */
    void (*on_failed)(void *context, const char *reason);
    void *context;
};

/* Loads, starts the thread, returns when the peer port listens. */
int replica_start(const struct replica_options *options, struct replica **ret_replica,
                  char *error_text, size_t error_text_size);
/* A leader hands leadership to another voter; blocks until it is done, at most for a few election
 * timeouts. True if this node is not the leader (any more). Any thread, before replica_stop. */
bool replica_hand_over(struct replica *replica);
/* Returns every operation, stops the thread, frees. The tiers stay open. */
void replica_stop(struct replica *replica);

/* To be called by the tiers' callbacks (any thread): entries up to index are durable in the tiers /
 * the tiers take writes again. */
void replica_on_durable(struct replica *replica, uint64_t index);
void replica_on_tiers_ready(struct replica *replica);

/* The name in force; valid as long as the replica. */
const char *replica_name(const struct replica *replica);
uint64_t replica_raft_id(const struct replica *replica);
uint64_t replica_incarnation(const struct replica *replica);

#endif
