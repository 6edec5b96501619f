/* See sim_checks.h. The log's side: what is stored, committed and applied. */
#include "sim/sim_checks_private.h"

#include "command/codec.h"
#include "raft/replica_private.h"
#include "sim/sim_members.h"
#include "sim/sim_world.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct sim_checks *sim_checks_new(struct sim_world *world)
{
    struct sim_checks *checks = calloc(1, sizeof *checks);

    assert(checks != NULL);
    checks->world = world;
    return checks;
}

void sim_checks_free(struct sim_checks *checks)
{
    for (size_t i = 0; i < checks->n_entries; i++)
        free(checks->entries[i].logged);
    free(checks->entries);
    free(checks->leaders);
    for (size_t i = 0; i < SIM_ENDPOINTS_MAX; i++)
        free(checks->chains[i]);
    for (size_t i = 0; i < SIM_KEYS_MAX; i++) {
        free(checks->keys[i].states);
        free(checks->keys[i].ops);
    }
    free(checks);
}

void *sim_grow(void *array, size_t *capacity, size_t wanted, size_t size)
{
    size_t grown = *capacity > 0 ? *capacity : 64;

    if (wanted <= *capacity)
        return array;
    while (grown < wanted)
        grown *= 2;
    array = realloc(array, grown * size);
    assert(array != NULL);
    memset((char *)array + *capacity * size, 0, (grown - *capacity) * size);
    *capacity = grown;
    return array;
}

static struct entry *entry_at(struct sim_checks *checks, uint64_t index)
{
    checks->entries =
        sim_grow(checks->entries, &checks->n_entries, index + 1, sizeof *checks->entries);
    return &checks->entries[index];
}

uint64_t sim_checks_committed(const struct sim_checks *checks)
{
    return checks->committed;
}

/* ---- Logs on disks ---- */

static uint64_t digest_of(raft_term term, enum raft_entry_type type, const void *bytes, size_t n)
{
    return XXH3_64bits_withSeed(bytes, n, term * 8 + (uint64_t)type);
}

/* The chain of a log up to an index is told by its end: by induction over the entries. */
static void log_matching_check(struct sim_checks *checks, const struct sim_node *node,
                               raft_index index, raft_term term, uint64_t chain)
{
    struct entry *entry = entry_at(checks, index);

    for (size_t i = 0; i < entry->n_logged; i++) {
        if (entry->logged[i].term != term)
            continue;
        if (entry->logged[i].chain != chain)
            sim_fail("log matching: index %llu of term %llu in the log of %s follows on, or is, "
                     "something else than in another log",
                     (unsigned long long)index, (unsigned long long)term, node->name);
        return;
    }
    entry->logged =
        sim_grow(entry->logged, &entry->capacity, entry->n_logged + 1, sizeof *entry->logged);
    entry->logged[entry->n_logged++] = (struct logged){.term = term, .chain = chain};
}

static uint64_t *chains_of(struct sim_checks *checks, const struct sim_node *node, uint64_t index)
{
    checks->chains[node->place] =
        sim_grow(checks->chains[node->place], &checks->n_chains[node->place], index + 1,
                 sizeof *checks->chains[0]);
    return checks->chains[node->place];
}

static void stored_entry(void *context, raft_index index, const struct sim_stored *stored)
{
    const struct sim_node *node = context;
    struct sim_checks *checks = node->world->checks;
    uint64_t *chains = chains_of(checks, node, index);
    uint64_t digest = digest_of(stored->term, stored->type, stored->bytes, stored->len);

    chains[index] = XXH3_64bits_withSeed(&digest, sizeof digest, chains[index - 1]);
    log_matching_check(checks, node, index, stored->term, chains[index]);
}

/* What the copied state stands for is committed: its chain is known from whoever logged it. */
static void stored_base(void *context, raft_index index, raft_term term)
{
    const struct sim_node *node = context;
    struct sim_checks *checks = node->world->checks;
    struct entry *entry = entry_at(checks, index);

    for (size_t i = 0; i < entry->n_logged; i++) {
        if (entry->logged[i].term == term) {
            chains_of(checks, node, index)[index] = entry->logged[i].chain;
            return;
        }
    }
    sim_fail("%s was given a state at index %llu of term %llu, which nobody has logged", node->name,
             (unsigned long long)index, (unsigned long long)term);
}

void sim_checks_watch_disk(struct sim_checks *checks, struct sim_node *node)
{
    (void)checks;
    node->disk.stored_entry = stored_entry;
    node->disk.stored_base = stored_base;
    node->disk.context = node;
}

static bool disk_has(const struct sim_node *node, raft_index index, raft_term term)
{
    const struct sim_stored *stored = sim_disk_entry(&node->disk, index);

    return (stored != NULL && stored->term == term) ||
           (node->disk.have_snapshot && node->disk.snapshot_index >= index);
}

