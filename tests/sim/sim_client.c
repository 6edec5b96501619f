/* See sim_client.h. */
#include "sim/sim_client.h"

#include "sim/sim_counts.h"

#include "tiers/tiers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CLIENTS         4
#define KEYS            6   /* That all use: their histories are judged */
#define KEYS_LARGE      100 /* From there on: they fill the tiers */
#define THINK_MS_MAX    60
#define PATIENCE_MS     1500
#define VALUE_BYTES_MAX 1500
#define LARGE_BYTES_MAX 48000
#define OPERATIONS_MAX  4096

enum request {
    REQUEST_PUT,
    REQUEST_DELETE,
    REQUEST_CONSISTENT,
    REQUEST_DEFAULT,
    REQUEST_STALE,
    REQUEST_LARGE
};

struct sim_client {
    struct sim_clients *all;
    size_t number;
    bool waits;      /* For an answer */
    uint64_t due_ms; /* When it sends, or gives up */
    enum request request;
    size_t key;
    uint64_t value;
    uint64_t began;
    bool acknowledged; /* Early, by the defect */
    struct sim_node *node;
    struct replica_operation *operation; /* NULL: not at a node */
    size_t believes;                     /* Place of the leader */
    struct session {
        unsigned life;  /* Of that node */
        uint64_t index; /* The newest that the client saw there */
    } sessions[SIM_NODES_MAX];
};

struct sim_clients {
    struct sim_world *world;
    struct random random;
    struct sim_client clients[CLIENTS];
    struct inbox *inbox;
    uint64_t moment; /* Of the histories: each answer and each request has its own */
    uint64_t values;
    bool rest;
    unsigned char value[LARGE_BYTES_MAX];
};

struct sim_clients *sim_clients_new(struct sim_world *world)
{
    struct sim_clients *clients = calloc(1, sizeof *clients);

    assert(clients != NULL);
    clients->world = world;
    random_init(&clients->random, random_next(&world->random));
    clients->inbox = inbox_new(OPERATIONS_MAX);
    assert(clients->inbox != NULL);
    for (size_t i = 0; i < CLIENTS; i++)
        clients->clients[i] = (struct sim_client){
            .all = clients, .number = i, .due_ms = random_below(&clients->random, THINK_MS_MAX)};
    return clients;
}

void sim_clients_free(struct sim_clients *clients)
{
    sim_clients_collect(clients);
    inbox_free(clients->inbox);
    free(clients);
}

void sim_clients_rest(struct sim_clients *clients)
{
    clients->rest = true;
}

bool sim_clients_idle(const struct sim_clients *clients)
{
    for (size_t i = 0; i < CLIENTS; i++)
        if (clients->clients[i].waits)
            return false;
    return true;
}

uint64_t sim_clients_due_ms(const struct sim_clients *clients)
{
    uint64_t due_ms = SIM_NEVER;

    for (size_t i = 0; i < CLIENTS; i++)
        if ((clients->clients[i].waits || !clients->rest) && clients->clients[i].due_ms < due_ms)
            due_ms = clients->clients[i].due_ms;
    return due_ms;
}

/* ---- Answers ---- */

static bool is_write(enum request request)
{
    return request == REQUEST_PUT || request == REQUEST_DELETE || request == REQUEST_LARGE;
}

static void request_end(struct sim_client *client)
{
    struct sim_clients *all = client->all;

    client->waits = false;
    client->operation = NULL;
    client->due_ms = all->world->now_ms + 1 + random_below(&all->random, THINK_MS_MAX);
}

static void note(struct sim_client *client, uint64_t value, uint64_t end)
{
    struct history_op op = {
        .write = is_write(client->request), .value = value, .begin = client->began, .end = end};

    sim_checks_history(client->all->world->checks, client->key, &op);
}

/* Nobody knows what became of it. */
static void request_lost(struct sim_client *client)
{
    sim_event("lost", client->number, client->request, client->value);
    sim_count(SIM_COUNT_OUTCOME_UNKNOWN);
    if (is_write(client->request) && !client->acknowledged)
        note(client, client->value, HISTORY_UNKNOWN);
    request_end(client);
}

