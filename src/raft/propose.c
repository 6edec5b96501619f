/* Group commit: all writes that wait go into one log entry, a few entries are in flight. While they
 * are, further writes gather, so that entries grow with the load by themselves.
 *
 * An entry's operations are kept with its index and term until exactly that entry is applied. When
 * leadership is lost they are given back at once, as of unknown outcome: a later leader may
 * still commit them. */
#include "raft/replica_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Above this many bytes of log in memory writes wait: the tiers have to catch up first. What they
 * cannot free by that does not count, or one large entry would stop all writes for ever. */
#define LOG_BYTES_FACTOR     2
#define BATCH_OPERATIONS_MAX 4096

static struct replica_operation *next_of(const struct replica_operation *operation)
{
    return (struct replica_operation *)operation->item.next;
}

void propose_take(struct replica *replica, struct replica_operation *operation)
{
    if (!driver_is_leader(&replica->driver)) {
        replica_return(replica, operation, replica_not_leader_status(replica));
        return;
    }
    operation->item.next = NULL;
    *replica->pending_end = operation;
    replica->pending_end = (struct replica_operation **)&operation->item.next;
}

void propose_internal(struct replica *replica, void *command, size_t bytes)
{
    struct replica_operation *operation = command != NULL ? calloc(1, sizeof *operation) : NULL;

    if (operation == NULL) {
        free(command);
        return;
    }
    operation->type = REPLICA_WRITE;
    operation->command = command;
    operation->command_bytes = bytes;
    atomic_fetch_add(&replica->waiting_n, 1);
    atomic_fetch_add(&replica->waiting_bytes, bytes);
    propose_take(replica, operation);
}

/* How many of the pending writes the next entry takes, and its size. */
static size_t choose(const struct replica *replica, size_t *ret_bytes)
{
    size_t n = 0, bytes = command_entry_begin_size();

    for (const struct replica_operation *operation = replica->pending;
         operation != NULL && n < BATCH_OPERATIONS_MAX; operation = next_of(operation)) {
        size_t more = command_entry_item_size(operation->command_bytes);
        if (n > 0 && bytes + more > replica->options.entry_bytes_max)
            break;
        bytes += more;
        n++;
    }
    *ret_bytes = bytes;
    return n;
}

/* Moves the first n pending writes into a batch and their commands into an entry. */
static struct batch *gather(struct replica *replica, size_t n, void *entry)
{
    struct batch *batch = malloc(sizeof *batch + n * sizeof(struct replica_operation *));
    struct command_entry_writer writer;

    if (batch == NULL)
        return NULL;
    batch->next = NULL;
    batch->n = n;
    command_entry_begin(&writer, entry);
    for (size_t i = 0; i < n; i++) {
        struct replica_operation *operation = replica->pending;
        replica->pending = next_of(operation);
        batch->operations[i] = operation;
        command_entry_add(&writer, operation->command, operation->command_bytes);
    }
    command_entry_end(&writer);
    if (replica->pending == NULL)
        replica->pending_end = &replica->pending;
    return batch;
}

/* The entry compressed, in place of what it was; or as it was. */
static struct raft_buffer compress(struct replica *replica, struct raft_buffer entry)
{
    const void *compressed = NULL;
    struct raft_buffer smaller = {0};

    if (replica->compressor != NULL)
        smaller.len =
            command_entry_compress(replica->compressor, entry.base, entry.len, &compressed);
    if (smaller.len > 0)
        smaller.base = raft_malloc(smaller.len);
    if (smaller.base == NULL)
        return entry;
    memcpy(smaller.base, compressed, smaller.len);
    raft_free(entry.base);
    return smaller;
}

static void batch_return(struct replica *replica, struct batch *batch, int status)
{
    for (size_t i = 0; i < batch->n; i++)
        replica_return(replica, batch->operations[i], status);
    free(batch);
}

static bool submit_one(struct replica *replica)
{
    struct driver *driver = &replica->driver;
    struct raft_buffer entry;
    struct batch **end = replica->batches_end;
    struct batch *batch;
    size_t n = choose(replica, &entry.len), bytes = entry.len, log_bytes;
    int rv;

    entry.base = raft_malloc(entry.len);
    if (entry.base == NULL)
        return false;
    batch = gather(replica, n, entry.base);
    if (batch == NULL) {
        raft_free(entry.base);
        return false;
    }
    entry = compress(replica, entry);
    /* Known before the step: it may apply at once. */
    batch->index = raft_last_index(&driver->raft) + 1;
    batch->term = driver->raft.current_term;
    batch->submitted_ms = replica_now_ms(replica);
    *end = batch;
    replica->batches_end = &batch->next;
    replica->n_batches++;
    log_bytes = entry.len;
    rv = driver_submit(driver, RAFT_COMMAND, entry, NULL);
    if (rv == 0) {
        replica->batches_appended++;
        replica->entries_appended += n;
        replica->proposed_bytes += bytes;
        replica->proposed_log_bytes += log_bytes;
        return true;
    }
    raft_free(entry.base);
    assert(*end == batch && batch->next == NULL);
    *end = NULL;
    replica->batches_end = end;
    replica->n_batches--;
    batch_return(replica, batch,
                 rv == RAFT_NOMEM ? REPLICA_NO_MEMORY : replica_not_leader_status(replica));
    return false;
}

