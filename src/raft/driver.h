/* Drives libraft's sans-I/O core (raft_step) over a raft_io backend: events in, updates out.
 *
 * The driver knows neither thread nor event loop: time, the timer and everything that commits go
 * through driver_callbacks, so that several drivers can run in one process over a simulated clock,
 * disk and network. All functions belong to one thread, on which raft_io calls back too.
 *
 * Parts: driver.c (the step), receive.c (messages, before it), driver_start.c (start and stop),
 * send.c (messages out), commit.c (applying), snapshot.c (log truncation), read_index.c
 * (linearizable reads), membership.c (changes of the configuration).
 */
#ifndef TIERKV_RAFT_DRIVER_H
#define TIERKV_RAFT_DRIVER_H

#include "raft/log_cache.h"
#include "raft/log_spill.h"
#include "raft/pace.h"

#include <raft.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DRIVER_PEERS_MAX 32
/* Of a longer address nothing is remembered. */
#define DRIVER_ADDRESS_BYTES 256
/* A peer that is too far behind is told so this often: an offer may get lost, above all the first
 * one to a peer that has just gone. */
#define DRIVER_SNAPSHOT_OFFER_MS 2000

struct driver;

struct driver_callbacks {
    /* Milliseconds; the clock of the core's timeouts. */
    uint64_t (*now_ms)(void *context);
    /* driver_timeout is to be called at that time, and not at the one set before. */
    void (*set_timer)(void *context, uint64_t at_ms);
    /* An entry is committed. Non-zero: the node cannot go on. */
    int (*apply)(void *context, raft_index index, raft_term term, enum raft_entry_type type,
                 const struct raft_buffer *payload);
    /* How much work that is, in bytes. NULL: the payload's. */
    size_t (*apply_bytes)(void *context, const struct raft_buffer *payload);
    /* May entries be applied now? If not, driver_resume follows. */
    bool (*apply_ready)(void *context);
    /* Role or term changed. */
    void (*state_changed)(void *context);
    /* Does the log, or the state, say that this node is who it is? Until then it does not stand for
     * election: a node that came back under its old name with an empty disk finds itself a voter,
     * or the only one, in the configurations of long ago that it is sent first. */
    bool (*may_stand)(void *context);
    /* May a command of the leader be added to the log now? If not, neither it nor what follows it
     * is taken, and the leader repeats it. held_bytes: how much of the log in memory is known to
     * be committed, which gets less as it is applied here and the log truncated. `former`: an
     * earlier leader's; this one can commit nothing before its followers have those. */
    bool (*log_takes)(void *context, size_t held_bytes, size_t bytes, bool former);
    /* At the start: whether the contents of the snapshot on disk are known and fit the state. If
     * not, error_text says why. */
    bool (*manifest_fits)(void *context, const void *manifest, size_t bytes, raft_index index,
                          char *error_text, size_t error_text_size);
    /* The leader has a snapshot for us that goes beyond our log, which is too old to be continued.
     * Said again and again. */
    void (*snapshot_offered)(void *context, raft_index index);
    /* A peer needs entries that the log no longer has. */
    void (*peer_too_far_behind)(void *context, raft_id id, raft_index first_index);
    /* Once: nothing is done from now on. */
    void (*failed)(void *context, const char *reason);
};

struct driver_peer {
    raft_id id;
    size_t queued_bytes;  /* Payload handed to the backend and not yet sent */
    size_t queued;        /* Messages, likewise */
    uint64_t nonce_acked; /* Newest read round that the peer has confirmed */
    uint64_t offered_ms;  /* When a snapshot was offered last; 0: never in this term */
    bool snapshot_due;    /* The core wants to send the snapshot: it does not know what there is */
    raft_index told_last; /* Where the peer's log ends, as it last said; 0: nowhere, or not known */
    uint64_t heard_ms;    /* When a message of the peer came last; 0: never */
    bool too_far_behind;
    raft_index paced_upto; /* Sent to it at a pace, and waited for: see send.c */
    uint64_t paced_ms;
    /* Where it last said it was, in place of what the configuration had; "": just there. */
    char moved_to[DRIVER_ADDRESS_BYTES];
    char moved_from[DRIVER_ADDRESS_BYTES];
};

