/* See clients.h. */
#include "lib/clients.h"

#include "lib/http.h"
#include "lib/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLIENTS 6
#define KEYS    4
/* Of one client, of each kind. More make the search long and teach little. */
#define OPS_MAX         20000
#define CONNECT_ERROR   7 /* libcurl's: nothing was sent */
#define TIMEOUT_MS      3000
#define WAIT_MS_MAX     60000
#define WRITES_OF_TEN   4
#define CONSISTENT_UPTO 8 /* The other reads need not be the newest */

/* A write or a consistent read. */
struct operation {
    struct history_op op;
    uint8_t key;
};

/* A read at `default` or `stale`. */
struct observation {
    struct history_read read;
    uint8_t key, node;
    uint16_t incarnation;
};

struct client {
    pthread_t thread;
    struct clients *clients;
    struct random random;
    uint64_t number; /* 1 and up: the upper half of the values that it writes */
    size_t n_operations, n_observations;
    struct operation operations[OPS_MAX];
    struct observation observations[OPS_MAX];
};

struct clients {
    struct cluster *cluster;
    size_t n_nodes;
    _Atomic uint64_t answered;
    _Atomic bool ending;
    _Atomic uint16_t incarnations[CLUSTER_NODES_MAX];
    struct client clients[CLIENTS];
};

static struct clients *alive;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- What a client does ---- */

/* False: it certainly did not take effect. */
static bool put_once(const char *address, const char *path, struct history_op *op)
{
    struct http_answer answer;
    char body[32];
    bool keep;

    snprintf(body, sizeof(body), "%" PRIu64, op->value);
    http_run(&(struct http_request){.method = op->value == 0 ? "DELETE" : "PUT",
                                    .address = address,
                                    .path = path,
                                    .body = op->value == 0 ? NULL : body,
                                    .follow = true,
                                    .timeout_ms = TIMEOUT_MS},
             &answer);
    keep = answer.status == 200 ||
           (answer.failure != CONNECT_ERROR && answer.status != 307 &&
            (answer.body == NULL || strstr(answer.body, "\"outcome\":\"not applied\"") == NULL));
    op->end = answer.status == 200 ? now_ns() : HISTORY_UNKNOWN;
    http_free(&answer);
    return keep;
}

/* "not_found" only: a redirect that leads nowhere is 404, too, if the path is wrong. */
static bool was_read(const struct http_answer *answer)
{
    return answer->status == 200 || (answer->status == 404 && answer->body != NULL &&
                                     strstr(answer->body, "not_found") != NULL);
}

static uint64_t value_of(const struct http_answer *answer)
{
    return answer->status == 200 ? strtoull(answer->body, NULL, 10) : 0;
}

/* False: no answer, which says nothing. */
static bool get_once(const char *address, const char *path, struct history_op *op)
{
    struct http_answer answer;
    bool keep;

    http_run(
        &(struct http_request){
            .address = address, .path = path, .follow = true, .timeout_ms = TIMEOUT_MS},
        &answer);
    op->end = now_ns();
    op->value = value_of(&answer);
    keep = was_read(&answer);
    http_free(&answer);
    return keep;
}

/* Not redirected: what this very node knows. */
static void observe(struct client *client, size_t node, uint64_t key)
{
    struct clients *clients = client->clients;
    struct observation *observation = &client->observations[client->n_observations];
    struct http_answer answer;
    char path[48];
    const char *etag;
    uint16_t incarnation = atomic_load(&clients->incarnations[node]);

    snprintf(path, sizeof(path), "/key/register%" PRIu64 "?raw&level=%s", key,
             random_below(&client->random, 2) == 0 ? "default" : "stale");
    http_run(&(struct http_request){.address = cluster_address(clients->cluster, node),
                                    .path = path,
                                    .timeout_ms = TIMEOUT_MS},
             &answer);
    etag = http_header(&answer, "etag");
    *observation = (struct observation){
        .read = {.value = value_of(&answer),
                 .revision = etag != NULL && etag[0] == '"' ? strtoull(etag + 1, NULL, 10) : 0,
                 .end = now_ns()},
        .key = (uint8_t)key,
        .node = (uint8_t)node,
        .incarnation = incarnation};
    if (was_read(&answer) && atomic_load(&clients->incarnations[node]) == incarnation)
        client->n_observations++;
    http_free(&answer);
}

static void operate(struct client *client, size_t node, uint64_t key, bool write)
{
    struct clients *clients = client->clients;
    struct operation *operation = &client->operations[client->n_operations];
    struct history_op op = {.write = write};
    const char *address = cluster_address(clients->cluster, node);
    char path[48];
    bool keep;

    if (write && random_below(&client->random, 8) != 0)
        op.value = client->number << 32 | (client->n_operations + 1);
    snprintf(path, sizeof(path), "/key/register%" PRIu64 "%s", key,
             write ? "" : "?raw&level=consistent");
    op.begin = now_ns();
    keep = write ? put_once(address, path, &op) : get_once(address, path, &op);
    if (!keep)
        return;
    *operation = (struct operation){.op = op, .key = (uint8_t)key};
    client->n_operations++;
    atomic_fetch_add(&clients->answered, op.end != HISTORY_UNKNOWN);
}

static void *client_run(void *argument)
{
    struct client *client = argument;
    struct clients *clients = client->clients;

    while (!atomic_load(&clients->ending) && client->n_operations < OPS_MAX &&
           client->n_observations < OPS_MAX) {
        uint64_t what = random_below(&client->random, 10);
        size_t node = random_below(&client->random, clients->n_nodes);
        uint64_t key = random_below(&client->random, KEYS);
        if (what < CONSISTENT_UPTO)
            operate(client, node, key, what < WRITES_OF_TEN);
        else
            observe(client, node, key);
        /* For histories that can be searched */
        test_sleep_ms(1 + random_below(&client->random, 4));
    }
    return NULL;
}

