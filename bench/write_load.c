/* Writes to a cluster without a break and tells how evenly they were acknowledged: latencies, and
 * the longest time in which none was. It can end a server itself, by a signal at a moment it knows,
 * and then tells how long after that writes flowed again. bench/cluster is made of it.
 *
 * Happy path: calls are put to keys drawn at random; at --rate each begins at its place in the
 * schedule, however late the ones before are, and its latency counts from there; without a rate a
 * call begins when another ends. A call goes to the leader if that is known, else round the nodes.
 * A redirect is followed; a refusal (503) or a broken connection sends the call to the next node,
 * after a short rest, until it is acknowledged: no call is given up. Any other answer ends the
 * program with 1, as does a run in which nothing was acknowledged at the end. Single-threaded. */
#include "h2_client.h"
#include "latency.h"
#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NODES_MAX      8
#define CALLS_MAX      64 /* Under way on one connection; libh2o allows 100 */
#define VALUE_MAX      65536
#define NS_PER_SECOND  UINT64_C(1000000000)
#define REST_NS        UINT64_C(2000000) /* Before a node that refused is asked again */
#define POLL_NS_MAX    UINT64_C(1000000)
#define CONNECT_MS_MAX 1000
#define END_NS_MAX     (30 * NS_PER_SECOND)    /* For what is under way at the end */
#define KEY_FORMAT     "/key/fill-%010" PRIu64 /* As bench/fill names them */
#define KEY_PATH_BYTES 32
#define ANSWER_MAX     160

#define WRITE_LOAD_OPTIONS(X)                                                                      \
    X(text, endpoints, "", 0, 0, "HOST:PORT,… of all nodes")                                       \
    X(count, in_flight, "64", 1, CALLS_MAX, "writes under way at most")                            \
    X(real, rate, "0", 0, 1e7, "writes per second; 0: as many as go")                              \
    X(real, seconds, "5", 0.1, 1e6, "length of the measurement; SIGTERM ends it sooner")           \
    X(real, warmup, "0.5", 0, 1e6, "seconds before it")                                            \
    X(count, keys, "100000", 1, 9999999999, "keys that are written to")                            \
    X(count, value_bytes, "256", 1, VALUE_MAX, "size of a value")                                  \
    X(count, kill, "0", 0, 1e9, "process to be sent a signal when the warm-up ends; 0: none")      \
    X(count, signal, "9", 1, 64, "that signal")

struct write_load_options {
#define X(type, name, text_default, least, most, help) OPTION_FIELD_##type(name)
    WRITE_LOAD_OPTIONS(X)
#undef X
};

static const struct option_entry option_entries[] = {
#define X(type, name, text_default, least, most, help)                                             \
    {OPTION_##type, #name, offsetof(struct write_load_options, name), text_default, least,         \
     most,          help},
    WRITE_LOAD_OPTIONS(X)
#undef X
};

struct node {
    char address[H2_ADDRESS_BYTES];
    struct h2_client *client; /* NULL: not connected */
    uint64_t rests_until_ns;
};

struct call {
    struct h2_request request;
    struct load *load;
    struct call *next; /* In `idle` or `waiting` */
    struct node *node; /* Whom it was sent to */
    uint64_t began_ns; /* Or should have begun */
    char path[KEY_PATH_BYTES];
    unsigned char answer[ANSWER_MAX];
};

struct load {
    struct write_load_options options;
    struct node nodes[NODES_MAX];
    size_t n_nodes, next_node;
    struct node *leader; /* NULL: not known */
    struct call calls[CALLS_MAX];
    struct call *idle;
    struct call *waiting; /* To be sent, again or for the first time */
    size_t n_under_way;
    unsigned char value[VALUE_MAX];
    uint64_t random;
    uint64_t n_begun; /* Since the schedule began */
    uint64_t schedule_ns;
    bool measures;
    bool refused; /* By an answer that trying again does not help */

    struct latency latency;
    uint64_t measured_ns; /* When measuring began */
    uint64_t last_ns;     /* Of the acknowledgements */
    uint64_t gap_ns;      /* The longest between two of them */
    uint64_t gap_end_ns;  /* When that one was over */
    uint64_t n_redirected, n_repeated;
};

static volatile sig_atomic_t told_to_end;