typedef void (*driver_read_done)(void *owner, int status, raft_index index);

struct driver_read {
    driver_read_done done;
    void *owner;
    raft_index index; /* To be applied before the read is served */
    uint64_t nonce;   /* Confirmed once a majority has acknowledged this round or a later one */
    bool confirmed;
    struct driver_read *next;
};

struct driver {
    struct raft raft;
    struct raft_io *io;
    const struct driver_callbacks *callbacks;
    void *context;
    struct log_cache log;
    struct log_spill
        spill;           /* What peers may ask for from before it: up to log.first - 1, or empty */
    raft_term disk_term; /* What the backend has stored */
    raft_id disk_vote;
    raft_index persisted;      /* Stored here, to be reported; 0: nothing new */
    raft_index applied;        /* Handed to callbacks.apply, or in the state when we started */
    raft_index committed_seen; /* Configurations up to here were reported to the core */
    raft_index snapshot_index; /* Of the newest snapshot on disk */
    raft_term snapshot_term;
    raft_index election_index; /* First entry of our term as leader; before it nothing is served */
    uint64_t elected_ms;
    raft_index configuration_index;
    struct raft_configuration configuration; /* As of committed_seen */
    uint64_t timer_ms;                       /* Armed for; 0: not */
    uint64_t last_timeout_ms;
    uint64_t last_append_ms; /* When the core last had AppendEntries sent, to anybody */
    bool barrier_due;        /* Leader, and no entry of the term exists yet */
    bool committing;
    bool closing;
    bool failed;
    bool snapshotting;
    raft_id promoting; /* Being caught up, to become a voter; 0: none */
    raft_id successor; /* To be handed leadership once the log is at rest; 0: nobody */
    uint64_t successor_until_ms;
    struct driver_peer peers[DRIVER_PEERS_MAX];
    size_t n_peers;
    uint64_t nonce; /* Of the newest read round */
    uint64_t nonce_ms;
    struct driver_read *reads;
    struct driver_read **reads_end;
    struct pace pace;                   /* Of what servers without a vote are sent */
    struct raft_entry *message_entries; /* Scratch for AppendEntries */
    size_t message_entries_capacity;
    uint64_t read_rounds; /* Counters */
    uint64_t elections;
};

struct driver_options {
    raft_id id;
    const char *address;
    uint32_t election_timeout_ms;
    uint32_t heartbeat_ms;
    unsigned seed;
    raft_index applied; /* What the state already contains */
    /* Where entries are kept that are for peers only (see log_spill.h); 0 bytes: nowhere. */
    const char *spill_directory;
    uint64_t spill_bytes_max;
    uint64_t spill_free_bytes_min;
};

/* The backend is initialised by the caller after driver_init, with raft.address as its address. */
int driver_init(struct driver *driver, struct raft_io *io, const struct driver_options *options,
                const struct driver_callbacks *callbacks, void *context);
/* Loads from the backend and starts the core. -1: error_text says why not. */
int driver_start(struct driver *driver, char *error_text, size_t error_text_size);
/* No step from now on; reads under way are answered with RAFT_SHUTDOWN. The backend is then to be
 * closed, and after it driver_close frees. */
void driver_stop(struct driver *driver);
void driver_close(struct driver *driver);

/* Makes sure that the backend has stored a term, so that the log is seen to be in use. 0, or the
 * driver has failed. */
int driver_mark_log(struct driver *driver);

void driver_timeout(struct driver *driver);
/* Reports what was persisted, and gives a new leader the first entry of its term; to be called
 * once per loop iteration. */
void driver_flush(struct driver *driver);
/* Applies what is committed; at most some entries a call. True: there is more. */
bool driver_resume(struct driver *driver);
void driver_receive(struct driver *driver, struct raft_message *message);

/* The connection to the peer is broken, and the backend would learn it from the next message: it is
 * given one that does no harm, so that it connects anew before one is sent that matters. */
void driver_reconnect(struct driver *driver, raft_id id);

