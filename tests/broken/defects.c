/* Defects put into a tierkvd of the tests' own, tierkvd_broken, to show that the judges of
 * histories find them. The linker puts these functions in the place of the driver's; BROKEN in the
 * environment says which defect it has. Nothing of this is in tierkvd. */
#include "raft/replica_private.h"

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

static bool is_broken(const char *how)
{
    const char *broken = getenv("BROKEN");

    return broken != NULL && strcmp(broken, how) == 0;
}

/* A leader answers consistent reads without asking whether it still is one. */
int read_maybe(struct driver *driver, driver_read_done done, void *owner)
{
    if (!is_broken("read without a quorum") || !driver_is_leader(driver))
        return read_really(driver, done, owner);
    done(owner, 0, driver->applied);
    return 0;
}

/* Of the entry that was just submitted, which must not have been applied at once. */
static void batch_acknowledge(struct replica *replica)
{
    struct batch *batch = replica->batches;

    while (batch != NULL && batch->next != NULL)
        batch = batch->next;
    for (size_t i = 0; batch != NULL && i < batch->n; i++) {
        batch->operations[i]->index = batch->index;
        replica_return(replica, batch->operations[i], 0);
    }
    if (batch != NULL)
        batch->n = 0;
}

/* A leader acknowledges what only it has. */
int submit_and_tell(struct driver *driver, enum raft_entry_type type, struct raft_buffer payload,
                    raft_index *ret_index)
{
    int rv = submit_really(driver, type, payload, ret_index);
    struct replica *replica = driver->context;

    /* Not the very first write, for which there is no room for results yet. */
    if (rv == 0 && type == RAFT_COMMAND && replica->results != NULL &&
        is_broken("answer before commit"))
        batch_acknowledge(replica);
    return rv;
}
