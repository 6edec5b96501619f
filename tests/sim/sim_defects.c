/* Defects put into the code under test, each the kind that the simulation is there to find. The
 * linker puts these functions in the place of the driver's. */
#include "raft/replica_private.h"
#include "sim/sim_client.h"

int read_really(struct driver *driver, driver_read_done done,
                void *owner) __asm__("__real_driver_read");
int read_maybe(struct driver *driver, driver_read_done done,
               void *owner) __asm__("__wrap_driver_read");
int submit_really(struct driver *driver, enum raft_entry_type type, struct raft_buffer payload,
                  raft_index *ret_index) __asm__("__real_driver_submit");
int submit_and_tell(struct driver *driver, enum raft_entry_type type, struct raft_buffer payload,
                    raft_index *ret_index) __asm__("__wrap_driver_submit");

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
