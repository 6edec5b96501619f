/* The member table: its form in the tiers (one JSON text a member) and its copy in memory. */
#ifndef TIERKV_COMMAND_MEMBERS_H
#define TIERKV_COMMAND_MEMBERS_H

#include "command/command.h"

/* Sorted by raft_id. */
struct members {
    size_t n;
    struct command_member table[COMMAND_MEMBERS_MAX];
};

const struct command_member *members_find(const struct members *members, uint64_t raft_id);
/* Adds or replaces. False: there is no room. */
bool members_set(struct members *members, const struct command_member *member);
/* False: there was none. */
bool members_remove(struct members *members, uint64_t raft_id);

bool members_equal(const struct command_member *a, const struct command_member *b);

/* The member's JSON text without its raft_id, malloc'ed; NULL: out of memory or not valid. */
char *member_encode(const struct command_member *member);
/* 0; TIERS_CORRUPT: not such a text, or a field out of range; TIERS_NO_MEMORY. */
int member_decode(uint64_t raft_id, const void *text, size_t bytes,
                  struct command_member *ret_member);

/* Keys in TIERS_SPACE_SYSTEM. */
#define MEMBER_KEY_BYTES 23 /* "member/" and 16 hexadecimal digits */
#define CLUSTER_KEY      "cluster"
/* The id before the last reset. */
#define CLUSTER_KEY_BEFORE "cluster/before"
void member_key(uint64_t raft_id, char ret_key[static MEMBER_KEY_BYTES + 1]);
/* False: not a member's key. */
bool member_key_parse(const void *key, size_t key_len, uint64_t *ret_raft_id);

/* The cluster's JSON text, malloc'ed; NULL: out of memory. */
char *cluster_encode(uint64_t cluster_id);
/* As member_decode. */
int cluster_decode(const void *text, size_t bytes, uint64_t *ret_cluster_id);

#endif
