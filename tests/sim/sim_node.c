/* See sim_node.h. */
#include "sim/sim_node.h"

#include "engine.h"
#include "lib/faults/libc_faults.h"
#include "mover.h"
#include "raft/identity.h"
#include "sim/sim_client.h"
#include "sim/sim_counts.h"
#include "sim/sim_fiber.h"
#include "sim/sim_stream.h"
#include "sim/sim_world.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ELECTION_MS        300
#define HEARTBEAT_MS       50
#define MOVER_PAUSE_MS     40
#define MOVER_STEPS_MAX    8 /* In one go */
#define FLUSH_INTERVAL_MS  200
#define LOG_CACHE_BYTES    (192u << 10)
#define TRANSFER_BYTES     (4u << 20) /* A second */
#define LOG_RETAINED_BYTES (256u << 10)
#define TRANSFER_LOG_BYTES (1u << 20)
#define COMMIT_PAUSE_MS    20 /* Before a received state is made the live one */

struct sim_node *sim_node_current;

static struct sim_node *enter(struct sim_node *node)
{
    struct sim_node *before = sim_node_current;

    sim_node_current = node;
    return before;
}

/* ---- What the replica and the tiers call ---- */

static uint64_t now_ms(void *context)
{
    const struct sim_node *node = context;

    return node->world->now_ms + node->clock_ahead_ms;
}

static void on_durable(void *context, uint64_t index)
{
    const struct sim_node *node = context;

    if (node->replica != NULL)
        replica_on_durable(node->replica, index);
}

static void on_ready(void *context)
{
    const struct sim_node *node = context;

    if (node->replica != NULL)
        replica_on_tiers_ready(node->replica);
}

static void on_tiers_failed(void *context, int error, const char *detail)
{
    const struct sim_node *node = context;

    if (!node->crashing && !sim_node_disk_is_full(node))
        sim_fail("the tiers of %s stopped: %s (%d)", node->name, detail, error);
}

static void on_failed(void *context, const char *reason)
{
    struct sim_node *node = context;

    if (node->crashing)
        return;
    sim_event("node stopped by itself", node->place, 0, 0);
    if (!sim_node_disk_is_full(node))
        sim_fail("%s stopped: %s", node->name, reason);
    node->failed = true;
}

static void fetch_broke_off(struct sim_node *node)
{
    if (node->fetches)
        sim_count(SIM_COUNT_TRANSFERS_BROKEN);
    node->fetches = false;
}

static int state_begin(void *context, struct replica_state_paths *ret_paths, char *error_text,
                       size_t error_text_size)
{
    struct sim_node *node = context;
    struct datadir_next next;

    sim_count(SIM_COUNT_TRANSFERS_BEGUN);
    fetch_broke_off(node); /* The one before */
    node->fetches = true;
    if (datadir_next(&node->datadir, &next, error_text, error_text_size) != 0)
        return -1;
    snprintf(ret_paths->warm, sizeof ret_paths->warm, "%s", next.warm_path);
    snprintf(ret_paths->cold, sizeof ret_paths->cold, "%s", next.cold_path);
    snprintf(ret_paths->manifest, sizeof ret_paths->manifest, "%s", next.manifest_path);
    datadir_next_free(&next);
    return 0;
}

static int state_commit(void *context, char *error_text, size_t error_text_size)
{
    struct sim_node *node = context;

    sim_fiber_wait(random_below(&node->random, COMMIT_PAUSE_MS));
    if (node->crashing)
        return -1;
    node->fetches = false;
    return datadir_next_commit(&node->datadir, error_text, error_text_size);
}

static void state_received(void *context)
{
    ((struct sim_node *)context)->reopens = true;
}

/* ---- Files ---- */