/* By one configuration: of how many voters, and how many have the entry. */
static unsigned voters_having(const struct sim_node *node,
                              const struct raft_configuration *configuration, raft_index index,
                              raft_term term, unsigned *ret_voters)
{
    unsigned voters = 0, have = 0;

    for (unsigned i = 0; i < configuration->n; i++) {
        if (configuration->servers[i].role != RAFT_VOTER)
            continue;
        voters++;
        for (size_t k = 0; k < node->world->n; k++) {
            const struct sim_node *voter = node->world->nodes[k];
            have += voter->endpoint.id == configuration->servers[i].id &&
                    (disk_has(voter, index, term) ||
                     sim_members_lost_disk(node->world->members, voter));
        }
    }
    *ret_voters = voters;
    return have;
}

/* A leader counts by the last configuration in its log, which may lie behind the entry: the node
 * that applies it may not have that one yet, but those that have the entry committed do. Or the
 * entry was committed already when the change behind it, which is still pending, was appended. */
static void majority_check(const struct sim_node *node, raft_index index, raft_term term)
{
    const struct raft *raft = &node->replica->driver.raft;
    unsigned voters, have;

    have = voters_having(node, &raft->configuration, index, term, &voters);
    if (have <= voters / 2 && raft->configuration_uncommitted_index > index)
        have = voters_having(node, &raft->configuration_committed, index, term, &voters);
    for (size_t k = 0; k < node->world->n && have <= voters / 2; k++) {
        const struct sim_node *other = node->world->nodes[k];
        unsigned other_voters, other_have;
        if (other->replica == NULL || other->replica->driver.log.last <= index)
            continue;
        other_have = voters_having(node, &other->replica->driver.raft.configuration, index, term,
                                   &other_voters);
        if (other_have > other_voters / 2) {
            have = other_have;
            voters = other_voters;
        }
    }
    if (have <= voters / 2)
        sim_fail("index %llu is committed, but lies on %u of %u disks only", index, have, voters);
}

/* ---- What nodes apply ---- */

static void value_applied(struct sim_checks *checks, uint64_t index, size_t key, uint64_t value)
{
    struct key *at = &checks->keys[key];

    at->states = sim_grow(at->states, &at->capacity, at->n + 1, sizeof *at->states);
    at->states[at->n++] = (struct key_state){.index = index, .value = value};
    if (value == 0)
        return;
    assert(value < SIM_VALUES_MAX);
    if (checks->applied_at[value] != 0)
        sim_fail("value %llu is written at index %llu and again at %llu", (unsigned long long)value,
                 (unsigned long long)checks->applied_at[value], (unsigned long long)index);
    if (checks->refused[value])
        sim_fail("value %llu was refused, but is written at index %llu", (unsigned long long)value,
                 (unsigned long long)index);
    checks->applied_at[value] = index;
}

/* What the entry does to the keys, for the first node that applies it. */
static void model_apply(struct sim_checks *checks, uint64_t index,
                        const struct raft_buffer *payload)
{
    struct command_entry_view entry;
    struct command_view command;
    struct command_op op;

    if (command_entry_decode(payload->base, payload->len, &entry) != 0)
        sim_fail("the entry at index %llu does not decode", (unsigned long long)index);
    for (size_t i = 0; i < entry.count; i++) {
        command_entry_view_next(&entry, &command);
        for (size_t k = 0; k < command.n_ops; k++) {
            command_view_next(&command, &op);
            if (command.type != COMMAND_WRITE)
                continue;
            uint64_t value = 0;
            if (op.type == COMMAND_OP_PUT)
                memcpy(&value, op.value, sizeof value);
            value_applied(checks, index, sim_key_of(op.key, op.key_len), value);
        }
    }
}

static void committed_check(struct sim_checks *checks, const struct sim_node *node,
                            raft_term current_term, raft_index index, raft_term term,
                            enum raft_entry_type type, const struct raft_buffer *payload)
{
    struct entry *entry = entry_at(checks, index);
    uint64_t digest = digest_of(term, type, payload->base, payload->len);

    if (entry->committed) {
        if (entry->term != term || entry->digest != digest)
            sim_fail("%s applies another entry at index %llu than others did", node->name,
                     (unsigned long long)index);
        return;
    }
    if (index != checks->committed + 1)
        sim_fail("%s applies index %llu, but %llu is the first that is not applied", node->name,
                 (unsigned long long)index, (unsigned long long)checks->committed + 1);
    majority_check(node, index, term);
    entry->committed = true;
    entry->committed_by = current_term;
    entry->term = term;
    entry->digest = digest;
    checks->committed = index;
    sim_count(SIM_COUNT_COMMITTED);
    if (type == RAFT_COMMAND)
        model_apply(checks, index, payload);
}

