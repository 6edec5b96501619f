/* Defects put into the code under test, each the kind that the simulation is there to find. The
 * linker puts these functions in the place of the driver's. */
#include "raft/replica_private.h"
#include "sim/sim_client.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int read_really(struct driver *driver, driver_read_done done,
                void *owner) __asm__("__real_driver_read");
int read_maybe(struct driver *driver, driver_read_done done,
               void *owner) __asm__("__wrap_driver_read");
int submit_really(struct driver *driver, enum raft_entry_type type, struct raft_buffer payload,
                  raft_index *ret_index) __asm__("__real_driver_submit");
int submit_and_tell(struct driver *driver, enum raft_entry_type type, struct raft_buffer payload,
                    raft_index *ret_index) __asm__("__wrap_driver_submit");

int apply_really(struct command_state *state, uint64_t index, const void *entry, size_t bytes,
                 struct command_result *results, size_t n_results,
                 bool *ret_members_changed) __asm__("__real_command_apply_entry");
int apply_maybe(struct command_state *state, uint64_t index, const void *entry, size_t bytes,
                struct command_result *results, size_t n_results,
                bool *ret_members_changed) __asm__("__wrap_command_apply_entry");
int empty_really(struct command_state *state, uint64_t index) __asm__("__real_command_apply_empty");
int empty_or_again(struct command_state *state,
                   uint64_t index) __asm__("__wrap_command_apply_empty");

/* One node does it wrong, now and then. */
#define WRONG_PLACE  1
#define WRONG_ONE_OF 50

static bool goes_wrong(enum sim_defect defect)
{
    return sim_world->story->defect == defect && sim_node_current->place == WRONG_PLACE &&
           !sim_node_current->crashing && random_below(&sim_world->random, WRONG_ONE_OF) == 0;
}

/* The last entry that this node applied, to be applied again in the place of one without commands:
 * those are few, and it always goes wrong. */
static void *last_entry;
static size_t last_bytes;

int apply_maybe(struct command_state *state, uint64_t index, const void *entry, size_t bytes,
                struct command_result *results, size_t n_results, bool *ret_members_changed)
{
    if (n_results == 0 && goes_wrong(SIM_DEFECT_ENTRY_SKIPPED)) {
        *ret_members_changed = false;
        return empty_really(state, index);
    }
    if (sim_world->story->defect == SIM_DEFECT_ENTRY_TWICE &&
        sim_node_current->place == WRONG_PLACE) {
        last_entry = realloc(last_entry, bytes);
        assert(last_entry != NULL);
        memcpy(last_entry, entry, bytes);
        last_bytes = bytes;
    }
    return apply_really(state, index, entry, bytes, results, n_results, ret_members_changed);
}

int empty_or_again(struct command_state *state, uint64_t index)
{
    bool members_changed;

    if (last_entry == NULL)
        return empty_really(state, index);
    return apply_really(state, index, last_entry, last_bytes, NULL, 0, &members_changed);
}

int read_maybe(struct driver *driver, driver_read_done done, void *owner)
{
    if (sim_world->story->defect != SIM_DEFECT_READ_WITHOUT_QUORUM || !driver_is_leader(driver))
        return read_really(driver, done, owner);
    done(owner, 0, driver->applied);
    return 0;
}

/* Of the entry that was just submitted. */
static void batch_acknowledge(const struct replica *replica)
{
    const struct batch *batch = replica->batches;

    while (batch != NULL && batch->next != NULL)
        batch = batch->next;
    for (size_t i = 0; batch != NULL && i < batch->n; i++)
        sim_clients_acknowledge_early(sim_world->clients, batch->operations[i]);
}

int submit_and_tell(struct driver *driver, enum raft_entry_type type, struct raft_buffer payload,
                    raft_index *ret_index)
{
    int rv = submit_really(driver, type, payload, ret_index);

    if (rv == 0 && type == RAFT_COMMAND &&
        sim_world->story->defect == SIM_DEFECT_ANSWER_BEFORE_COMMIT)
        batch_acknowledge(driver->context);
    return rv;
}
