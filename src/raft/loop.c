/* The raft loop of a replica: what runs on its thread, called by the driver, the transport or
 * libuv.
 *
 * Around each wait for I/O (uv_prepare, uv_check) the loop reports what was stored, applies what is
 * committed, turns waiting writes into entries and publishes the view if it changed. Other threads
 * reach it through the inbox and, for what has no payload, through atomics and one uv_async.
 *
 * Failure: whatever the driver cannot survive ends in driver_failed: operations are given back, the
 * owner is told once, and the loop stays up, idle, until replica_stop.
 */
#include "raft/replica_private.h"

#include "log.h"

#include <string.h>
#include <sys/statvfs.h>

#define HOUSEKEEPING_MS 100
#define DISK_CHECK_MS   1000
/* Whatever the setting: with less, libraft cannot prepare the log's next segments of 8 MiB, and
 * writes would hang without a word. */
#define DISK_FREE_BYTES_FLOOR (16u << 20)
/* Of log_cache_bytes. */
#define LOG_BYTES_FACTOR_MAX 4

uint64_t replica_now_ms(const struct replica *replica)
{
    return uv_now(&replica->loop);
}

int replica_not_leader_status(struct replica *replica)
{
    const char *address = NULL;
    raft_id leader = 0;

    if (atomic_load(&replica->stopped) || replica->driver.failed)
        return REPLICA_STOPPED;
    raft_leader(&replica->driver.raft, &leader, &address);
    return leader != 0 && leader != replica->driver.raft.id ? REPLICA_NOT_LEADER
                                                            : REPLICA_NO_LEADER;
}

void replica_returns_flush(struct replica *replica)
{
    struct replica_returns *returns = &replica->returns;

    if (returns->n > 0)
        inbox_put_chain_always(returns->inbox, returns->first, returns->last, returns->n);
    returns->n = 0;
}

void replica_return(struct replica *replica, struct replica_operation *operation, int status)
{
    struct replica_returns *returns = &replica->returns;
    size_t bytes = operation->type == REPLICA_WRITE ? operation->command_bytes : 0;

    atomic_fetch_sub(&replica->waiting_bytes, bytes);
    atomic_fetch_sub(&replica->waiting_n, 1);
    operation->status = status;
    if (operation->reply == NULL) {
        replica_operation_free(operation);
        return;
    }
    if (returns->n > 0 && returns->inbox != operation->reply)
        replica_returns_flush(replica);
    if (returns->n++ == 0) {
        returns->inbox = operation->reply;
        returns->first = &operation->item;
    } else {
        returns->last->next = &operation->item;
    }
    returns->last = &operation->item;
}

/* ---- Called by the driver ---- */

static uint64_t now_ms(void *context)
{
    return replica_now_ms(context);
}

static void raft_timer_fired(uv_timer_t *timer)
{
    struct replica *replica = timer->data;

    driver_timeout(&replica->driver);
}

static void set_timer(void *context, uint64_t at_ms)
{
    struct replica *replica = context;
    uint64_t now = replica_now_ms(replica);

    uv_timer_start(&replica->raft_timer, raft_timer_fired, at_ms > now ? at_ms - now : 0, 0);
}

static int apply(void *context, raft_index index, raft_term term, enum raft_entry_type type,
                 const struct raft_buffer *payload)
{
    struct replica *replica = context;
    bool members_changed = false;
    int rv;

    if (type == RAFT_COMMAND)
        rv = propose_apply(replica, index, term, payload, &members_changed);
    else
        rv = command_apply_empty(replica->state, index);
    if (rv != 0) {
        log_error("entry cannot be applied", LOG_U64("index", index),
                  LOG_TEXT("cause", tiers_strerror(rv)));
        return rv;
    }
    if (members_changed) {
        change_rows_changed(replica);
        if (command_cluster_id_before(replica->state) == replica->identity.cluster_id)
            admission_change_cluster(replica, command_cluster_id(replica->state));
        else
            admission_adopt_cluster(replica, command_cluster_id(replica->state));
    }
    if (members_changed || type == RAFT_CHANGE)
        view_publish(replica);
    return 0;
}

/* Compressed entries hold more than they weigh in the log. */
static size_t apply_bytes(void *context, const struct raft_buffer *payload)
{
    (void)context;
    return command_entry_bytes(payload->base, payload->len);
}

