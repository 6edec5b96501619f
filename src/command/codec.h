/* Reading commands and entries back: the half of the codec that only apply (and the fuzzer) uses.
 * Nothing here allocates; everything points into the bytes that were handed in. */
#ifndef TIERKV_COMMAND_CODEC_H
#define TIERKV_COMMAND_CODEC_H

#include "command/command.h"

#define COMMAND_ENTRY_MAGIC UINT32_C(0x31564b54) /* "TKV1" */

/* Keys of member and cluster commands: an id of 8 bytes, big-endian. */
#define COMMAND_ID_BYTES 8

/* A command whose form has been checked: iterating over it needs no further check. */
struct command_view {
    enum command_type type;
    size_t n_ops;
    uint64_t time_ms;
    const unsigned char *next_op; /* Moved on by command_view_next */
};

/* 0, or TIERS_CORRUPT: the bytes are not exactly one well-formed command of a known type. What a
 * member's JSON says is not looked at. */
int command_decode(const void *bytes, size_t size, struct command_view *ret_view);
/* The next of n_ops operations; must not be called more often. */
void command_view_next(struct command_view *view, struct command_op *ret_op);

struct command_entry_view {
    size_t count;              /* Commands */
    const unsigned char *next; /* Moved on by command_entry_view_next */
};

/* 0, or TIERS_CORRUPT: the bytes are not exactly one entry of well-formed commands. */
int command_entry_decode(const void *entry, size_t bytes, struct command_entry_view *ret_view);
/* The next of `count` commands; must not be called more often. */
void command_entry_view_next(struct command_entry_view *view, struct command_view *ret_command);

void command_id_encode(uint64_t id, unsigned char ret_key[static COMMAND_ID_BYTES]);
uint64_t command_id_decode(const unsigned char *key);

#endif