static void on_signal(int number)
{
    (void)number;
    told_to_end = 1;
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

/* ---- Calls ---- */

static void acknowledged(struct load *load, const struct call *call)
{
    uint64_t now = now_ns();

    if (load->measures) {
        latency_add(&load->latency, now - call->began_ns);
        if (now - load->last_ns > load->gap_ns) {
            load->gap_ns = now - load->last_ns;
            load->gap_end_ns = now;
        }
    }
    load->last_ns = now;
}

static void call_wait(struct call *call)
{
    struct load *load = call->load;

    call->next = load->waiting;
    load->waiting = call;
}

/* The node of the address, a new one if need be. NULL: there are too many. */
static struct node *node_of(struct load *load, const char *address)
{
    for (size_t i = 0; i < load->n_nodes; i++)
        if (strcmp(load->nodes[i].address, address) == 0)
            return &load->nodes[i];
    if (load->n_nodes == NODES_MAX)
        return NULL;
    snprintf(load->nodes[load->n_nodes].address, H2_ADDRESS_BYTES, "%s", address);
    return &load->nodes[load->n_nodes++];
}

static void node_rests(struct load *load, struct node *node)
{
    node->rests_until_ns = now_ns() + REST_NS;
    if (load->leader == node)
        load->leader = NULL;
}

static void on_done(struct h2_request *request)
{
    struct call *call = request->owner;
    struct load *load = call->load;

    load->n_under_way--;
    if (request->status == 200) {
        acknowledged(load, call);
        call->next = load->idle;
        load->idle = call;
        return;
    }
    if (request->status == 307 && request->location[0] != '\0') {
        struct node *leader = node_of(load, request->location);
        load->n_redirected++;
        if (leader != call->node)
            load->leader = leader;
    } else if (request->status == 0 || request->status == 503) {
        load->n_repeated++;
        node_rests(load, call->node);
    } else if (!load->refused) {
        size_t n = request->answer_bytes < ANSWER_MAX ? request->answer_bytes : ANSWER_MAX;
        fprintf(stderr, "write_load: %s answered %d: %.*s\n", call->node->address, request->status,
                (int)n, (const char *)call->answer);
        load->refused = true;
    }
    call_wait(call);
}

/* Whom to ask next, connected. NULL: nobody at the moment. */
static struct node *node_choose(struct load *load)
{
    uint64_t now = now_ns();

    for (size_t i = 0; i <= load->n_nodes; i++) {
        struct node *node = i == 0 ? load->leader : &load->nodes[load->next_node++ % load->n_nodes];
        if (node == NULL || node->rests_until_ns > now)
            continue;
        if (node->client != NULL ||
            h2_client_open(node->address, CONNECT_MS_MAX, &node->client) == 0)
            return node;
        node_rests(load, node);
    }
    return NULL;
}

/* Sends what waits, as far as there is a node to take it. */
static void send_waiting(struct load *load)
{
    struct call *call = load->waiting;

    load->waiting = NULL;
    while (call != NULL) {
        struct call *next = call->next;
        struct node *node = node_choose(load);
        call->node = node;
        if (node != NULL && h2_client_submit(node->client, &call->request)) {
            load->n_under_way++;
        } else {
            if (node != NULL)
                node_rests(load, node);
            call_wait(call);
        }
        call = next;
    }
}

static void call_begin(struct load *load, uint64_t began_ns)
{
    struct call *call = load->idle;

    load->idle = call->next;
    load->random ^= load->random << 13;
    load->random ^= load->random >> 7;
    load->random ^= load->random << 17;
    snprintf(call->path, sizeof(call->path), KEY_FORMAT, load->random % load->options.keys);
    call->began_ns = began_ns;
    call->request = (struct h2_request){.method = "PUT",
                                        .path = call->path,
                                        .body = load->value,
                                        .body_bytes = load->options.value_bytes,
                                        .answer = call->answer,
                                        .answer_max = ANSWER_MAX,
                                        .done = on_done,
                                        .owner = call};
    call_wait(call);
}

/* When the next call is due; 0: as soon as one is idle. */
static uint64_t due_ns(const struct load *load)
{
    if (load->options.rate <= 0)
        return 0;
    return load->schedule_ns +
           (uint64_t)((double)load->n_begun * (double)NS_PER_SECOND / load->options.rate);
}

static void begin_due(struct load *load)
{
    uint64_t now = now_ns();

    while (load->idle != NULL && due_ns(load) <= now) {
        call_begin(load, load->options.rate > 0 ? due_ns(load) : now);
        load->n_begun++;
    }
}

/* ---- The loop ---- */

/* Sends and receives what it can; a broken connection is closed, which sends its calls round. */
static void node_work(struct load *load, struct node *node)
{
    struct h2_client *client = node->client;

    if (h2_client_work(client))
        return;
    node->client = NULL;
    node_rests(load, node);
    h2_client_close(client);
}

/* Waits for the network, no longer than until the next call is due or to be sent again. */
static void turn(struct load *load, uint64_t until_ns)
{
    struct pollfd polled[NODES_MAX];
    struct node *nodes[NODES_MAX];
    struct timespec wait = {0};
    nfds_t n = 0;
    uint64_t now;

    send_waiting(load);
    for (size_t i = 0; i < load->n_nodes; i++) {
        struct node *node = &load->nodes[i];
        if (node->client != NULL)
            node_work(load, node);
        if (node->client == NULL)
            continue;
        polled[n].fd = h2_client_fd(node->client);
        polled[n].events = h2_client_events(node->client);
        nodes[n++] = node;
    }
    now = now_ns();
    if (load->waiting != NULL && until_ns > now + REST_NS / 10)
        until_ns = now + REST_NS / 10;
    if (until_ns > now + POLL_NS_MAX)
        until_ns = now + POLL_NS_MAX;
    wait.tv_nsec = until_ns > now ? (long)(until_ns - now) : 0;
    if (ppoll(polled, n, &wait, NULL) <= 0)
        return;
    for (nfds_t i = 0; i < n; i++)
        if (polled[i].revents != 0)
            node_work(load, nodes[i]);
}

/* Begins calls as they fall due, until that time or a signal. False: an answer says that it is no
 * use. */
static bool run_until(struct load *load, uint64_t end_ns)
{
    while (!told_to_end && !load->refused) {
        uint64_t now = now_ns();
        uint64_t until = due_ns(load);
        if (now >= end_ns)
            break;
        begin_due(load);
        if (load->idle == NULL || until == 0 || until > end_ns)
            until = end_ns;
        turn(load, until);
    }
    return !load->refused;
}

/* False: something was not acknowledged. */
static bool finish(struct load *load)
{
    uint64_t end_ns = now_ns() + END_NS_MAX;

    while ((load->waiting != NULL || load->n_under_way > 0) && !load->refused && now_ns() < end_ns)
        turn(load, end_ns);
    return load->waiting == NULL && load->n_under_way == 0;
}

static bool measure(struct load *load)
{
    const struct write_load_options *options = &load->options;

    load->schedule_ns = now_ns();
    if (!run_until(load, load->schedule_ns + (uint64_t)(options->warmup * (double)NS_PER_SECOND)))
        return false;
    load->measured_ns = now_ns();
    load->measures = true;
    if (options->kill != 0 && kill((pid_t)options->kill, (int)options->signal) != 0) {
        fprintf(stderr, "write_load: process %" PRIu64 ": %s\n", options->kill, strerror(errno));
        return false;
    }
    if (!run_until(load,
                   load->measured_ns + (uint64_t)(options->seconds * (double)NS_PER_SECOND)) ||
        !finish(load))
        return false;
    return load->latency.count > 0;
}

static void report(const struct load *load)
{
    const struct latency *latency = &load->latency;
    double seconds = (double)(load->last_ns - load->measured_ns) / (double)NS_PER_SECOND;

    printf("acknowledged %" PRIu64 "\n", latency->count);
    printf("per_second %.0f\n", seconds > 0 ? (double)latency->count / seconds : 0.0);
    printf("p50_ms %.3f\n", (double)latency_quantile_ns(latency, 0.5) / 1e6);
    printf("p99_ms %.3f\n", (double)latency_quantile_ns(latency, 0.99) / 1e6);
    printf("p999_ms %.3f\n", (double)latency_quantile_ns(latency, 0.999) / 1e6);
    printf("max_ms %.3f\n", (double)latency->max_ns / 1e6);
    printf("longest_gap_ms %.3f\n", (double)load->gap_ns / 1e6);
    printf("flows_again_ms %.3f\n", (double)(load->gap_end_ns - load->measured_ns) / 1e6);
    printf("redirected %" PRIu64 "\n", load->n_redirected);
    printf("repeated %" PRIu64 "\n", load->n_repeated);
}

/* False: `endpoints` is not a list of addresses. */
static bool nodes_read(struct load *load)
{
    const char *from = load->options.endpoints;

    while (*from != '\0' && load->n_nodes < NODES_MAX) {
        char text[H2_ADDRESS_BYTES];
        size_t n = strcspn(from, ",");
        if (n >= sizeof(text))
            return false;
        memcpy(text, from, n);
        text[n] = '\0';
        if (h2_address_parse(text, load->nodes[load->n_nodes].address) != 0)
            return false;
        load->n_nodes++;
        from += n + (from[n] == ',');
    }
    return load->n_nodes > 0 && *from == '\0';
}

int main(int argc, char **argv)
{
    static const struct option_table table = {
        .usage = "usage: write_load --endpoints HOST:PORT[,…] [OPTION]…\n"
                 "Writes to a cluster without a break; tells latencies and the longest gap in\n"
                 "acknowledged writes.\n",
        .entries = option_entries,
        .n = sizeof(option_entries) / sizeof(option_entries[0])};
    static struct load load = {.random = UINT64_C(88172645463325252)};
    int rv = options_parse(&table, &load.options, argc, argv, NULL);

    if (rv != 0)
        return rv > 0 ? 0 : 2;
    if (!nodes_read(&load)) {
        fprintf(stderr, "write_load: --endpoints needs HOST:PORT[,HOST:PORT…], at most %d\n",
                NODES_MAX);
        return 2;
    }
    memset(load.value, 'v', load.options.value_bytes);
    for (size_t i = 0; i < load.options.in_flight; i++) {
        load.calls[i].load = &load;
        load.calls[i].next = load.idle;
        load.idle = &load.calls[i];
    }
    signal(SIGTERM, on_signal);
    bool fine = measure(&load);
    if (fine)
        report(&load);
    else
        fprintf(stderr, "write_load: %s\n",
                load.latency.count > 0 ? "not every write was acknowledged"
                                       : "no write was acknowledged");
    /* What is still under way refers to `load`, which stays until the end. */
    for (size_t i = 0; i < load.n_nodes; i++)
        h2_client_close(load.nodes[i].client);
    return fine && fflush(stdout) == 0 ? 0 : 1;
}