bool driver_is_leader(const struct driver *driver);
/* Appends one entry to the log. The payload (raft_malloc, a multiple of 8 bytes) is taken on
 * success. RAFT_NOTLEADER, RAFT_NOMEM. */
int driver_submit(struct driver *driver, enum raft_entry_type type, struct raft_buffer payload,
                  raft_index *ret_index);

/* An entry of that size was committed so many milliseconds after it was submitted: for the pace at
 * which those who lag behind are sent theirs. */
void driver_note_commit(struct driver *driver, uint64_t took_ms, size_t bytes);

/* Takes a snapshot whose contents are a few bytes (copied) at `index`, applied and durable, and
 * truncates the log so that about `trailing` entries before it stay. Peers can be sent what is
 * truncated from `wanted` on nevertheless, if the disk allows; UINT64_MAX: nothing is wanted.
 * RAFT_BUSY: not now. */
int driver_snapshot(struct driver *driver, raft_index index, unsigned trailing, raft_index wanted,
                    const void *manifest, size_t manifest_bytes);

/* Calls done once a read of the local state is linearizable. RAFT_NOTLEADER, RAFT_NOMEM. */
int driver_read(struct driver *driver, driver_read_done done, void *owner);

/* One change of the configuration at a time: RAFT_CANTCHANGE while another is under way. */
int driver_server_add(struct driver *driver, raft_id id, const char *address, int role);
int driver_server_assign(struct driver *driver, raft_id id, int role);
int driver_server_remove(struct driver *driver, raft_id id);
int driver_server_readdress(struct driver *driver, raft_id id, const char *address);
/* Catches a spare up; then it becomes a voter by itself. *ret: see raft_catch_up. */
int driver_server_promote(struct driver *driver, raft_id id);
/* The configuration that goes with an index that the state contains, itself in the log: the newest
 * committed one, or a still newer one that is known to be committed since the state contains it.
 * The caller's. RAFT_NOMEM, RAFT_MALFORMED. */
int driver_configuration_applied(const struct driver *driver, raft_index index,
                                 struct raft_configuration *ret_configuration,
                                 raft_index *ret_configuration_index);
const struct raft_server *driver_server_find(const struct driver *driver, raft_id id);
/* Whether a message of that peer came within the last election timeout, or it is this node. */
bool driver_peer_answers(const struct driver *driver, raft_id id);
/* Leader for so short a time that peers may simply not have answered yet. */
bool driver_newly_elected(const struct driver *driver);

/* Hands leadership to another voter once it has the whole log and all of that is committed. Nothing
 * can be submitted meanwhile: until there is another leader, or, after an election timeout each for
 * the log and for the voter to act, it is given up. RAFT_BADID: not another voter. RAFT_NOTLEADER:
 * not leader, or a transfer is under way. */
int driver_transfer(struct driver *driver, raft_id id);
/* Whether one is under way. */
bool driver_transferring(const struct driver *driver);

/* ---- Between the parts of the driver ---- */

int driver_step(struct driver *driver, struct raft_event *event);
__attribute__((format(printf, 2, 3))) void driver_fail(struct driver *driver, const char *format,
                                                       ...);
struct driver_peer *driver_peer(struct driver *driver, raft_id id);
void driver_send(struct driver *driver, const struct raft_message *message);
void driver_send_plain(struct driver *driver, const struct raft_message *message);
/* A peer said how it took entries. */
void driver_answered(struct driver *driver, raft_id id,
                     const struct raft_append_entries_result *result);
void driver_message_free(struct raft_message *message);
void driver_commit(struct driver *driver);
bool driver_read_result(struct driver *driver, const struct raft_message *message);
void driver_reads_serve(struct driver *driver);
void driver_reads_fail(struct driver *driver, int status);
void driver_reads_retry(struct driver *driver);
/* From which entry on peers can be continued. */
raft_index driver_log_first(const struct driver *driver);
void driver_promotion_check(struct driver *driver);
void driver_transfer_check(struct driver *driver);
int driver_configuration_copy(const struct raft_configuration *from, struct raft_configuration *to);

#endif