static bool apply_ready(void *context)
{
    return tiers_apply_ready(((struct replica *)context)->tiers);
}

static bool may_stand(void *context)
{
    return self_is_known(context);
}

/* Writes wait from a factor of 2 on (propose.c), so that only a follower whose tiers are slower
 * than the leader's is full; then the leader has to wait with this one. What is not known to be
 * committed does not count: a follower that refuses it may be the one without whom nothing is
 * committed, and then nothing would ever be applied and truncated. So the log takes at most
 * LOG_BYTES_FACTOR_MAX times log_cache_bytes, one message, and what the leader has yet to commit,
 * of which it has no more than its own log in memory.
 *
 * On a disk that is nearly full there is room only for what earlier leaders left to be committed,
 * and not for more of that than the reserve. */
static bool log_takes(void *context, size_t held_bytes, size_t bytes, bool former)
{
    struct replica *replica = context;

    if (held_bytes > LOG_BYTES_FACTOR_MAX * (size_t)replica->options.log_cache_bytes)
        return false;
    if (!atomic_load(&replica->no_space))
        return true;
    if (!former || bytes > replica->disk_reserve_bytes)
        return false;
    replica->disk_reserve_bytes -= bytes;
    return true;
}

static bool manifest_fits(void *context, const void *manifest, size_t bytes, raft_index index,
                          char *error_text, size_t error_text_size)
{
    const struct replica *replica = context;

    return truncate_manifest_check(manifest, bytes, index, replica->state, error_text,
                                   error_text_size);
}

static void state_changed(void *context)
{
    struct replica *replica = context;
    enum raft_state state = replica->driver.raft.state;

    log_info("raft state changed", LOG_TEXT("state", raft_state_name(state)),
             LOG_U64("term", replica->driver.raft.current_term),
             LOG_U64("last_index", replica->driver.log.last),
             LOG_U64("commit_index", replica->driver.raft.commit_index));
    if (state != RAFT_LEADER) {
        propose_suspend(replica);
        change_suspend(replica);
    }
    view_publish(replica);
}

static void snapshot_offered(void *context, raft_index index)
{
    struct replica *replica = context;

    if (!replica->too_far_behind)
        log_warning(
            "too far behind: the leader's log no longer reaches back to ours; the state has to "
            "be transferred",
            LOG_U64("last_index", replica->driver.log.last),
            LOG_U64("leader_snapshot_index", index));
    replica->too_far_behind = true;
    replica->last_contact_ms = replica_now_ms(replica);
    view_publish(replica);
    transfer_fetch(replica);
}

static void peer_too_far_behind(void *context, raft_id id, raft_index first_index)
{
    struct replica *replica = context;
    const struct command_member *member = command_member_find(replica->state, id);

    log_warning("member is too far behind and needs the state transferred",
                LOG_TEXT("name", member != NULL ? member->name : "?"), LOG_HEX("raft_id", id),
                LOG_U64("first_log_index", first_index));
}

static void driver_failed(void *context, const char *reason)
{
    struct replica *replica = context;

    atomic_store(&replica->stopped, true);
    propose_abandon(replica, REPLICA_STOPPED);
    change_abandon(replica, REPLICA_STOPPED);
    view_publish(replica);
    log_error("raft stopped", LOG_TEXT("reason", reason));
    if (replica->options.on_failed != NULL)
        replica->options.on_failed(replica->options.context, reason);
}

const struct driver_callbacks replica_loop_driver_callbacks = {
    .now_ms = now_ms,
    .set_timer = set_timer,
    .apply = apply,
    .apply_bytes = apply_bytes,
    .apply_ready = apply_ready,
    .may_stand = may_stand,
    .log_takes = log_takes,
    .manifest_fits = manifest_fits,
    .state_changed = state_changed,
    .snapshot_offered = snapshot_offered,
    .peer_too_far_behind = peer_too_far_behind,
    .failed = driver_failed,
};

/* ---- The loop's phases ---- */

static void note_contact(struct replica *replica, const struct raft_message *message)
{
    if (message->type != RAFT_APPEND_ENTRIES ||
        message->append_entries.term < replica->driver.raft.current_term)
        return;
    replica->last_contact_ms = replica_now_ms(replica);
    if (replica->catch_up_target == 0)
        replica->catch_up_target = message->append_entries.leader_commit;
    if (message->append_entries.n_entries > 0)
        replica->too_far_behind = false;
}

