/* Clients write and read a few keys through all nodes, while nodes are killed, stopped for a while
 * and robbed of their leadership. What they saw must be linearizable: each acknowledged write and
 * each consistent read took effect at one moment between its request and its answer.
 *
 * TIERKV_ROUNDS sets the number of disturbances, TIERKV_SEED repeats their choice. */
#include "lib/cluster.h"
#include "lib/history.h"
#include "lib/http.h"
#include "lib/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NODES   3
#define CLIENTS 6
#define KEYS    4
/* Of one client. More make the search long and teach little. */
#define OPS_MAX       20000
#define CONNECT_ERROR 7 /* libcurl's: nothing was sent */

static const char *const flags[] = {"--election-timeout=500ms", "--heartbeat=50ms",
                                    "--request-timeout=2s", NULL};

struct client {
    pthread_t thread;
    struct cluster *cluster;
    struct random random;
    uint64_t number; /* 1 and up: the upper half of the values that it writes */
    size_t n;
    struct history_op ops[OPS_MAX];
    uint8_t keys[OPS_MAX];
    _Atomic uint64_t answered;
};

static _Atomic bool ending;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* False: it certainly did not take effect, or its result is not known. */
static bool put_once(struct client *client, const char *path, struct history_op *op)
{
    struct http_answer answer;
    char body[32];
    bool keep;

    snprintf(body, sizeof(body), "%" PRIu64, op->value);
    http_run(&(struct http_request){.method = op->value == 0 ? "DELETE" : "PUT",
                                    .address = cluster_address(
                                        client->cluster, random_below(&client->random, NODES)),
                                    .path = path,
                                    .body = op->value == 0 ? NULL : body,
                                    .follow = true,
                                    .timeout_ms = 3000},
             &answer);
    keep = answer.status == 200 ||
           (answer.failure != CONNECT_ERROR && answer.status != 307 &&
            (answer.body == NULL || strstr(answer.body, "\"outcome\":\"not applied\"") == NULL));
    op->end = answer.status == 200 ? now_ns() : HISTORY_UNKNOWN;
    http_free(&answer);
    return keep;
}

static bool get_once(struct client *client, const char *path, struct history_op *op)
{
    struct http_answer answer;
    bool keep;

    http_run(&(struct http_request){.address = cluster_address(
                                        client->cluster, random_below(&client->random, NODES)),
                                    .path = path,
                                    .follow = true,
                                    .timeout_ms = 3000},
             &answer);
    op->end = now_ns();
    op->value = answer.status == 200 ? strtoull(answer.body, NULL, 10) : 0;
    /* "not_found" only: a redirect that leads nowhere is 404, too, if the path is wrong. */
    keep = answer.status == 200 || (answer.status == 404 && answer.body != NULL &&
                                    strstr(answer.body, "not_found") != NULL);
    http_free(&answer);
    return keep;
}

static void *client_run(void *argument)
{
    struct client *client = argument;

    while (!atomic_load(&ending) && client->n < OPS_MAX) {
        struct history_op op = {.write = random_below(&client->random, 2) == 0};
        uint64_t key = random_below(&client->random, KEYS);
        char path[48];
        bool keep;
        if (op.write && random_below(&client->random, 8) != 0)
            op.value = client->number << 32 | (client->n + 1);
        snprintf(path, sizeof(path), "/key/register%" PRIu64 "%s", key,
                 op.write ? "" : "?raw&level=consistent");
        op.begin = now_ns();
        keep = op.write ? put_once(client, path, &op) : get_once(client, path, &op);
        if (keep) {
            client->ops[client->n] = op;
            client->keys[client->n++] = (uint8_t)key;
            atomic_fetch_add(&client->answered, op.end != HISTORY_UNKNOWN);
        }
        test_sleep_ms(1 +
                      random_below(&client->random, 4)); /* For histories that can be searched */
    }
    return NULL;
}

static uint64_t answered(struct client *clients)
{
    uint64_t n = 0;
    for (size_t i = 0; i < CLIENTS; i++)
        n += atomic_load(&clients[i].answered);
    return n;
}

/* Until so many more operations were answered: then the cluster serves again. */
static void wait_for_answers(struct client *clients, uint64_t n)
{
    uint64_t goal = answered(clients) + n, deadline = test_now_ms() + 60000;
    while (answered(clients) < goal) {
        assert_true(test_now_ms() < deadline);
        test_sleep_ms(5);
    }
}

static void disturb(struct cluster *cluster, struct random *random, struct client *clients)
{
    size_t leader = cluster_wait_leader(cluster);
    size_t node = random_below(random, 3) == 0 ? random_below(random, NODES) : leader;
    struct http_answer answer;

    switch (random_below(random, 4)) {
    case 0:
        cluster_node_kill(cluster, node);
        wait_for_answers(clients, 100);
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
            cluster_node_kill(cluster, i);
        for (size_t i = 0; i < NODES; i++)
            cluster_node_start(cluster, i);
        for (size_t i = 0; i < NODES; i++)
            cluster_node_wait_ready(cluster, i);
    }
    wait_for_answers(clients, 200);
}

static void dump(const struct history_op *ops, size_t n)
{
    for (size_t i = 0; i < n; i++)
        print_message("%s %" PRIx64 " from %" PRIu64 " to %" PRIu64 "\n",
                      ops[i].write ? "write" : "read", ops[i].value, ops[i].begin, ops[i].end);
}

static void expect_linearizable(struct client *clients, size_t key)
{
    struct history_op *ops = malloc((size_t)CLIENTS * OPS_MAX * sizeof(*ops));
    size_t n = 0;

    assert_non_null(ops);
    for (size_t i = 0; i < CLIENTS; i++)
        for (size_t k = 0; k < clients[i].n; k++)
            if (clients[i].keys[k] == key)
                ops[n++] = clients[i].ops[k];
    enum history_verdict verdict = history_check(ops, n);
    if (verdict != HISTORY_LINEARIZABLE)
        dump(ops, n);
    print_message("register %zu: %zu operations\n", key, n);
    free(ops);
    assert_int_equal(verdict, HISTORY_LINEARIZABLE);
}

static void what_clients_see_is_linearizable(void **state)
{
    struct cluster *cluster = cluster_start(NODES, flags);
    struct client *clients = calloc(CLIENTS, sizeof(*clients));
    uint64_t seed = random_seed(), rounds = environment_number("TIERKV_ROUNDS", 8);
    struct random random;

    (void)state;
    assert_non_null(clients);
    random_init(&random, seed);
    atomic_store(&ending, false);
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i].cluster = cluster;
        clients[i].number = i + 1;
        random_init(&clients[i].random, seed + i + 1);
        assert_int_equal(pthread_create(&clients[i].thread, NULL, client_run, &clients[i]), 0);
    }
    wait_for_answers(clients, 200);
    for (uint64_t round = 0; round < rounds && round < 1000; round++)
        disturb(cluster, &random, clients);
    atomic_store(&ending, true);
    for (size_t i = 0; i < CLIENTS; i++)
        pthread_join(clients[i].thread, NULL);
    for (size_t key = 0; key < KEYS; key++)
        expect_linearizable(clients, key);
    free(clients);
    cluster_expect_agreement(cluster);
    cluster_stop(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_clients_see_is_linearizable, cluster_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
