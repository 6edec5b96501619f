/* Clients write and read a few keys through all nodes, while nodes are killed, stopped for a while
 * and robbed of their leadership. What they saw must be as promised (lib/clients).
 *
 * TIERKV_ROUNDS sets the number of disturbances, TIERKV_SEED repeats their choice. */
#include "lib/clients.h"
#include "lib/http.h"
#include "lib/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>

#define NODES 3

static const char *const flags[] = {"--election-timeout=500ms", "--heartbeat=50ms",
                                    "--request-timeout=2s", NULL};

static void kill_node(struct cluster *cluster, struct clients *clients, size_t node)
{
    cluster_node_kill(cluster, node);
    clients_node_ended(clients, node);
}

static void disturb(struct cluster *cluster, struct random *random, struct clients *clients)
{
    size_t leader = cluster_wait_leader(cluster);
    size_t node = random_below(random, 3) == 0 ? random_below(random, NODES) : leader;
    struct http_answer answer;

    switch (random_below(random, 4)) {
    case 0:
        kill_node(cluster, clients, node);
        clients_wait(clients, 100);
        cluster_node_start(cluster, node);
        cluster_node_wait_ready(cluster, node);
        break;
    case 1:
        /* A leader that does not know that it was deposed is what consistent reads are about. */
        cluster_node_signal(cluster, node, SIGSTOP);
        test_sleep_ms(300 + random_below(random, 1200)); /* The length of the pause */
        cluster_node_signal(cluster, node, SIGCONT);
        break;
    case 2:
        http_run(&(struct http_request){.method = "POST",
                                        .address = cluster_address(cluster, leader),
                                        .path = "/transfer",
                                        .follow = true},
                 &answer);
        http_free(&answer);
        break;
    default:
        for (size_t i = 0; i < NODES; i++)
            kill_node(cluster, clients, i);
        for (size_t i = 0; i < NODES; i++)
            cluster_node_start(cluster, i);
        for (size_t i = 0; i < NODES; i++)
            cluster_node_wait_ready(cluster, i);
    }
    clients_wait(clients, 200);
}

static void what_clients_see_is_as_promised(void **state)
{
    struct cluster *cluster = cluster_start(NODES, flags);
    uint64_t seed = random_seed(), rounds = environment_number("TIERKV_ROUNDS", 8);
    struct clients *clients = clients_start(cluster, NODES, seed);
    struct random random;

    (void)state;
    random_init(&random, seed);
    clients_wait(clients, 200);
    for (uint64_t round = 0; round < rounds && round < 250; round++)
        disturb(cluster, &random, clients);
    clients_stop(clients);
    assert_true(clients_judge(clients));
    clients_free(clients);
    cluster_expect_agreement(cluster);
    cluster_stop(cluster);
}

static int teardown(void **state)
{
    clients_teardown();
    return cluster_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_clients_see_is_as_promised, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