/* ---- Their lives ---- */

struct clients *clients_start(struct cluster *cluster, size_t n_nodes, uint64_t seed)
{
    struct clients *clients = calloc(1, sizeof(*clients));

    assert_non_null(clients);
    assert_null(alive);
    assert_in_range(n_nodes, 1, CLUSTER_NODES_MAX);
    alive = clients;
    clients->cluster = cluster;
    clients->n_nodes = n_nodes;
    for (size_t i = 0; i < CLIENTS; i++) {
        struct client *client = &clients->clients[i];
        client->clients = clients;
        client->number = i + 1;
        random_init(&client->random, seed + i + 1);
        assert_int_equal(pthread_create(&client->thread, NULL, client_run, client), 0);
    }
    return clients;
}

void clients_wait(struct clients *clients, uint64_t n)
{
    uint64_t goal = atomic_load(&clients->answered) + n, deadline = test_now_ms() + WAIT_MS_MAX;

    while (atomic_load(&clients->answered) < goal) {
        assert_true(test_now_ms() < deadline);
        test_sleep_ms(5);
    }
}

void clients_node_ended(struct clients *clients, size_t node)
{
    atomic_fetch_add(&clients->incarnations[node], 1);
}

void clients_stop(struct clients *clients)
{
    if (atomic_exchange(&clients->ending, true))
        return;
    for (size_t i = 0; i < CLIENTS; i++)
        pthread_join(clients->clients[i].thread, NULL);
}

void clients_free(struct clients *clients)
{
    alive = NULL;
    free(clients);
}

void clients_teardown(void)
{
    if (alive == NULL)
        return;
    clients_stop(alive);
    clients_free(alive);
}

/* ---- The judgement ---- */

static void dump(const struct history_op *ops, size_t n)
{
    for (size_t i = 0; i < n; i++)
        print_message("%s %" PRIx64 " from %" PRIu64 " to %" PRIu64 "\n",
                      ops[i].write ? "write" : "read", ops[i].value, ops[i].begin, ops[i].end);
}

static size_t operations_on(const struct clients *clients, size_t key, struct history_op *ret_ops)
{
    size_t n = 0;

    for (size_t i = 0; i < CLIENTS; i++)
        for (size_t k = 0; k < clients->clients[i].n_operations; k++)
            if (clients->clients[i].operations[k].key == key)
                ret_ops[n++] = clients->clients[i].operations[k].op;
    return n;
}

/* What one client saw of a key at one node from one start to the next. */
static size_t session(const struct client *client, size_t key, size_t node, unsigned incarnation,
                      struct history_read *ret_reads)
{
    size_t n = 0;

    for (size_t k = 0; k < client->n_observations; k++) {
        const struct observation *seen = &client->observations[k];
        if (seen->key == key && seen->node == node && seen->incarnation == incarnation)
            ret_reads[n++] = seen->read;
    }
    return n;
}

static bool sessions_are_good(const struct clients *clients, size_t key,
                              const struct history_op *ops, size_t n_ops, size_t *ret_n)
{
    struct history_read *reads = malloc(OPS_MAX * sizeof(*reads));
    bool good = true;

    assert_non_null(reads);
    for (size_t i = 0; i < CLIENTS; i++) {
        for (size_t node = 0; node < clients->n_nodes; node++) {
            for (unsigned life = 0; life <= atomic_load(&clients->incarnations[node]); life++) {
                size_t n = session(&clients->clients[i], key, node, life, reads);
                *ret_n += n;
                if (!history_is_monotonic(reads, n)) {
                    print_message("client %zu: what it read from node %zu went back\n", i, node);
                    good = false;
                }
                if (!history_was_written(ops, n_ops, reads, n)) {
                    print_message("client %zu: node %zu returned what nobody wrote\n", i, node);
                    good = false;
                }
            }
        }
    }
    free(reads);
    return good;
}

static bool key_is_good(const struct clients *clients, size_t key)
{
    struct history_op *ops = malloc((size_t)CLIENTS * OPS_MAX * sizeof(*ops));
    size_t n_reads = 0;

    assert_non_null(ops);
    size_t n = operations_on(clients, key, ops);
    enum history_verdict verdict = history_check(ops, n);
    bool good = sessions_are_good(clients, key, ops, n, &n_reads);
    print_message("register %zu: %zu operations, %zu other reads\n", key, n, n_reads);
    if (verdict != HISTORY_LINEARIZABLE) {
        dump(ops, n);
        print_message("register %zu: %s\n", key,
                      verdict == HISTORY_UNDECIDED ? "the search took too long"
                                                   : "not linearizable");
    }
    free(ops);
    return good && verdict == HISTORY_LINEARIZABLE;
}

bool clients_judge(struct clients *clients)
{
    bool good = true;

    for (size_t key = 0; key < KEYS; key++)
        good &= key_is_good(clients, key);
    return good;
}

enum history_verdict clients_verdict(const struct clients *clients)
{
    struct history_op *ops = malloc((size_t)CLIENTS * OPS_MAX * sizeof(*ops));
    enum history_verdict worst = HISTORY_LINEARIZABLE;

    assert_non_null(ops);
    for (size_t key = 0; key < KEYS && worst != HISTORY_NOT_LINEARIZABLE; key++) {
        enum history_verdict verdict = history_check(ops, operations_on(clients, key, ops));
        if (verdict != HISTORY_LINEARIZABLE)
            worst = verdict;
    }
    free(ops);
    return worst;
}