/* It was not done, and will not be. */
static void request_refused(struct sim_client *client, int status)
{
    const struct sim_node *leader;

    sim_event("refused", client->number, client->request, (uint64_t)-status);
    sim_count(status == REPLICA_NO_SPACE ? SIM_COUNT_WRITES_NO_SPACE : SIM_COUNT_REFUSED);
    if (is_write(client->request) && client->value != 0)
        sim_checks_refused(client->all->world->checks, client->value);
    /* It is sent to the leader, or looks for one. */
    leader = status == REPLICA_NOT_LEADER ? sim_world_leader(client->all->world) : NULL;
    client->believes =
        leader != NULL ? leader->place : random_below(&client->all->random, client->all->world->n);
    request_end(client);
}

/* What a client has seen of a node, it will not see undone there as long as that runs. */
static void session_check(struct sim_client *client, uint64_t index)
{
    const struct sim_node *node = client->node;
    struct session *session = &client->sessions[node->place];

    if (session->life == node->lives && index < session->index)
        sim_fail("client %zu saw index %llu on %s, and then %llu", client->number,
                 (unsigned long long)session->index, node->name, (unsigned long long)index);
    *session = (struct session){.life = node->lives, .index = index};
}

static void write_acknowledged(struct sim_client *client, uint64_t index)
{
    struct sim_clients *all = client->all;

    sim_event("written", client->number, client->value, index);
    sim_count(SIM_COUNT_WRITES);
    if (all->world->story->defect != SIM_DEFECT_ANSWER_BEFORE_COMMIT)
        session_check(client, index);
    if (client->value != 0 && all->world->story->defect != SIM_DEFECT_ANSWER_BEFORE_COMMIT)
        sim_checks_acknowledged(all->world->checks, client->value, index);
    note(client, client->value, ++all->moment);
}

/* The node whose tiers answer: the one that was asked. */
static const struct sim_node *reads_from(struct sim_client *client)
{
    const struct sim_world *world = client->all->world;
    const struct sim_node *other = world->nodes[world->now_ms % world->n];

    return world->story->defect == SIM_DEFECT_READ_ELSEWHERE && other->running ? other
                                                                               : client->node;
}

static void read_here(struct sim_client *client)
{
    static const enum sim_count counts[] = {[REQUEST_CONSISTENT] = SIM_COUNT_READS_CONSISTENT,
                                            [REQUEST_DEFAULT] = SIM_COUNT_READS_DEFAULT,
                                            [REQUEST_STALE] = SIM_COUNT_READS_STALE};
    struct sim_clients *all = client->all;
    const struct sim_node *node = reads_from(client);
    struct tiers_position position;
    uint64_t value = sim_checks_read(all->world->checks, node, client->key);

    sim_event("read", client->number, client->key, value);
    tiers_position_applied(node->tiers, &position);
    session_check(client, position.index);
    sim_count(counts[client->request]);
    if (client->request == REQUEST_CONSISTENT)
        note(client, value, ++all->moment);
    request_end(client);
}

static void operation_returned(struct sim_client *client, struct replica_operation *operation)
{
    int status = operation->status;

    if (client->node->crashing || !client->node->running || status == REPLICA_UNKNOWN ||
        status == REPLICA_STOPPED) {
        request_lost(client);
    } else if (status != 0) {
        request_refused(client, status);
    } else if (client->request == REQUEST_CONSISTENT) {
        read_here(client);
    } else {
        if (!client->acknowledged)
            write_acknowledged(client, operation->index);
        request_end(client);
    }
}

void sim_clients_collect(struct sim_clients *clients)
{
    struct inbox_item *item = inbox_take(clients->inbox);

    while (item != NULL) {
        struct replica_operation *operation = (struct replica_operation *)item;
        struct sim_client *client = operation->owner;
        item = item->next;
        if (client->operation == operation)
            operation_returned(client, operation);
        replica_operation_free(operation);
    }
}