static size_t log_bytes_max(const struct replica *replica)
{
    return LOG_BYTES_FACTOR * replica->options.log_cache_bytes;
}

void propose_pump(struct replica *replica)
{
    while (replica->pending != NULL && driver_is_leader(&replica->driver) &&
           !driver_transferring(&replica->driver) &&
           replica->n_batches < replica->options.entries_in_flight_max &&
           truncate_log_bytes(replica) < log_bytes_max(replica) &&
           tiers_apply_ready(replica->tiers))
        if (!submit_one(replica))
            break;
}

static struct command_result *results_for(struct replica *replica, size_t n)
{
    if (n > replica->results_capacity) {
        void *grown = realloc(replica->results, n * sizeof *replica->results);
        if (grown == NULL)
            return NULL;
        replica->results = grown;
        replica->results_capacity = n;
    }
    return replica->results;
}

/* The batch in flight for that entry; batches whose entry was replaced are given back. */
static struct batch *batch_for(struct replica *replica, raft_index index, raft_term term)
{
    struct batch *batch;

    while ((batch = replica->batches) != NULL && batch->index <= index) {
        replica->batches = batch->next;
        if (replica->batches == NULL)
            replica->batches_end = &replica->batches;
        replica->n_batches--;
        if (batch->index == index && batch->term == term)
            return batch;
        batch_return(replica, batch, REPLICA_UNKNOWN);
    }
    return NULL;
}

int propose_apply(struct replica *replica, raft_index index, raft_term term,
                  const struct raft_buffer *payload, bool *ret_members_changed)
{
    struct batch *batch = batch_for(replica, index, term);
    struct command_result *results = batch != NULL ? results_for(replica, batch->n) : NULL;
    int rv = batch != NULL && results == NULL
                 ? TIERS_NO_MEMORY
                 : command_apply_entry(replica->state, index, payload->base, payload->len, results,
                                       batch != NULL ? batch->n : 0, ret_members_changed);

    if (batch == NULL)
        return rv;
    if (rv != 0) {
        batch_return(replica, batch, REPLICA_STOPPED);
        return rv;
    }
    driver_note_commit(&replica->driver, replica_now_ms(replica) - batch->submitted_ms,
                       payload->len);
    for (size_t i = 0; i < batch->n; i++) {
        struct replica_operation *operation = batch->operations[i];
        operation->revision = results[i].revision;
        operation->index = index;
        replica_return(replica, operation, results[i].status == 0 ? 0 : REPLICA_CONFLICT);
    }
    free(batch);
    return 0;
}

/* Gives back pending writes: all of them, or all but the replica's own. */
static void pending_return(struct replica *replica, bool internal_too, int status)
{
    struct replica_operation *operation = replica->pending;

    replica->pending = NULL;
    replica->pending_end = &replica->pending;
    while (operation != NULL) {
        struct replica_operation *next = next_of(operation);
        if (internal_too || operation->reply != NULL) {
            replica_return(replica, operation, status);
        } else {
            operation->item.next = NULL;
            *replica->pending_end = operation;
            replica->pending_end = (struct replica_operation **)&operation->item.next;
        }
        operation = next;
    }
}

void propose_refuse(struct replica *replica, int status)
{
    pending_return(replica, false, status);
}

static void batches_return(struct replica *replica)
{
    struct batch *batch = replica->batches;

    replica->batches = NULL;
    replica->batches_end = &replica->batches;
    replica->n_batches = 0;
    while (batch != NULL) {
        struct batch *next = batch->next;
        batch_return(replica, batch, REPLICA_UNKNOWN);
        batch = next;
    }
}

void propose_suspend(struct replica *replica)
{
    batches_return(replica);
    if (replica->pending != NULL && replica->pending_until_ms == 0)
        replica->pending_until_ms = replica_now_ms(replica) + replica->options.election_timeout_ms;
}

void propose_resume(struct replica *replica)
{
    int status;

    if (replica->pending_until_ms == 0)
        return;
    if (driver_is_leader(&replica->driver)) {
        replica->pending_until_ms = 0;
        return;
    }
    status = replica_not_leader_status(replica);
    if (status == REPLICA_NO_LEADER && replica_now_ms(replica) < replica->pending_until_ms)
        return;
    replica->pending_until_ms = 0;
    pending_return(replica, true, status);
}

void propose_abandon(struct replica *replica, int pending_status)
{
    batches_return(replica);
    replica->pending_until_ms = 0;
    pending_return(replica, true, pending_status);
}
