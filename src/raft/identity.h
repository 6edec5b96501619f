/* Who this node is: the file DIR/node, written once and kept as long as the data directory.
 *
 *   {"format": 1, "name": "node1", "raft_id": "…", "incarnation": "…", "cluster_id": "…", "check":
 * "…"}
 *
 * Numbers are hexadecimal text; the check covers all others, and may be absent in an old file. The
 * Raft id follows from the name, so that whoever asks for a node to be joined by hand needs to know
 * no number. The incarnation is random: a node that lost its directory comes back under its name
 * but with another incarnation, and is not taken for the voter that it was, whose vote and log it
 * has forgotten.
 */
#ifndef TIERKV_RAFT_IDENTITY_H
#define TIERKV_RAFT_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct identity {
    char name[65];
    uint64_t raft_id;
    uint64_t incarnation;
    uint64_t cluster_id; /* 0: in no cluster yet */
};

/* A name is 1 to 64 of A-Z a-z 0-9 . _ - */
bool identity_name_valid(const char *name);
/* Never 0, below 2^62. Any thread. */
uint64_t identity_raft_id(const char *name);

/* Reads the file, or makes it for `name`; "" is whatever name the file has, and node1 for a new
 * one. Refuses another name and unknown formats with one sentence in error_text (-1). */
int identity_open(const char *path, const char *name, struct identity *ret_identity,
                  char *error_text, size_t error_text_size);
/* Writes the file anew, durably: 0, or -1 with errno. */
int identity_store(const char *path, const struct identity *identity);

#endif
