/* Making operations: runs on the requester's thread, so that the raft loop only copies bytes. */
#include "address.h"
#include "command/command.h"
#include "raft/identity.h"
#include "raft/replica.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t wall_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct replica_operation *operation_new(enum replica_operation_type type)
{
    struct replica_operation *operation = calloc(1, sizeof *operation);

    if (operation != NULL)
        operation->type = type;
    return operation;
}

static struct replica_operation *write_new(const struct command_op *ops, size_t n)
{
    size_t bytes = command_size(COMMAND_WRITE, ops, n);
    struct replica_operation *operation = bytes > 0 ? operation_new(REPLICA_WRITE) : NULL;

    if (operation == NULL)
        return NULL;
    operation->command = malloc(bytes);
    if (operation->command == NULL) {
        free(operation);
        return NULL;
    }
    operation->command_bytes = bytes;
    command_encode(COMMAND_WRITE, ops, n, wall_clock_ms(), operation->command);
    return operation;
}

static struct command_op put_op(const struct replica_put *put)
{
    return (struct command_op){.type = COMMAND_OP_PUT,
                               .key = put->key,
                               .key_len = put->key_len,
                               .value = put->value,
                               .value_len = put->value_len};
}

struct replica_operation *replica_put_new(const struct replica_put *puts, size_t n)
{
    struct replica_operation *operation;
    struct command_op one, *ops = &one;

    if (n == 0 || n > COMMAND_OPS_MAX)
        return NULL;
    if (n > 1 && (ops = malloc(n * sizeof *ops)) == NULL)
        return NULL;
    for (size_t i = 0; i < n; i++)
        ops[i] = put_op(&puts[i]);
    operation = write_new(ops, n);
    if (ops != &one)
        free(ops);
    return operation;
}

struct replica_operation *replica_delete_new(const void *key, size_t key_len)
{
    struct command_op op = {.type = COMMAND_OP_DELETE, .key = key, .key_len = key_len};

    return write_new(&op, 1);
}

struct replica_operation *replica_read_index_new(void)
{
    return operation_new(REPLICA_READ_INDEX);
}

static bool join_valid(const struct replica_join *join)
{
    struct address address;

    return identity_name_valid(join->name) && address_parse(join->http_address, &address) &&
           address_parse(join->raft_address, &address);
}

struct replica_operation *replica_change_new(enum replica_operation_type type,
                                             struct replica_change *change)
{
    struct replica_operation *operation;
    bool joins = type == REPLICA_JOIN || type == REPLICA_REPLACE;
    bool may_be_empty = type == REPLICA_TRANSFER && change->name[0] == '\0';

    if ((joins && !join_valid(&change->join)) ||
        (type != REPLICA_JOIN && !may_be_empty && !identity_name_valid(change->name)))
        return NULL;
    operation = operation_new(type);
    if (operation != NULL)
        operation->change = change;
    change->detail[0] = '\0';
    return operation;
}

void replica_operation_free(struct replica_operation *operation)
{
    if (operation == NULL)
        return;
    if (operation->type == REPLICA_WRITE)
        free(operation->command);
    free(operation);
}