void sim_clients_lose(struct sim_clients *clients, const struct sim_node *node)
{
    for (size_t i = 0; i < CLIENTS; i++)
        if (clients->clients[i].waits && clients->clients[i].node == node)
            request_lost(&clients->clients[i]);
}

void sim_clients_acknowledge_early(struct sim_clients *clients,
                                   const struct replica_operation *operation)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        struct sim_client *client = &clients->clients[i];
        if (client->operation != operation || client->acknowledged)
            continue;
        write_acknowledged(client, operation->index);
        client->acknowledged = true;
    }
}

/* ---- Requests ---- */

static enum request request_choose(struct random *random)
{
    uint64_t of_100 = random_below(random, 100);

    return of_100 < 30   ? REQUEST_PUT
           : of_100 < 33 ? REQUEST_DELETE
           : of_100 < 70 ? REQUEST_CONSISTENT
           : of_100 < 80 ? REQUEST_DEFAULT
           : of_100 < 88 ? REQUEST_STALE
                         : REQUEST_LARGE;
}

static struct replica_operation *operation_make(struct sim_client *client)
{
    struct sim_clients *all = client->all;
    char key[SIM_KEY_BYTES];
    struct replica_put put = {.key = key, .key_len = sim_key_text(client->key, key)};
    bool large = client->request == REQUEST_LARGE;

    if (client->request == REQUEST_CONSISTENT)
        return replica_read_index_new();
    if (client->request == REQUEST_DELETE)
        return replica_delete_new(key, put.key_len);
    put.value_len = sizeof client->value +
                    random_below(&all->random, (large ? LARGE_BYTES_MAX : VALUE_BYTES_MAX) -
                                                   sizeof client->value);
    random_fill(&all->random, all->value, put.value_len);
    memcpy(all->value, &client->value, sizeof client->value);
    put.value = all->value;
    return replica_put_new(&put, 1);
}

static void operation_send(struct sim_client *client)
{
    struct replica_operation *operation = operation_make(client);
    int status;

    assert(operation != NULL);
    operation->reply = client->all->inbox;
    operation->owner = client;
    client->operation = operation;
    status = sim_node_submit(client->node, operation);
    if (status == 0)
        return;
    request_refused(client, status);
    replica_operation_free(operation);
}

static void request_begin(struct sim_client *client)
{
    struct sim_clients *all = client->all;
    struct sim_world *world = all->world;
    bool anywhere = random_below(&all->random, 6) == 0;

    client->request = request_choose(&all->random);
    client->key = client->request == REQUEST_LARGE ||
                          (!is_write(client->request) && random_below(&all->random, 4) == 0)
                      ? KEYS + random_below(&all->random, KEYS_LARGE)
                      : random_below(&all->random, KEYS);
    client->value = 0;
    if (client->request == REQUEST_PUT || client->request == REQUEST_LARGE)
        client->value = ++all->values;
    client->acknowledged = false;
    client->waits = true;
    client->began = ++all->moment;
    client->due_ms = world->now_ms + PATIENCE_MS;
    client->node = world->nodes[anywhere || client->request == REQUEST_STALE
                                    ? random_below(&all->random, world->n)
                                    : client->believes];
    sim_event("asks", client->number, client->request, client->node->place);
    if (!client->node->running || client->node->failed) {
        request_refused(client, REPLICA_NO_LEADER);
    } else if (client->node->paused_until_ms > world->now_ms &&
               (client->request == REQUEST_STALE || client->request == REQUEST_DEFAULT)) {
        sim_event("waits", client->number, client->node->place, 0); /* Until its patience ends */
    } else if (client->request == REQUEST_STALE ||
               (client->request == REQUEST_DEFAULT && sim_node_is_leader(client->node))) {
        read_here(client);
    } else if (client->request == REQUEST_DEFAULT) {
        request_refused(client, REPLICA_NOT_LEADER);
    } else {
        operation_send(client);
    }
}

void sim_clients_turn(struct sim_clients *clients)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        struct sim_client *client = &clients->clients[i];
        if (client->due_ms > clients->world->now_ms)
            continue;
        if (client->waits)
            request_lost(client);
        else if (!clients->rest)
            request_begin(client);
    }
}
