/* The bytes of commands and entries (command.h has the format). Pure functions, any thread.
 *
 * Encoding checks its input once, in command_size; decoding checks every byte that has only one
 * legal value and every length against what is left, so that damage is found before anything is
 * applied. */
#include "command/codec.h"

#include "command/little_endian.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#define ENTRY_HEAD_BYTES  8
#define LENGTH_BYTES      4
#define HEAD_BYTES        16
#define OP_HEAD_BYTES     24
#define COMMAND_BYTES_MAX (UINT32_C(1) << 30)

void command_id_encode(uint64_t id, unsigned char ret_key[static COMMAND_ID_BYTES])
{
    id = htobe64(id);
    memcpy(ret_key, &id, sizeof(id));
}

uint64_t command_id_decode(const unsigned char *key)
{
    uint64_t id;
    memcpy(&id, key, sizeof(id));
    return be64toh(id);
}

/* ------------------------------------------------------------------------------------- rules */

/* What a command of each type may consist of. Encoder and decoder ask the same questions. */
static bool op_valid(enum command_type type, const struct command_op *op)
{
    if (op->key_len == 0 || op->key_len > TIERS_KEY_BYTES_MAX ||
        op->value_len > TIERS_VALUE_BYTES_MAX)
        return false;
    if (op->type == COMMAND_OP_DELETE &&
        (op->value_len != 0 || op->flags != 0 || op->expires_ms != 0))
        return false;
    if (type == COMMAND_WRITE)
        return op->type == COMMAND_OP_PUT || op->type == COMMAND_OP_DELETE;
    if (op->key_len != COMMAND_ID_BYTES || command_id_decode(op->key) == 0 || op->flags != 0 ||
        op->expires_ms != 0)
        return false;
    if (type == COMMAND_MEMBER_REMOVE)
        return op->type == COMMAND_OP_DELETE;
    if (type == COMMAND_CLUSTER_INIT && op->value_len != 0)
        return false;
    if (type == COMMAND_CLUSTER_RESET &&
        (op->value_len != COMMAND_ID_BYTES || command_id_decode(op->value) == 0))
        return false;
    return op->type == COMMAND_OP_PUT;
}

static bool op_count_valid(enum command_type type, size_t n_ops)
{
    switch (type) {
    case COMMAND_WRITE:
        return n_ops >= 1 && n_ops <= COMMAND_OPS_MAX;
    case COMMAND_MEMBER_SET:
    case COMMAND_MEMBER_REMOVE:
    case COMMAND_CLUSTER_INIT:
    case COMMAND_CLUSTER_RESET:
        return n_ops == 1;
    }
    return false;
}

/* ------------------------------------------------------------------------------------- encoding */

size_t command_size(enum command_type type, const struct command_op *ops, size_t n_ops)
{
    if (!op_count_valid(type, n_ops))
        return 0;
    uint64_t bytes = HEAD_BYTES;
    for (size_t i = 0; i < n_ops; i++) {
        if (!op_valid(type, &ops[i]))
            return 0;
        bytes += OP_HEAD_BYTES + ops[i].key_len + ops[i].value_len;
    }
    return bytes <= COMMAND_BYTES_MAX ? bytes : 0;
}

void command_encode(enum command_type type, const struct command_op *ops, size_t n_ops,
                    uint64_t time_ms, void *ret_bytes)
{
    assert(op_count_valid(type, n_ops));
    unsigned char *at = ret_bytes;
    memset(at, 0, HEAD_BYTES);
    at[0] = (unsigned char)type;
    store_u16(at + 2, (uint16_t)n_ops);
    store_u64(at + 8, time_ms);
    at += HEAD_BYTES;
    for (size_t i = 0; i < n_ops; i++) {
        const struct command_op *op = &ops[i];
        assert(op_valid(type, op));
        at[0] = (unsigned char)op->type;
        at[1] = 0;
        store_u16(at + 2, (uint16_t)op->key_len);
        store_u32(at + 4, (uint32_t)op->value_len);
        store_u64(at + 8, op->flags);
        store_u64(at + 16, op->expires_ms);
        at += OP_HEAD_BYTES;
        memcpy(at, op->key, op->key_len);
        at += op->key_len;
        if (op->value_len > 0)
            memcpy(at, op->value, op->value_len);
        at += op->value_len;
    }
}

size_t command_entry_begin_size(void)
{
    return ENTRY_HEAD_BYTES;
}

size_t command_entry_item_size(size_t command_bytes)
{
    assert(command_bytes <= COMMAND_BYTES_MAX);
    return (LENGTH_BYTES + command_bytes + 7) / 8 * 8;
}