static void state_check(struct sim_checks *checks, const struct sim_node *node, raft_index index)
{
    struct entry *entry = entry_at(checks, index);
    struct tiers_position position;

    tiers_position_applied(node->tiers, &position);
    if (position.index != index)
        sim_fail("%s applied index %llu, but says that it is at %llu", node->name,
                 (unsigned long long)index, (unsigned long long)position.index);
    if (!entry->state_known) {
        entry->state_known = true;
        entry->state_hash = position.state_hash;
        entry->revision = position.revision;
    } else if (entry->state_hash != position.state_hash || entry->revision != position.revision) {
        sim_fail("at index %llu the state of %s is not that of others", (unsigned long long)index,
                 node->name);
    }
}

void sim_checks_started(struct sim_checks *checks, const struct sim_node *node)
{
    struct tiers_position position;
    const struct entry *entry;

    tiers_position_applied(node->tiers, &position);
    if (position.index == 0)
        return;
    if (position.index > checks->committed)
        sim_fail("%s starts with index %llu, but only %llu is committed", node->name,
                 (unsigned long long)position.index, (unsigned long long)checks->committed);
    entry = entry_at(checks, position.index);
    if (entry->state_known &&
        (entry->state_hash != position.state_hash || entry->revision != position.revision))
        sim_fail("%s starts with index %llu, but its state is not that of others", node->name,
                 (unsigned long long)position.index);
}

/* ---- Between the driver and the replica ---- */

static const struct driver_callbacks *behind; /* The replica's own */
static struct driver_callbacks watching;

static int apply(void *context, raft_index index, raft_term term, enum raft_entry_type type,
                 const struct raft_buffer *payload)
{
    const struct sim_node *node = sim_node_current;
    struct sim_checks *checks = node->world->checks;
    int rv;

    if (node->crashing)
        return behind->apply(context, index, term, type, payload);
    sim_event("apply", node->place, index, term);
    /* Before: the replica may acknowledge what it applies. */
    committed_check(checks, node, ((struct replica *)context)->driver.raft.current_term, index,
                    term, type, payload);
    rv = behind->apply(context, index, term, type, payload);
    if (rv == 0)
        state_check(checks, node, index);
    return rv;
}

/* The last entry that was committed before that term. A candidate that was paused may take its
 * votes for an election of long ago when a later leader has committed more. */
static raft_index committed_before(const struct sim_checks *checks, raft_term term)
{
    raft_index index = checks->committed;

    while (index > 0 && checks->entries[index].committed_by >= term)
        index--;
    return index;
}

static void leader_check(struct sim_checks *checks, const struct sim_node *node,
                         const struct driver *driver)
{
    raft_term term = driver->raft.current_term;
    raft_index committed = committed_before(checks, term);
    unsigned leader = node->lives * SIM_ENDPOINTS_MAX + (unsigned)node->place;

    checks->leaders =
        sim_grow(checks->leaders, &checks->n_leaders, term + 1, sizeof *checks->leaders);
    if (checks->leaders[term] == leader)
        return;
    if (checks->leaders[term] != 0)
        sim_fail("the node at place %u and %s both lead in term %llu",
                 checks->leaders[term] % SIM_ENDPOINTS_MAX, node->name, (unsigned long long)term);
    checks->leaders[term] = leader;
    sim_count(SIM_COUNT_ELECTIONS);
    sim_event("leads", node->place, term, driver->log.last);
    if (committed == 0 || driver->snapshot_index >= committed)
        return;
    if (!log_cache_has(&driver->log, committed) ||
        log_cache_at(&driver->log, committed)->term != checks->entries[committed].term)
        sim_fail("%s leads in term %llu, but lacks index %llu, which is committed", node->name,
                 (unsigned long long)term, (unsigned long long)committed);
}

static void state_changed(void *context)
{
    const struct sim_node *node = sim_node_current;
    const struct driver *driver = &((struct replica *)context)->driver;

    if (!node->crashing && driver->raft.state == RAFT_LEADER)
        leader_check(node->world->checks, node, driver);
    behind->state_changed(context);
}

/* The linker puts init_watched in the place of driver_init. */
int init_really(struct driver *driver, struct raft_io *io, const struct driver_options *options,
                const struct driver_callbacks *callbacks,
                void *context) __asm__("__real_driver_init");
int init_watched(struct driver *driver, struct raft_io *io, const struct driver_options *options,
                 const struct driver_callbacks *callbacks,
                 void *context) __asm__("__wrap_driver_init");

int init_watched(struct driver *driver, struct raft_io *io, const struct driver_options *options,
                 const struct driver_callbacks *callbacks, void *context)
{
    sim_node_current->replica = context; /* It may lead, and apply, before its start is over */
    behind = callbacks;
    watching = *callbacks;
    watching.apply = apply;
    watching.state_changed = state_changed;
    return init_really(driver, io, options, &watching, context);
}
