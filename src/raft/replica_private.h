/* The replica's insides, shared by its parts: replica.c (start, stop), loop.c (what its thread
 * runs), propose.c (writes into entries and back), change.c with join.c, removal.c and handover.c
 * (changes of the membership), self.c (this node's own row), view.c (what others may see),
 * truncate.c (keeping the log short). Everything is the raft loop's but for what
 * is marked. */
#ifndef TIERKV_RAFT_REPLICA_PRIVATE_H
#define TIERKV_RAFT_REPLICA_PRIVATE_H

#include "command/command.h"
#include "command/compression.h"
#include "raft/driver.h"
#include "raft/identity.h"
#include "raft/replica.h"
#include "raft/transfer.h"
#include "raft/transport.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#define CHANGES_MAX 16

/* Writes that travel in one log entry, until it is applied. */
struct batch {
    struct batch *next;
    raft_index index;
    raft_term term;
    uint64_t submitted_ms;
    size_t n;
    struct replica_operation *operations[];
};

/* A change of the membership under way. */
struct change {
    struct replica_operation *operation; /* NULL: free slot */
    uint64_t turn;                       /* Changes are served by it, the least first */
    uint64_t deadline_ms;
    bool row_proposed;   /* And the table has not changed since */
    bool logged;         /* Something of it may be in the log */
    bool found;          /* The member that is to go was there */
    uint64_t probed_ms;  /* When the node that comes was last asked for an answer; 0: never */
    raft_id handover_to; /* To whom leadership was last offered; 0: nobody yet */
};

/* The catching up that is under way, as far as it has come. */
struct promotion {
    raft_id id; /* 0: none */
    raft_index match;
    uint64_t advanced_ms; /* When it came there */
    /* It is being given up, and this is the limit of a round to go back to; 0: it is not */
    unsigned round_ms_max;
};

/* A state that is being given to another node, or was a moment ago. */
#define TRANSFERS_MAX 2
struct transfer_serving {
    bool used;
    bool running; /* The thread has not been joined */
    struct replica *replica;
    uint64_t peer;
    raft_index hold; /* Entries behind it must stay in the log */
    uint64_t hold_until_ms;
    pthread_t thread;
    int fd;
    struct timespec began;
    uint64_t sent_bytes;
    _Atomic bool cancelled;
    _Atomic bool ended;

    pthread_mutex_t mutex; /* Guards what follows */
    pthread_cond_t answered;
    raft_index asked; /* The thread wants the manifest of this index; 0: no more */
    void *manifest;   /* The loop's answer; NULL: it cannot tell */
    size_t manifest_bytes;
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

/* What the log beyond the state says of a member's directory, as far as it has been looked at: an
 * entry is looked at once. */
struct admission_row {
    raft_id id;
    raft_index upto;
    uint64_t serial;      /* Of the entry `upto` */
    raft_index index;     /* The last entry that sets the member's row; 0: none, */
    uint64_t incarnation; /* and to what */
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
    struct command_compressor *compressor; /* NULL: no entries are compressed */
    struct command_result *results;
    size_t results_capacity;
    struct replica_returns returns;
    struct change changes[CHANGES_MAX];
    uint64_t turns; /* Given to changes so far */
    struct promotion promotion;
    uint64_t pending_until_ms; /* Leadership is lost: how long writes wait for a new leader */

