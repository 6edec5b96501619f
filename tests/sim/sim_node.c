/* See sim_node.h. */
#include "sim/sim_node.h"

#include "engine.h"
#include "mover.h"
#include "raft/identity.h"
#include "sim/sim_world.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define ELECTION_MS       300
#define HEARTBEAT_MS      50
#define MOVER_PAUSE_MS    40
#define MOVER_STEPS_MAX   8 /* In one go */
#define FLUSH_INTERVAL_MS 200

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

    if (!node->crashing)
        sim_fail("the tiers of %s stopped: %s (%d)", node->name, detail, error);
}

static void on_failed(void *context, const char *reason)
{
    struct sim_node *node = context;

    if (node->crashing)
        return;
    sim_event("node stopped by itself", node->place, 0, 0);
    if (!node->disk.full)
        sim_fail("%s stopped: %s", node->name, reason);
    node->failed = true;
}

static void poll_io(void *context, bool wait)
{
    struct sim_node *node = context;

    if (node->io_closed != NULL) {
        raft_io_close_cb closed = node->io_closed;
        node->io_closed = NULL;
        closed(node->io);
        return;
    }
    if (node->io == NULL)
        return;
    sim_disk_complete(&node->disk, wait);
    if (node->endpoint.up)
        sim_network_deliver(&node->world->network, node->place);
}

static void receive(void *context, struct raft_message *message)
{
    struct sim_node *node = sim_node_current;

    (void)context;
    node->receive(node->io, message);
}

/* ---- Life ---- */

void sim_node_init(struct sim_node *node, struct sim_world *world, size_t place)
{
    node->world = world;
    node->place = place;
    random_init(&node->random, random_next(&world->random));
    snprintf(node->name, sizeof node->name, "node%zu", place + 1);
    snprintf(node->http_address, sizeof node->http_address, "host%zu:8080", place + 1);
    snprintf(node->endpoint.address, sizeof node->endpoint.address, "host%zu:8081", place + 1);
    snprintf(node->folder, sizeof node->folder, "%.*s/%zu", TEMP_FOLDER_PATH_BYTES, world->folder,
             place + 1);
    mkdir(node->folder, 0700);
    node->loop = (struct sim_loop){.now_ms = now_ms, .poll = poll_io, .context = node};
    node->endpoint.receive = receive;
    node->mover_pause_ms_max = MOVER_PAUSE_MS;
    sim_disk_open(&node->disk, &world->now_ms, &node->random);
    sim_network_join(&world->network, &node->endpoint);
}

void sim_node_free(struct sim_node *node)
{
    if (node->running)
        sim_node_crash(node);
    sim_disk_close(&node->disk);
}

static void tiers_start(struct sim_node *node)
{
    struct tiers_options options;
    char warm[TEMP_FOLDER_PATH_BYTES + 32], cold[TEMP_FOLDER_PATH_BYTES + 32], error[512] = "";

    snprintf(warm, sizeof warm, "%s/warm", node->folder);
    snprintf(cold, sizeof cold, "%s/cold", node->folder);
    tiers_options_init(&options);
    options.warm_dir = warm;
    options.cold_dir = cold;
    options.hot_bytes = 1 << 20;
    options.warm_bytes = 1 << 20;
    options.warm_map_bytes = 64 << 20;
    options.cold_segment_bytes = 256 << 10;
    options.flush_interval_ms = FLUSH_INTERVAL_MS;
    options.curve_off = true;
    options.context = node;
    options.on_durable = on_durable;
    options.on_ready = on_ready;
    options.on_failed = on_tiers_failed;
    options.now_ms = now_ms;
    if (engine_open(&options, false, &node->tiers, error, sizeof error) != 0)
        sim_fail("the tiers of %s do not open: %s", node->name, error);
}

void sim_node_start(struct sim_node *node, bool bootstrap)
{
    struct sim_node *before = enter(node);
    char raft[TEMP_FOLDER_PATH_BYTES + 32], identity[TEMP_FOLDER_PATH_BYTES + 32];
    char error[512] = "";

    assert(!node->running);
    node->crashing = node->failed = false;
    node->lives++;
    tiers_start(node);
    snprintf(raft, sizeof raft, "%s/raft", node->folder);
    snprintf(identity, sizeof identity, "%s/node", node->folder);
    mkdir(raft, 0700);
    struct replica_options options = {.directory = raft,
                                      .identity_path = identity,
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
                                      .log_cache_bytes = 1 << 20,
                                      .tiers = node->tiers,
                                      .on_failed = on_failed,
                                      .context = node};
    sim_loop_offer(&node->loop);
    if (replica_start(&options, &node->replica, error, sizeof error) != 0)
        sim_fail("%s does not start: %s", node->name, error);
    node->running = true;
    node->mover_due_ms = node->world->now_ms;
    sim_event("start", node->place, node->lives, node->disk.last);
    sim_node_current = before;
}

void sim_node_crash(struct sim_node *node)
{
    struct sim_node *before = enter(node);

    assert(node->running);
    sim_event("crash", node->place, node->disk.last, node->disk.n_requests);
    node->crashing = true;
    replica_stop(node->replica);
    node->replica = NULL;
    node->io = NULL;
    atomic_store(&node->tiers->stopped, TIERS_STOPPED); /* So that closing flushes nothing */
    tiers_close(node->tiers);
    node->tiers = NULL;
    node->running = false;
    node->woken = false;
    sim_node_current = before;
}

/* ---- Turns ---- */

uint64_t sim_node_due_ms(const struct sim_node *node)
{
    uint64_t at[] = {sim_loop_due_ms(&node->loop), sim_disk_due_ms(&node->disk),
                     sim_network_due_ms(&node->world->network, node->place), node->mover_due_ms,
                     node->woken ? node->world->now_ms : SIM_NEVER};
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
    if (node->mover_due_ms <= now && !node->failed) {
        unsigned steps = 1 + (unsigned)random_below(&node->random, MOVER_STEPS_MAX);
        while (steps > 0 && mover_step(node->tiers->mover))
            steps--;
        node->mover_due_ms = now + 1 + random_below(&node->random, node->mover_pause_ms_max);
    }
    sim_node_current = before;
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