void replica_loop_received(struct raft_io *io, struct raft_message *message)
{
    struct replica *replica = (struct replica *)((char *)io - offsetof(struct replica, io));

    note_contact(replica, message);
    driver_receive(&replica->driver, message);
}

void replica_loop_tick(struct raft_io *io)
{
    (void)io;
}

static void read_done(void *owner, int status, raft_index index)
{
    struct replica_operation *operation = owner;
    struct replica *replica = operation->replica_;

    operation->index = index;
    if (status == RAFT_SHUTDOWN)
        status = REPLICA_SHUTDOWN;
    else if (status != 0)
        status = replica_not_leader_status(replica);
    replica_return(replica, operation, status);
}

static void read_take(struct replica *replica, struct replica_operation *operation)
{
    int rv;

    operation->replica_ = replica;
    rv = driver_read(&replica->driver, read_done, operation);
    if (rv != 0)
        replica_return(replica, operation,
                       rv == RAFT_NOMEM ? REPLICA_NO_MEMORY : replica_not_leader_status(replica));
}

static void take_operations(struct replica *replica)
{
    struct inbox_item *item = inbox_take(replica->inbox);

    while (item != NULL) {
        struct replica_operation *operation = (struct replica_operation *)item;
        item = item->next;
        if (atomic_load(&replica->stopping) || atomic_load(&replica->stopped)) {
            replica_return(replica, operation,
                           atomic_load(&replica->stopped) ? REPLICA_STOPPED : REPLICA_SHUTDOWN);
            continue;
        }
        switch (operation->type) {
        case REPLICA_WRITE:
            propose_take(replica, operation);
            break;
        case REPLICA_READ_INDEX:
            read_take(replica, operation);
            break;
        case REPLICA_JOIN:
        case REPLICA_REMOVE:
        case REPLICA_REPLACE:
        case REPLICA_TRANSFER:
            change_take(replica, operation);
            break;
        }
    }
}

static void update_caught_up(struct replica *replica)
{
    const struct driver *driver = &replica->driver;

    if (replica->caught_up)
        return;
    if (driver_is_leader(driver))
        replica->caught_up = driver->applied >= driver->election_index;
    else
        replica->caught_up =
            replica->catch_up_target != 0 && driver->applied >= replica->catch_up_target;
    if (replica->caught_up)
        view_publish(replica);
}

static void idle_spins(uv_idle_t *idle)
{
    (void)idle; /* Active only to keep the loop from sleeping */
}

/* Everything that follows from what the last wait brought. */
static void settle(struct replica *replica)
{
    bool more;

    replica_returns_flush(replica);
    if (replica->driver.closing || replica->driver.failed)
        return;
    driver_flush(&replica->driver);
    more = driver_resume(&replica->driver);
    if (replica->driver.failed)
        return;
    self_register(replica);
    change_advance(replica);
    propose_resume(replica);
    propose_pump(replica);
    update_caught_up(replica);
    view_refresh(replica);
    replica_returns_flush(replica);
    if (more)
        uv_idle_start(&replica->idle, idle_spins);
    else
        uv_idle_stop(&replica->idle);
}

static void on_prepare(uv_prepare_t *handle)
{
    settle(handle->data);
}

static void on_check(uv_check_t *handle)
{
    settle(handle->data);
}

static void on_inbox(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    take_operations(handle->data);
}

static void check_disk(struct replica *replica)
{
    uint64_t now = replica_now_ms(replica);
    struct statvfs fs;
    uint64_t least, free_bytes;
    bool full, first = replica->disk_checked_ms == 0;

    if (now - replica->disk_checked_ms < DISK_CHECK_MS && !first)
        return;
    replica->disk_checked_ms = now;
    if (statvfs(replica->options.directory, &fs) != 0)
        return;
    least = replica->options.disk_free_bytes_min > DISK_FREE_BYTES_FLOOR
                ? replica->options.disk_free_bytes_min
                : DISK_FREE_BYTES_FLOOR;
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    full = free_bytes < least;
    if (!full || first)
        replica->disk_reserve_bytes = (least - DISK_FREE_BYTES_FLOOR) / 2;
    if (free_bytes < DISK_FREE_BYTES_FLOOR)
        replica->disk_reserve_bytes = 0;
    if (full == atomic_load(&replica->no_space))
        return;
    atomic_store(&replica->no_space, full);
    if (full) {
        log_error("disk of the raft log is full: writes are refused",
                  LOG_TEXT("directory", replica->options.directory));
        /* Those that were admitted but not yet proposed as well: nobody knows for how long. */
        propose_refuse(replica, REPLICA_NO_SPACE);
    } else {
        log_info("disk of the raft log has room again",
                 LOG_TEXT("directory", replica->options.directory));
    }
    view_publish(replica);
}

