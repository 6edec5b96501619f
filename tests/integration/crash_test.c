/* kill -9 under load, again and again: no acknowledged write is lost, and all nodes agree.
 *
 * Each round lets some writes through, kills, lets the survivors go on, restarts, and checks every
 * key. TIERKV_ROUNDS sets the number of rounds, TIERKV_SEED repeats a run. */
#include "lib/cluster.h"
#include "lib/load.h"
#include "lib/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>

#define ROUNDS_MAX  10000
#define WAIT_MS_MAX 60000

/* Small tiers and frequent flushes, so that crashes also meet flushes and moves. */
static const char *const flags[] = {"--election-timeout=500ms",  "--heartbeat=50ms",
                                    "--hot-bytes=1MiB",          "--warm-bytes=1MiB",
                                    "--flush-interval=50ms",     "--flush-bytes=64KiB",
                                    "--cold-segment-bytes=1MiB", NULL};

static uint64_t rounds(uint64_t otherwise)
{
    uint64_t n = environment_number("TIERKV_ROUNDS", otherwise);
    return n < ROUNDS_MAX ? n : ROUNDS_MAX;
}

static struct load *start_load(struct cluster *cluster, uint64_t seed)
{
    return load_start(&(struct load_options){.endpoints = cluster_endpoints(cluster),
                                             .n_threads = 8,
                                             .n_keys = 50,
                                             .value_bytes = 8192,
                                             .timeout_ms = 15000,
                                             .seed = seed});
}

static void restart(struct cluster *cluster, size_t n_nodes)
{
    for (size_t i = 0; i < n_nodes; i++)
        if (!cluster_node_running(cluster, i))
            cluster_node_start(cluster, i);
    for (size_t i = 0; i < n_nodes; i++)
        cluster_node_wait_ready(cluster, i);
}

static void check(struct cluster *cluster, struct load *load)
{
    load_pause(load);
    cluster_expect_agreement(cluster);
    load_verify(load, cluster_endpoints(cluster));
}

/* Kills, in each round, the nodes that `choose` marks. Those that stay must go on if they can. */
static void crash_rounds(size_t n_nodes, uint64_t n_rounds,
                         void (*choose)(struct cluster *cluster, struct random *random,
                                        bool ret_victims[]))
{
    uint64_t seed = random_seed();
    struct random random;
    struct cluster *cluster = cluster_start(n_nodes, flags);
    struct load *load = start_load(cluster, seed);

    random_init(&random, seed);
    for (uint64_t round = 0; round < n_rounds; round++) {
        bool victims[CLUSTER_NODES_MAX] = {false};
        size_t n_victims = 0;
        load_wait(load, 50 + random_below(&random, 500), WAIT_MS_MAX);
        choose(cluster, &random, victims);
        for (size_t i = 0; i < n_nodes; i++)
            if (victims[i]) {
                cluster_node_signal(cluster, i, SIGKILL);
                n_victims++;
            }
        for (size_t i = 0; i < n_nodes; i++)
            if (victims[i])
                cluster_node_wait_exit(cluster, i, WAIT_MS_MAX);
        if (2 * n_victims < n_nodes)
            load_wait(load, 50, WAIT_MS_MAX);
        restart(cluster, n_nodes);
        load_wait(load, 20, WAIT_MS_MAX);
        check(cluster, load);
        load_resume(load);
    }
    check(cluster, load);
    printf("%llu rounds: %llu writes acknowledged, %llu failed or unknown\n",
           (unsigned long long)n_rounds, (unsigned long long)load_acknowledged(load),
           (unsigned long long)load_failed(load));
    load_free(load);
    cluster_stop(cluster);
}

static void choose_one(struct cluster *cluster, struct random *random, bool ret_victims[])
{
    (void)cluster;
    ret_victims[random_below(random, 3)] = true;
}

static void choose_leader(struct cluster *cluster, struct random *random, bool ret_victims[])
{
    (void)random;
    ret_victims[cluster_wait_leader(cluster)] = true;
}

static void choose_all(struct cluster *cluster, struct random *random, bool ret_victims[])
{
    (void)cluster;
    (void)random;
    ret_victims[0] = ret_victims[1] = ret_victims[2] = true;
}

static void choose_the_only(struct cluster *cluster, struct random *random, bool ret_victims[])
{
    (void)cluster;
    (void)random;
    ret_victims[0] = true;
}

static void a_killed_node_loses_no_acknowledged_write(void **state)
{
    (void)state;
    crash_rounds(3, rounds(3), choose_one);
}

static void a_leader_killed_under_load_loses_no_acknowledged_write(void **state)
{
    (void)state;
    crash_rounds(3, rounds(3), choose_leader);
}

static void all_nodes_killed_at_once_lose_no_acknowledged_write(void **state)
{
    (void)state;
    crash_rounds(3, rounds(3), choose_all);
}

static void a_single_node_killed_loses_no_acknowledged_write(void **state)
{
    (void)state;
    crash_rounds(1, rounds(4), choose_the_only);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_single_node_killed_loses_no_acknowledged_write,
                                  cluster_teardown),
        cmocka_unit_test_teardown(a_killed_node_loses_no_acknowledged_write, cluster_teardown),
        cmocka_unit_test_teardown(a_leader_killed_under_load_loses_no_acknowledged_write,
                                  cluster_teardown),
        cmocka_unit_test_teardown(all_nodes_killed_at_once_lose_no_acknowledged_write,
                                  cluster_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
