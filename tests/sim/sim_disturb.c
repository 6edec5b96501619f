/* What breaks: one thing at a time, chosen by the seed. */
#include "sim/sim_client.h"
#include "sim/sim_world.h"

#define LATENCY_SLOW_MS  150
#define LATENCY_MS       3
#define DELAY_SLOW_MS    120
#define DELAY_MS         5
#define PERMILLE_MAX     200
#define PAUSE_MS_MAX     1500
#define JUMP_MS_MAX      5000
#define WALL_JUMP_MS_MAX 3600000
#define CRASH_WRITES_MAX 30 /* In the middle of one of the next */

static struct sim_node *any_node(struct sim_world *world)
{
    return world->nodes[random_below(&world->random, world->n)];
}

static void crash(struct sim_node *node)
{
    if (!node->running)
        return;
    sim_node_crash(node);
}

static void restart(struct sim_node *node)
{
    if (node->failed)
        crash(node);
    if (!node->running && node->founded)
        sim_node_start(node, false);
}

/* ---- Partitions ---- */

static void cut(struct sim_world *world, size_t from, size_t to)
{
    if (from != to)
        world->network.cut[from][to] = true;
}

/* Some nodes here, the others there. */
static void cut_in_two(struct sim_world *world)
{
    uint64_t side = random_next(&world->random);

    for (size_t i = 0; i < world->n; i++)
        for (size_t k = 0; k < world->n; k++)
            if ((side >> i & 1) != (side >> k & 1))
                cut(world, i, k);
}

/* Each hears its neighbours only. */
static void cut_to_ring(struct sim_world *world)
{
    size_t n = world->n;

    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            if (k != (i + 1) % n && i != (k + 1) % n)
                cut(world, i, k);
    if (n <= 3) /* Where all are neighbours: a chain */
        cut(world, 0, n - 1), cut(world, n - 1, 0);
}

/* One speaks and does not hear, or hears and does not speak. */
static void cut_one_way(struct sim_world *world, const struct sim_node *node)
{
    bool deaf = random_below(&world->random, 2) == 0;

    for (size_t i = 0; i < world->n; i++)
        cut(world, deaf ? i : node->place, deaf ? node->place : i);
}

static void partition(struct sim_world *world)
{
    const struct sim_node *node = any_node(world);
    uint64_t kind = random_below(&world->random, 5);

    sim_network_heal(&world->network);
    sim_event("partition", kind, node->place, 0);
    switch (kind) {
    case 0:
        sim_count(SIM_COUNT_PARTITIONS_HALF);
        cut_in_two(world);
        break;
    case 1:
        sim_count(SIM_COUNT_PARTITIONS_ONE);
        sim_network_cut_off(&world->network, node->place, true);
        break;
    case 2:
        sim_count(SIM_COUNT_PARTITIONS_RING);
        cut_to_ring(world);
        break;
    case 3:
        sim_count(SIM_COUNT_PARTITIONS_ONE_WAY);
        cut_one_way(world, node);
        break;
    default: /* A single direction of a single link */
        cut(world, node->place, random_below(&world->random, world->n));
    }
}

/* ---- Others ---- */

static void network_change(struct sim_world *world)
{
    struct sim_network *network = &world->network;

    network->loss_permille = (unsigned)random_below(&world->random, PERMILLE_MAX);
    network->duplicate_permille = (unsigned)random_below(&world->random, PERMILLE_MAX);
    network->delay_ms_max =
        1 + random_below(&world->random,
                         random_below(&world->random, 3) == 0 ? DELAY_SLOW_MS : DELAY_MS);
}

static void disk_change(struct sim_world *world, struct sim_node *node)
{
    uint64_t kind = random_below(&world->random, 8);

    sim_event("disk", node->place, kind, 0);
    node->disk.stalled = kind == 0;
    node->disk.latency_ms_max = kind == 1 ? LATENCY_SLOW_MS : LATENCY_MS;
    node->log_disk_low = kind == 2;
    node->disk.full = kind == 3;
    node->tiers_disk_full = kind == 4;
    if (kind == 0)
        sim_count(SIM_COUNT_DISKS_STALLED);
    else if (kind == 1)
        sim_count(SIM_COUNT_DISKS_SLOW);
}