static void on_housekeeping(uv_timer_t *timer)
{
    struct replica *replica = timer->data;

    if (replica->driver.closing || replica->driver.failed)
        return;
    check_disk(replica);
    if (tiers_no_space(replica->tiers))
        propose_refuse(replica, REPLICA_NO_SPACE); /* They could not be applied */
    transfer_serve_poll(replica);
    transfer_fetch_poll(replica);
    truncate_log_if_long(replica);
    view_publish(replica);
}

/* ---- Starting and stopping ---- */

void replica_loop_close(struct replica *replica)
{
    uv_close((uv_handle_t *)&replica->inbox_poll, NULL);
    uv_close((uv_handle_t *)&replica->wake, NULL);
    uv_close((uv_handle_t *)&replica->raft_timer, NULL);
    uv_close((uv_handle_t *)&replica->housekeeping, NULL);
    uv_close((uv_handle_t *)&replica->prepare, NULL);
    uv_close((uv_handle_t *)&replica->check, NULL);
    uv_close((uv_handle_t *)&replica->idle, NULL);
}

void replica_loop_io_closed(struct raft_io *io)
{
    struct replica *replica = (struct replica *)((char *)io - offsetof(struct replica, io));

    driver_close(&replica->driver);
    raft_uv_close(io);
    replica_loop_close(replica);
}

static void begin_stop(struct replica *replica)
{
    if (replica->driver.closing)
        return;
    inbox_close(replica->inbox);
    take_operations(replica);
    propose_abandon(replica, REPLICA_SHUTDOWN);
    change_abandon(replica, REPLICA_SHUTDOWN);
    transfer_serve_stop(replica);
    transfer_fetch_stop(replica);
    driver_stop(&replica->driver);
    replica->io.close(&replica->io, replica_loop_io_closed);
}

static void on_wake(uv_async_t *handle)
{
    struct replica *replica = handle->data;

    if (atomic_load(&replica->stopping)) {
        begin_stop(replica);
    } else if (!replica->driver.failed) {
        transfer_serve_poll(replica);
        transfer_fetch_poll(replica);
        truncate_log_if_long(replica);
    }
}

int replica_loop_open(struct replica *replica)
{
    uv_loop_t *loop = &replica->loop;
    int rv = uv_async_init(loop, &replica->wake, on_wake);

    if (rv != 0)
        return rv;
    rv = uv_poll_init(loop, &replica->inbox_poll, inbox_fd(replica->inbox));
    if (rv != 0) {
        uv_close((uv_handle_t *)&replica->wake, NULL);
        uv_run(loop, UV_RUN_NOWAIT);
        return rv;
    }
    uv_timer_init(loop, &replica->raft_timer);
    uv_timer_init(loop, &replica->housekeeping);
    uv_prepare_init(loop, &replica->prepare);
    uv_check_init(loop, &replica->check);
    uv_idle_init(loop, &replica->idle);
    replica->raft_timer.data = replica->housekeeping.data = replica->prepare.data = replica;
    replica->check.data = replica->idle.data = replica->inbox_poll.data = replica->wake.data =
        replica;
    uv_prepare_start(&replica->prepare, on_prepare);
    uv_check_start(&replica->check, on_check);
    uv_timer_start(&replica->housekeeping, on_housekeeping, HOUSEKEEPING_MS, HOUSEKEEPING_MS);
    uv_poll_start(&replica->inbox_poll, UV_READABLE, on_inbox);
    return 0;
}

void *replica_loop_run(void *argument)
{
    struct replica *replica = argument;

    pthread_setname_np(pthread_self(), "raft");
    uv_run(&replica->loop, UV_RUN_DEFAULT);
    /* What came after the inbox was closed and drained, if anything. */
    take_operations(replica);
    replica_returns_flush(replica);
    return NULL;
}