void command_entry_begin(struct command_entry_writer *writer, void *buffer)
{
    *writer = (struct command_entry_writer){.base = buffer,
                                            .next = (unsigned char *)buffer + ENTRY_HEAD_BYTES};
}

void command_entry_add(struct command_entry_writer *writer, const void *command, size_t bytes)
{
    assert(bytes >= HEAD_BYTES && writer->count < UINT32_MAX);
    size_t item_size = command_entry_item_size(bytes);
    store_u32(writer->next, (uint32_t)bytes);
    memcpy(writer->next + LENGTH_BYTES, command, bytes);
    memset(writer->next + LENGTH_BYTES + bytes, 0, item_size - LENGTH_BYTES - bytes);
    writer->next += item_size;
    writer->count++;
}

void command_entry_end(struct command_entry_writer *writer)
{
    store_u32(writer->base, COMMAND_ENTRY_MAGIC);
    store_u32(writer->base + 4, writer->count);
}

/* ------------------------------------------------------------------------------------- decoding */

void command_view_next(struct command_view *view, struct command_op *ret_op)
{
    const unsigned char *at = view->next_op;
    *ret_op = (struct command_op){
        .type = (enum command_op_type)at[0],
        .key_len = load_u16(at + 2),
        .value_len = load_u32(at + 4),
        .flags = load_u64(at + 8),
        .expires_ms = load_u64(at + 16),
        .key = at + OP_HEAD_BYTES,
    };
    ret_op->value = at + OP_HEAD_BYTES + ret_op->key_len;
    view->next_op = at + OP_HEAD_BYTES + ret_op->key_len + ret_op->value_len;
}

int command_decode(const void *bytes, size_t size, struct command_view *ret_view)
{
    const unsigned char *at = bytes;
    if (size < HEAD_BYTES || size > COMMAND_BYTES_MAX || at[1] != 0 || load_u32(at + 4) != 0)
        return TIERS_CORRUPT;
    struct command_view view = {
        .type = (enum command_type)at[0],
        .n_ops = load_u16(at + 2),
        .time_ms = load_u64(at + 8),
        .next_op = at + HEAD_BYTES,
    };
    if (!op_count_valid(view.type, view.n_ops))
        return TIERS_CORRUPT;
    struct command_view cursor = view;
    size_t left = size - HEAD_BYTES;
    for (size_t i = 0; i < view.n_ops; i++) {
        if (left < OP_HEAD_BYTES || cursor.next_op[1] != 0)
            return TIERS_CORRUPT;
        left -= OP_HEAD_BYTES;
        size_t key_len = load_u16(cursor.next_op + 2);
        size_t value_len = load_u32(cursor.next_op + 4);
        if (left < key_len || left - key_len < value_len)
            return TIERS_CORRUPT;
        left -= key_len + value_len;
        struct command_op op;
        command_view_next(&cursor, &op);
        if (!op_valid(view.type, &op))
            return TIERS_CORRUPT;
    }
    if (left != 0)
        return TIERS_CORRUPT;
    *ret_view = view;
    return 0;
}

int command_entry_decode(const void *entry, size_t bytes, struct command_entry_view *ret_view)
{
    const unsigned char *at = entry;
    if (bytes < ENTRY_HEAD_BYTES || bytes % 8 != 0 || load_u32(at) != COMMAND_ENTRY_MAGIC)
        return TIERS_CORRUPT;
    struct command_entry_view view = {.count = load_u32(at + 4), .next = at + ENTRY_HEAD_BYTES};
    at += ENTRY_HEAD_BYTES;
    size_t left = bytes - ENTRY_HEAD_BYTES;
    for (size_t i = 0; i < view.count; i++) {
        if (left < LENGTH_BYTES)
            return TIERS_CORRUPT;
        size_t size = load_u32(at);
        if (size > COMMAND_BYTES_MAX || command_entry_item_size(size) > left)
            return TIERS_CORRUPT;
        size_t item_size = command_entry_item_size(size);
        size_t used = LENGTH_BYTES + size;
        struct command_view command;
        if (command_decode(at + LENGTH_BYTES, size, &command) != 0 ||
            !all_zero(at + used, item_size - used))
            return TIERS_CORRUPT;
        at += item_size;
        left -= item_size;
    }
    if (left != 0)
        return TIERS_CORRUPT;
    *ret_view = view;
    return 0;
}

void command_entry_view_next(struct command_entry_view *view, struct command_view *ret_command)
{
    const unsigned char *at = view->next + LENGTH_BYTES;
    *ret_command = (struct command_view){
        .type = (enum command_type)at[0],
        .n_ops = load_u16(at + 2),
        .time_ms = load_u64(at + 8),
        .next_op = at + HEAD_BYTES,
    };
    view->next += command_entry_item_size(load_u32(view->next));
}
