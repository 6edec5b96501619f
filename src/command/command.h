/* What stands in the Raft log: commands, and the entries that carry batches of them.
 *
 * An entry (all integers little-endian):
 *   u32 magic "TKV1"   u32 count   then per command: u32 bytes, command, zero padding to 8
 * padded with zeros to a multiple of 8 bytes (libraft's rule); or such an entry compressed, see
 * compression.h. A command:
 *   u8 type  u8 zero  u16 op count  u32 zero  u64 time_ms (proposer's wall clock)
 *   then per op: u8 op, u8 zero, u16 key_len, u32 value_len, u64 flags, u64 expires_ms, key, value
 * A MEMBER_SET command has one op, a put whose key is the node's raft id (8 bytes, big-endian) and
 * whose value is the member's JSON text; see command_member. MEMBER_REMOVE has one op, a delete of
 * the raft id; CLUSTER_INIT one put of the cluster id (as key, no value); CLUSTER_RESET one put of
 * the new cluster id, whose value is the raft id of the member that stays (8 bytes, big-endian).
 * Flags and expiry are 0 in deletes and in all of these. Each content has exactly one encoding.
 *
 * Encoding runs on the proposer's thread, decoding and applying on the raft loop; the decoder
 * trusts nothing, since entries come from disk and the network.
 */
#ifndef TIERKV_COMMAND_COMMAND_H
#define TIERKV_COMMAND_COMMAND_H

#include "tiers/tiers.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COMMAND_OPS_MAX 4096

enum command_type {
    COMMAND_WRITE = 1,         /* User keys: puts and deletes, atomically, one revision */
    COMMAND_MEMBER_SET = 2,    /* Adds or updates a member of the address table */
    COMMAND_MEMBER_REMOVE = 3, /* Removes one */
    COMMAND_CLUSTER_INIT =
        4, /* First command of a cluster: sets its id; later ones change nothing */
    COMMAND_CLUSTER_RESET = 5, /* The cluster begins anew, under another id, with one member */
};

enum command_op_type { COMMAND_OP_PUT = 1, COMMAND_OP_DELETE = 2 };

struct command_op {
    enum command_op_type type;
    const void *key;
    size_t key_len;
    const void *value;
    size_t value_len;
    uint64_t flags;
    uint64_t expires_ms;
};

/* Bytes that command_encode needs, or 0 if the command is not valid (sizes, counts, more than
 * 1 GiB). */
size_t command_size(enum command_type type, const struct command_op *ops, size_t n_ops);
/* Writes exactly command_size bytes. */
void command_encode(enum command_type type, const struct command_op *ops, size_t n_ops,
                    uint64_t time_ms, void *ret_bytes);

/* Bytes an entry needs for commands of these sizes: start with command_entry_begin_size, add
 * command_entry_item_size per command. The total is a multiple of 8. */
size_t command_entry_begin_size(void);
size_t command_entry_item_size(size_t command_bytes);

/* Writes an entry piece by piece into a buffer of the total size. */
struct command_entry_writer {
    unsigned char *next;
    unsigned char *base;
    uint32_t count;
};
void command_entry_begin(struct command_entry_writer *writer, void *buffer);
void command_entry_add(struct command_entry_writer *writer, const void *command, size_t bytes);
void command_entry_end(struct command_entry_writer *writer);

/* ------------------------------------------------------------------------------------- applying */

struct command_result {
    int status;        /* 0, or TIERS_BUSY: the member table is full. Replicated outcome */
    uint64_t revision; /* After the command */
};

struct command_state; /* The replicated state: tiers, plus the member table in memory */

/* A member of the cluster as the replicated table has it. */
#define COMMAND_ADDRESS_BYTES_MAX 255
#define COMMAND_NAME_BYTES_MAX    64
#define COMMAND_VERSION_BYTES_MAX 32
struct command_member {
    uint64_t raft_id;     /* Never 0 */
    uint64_t incarnation; /* Of the data directory; 0: not known */
    char name[COMMAND_NAME_BYTES_MAX + 1];
    char http_address[COMMAND_ADDRESS_BYTES_MAX + 1]; /* host:port that clients use */
    char raft_address[COMMAND_ADDRESS_BYTES_MAX + 1];
    char version[COMMAND_VERSION_BYTES_MAX + 1]; /* Of its program; empty: not known */
};
#define COMMAND_MEMBERS_MAX 16

/* Loads the member table and cluster id from the tiers (borrowed). 0; TIERS_VERSION: a later
 * version of the program has stored what this one does not know; another TIERS_ code. */
int command_state_open(struct tiers *tiers, struct command_state **ret_state);
void command_state_close(struct command_state *state);

/* Raft loop. Applies one committed entry as one group under `index`. `results` (NULL or room for
 * `n_results`) receives one result a command, in order; surplus ones are dropped.
 * *ret_members_changed becomes whether the member table or the cluster id did. 0; TIERS_CORRUPT if
 * the entry does not decode or has a command of an unknown type (nothing was applied); after
 * another TIERS_ code the group may be left open: none of it becomes durable. All are fatal. */
int command_apply_entry(struct command_state *state, uint64_t index, const void *entry,
                        size_t bytes, struct command_result *results, size_t n_results,
                        bool *ret_members_changed);
/* Raft loop, not while an entry is applied. Whether the entry sets the row of that member, and to
 * what last. */
bool command_entry_member(struct command_state *state, const void *entry, size_t bytes,
                          uint64_t raft_id, struct command_member *ret_member);
/* Advances the applied index over an entry that carries no commands (barrier, configuration). */
int command_apply_empty(struct command_state *state, uint64_t index);

/* Raft loop. Sorted by raft id; valid until the next entry is applied. */
const struct command_member *command_members(const struct command_state *state, size_t *ret_n);
const struct command_member *command_member_find(const struct command_state *state,
                                                 uint64_t raft_id);
uint64_t command_cluster_id(const struct command_state *state); /* 0: none yet */
/* The id before the last reset; 0: there was none. */
uint64_t command_cluster_id_before(const struct command_state *state);

/* Encoded commands, malloc'ed, the caller's; NULL: out of memory or invalid. */
void *command_member_set(const struct command_member *member, uint64_t time_ms, size_t *ret_bytes);
void *command_member_remove(uint64_t raft_id, uint64_t time_ms, size_t *ret_bytes);
void *command_cluster_init(uint64_t cluster_id, uint64_t time_ms, size_t *ret_bytes);
void *command_cluster_reset(uint64_t cluster_id, uint64_t raft_id, uint64_t time_ms,
                            size_t *ret_bytes);

#endif
