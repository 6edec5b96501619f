/* Applying committed entries onto the tiers. Raft loop only.
 *
 * An entry is checked to its last byte before its group begins, so that an entry that does not
 * decode changes nothing. From then on only the engine can fail, which is fatal: the group is left
 * open, and an open group is never made durable.
 *
 * Everything is a function of the state and the entry: no clock, no randomness, nothing that
 * depends on the tier a key is in. Member commands that would change nothing take no revision;
 * every write takes one, also a delete of an absent key. */
#include "command/codec.h"
#include "command/compression.h"
#include "command/members.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct command_state {
    struct tiers *tiers;
    struct command_decompressor *decompressor;
    uint64_t revision; /* Last one taken */
    uint64_t cluster_id;
    uint64_t cluster_id_before;
    bool members_changed; /* By the entry that is being applied */
    struct members members;
};

/* ------------------------------------------------------------------------------ open and close */

static int load_record(void *context, const struct tiers_record *record)
{
    struct command_state *state = context;
    const void *key = tiers_record_key(record);
    const void *value = tiers_record_value(record);
    if (record->key_len == sizeof(CLUSTER_KEY) - 1 &&
        memcmp(key, CLUSTER_KEY, record->key_len) == 0)
        return cluster_decode(value, record->value_len, &state->cluster_id);
    if (record->key_len == sizeof(CLUSTER_KEY_BEFORE) - 1 &&
        memcmp(key, CLUSTER_KEY_BEFORE, record->key_len) == 0)
        return cluster_decode(value, record->value_len, &state->cluster_id_before);
    uint64_t raft_id;
    if (!member_key_parse(key, record->key_len, &raft_id))
        return TIERS_VERSION;
    struct command_member member;
    int error = member_decode(raft_id, value, record->value_len, &member);
    if (error != 0)
        return error;
    return members_set(&state->members, &member) ? 0 : TIERS_CORRUPT;
}

int command_state_open(struct tiers *tiers, struct command_state **ret_state)
{
    struct command_state *state = calloc(1, sizeof(*state));
    if (state == NULL)
        return TIERS_NO_MEMORY;
    state->tiers = tiers;
    state->decompressor = command_decompressor_new();
    struct tiers_position position;
    tiers_position_applied(tiers, &position);
    state->revision = position.revision;
    int error = state->decompressor != NULL
                    ? tiers_each(tiers, TIERS_SPACE_SYSTEM, load_record, state)
                    : TIERS_NO_MEMORY;
    if (error != 0) {
        command_state_close(state);
        return error;
    }
    *ret_state = state;
    return 0;
}

void command_state_close(struct command_state *state)
{
    command_decompressor_free(state->decompressor);
    free(state);
}

const struct command_member *command_members(const struct command_state *state, size_t *ret_n)
{
    *ret_n = state->members.n;
    return state->members.table;
}

const struct command_member *command_member_find(const struct command_state *state,
                                                 uint64_t raft_id)
{
    return members_find(&state->members, raft_id);
}

uint64_t command_cluster_id(const struct command_state *state)
{
    return state->cluster_id;
}

uint64_t command_cluster_id_before(const struct command_state *state)
{
    return state->cluster_id_before;
}

/* ----------------------------------------------------------------------------- single commands */

static uint64_t revision_next(struct command_state *state)
{
    state->revision = tiers_revision_next(state->tiers);
    return state->revision;
}

/* Announces what the next operations of the command, the i-th and so on, will touch. */
static void prefetch_ops(const struct command_state *state, struct command_view command, size_t i)
{
    struct tiers_key keys[TIERS_PREFETCH_MAX];
    size_t n = 0;
    for (; n < TIERS_PREFETCH_MAX && i + n < command.n_ops; n++) {
        struct command_op op;
        command_view_next(&command, &op);
        keys[n] = (struct tiers_key){.bytes = op.key, .len = op.key_len};
    }
    tiers_prefetch(state->tiers, TIERS_SPACE_USER, keys, n);
}

