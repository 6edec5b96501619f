/* See sim_checks.h. The clients' side: what was written, answered and read. */
#include "sim/sim_checks_private.h"

#include "sim/sim_world.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t sim_key_text(size_t key, char ret_text[SIM_KEY_BYTES])
{
    return (size_t)snprintf(ret_text, SIM_KEY_BYTES, "key%04zu", key);
}

size_t sim_key_of(const void *text, size_t n)
{
    const char *digits = text;
    size_t key = 0;

    for (size_t i = 3; i < n; i++)
        key = key * 10 + (size_t)(digits[i] - '0');
    if (key >= SIM_KEYS_MAX)
        sim_fail("a key was applied that nobody wrote");
    return key;
}

void sim_checks_acknowledged(struct sim_checks *checks, uint64_t value, uint64_t index)
{
    if (checks->applied_at[value] != index)
        sim_fail("value %llu was acknowledged at index %llu, but is %s %llu",
                 (unsigned long long)value, (unsigned long long)index,
                 checks->applied_at[value] == 0 ? "not committed:" : "written at",
                 (unsigned long long)checks->applied_at[value]);
}

void sim_checks_refused(struct sim_checks *checks, uint64_t value)
{
    if (checks->applied_at[value] != 0)
        sim_fail("value %llu was refused, but is written at index %llu", (unsigned long long)value,
                 (unsigned long long)checks->applied_at[value]);
    checks->refused[value] = true;
}

/* What the key is after all entries up to that index. */
static uint64_t value_at(const struct key *key, uint64_t index)
{
    size_t low = 0, high = key->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (key->states[middle].index <= index)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? key->states[low - 1].value : 0;
}

static uint64_t key_read(const struct sim_node *node, size_t key)
{
    struct tiers_reader *reader = NULL;
    const struct tiers_record *record = NULL;
    char text[SIM_KEY_BYTES];
    size_t n = sim_key_text(key, text);
    uint64_t value = 0;
    int error = tiers_reader_open(node->tiers, &reader);

    if (error == 0)
        error = tiers_reader_get_wait(reader, TIERS_SPACE_USER, text, n, &record);
    if (error == 0) {
        memcpy(&value, tiers_record_value(record), sizeof value);
        tiers_record_release(record);
    } else if (error != TIERS_NOT_FOUND) {
        sim_fail("a read on %s: %s", node->name, tiers_strerror(error));
    }
    tiers_reader_close(reader);
    return value;
}

uint64_t sim_checks_read(struct sim_checks *checks, const struct sim_node *node, size_t key)
{
    struct tiers_position position;
    uint64_t value = key_read(node, key), expected;

    tiers_position_applied(node->tiers, &position);
    expected = value_at(&checks->keys[key], position.index);
    if (value != expected)
        sim_fail("key %zu reads as %llu on %s at index %llu, where it is %llu", key,
                 (unsigned long long)value, node->name, (unsigned long long)position.index,
                 (unsigned long long)expected);
    return value;
}

void sim_checks_history(struct sim_checks *checks, size_t key, const struct history_op *op)
{
    struct key *at = &checks->keys[key];

    at->ops = sim_grow(at->ops, &at->ops_capacity, at->n_ops + 1, sizeof *at->ops);
    at->ops[at->n_ops++] = *op;
}

void sim_checks_end(struct sim_checks *checks)
{
    const struct sim_world *world = checks->world;

    for (size_t i = 0; i < world->n; i++) {
        struct tiers_position position;
        if (!world->nodes[i]->running)
            continue;
        tiers_position_applied(world->nodes[i]->tiers, &position);
        sim_event("end", i, position.index, position.state_hash);
        for (size_t key = 0; key < SIM_KEYS_MAX; key++)
            sim_checks_read(checks, world->nodes[i], key);
    }
    for (size_t key = 0; key < SIM_KEYS_MAX; key++) {
        const struct key *at = &checks->keys[key];
        switch (history_check(at->ops, at->n_ops)) {
        case HISTORY_LINEARIZABLE:
            break;
        case HISTORY_NOT_LINEARIZABLE:
            sim_fail("the history of key %zu, %zu operations, is not linearizable", key, at->n_ops);
        case HISTORY_UNDECIDED:
            sim_fail("the history of key %zu, %zu operations, is too hard to judge", key,
                     at->n_ops);
        }
    }
}