    struct replica_change self; /* This node's own row, for the JOIN that sets it */
    struct admission_row rows[COMMAND_MEMBERS_MAX];
    unsigned n_rows;              /* Ever made: the oldest makes room */
    bool self_known;              /* self_is_known has found it */
    raft_term self_proposed_term; /* In which that, or the cluster's id, was proposed */
    uint64_t last_contact_ms;
    raft_index catch_up_target; /* 0: not known yet */
    bool caught_up;
    raft_index log_first_seen;      /* At which truncation_worth_it was found */
    raft_index truncation_worth_it; /* See truncate.c */
    raft_index flush_asked;         /* Likewise: 1 + what was durable then; 0: never asked */
    bool too_far_behind;
    struct transfer_serving servings[TRANSFERS_MAX];
    struct transfer_fetch *fetch; /* NULL: none under way */
    uint64_t fetch_after_ms;
    uint64_t fetch_pause_ms;
    bool state_received; /* A newer state waits for the next start */
    uint64_t disk_checked_ms;
    uint64_t disk_reserve_bytes; /* What the log may still take although the disk is nearly full */
    uint64_t refusal_logged_ms;
    uint64_t entries_appended;
    uint64_t batches_appended;
    uint64_t proposed_bytes;     /* Of entries as they were made, */
    uint64_t proposed_log_bytes; /* and as they are in the log */

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
/* Remembers another cluster instead of its own, durably. */
void admission_change_cluster(struct replica *replica, uint64_t cluster_id);

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
/* Leadership is lost: what is in flight has an unknown outcome; what is in no entry yet waits for a
 * moment, so that its requesters can be told the new leader. */
void propose_suspend(struct replica *replica);
/* Gives back suspended writes once a leader is known, or none was found in time. */
void propose_resume(struct replica *replica);
/* Everything ends: as suspended, and what waits is given back. */
void propose_abandon(struct replica *replica, int pending_status);

/* change.c */
void change_take(struct replica *replica, struct replica_operation *operation);
/* Does what is next for each change; once per turn of the loop. */
void change_advance(struct replica *replica);
/* Leadership is lost: changes wait for a moment, so that their requesters can be told the new
 * leader. */
void change_suspend(struct replica *replica);
/* Gives back all changes. */
void change_abandon(struct replica *replica, int status);
/* Leader, and what earlier leaders committed is applied: the member table is known. */
bool change_term_established(const struct replica *replica);
uint64_t change_wall_clock_ms(void);
/* Writes the sentence that explains a refusal. */
__attribute__((format(printf, 2, 3))) void change_explain(struct change *change, const char *format,
                                                          ...);
/* Proposes a command about a row, once until it is applied. Takes it (malloc'ed; NULL: out of
 * memory, tried again). */
void change_propose_row(struct replica *replica, struct change *change, void *command,
                        size_t bytes);

/* Whether the server that is being caught up has not come further for a while. */
bool change_promotion_stalls(const struct replica *replica);
/* Has the core end the catching up that is under way, at its next timeout. The changes that wait
 * for it go on when all others have had their turn. */
void change_promotion_give_up(struct replica *replica);

/* The member table has changed. */
void change_rows_changed(struct replica *replica);

/* What a look at a change found: */
#define CHANGE_WAITS 1 /* Something is under way; else 0 for done, or a REPLICA_ code */

/* join.c: of change->operation->change->join. */
int join_step(struct replica *replica, struct change *change);
bool join_row_equals(const struct command_member *row, const struct replica_join *join);
/* removal.c: of the member `name`. */
int removal_step(struct replica *replica, struct change *change, const char *name);
/* Of its server alone; the row stays. Never 0: it is done when the server is gone. */
int removal_server_step(struct replica *replica, struct change *change,
                        const struct raft_server *server, const char *name);
/* handover.c: of leadership to the voter `name`, or to any if it is empty. */
int handover_step(struct replica *replica, struct change *change, const char *name);

/* self.c: proposes the cluster's id and this node's own row if the table lacks them. */
void self_prepare(struct replica *replica);
void self_register(struct replica *replica);
/* Whether the state or the log has this node's row, of this incarnation: an entry that makes it a
 * voter follows behind it. Before, what it finds in the log is another's past. */
bool self_is_known(struct replica *replica);
bool self_registered(const struct replica *replica);

/* view.c */
void view_publish(struct replica *replica);
/* Publishes if role, term, leader or its address changed. */
void view_refresh(struct replica *replica);

/* truncate.c */
/* Bytes of the log that a truncation can free: what the newest snapshot names always stays. */
size_t truncate_log_bytes(const struct replica *replica);
void truncate_log_if_long(struct replica *replica);
/* As raft_io.truncate, the other end of the log: what conflicts with the leader's. Notes first what
 * is about to happen, so that an interrupted one can be completed (segments.h). */
int truncate_backend(struct raft_io *io, raft_index index);
#define TRUNCATE_CONTENTS_BYTES 24
/* What a snapshot at that index contains. */
void truncate_contents(uint64_t cluster_id, raft_index index,
                       unsigned char ret_bytes[TRUNCATE_CONTENTS_BYTES]);
/* Is this the manifest of a snapshot at that index, of that cluster? */
bool truncate_manifest_check(const void *bytes, size_t n, raft_index index,
                             const struct command_state *state, char *error_text,
                             size_t error_text_size);

#endif