/* Likewise of the next commands of the entry, those that write one key. */
static void prefetch_commands(const struct command_state *state, struct command_entry_view entry,
                              size_t i)
{
    struct tiers_key keys[TIERS_PREFETCH_MAX];
    size_t n = 0;
    for (size_t end = i + TIERS_PREFETCH_MAX; i < entry.count && i < end; i++) {
        struct command_view command;
        struct command_op op;
        command_entry_view_next(&entry, &command);
        if (command.type != COMMAND_WRITE || command.n_ops != 1)
            continue;
        command_view_next(&command, &op);
        keys[n++] = (struct tiers_key){.bytes = op.key, .len = op.key_len};
    }
    tiers_prefetch(state->tiers, TIERS_SPACE_USER, keys, n);
}

static int apply_write(struct command_state *state, struct command_view *command)
{
    uint64_t revision = revision_next(state);
    for (size_t i = 0; i < command->n_ops; i++) {
        struct command_op op;
        if (command->n_ops > 1 && i % TIERS_PREFETCH_MAX == 0)
            prefetch_ops(state, *command, i);
        command_view_next(command, &op);
        int error;
        if (op.type == COMMAND_OP_PUT) {
            error = tiers_put(state->tiers, TIERS_SPACE_USER, op.key, op.key_len, op.value,
                              op.value_len, op.flags, op.expires_ms, revision);
        } else {
            bool existed;
            error = tiers_delete(state->tiers, TIERS_SPACE_USER, op.key, op.key_len, revision,
                                 &existed);
        }
        if (error != 0)
            return error;
    }
    return 0;
}

static int apply_member_set(struct command_state *state, const struct command_op *op,
                            int *ret_status)
{
    struct command_member member;
    int error = member_decode(command_id_decode(op->key), op->value, op->value_len, &member);
    if (error != 0)
        return error;
    const struct command_member *present = members_find(&state->members, member.raft_id);
    if (present != NULL && members_equal(present, &member))
        return 0;
    if (!members_set(&state->members, &member)) {
        *ret_status = TIERS_BUSY;
        return 0;
    }
    state->members_changed = true;
    char key[MEMBER_KEY_BYTES + 1];
    member_key(member.raft_id, key);
    return tiers_put(state->tiers, TIERS_SPACE_SYSTEM, key, MEMBER_KEY_BYTES, op->value,
                     op->value_len, 0, 0, revision_next(state));
}

static int cluster_put(struct command_state *state, const char *key, uint64_t cluster_id)
{
    char *text = cluster_encode(cluster_id);
    if (text == NULL)
        return TIERS_NO_MEMORY;
    int error = tiers_put(state->tiers, TIERS_SPACE_SYSTEM, key, strlen(key), text, strlen(text), 0,
                          0, revision_next(state));
    free(text);
    return error;
}

static int apply_cluster_init(struct command_state *state, const struct command_op *op)
{
    if (state->cluster_id != 0)
        return 0;
    uint64_t cluster_id = command_id_decode(op->key);
    int error = cluster_put(state, CLUSTER_KEY, cluster_id);
    if (error != 0)
        return error;
    state->cluster_id = cluster_id;
    state->members_changed = true;
    return 0;
}

static int member_drop(struct command_state *state, uint64_t raft_id)
{
    if (!members_remove(&state->members, raft_id))
        return 0;
    state->members_changed = true;
    char key[MEMBER_KEY_BYTES + 1];
    member_key(raft_id, key);
    bool existed;
    return tiers_delete(state->tiers, TIERS_SPACE_SYSTEM, key, MEMBER_KEY_BYTES,
                        revision_next(state), &existed);
}

static int apply_member_remove(struct command_state *state, const struct command_op *op)
{
    return member_drop(state, command_id_decode(op->key));
}