/* And not the descriptor of an inbox, or where the trace goes. */
static bool is_file(int fd)
{
    struct stat status;

    return fd > STDERR_FILENO && fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

/* What the code of a node is about to do to a file. A process that is gone does nothing more; one
 * that is about to go may write the first half. */
static bool file_operation(void *context, const struct libc_op *op, ssize_t *result)
{
    struct sim_node *node = sim_node_current;

    (void)context;
    if (node == NULL || (op->kind == LIBC_WRITE && !is_file(op->fd)))
        return false;
    if (node->running && !node->crashing && op->kind == LIBC_WRITE && node->crash_at_write > 0 &&
        --node->crash_at_write == 0) {
        sim_count(SIM_COUNT_CRASHES_IN_A_WRITE);
        node->crashing = true;
        node->endpoint.up = false;
    }
    if (node->crashing) {
        *result = -EIO;
        return true;
    }
    if (node->tiers_disk_full && op->kind == LIBC_WRITE) {
        sim_count(SIM_COUNT_TIERS_NO_SPACE);
        *result = -ENOSPC;
        return true;
    }
    return op->kind == LIBC_SYNC && (*result = 0) == 0; /* The machine lives on */
}

static const struct libc_faults files = {.before = file_operation};

static void poll_io(void *context, bool wait)
{
    struct sim_node *node = context;

    if (node->io_closed != NULL && node->transport_closed) {
        raft_io_close_cb closed = node->io_closed;
        node->io_closed = NULL;
        closed(node->io);
        return;
    }
    if (node->io == NULL)
        return;
    sim_disk_complete(&node->disk, wait);
    if (!node->endpoint.up)
        return;
    sim_network_deliver(&node->world->network, node->place);
    sim_streams_accept(node);
}

static void receive(void *context, struct raft_message *message)
{
    struct sim_node *node = sim_node_current;

    (void)context;
    node->receive(node->io, message);
}

/* ---- Life ---- */

bool sim_node_disk_is_full(const struct sim_node *node)
{
    return node->disk.full || node->tiers_disk_full;
}

static void node_name(struct sim_node *node)
{
    if (node->disks == 0)
        snprintf(node->name, sizeof node->name, "node%zu", node->place + 1);
    else
        snprintf(node->name, sizeof node->name, "node%zu.%u", node->place + 1, node->disks);
}

void sim_node_move(struct sim_node *node)
{
    unsigned port = 8080 + 2 * node->addresses;

    assert(!node->running);
    node->addresses++;
    snprintf(node->http_address, sizeof node->http_address, "host%zu:%u", node->place + 1, port);
    snprintf(node->endpoint.address, sizeof node->endpoint.address, "host%zu:%u", node->place + 1,
             port + 1);
}

void sim_node_replace_disk(struct sim_node *node, bool rename)
{
    assert(!node->running);
    sim_disk_replace(&node->disk);
    node->disks++;
    if (rename)
        node_name(node);
    snprintf(node->folder, sizeof node->folder, "%.*s/%zu.%u", TEMP_FOLDER_PATH_BYTES,
             node->world->folder, node->place + 1, node->disks);
}

void sim_node_init(struct sim_node *node, struct sim_world *world, size_t place)
{
    node->world = world;
    node->place = place;
    random_init(&node->random, random_next(&world->random));
    node_name(node);
    sim_node_move(node);
    snprintf(node->folder, sizeof node->folder, "%.*s/%zu", TEMP_FOLDER_PATH_BYTES, world->folder,
             place + 1);
    node->loop = (struct sim_loop){.now_ms = now_ms, .poll = poll_io, .context = node};
    node->endpoint.receive = receive;
    node->mover_pause_ms_max = MOVER_PAUSE_MS;
    sim_disk_open(&node->disk, &world->now_ms, &node->random);
    sim_network_join(&world->network, &node->endpoint);
    libc_faults_set(&files);
}

void sim_node_free(struct sim_node *node)
{
    if (node->running)
        sim_node_crash(node);
    sim_disk_close(&node->disk);
}

static int tiers_start(struct sim_node *node, char *error, size_t error_size)
{
    struct tiers_options options;

    tiers_options_init(&options);
    options.warm_dir = node->datadir.warm_path;
    options.cold_dir = node->datadir.cold_path;
    options.hot_bytes = 1 << 20;
    options.warm_bytes = 1 << 20;
    options.warm_map_bytes = 64 << 20;
    options.cold_segment_bytes = 64 << 10;
    options.flush_interval_ms = FLUSH_INTERVAL_MS;
    options.curve_off = true;
    options.context = node;
    options.on_durable = on_durable;
    options.on_ready = on_ready;
    options.on_failed = on_tiers_failed;
    options.now_ms = now_ms;
    return engine_open(&options, false, &node->tiers, error, error_size);
}

static int replica_open(struct sim_node *node, bool bootstrap, char *error, size_t error_size)
{
    struct replica_options options = {.directory = node->datadir.raft_path,
                                      .identity_path = node->datadir.identity_path,
                                      .name = node->name,
                                      .raft_address = node->endpoint.address,
                                      .raft_listen = node->endpoint.address,
                                      .http_address = node->http_address,
                                      .version = "sim",
                                      .bootstrap = bootstrap,
                                      .election_timeout_ms = ELECTION_MS,
                                      .heartbeat_ms = HEARTBEAT_MS,
                                      .operations_max = 1024,
                                      .operations_bytes_max = 16 << 20,
                                      .entry_bytes_max = 64 << 10,
                                      .entries_in_flight_max = 8,
                                      .log_compression = true,
                                      .log_cache_bytes = LOG_CACHE_BYTES,
                                      .transfer_bytes_per_second_max = TRANSFER_BYTES,
                                      .log_retained_bytes = LOG_RETAINED_BYTES,
                                      .transfer_log_bytes_max = TRANSFER_LOG_BYTES,
                                      .tiers = node->tiers,
                                      .manifest_path = node->datadir.manifest_path,
                                      .state_begin = state_begin,
                                      .state_commit = state_commit,
                                      .state_received = state_received,
                                      .on_failed = on_failed,
                                      .context = node};

    sim_loop_offer(&node->loop);
    return replica_start(&options, &node->replica, error, error_size);
}

/* False: a full disk did not let it. */
static bool node_open(struct sim_node *node, bool bootstrap)
{
    char error[600] = "";
    int rv = datadir_open(node->folder, "", &node->datadir, error, sizeof error);

    if (rv == 0) {
        rv = tiers_start(node, error, sizeof error);
        if (rv == 0) {
            rv = replica_open(node, bootstrap, error, sizeof error);
            if (rv == 0)
                return true;
            node->replica = NULL;
            node->io = NULL;
            tiers_close(node->tiers);
        }
        node->tiers = NULL;
        datadir_close(&node->datadir);
    }
    if (!sim_node_disk_is_full(node))
        sim_fail("%s does not start: %s", node->name, error);
    return false;
}

void sim_node_start(struct sim_node *node, bool bootstrap)
{
    struct sim_node *before = enter(node);

    assert(!node->running);
    node->crashing = node->failed = node->reopens = false;
    node->joins = node->joins || !node->founded;
    node->founded = true;
    node->lives++;
    sim_event("start", node->place, node->lives, node->disk.last);
    if (node_open(node, bootstrap)) {
        node->running = true;
        node->mover_due_ms = node->world->now_ms;
        sim_checks_started(node->world->checks, node);
    }
    sim_node_current = before;
}

static void node_close(struct sim_node *node)
{
    fetch_broke_off(node);
    replica_stop(node->replica);
    node->replica = NULL;
    node->io = NULL;
    if (node->crashing)
        atomic_store(&node->tiers->stopped, TIERS_STOPPED); /* So that closing flushes nothing */
    tiers_close(node->tiers);
    node->tiers = NULL;
    datadir_close(&node->datadir);
    node->running = false;
    node->woken = false;
    node->paused_until_ms = 0;
    node->crash_at_write = 0;
}

void sim_node_crash(struct sim_node *node)
{
    struct sim_node *before = enter(node);

    assert(node->running);
    sim_event("crash", node->place, node->disk.last, node->disk.n_requests);
    sim_count(SIM_COUNT_CRASHES);
    node->crashing = true;
    sim_clients_lose(node->world->clients, node);
    node_close(node);
    sim_node_current = before;
}

void sim_node_stop(struct sim_node *node)
{
    struct sim_node *before = enter(node);

    assert(node->running);
    sim_event("stop", node->place, node->disk.last, node->disk.n_requests);
    sim_count(SIM_COUNT_STOPS);
    node_close(node);
    sim_node_current = before;
}

/* ---- Turns ---- */

uint64_t sim_node_due_ms(const struct sim_node *node)
{
    uint64_t at[] = {sim_loop_due_ms(&node->loop),
                     sim_disk_due_ms(&node->disk),
                     sim_network_due_ms(&node->world->network, node->place),
                     node->mover_due_ms,
                     sim_fibers_due_ms(node),
                     node->woken || sim_streams_wait(node) ? node->world->now_ms : SIM_NEVER};
    uint64_t due_ms = SIM_NEVER;

    if (!node->running)
        return SIM_NEVER;
    /* The loop's timers follow the node's own clock. */
    if (at[0] != SIM_NEVER)
        at[0] = at[0] > node->clock_ahead_ms ? at[0] - node->clock_ahead_ms : 0;
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        due_ms = at[i] < due_ms ? at[i] : due_ms;
    return due_ms > node->paused_until_ms ? due_ms : node->paused_until_ms;
}

void sim_node_turn(struct sim_node *node)
{
    struct sim_node *before = enter(node);
    uint64_t now = node->world->now_ms;

    node->woken = false;
    sim_loop_turn(&node->loop);
    sim_fibers_run(node);
    if (node->mover_due_ms <= now && !node->failed && !node->crashing) {
        unsigned steps = 1 + (unsigned)random_below(&node->random, MOVER_STEPS_MAX);
        while (steps > 0 && mover_step(node->tiers->mover))
            steps--;
        node->mover_due_ms = now + 1 + random_below(&node->random, node->mover_pause_ms_max);
    }
    sim_node_current = before;
    if (node->crashing) { /* Since it was in the middle of a write */
        sim_node_crash(node);
    } else if (node->reopens) {
        sim_count(SIM_COUNT_TRANSFERS_DONE);
        sim_node_stop(node);
        sim_node_start(node, false);
    }
}

int sim_node_submit(struct sim_node *node, struct replica_operation *operation)
{
    struct sim_node *before = enter(node);
    int status = replica_submit(node->replica, operation);

    node->woken = node->woken || status == 0;
    sim_node_current = before;
    return status;
}

bool sim_node_is_leader(const struct sim_node *node)
{
    return node->running && !node->failed && replica_is_leader(node->replica);
}