/* Whoever is stopped by SIGSTOP, or by a machine that sleeps, finds another time when it goes on.
 */
static void pause_node(struct sim_world *world, struct sim_node *node)
{
    if (!node->running)
        return;
    sim_count(SIM_COUNT_PAUSES);
    node->paused_until_ms = world->now_ms + random_below(&world->random, PAUSE_MS_MAX);
    sim_event("pause", node->place, node->paused_until_ms, 0);
}

static void clock_jump(struct sim_world *world, struct sim_node *node)
{
    bool wall = random_below(&world->random, 2) == 0;

    sim_event("clock jumps", node->place, wall, 0);
    if (wall) {
        sim_count(SIM_COUNT_WALL_CLOCK_JUMPS);
        node->wall_clock_ahead_ms =
            (int64_t)random_below(&world->random, 2 * WALL_JUMP_MS_MAX) - WALL_JUMP_MS_MAX;
    } else {
        sim_count(SIM_COUNT_CLOCK_JUMPS);
        node->clock_ahead_ms += random_below(&world->random, JUMP_MS_MAX);
    }
}

static void stop(struct sim_node *node)
{
    if (node->running && !node->failed)
        sim_node_stop(node);
}

static void crash_all(struct sim_world *world)
{
    sim_count(SIM_COUNT_CRASHES_ALL);
    for (size_t i = 0; i < world->n; i++)
        crash(world->nodes[i]);
    for (size_t i = 0; i < world->n; i++)
        restart(world->nodes[i]);
}

/* Candidates at the same time, and voters that have to remember whom they voted for. */
static void election_storm(struct sim_world *world, struct sim_node *leader)
{
    sim_event("election storm", 0, 0, 0);
    world->voters_bounce = true;
    sim_network_heal(&world->network);
    world->network.delay_ms_max = 1 + random_below(&world->random, DELAY_SLOW_MS);
    for (size_t i = 0; i < world->n; i++)
        restart(world->nodes[i]);
    if (leader != NULL)
        sim_network_cut_off(&world->network, leader->place, true);
}

void sim_disturb_bounce(struct sim_world *world)
{
    for (size_t i = 0; i < world->n; i++) {
        if (!world->bounce[i])
            continue;
        world->bounce[i] = false;
        crash(world->nodes[i]);
        restart(world->nodes[i]);
    }
}

void sim_disturb(struct sim_world *world)
{
    struct sim_node *node = any_node(world);
    struct sim_node *leader = sim_world_leader(world);
    uint64_t kind = random_below(&world->random, 24);

    sim_event("disturb", kind, node->place, 0);
    if (world->mood == SIM_MOOD_ELECTIONS && random_below(&world->random, 2) == 0) {
        if (leader != NULL)
            election_storm(world, leader);
        return;
    }
    if (leader != NULL && random_below(&world->random, 3) == 0)
        node = leader;
    if (kind < 3)
        partition(world);
    else if (kind < 5)
        sim_network_heal(&world->network);
    else if (kind < 7)
        network_change(world);
    else if (kind < 9)
        disk_change(world, node);
    else if (kind < 11)
        crash(node);
    else if (kind < 15)
        restart(node);
    else if (kind < 16)
        crash_all(world);
    else if (kind < 17)
        election_storm(world, leader);
    else if (kind < 18)
        world->voters_bounce = false;
    else if (kind < 19)
        stop(node);
    else if (kind < 20)
        pause_node(world, node);
    else if (kind < 21)
        clock_jump(world, node);
    else
        node->crash_at_write = 1 + (unsigned)random_below(&world->random, CRASH_WRITES_MAX);
}

void sim_disturb_heal(struct sim_world *world)
{
    sim_event("heal", 0, 0, 0);
    world->voters_bounce = false;
    sim_network_heal(&world->network);
    world->network.loss_permille = world->network.duplicate_permille = 0;
    world->network.delay_ms_max = DELAY_MS;
    for (size_t i = 0; i < world->n; i++) {
        struct sim_node *node = world->nodes[i];
        node->disk.stalled = node->disk.full = false;
        node->log_disk_low = node->tiers_disk_full = false;
        node->paused_until_ms = 0;
        node->crash_at_write = 0;
        node->disk.latency_ms_max = LATENCY_MS;
        restart(node);
    }
}