/* The former id is kept: what was written under it, such as a snapshot of the log, still fits. */
static int apply_cluster_reset(struct command_state *state, const struct command_op *op)
{
    uint64_t cluster_id = command_id_decode(op->key);
    uint64_t survivor = command_id_decode(op->value);
    if (cluster_id == state->cluster_id)
        return 0;
    int error =
        state->cluster_id != 0 ? cluster_put(state, CLUSTER_KEY_BEFORE, state->cluster_id) : 0;
    if (error == 0)
        error = cluster_put(state, CLUSTER_KEY, cluster_id);
    for (size_t i = state->members.n; i > 0 && error == 0; i--)
        if (state->members.table[i - 1].raft_id != survivor)
            error = member_drop(state, state->members.table[i - 1].raft_id);
    if (error != 0)
        return error;
    state->cluster_id_before = state->cluster_id;
    state->cluster_id = cluster_id;
    state->members_changed = true;
    return 0;
}

static int apply_command(struct command_state *state, struct command_view *command,
                         struct command_result *ret_result)
{
    int status = 0;
    int error = TIERS_CORRUPT;
    struct command_op op;
    switch (command->type) {
    case COMMAND_WRITE:
        error = apply_write(state, command);
        break;
    case COMMAND_MEMBER_SET:
        command_view_next(command, &op);
        error = apply_member_set(state, &op, &status);
        break;
    case COMMAND_MEMBER_REMOVE:
        command_view_next(command, &op);
        error = apply_member_remove(state, &op);
        break;
    case COMMAND_CLUSTER_INIT:
        command_view_next(command, &op);
        error = apply_cluster_init(state, &op);
        break;
    case COMMAND_CLUSTER_RESET:
        command_view_next(command, &op);
        error = apply_cluster_reset(state, &op);
        break;
    }
    if (error == 0)
        *ret_result = (struct command_result){.status = status, .revision = state->revision};
    return error;
}

/* -------------------------------------------------------------------------------------- entries */

/* What the codec leaves open: do the members' texts say what they should? */
static int check_members(struct command_entry_view entry)
{
    for (size_t i = 0; i < entry.count; i++) {
        struct command_view command;
        command_entry_view_next(&entry, &command);
        if (command.type != COMMAND_MEMBER_SET)
            continue;
        struct command_op op;
        command_view_next(&command, &op);
        struct command_member member;
        int error = member_decode(command_id_decode(op.key), op.value, op.value_len, &member);
        if (error != 0)
            return error;
    }
    return 0;
}

bool command_entry_member(struct command_state *state, const void *entry, size_t bytes,
                          uint64_t raft_id, struct command_member *ret_member)
{
    struct command_entry_view view;
    bool found = false;
    if (command_entry_decompress(state->decompressor, entry, bytes, &entry, &bytes) != 0 ||
        command_entry_decode(entry, bytes, &view) != 0)
        return false;
    for (size_t i = 0; i < view.count; i++) {
        struct command_view command;
        command_entry_view_next(&view, &command);
        if (command.type != COMMAND_MEMBER_SET)
            continue;
        struct command_op op;
        command_view_next(&command, &op);
        found = (command_id_decode(op.key) == raft_id &&
                 member_decode(raft_id, op.value, op.value_len, ret_member) == 0) ||
                found;
    }
    return found;
}

int command_apply_entry(struct command_state *state, uint64_t index, const void *entry,
                        size_t bytes, struct command_result *results, size_t n_results,
                        bool *ret_members_changed)
{
    struct command_entry_view view;
    int error = command_entry_decompress(state->decompressor, entry, bytes, &entry, &bytes);
    if (error == 0)
        error = command_entry_decode(entry, bytes, &view);
    if (error == 0)
        error = check_members(view);
    if (error != 0)
        return error;

    state->members_changed = false;
    tiers_apply_begin(state->tiers, index);
    for (size_t i = 0; i < view.count; i++) {
        struct command_view command;
        if (view.count > 1 && i % TIERS_PREFETCH_MAX == 0)
            prefetch_commands(state, view, i);
        command_entry_view_next(&view, &command);
        struct command_result result;
        error = apply_command(state, &command, &result);
        if (error != 0)
            return error;
        if (results != NULL && i < n_results)
            results[i] = result;
    }
    tiers_apply_end(state->tiers);
    *ret_members_changed = state->members_changed;
    return 0;
}

int command_apply_empty(struct command_state *state, uint64_t index)
{
    tiers_apply_begin(state->tiers, index);
    tiers_apply_end(state->tiers);
    return 0;
}
