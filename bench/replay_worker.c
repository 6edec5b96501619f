/* See replay_worker.h. Happy path: take a request of the source, send it to the next node (or to
 * the leader, once a redirect has named it, if it needs the leader), look at the answer. A call
 * that is redirected goes on at the node that was named. A connection that breaks, or on which
 * nothing is answered for --timeout, fails its calls and is opened anew by the next one. While
 * loading, what is not answered 200 is tried again. All of it belongs to the worker's thread. */
#include "replay_worker.h"

#include "tiers/tiers.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_SECOND   1000000000u
#define NS_PER_MS       1000000u
#define POLL_TIMEOUT_MS 20
#define REST_MS         20 /* Before a node is asked again that refused, or could not be reached */
#define REDIRECTS_MAX   8
#define LOAD_TRIES_MAX  1000
#define PATH_BYTES      80

struct target {
    char address[H2_ADDRESS_BYTES];
    struct h2_client *client; /* NULL: not connected */
    uint64_t answered_ns;     /* The last answer, or when it began to wait for one */
    uint64_t rests_until_ns;
};

struct call {
    struct h2_request request;
    struct replay_worker *worker;
    struct call *next_free;
    uint64_t number; /* Of the key */
    char op;
    unsigned redirects;
    unsigned tries;
    size_t target;
    uint64_t began_ns;
    char path[PATH_BYTES];
    unsigned char *value;
    size_t value_room;
    unsigned char head[WORKLOAD_VALUE_BYTES_MIN]; /* Of the value that was read */
};

struct replay_worker {
    struct replay *replay;
    pthread_t thread;
    struct source_cursor cursor;
    struct target targets[REPLAY_TARGETS_MAX];
    size_t n_targets;
    size_t next_target;
    size_t leader; /* REPLAY_TARGETS_MAX: not known */
    bool loads;
    bool exhausted; /* No further requests */
    struct call *calls;
    struct call *free;
    struct call *again; /* Loading: to be sent once more */
    uint64_t n_under_way;
    uint64_t next_version;
    uint64_t rests_until_ns;
    struct replay_counts counts;
};

static void send_call(struct call *call);

uint64_t replay_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

void replay_fail(struct replay *replay, const char *what, const char *why)
{
    if (!atomic_exchange(&replay->failed, true))
        fprintf(stderr, "tierbench: %s: %s\n", what, why);
    atomic_store(&replay->phase, REPLAY_STOP);
}

static bool measures(const struct replay_worker *worker)
{
    return atomic_load_explicit(&worker->replay->phase, memory_order_relaxed) == REPLAY_MEASURE;
}

/* The target of the address, a new one if need be. REPLAY_TARGETS_MAX: there are too many. */
static size_t target_of(struct replay_worker *worker, const char *address)
{
    for (size_t i = 0; i < worker->n_targets; i++) {
        if (strcmp(worker->targets[i].address, address) == 0)
            return i;
    }
    if (worker->n_targets == REPLAY_TARGETS_MAX)
        return REPLAY_TARGETS_MAX;
    snprintf(worker->targets[worker->n_targets].address, H2_ADDRESS_BYTES, "%s", address);
    return worker->n_targets++;
}

static void disconnect(struct target *target)
{
    struct h2_client *client = target->client;

    target->client = NULL;
    target->rests_until_ns = replay_now_ns() + (uint64_t)REST_MS * NS_PER_MS;
    h2_client_close(client);
}

static bool needs_leader(const struct replay_worker *worker, const struct call *call)
{
    return call->op != 'r' || worker->replay->options->level_kind != REPLAY_STALE;
}

static size_t choose_target(struct replay_worker *worker, const struct call *call)
{
    uint64_t now_ns = replay_now_ns();

    assert(worker->n_targets > 0);
    if (needs_leader(worker, call) && worker->leader < worker->n_targets &&
        worker->targets[worker->leader].rests_until_ns <= now_ns)
        return worker->leader;
    for (size_t i = 0; i < worker->n_targets; i++) {
        size_t target = worker->next_target++ % worker->n_targets;
        if (worker->targets[target].rests_until_ns <= now_ns)
            return target;
    }
    return worker->next_target++ % worker->n_targets;
}

static void call_free(struct call *call)
{
    call->next_free = call->worker->free;
    call->worker->free = call;
}

/* The call has come to its end with this status; 0: without an answer. */
static void call_finish(struct call *call, int status)
{
    struct replay_worker *worker = call->worker;
    size_t kind = call->op == 'r' ? REPLAY_READ : REPLAY_WRITE;
    bool absent = status == 404 && call->op == 'r' && worker->replay->deletes;

    worker->n_under_way--;
    atomic_fetch_add_explicit(&worker->replay->completed, 1, memory_order_relaxed);
    if (worker->loads && status != 200) {
        call->next_free = worker->again;
        worker->again = call;
        worker->rests_until_ns = replay_now_ns() + (uint64_t)REST_MS * NS_PER_MS;
        if (++call->tries > LOAD_TRIES_MAX)
            replay_fail(worker->replay, "loading", "a key was refused again and again");
        return;
    }
    if (status == 200 && call->op == 'r' &&
        !workload_value_belongs(call->number, call->head, call->request.answer_bytes)) {
        worker->counts.wrong++;
    } else if (measures(worker)) {
        if (status == 200 || absent)
            latency_add(&worker->counts.latencies[kind], replay_now_ns() - call->began_ns);
        worker->counts.absent += absent;
        worker->counts.statuses[status > 0 && status < REPLAY_STATUS_MAX ? status : 0]++;
    }
    call_free(call);
}

static void on_done(struct h2_request *request)
{
    struct call *call = request->owner;
    struct replay_worker *worker = call->worker;
    struct target *target = &worker->targets[call->target];

    if (request->status != 0)
        target->answered_ns = replay_now_ns();
    if (request->status == 307 && request->location[0] != '\0' &&
        call->redirects++ < REDIRECTS_MAX) {
        size_t leader = target_of(worker, request->location);
        worker->counts.redirects += measures(worker);
        if (leader < REPLAY_TARGETS_MAX) {
            worker->leader = leader;
            call->target = leader;
            send_call(call);
            return;
        }
    }
    if (request->status == 0 || request->status == 503) {
        if (worker->leader == call->target)
            worker->leader = REPLAY_TARGETS_MAX;
        target->rests_until_ns = replay_now_ns() + (uint64_t)REST_MS * NS_PER_MS;
    }
    call_finish(call, request->status);
}

static bool connect_target(struct replay_worker *worker, struct target *target)
{
    unsigned timeout_ms = (unsigned)(worker->replay->options->timeout * 1000);

    if (target->client != NULL)
        return true;
    if (h2_client_open(target->address, timeout_ms, &target->client) != 0)
        return false;
    target->answered_ns = replay_now_ns();
    return true;
}

/* Hands the call, which counts as under way, to its target. */
static void send_call(struct call *call)
{
    struct replay_worker *worker = call->worker;
    struct target *target = &worker->targets[call->target];

    if (!connect_target(worker, target)) {
        target->rests_until_ns = replay_now_ns() + (uint64_t)REST_MS * NS_PER_MS;
        if (worker->leader == call->target)
            worker->leader = REPLAY_TARGETS_MAX;
        call_finish(call, 0);
        return;
    }
    if (h2_client_under_way(target->client) == 0)
        target->answered_ns = replay_now_ns();
    if (!h2_client_submit(target->client, &call->request))
        call_finish(call, 0);
}

/* False: out of memory. */
static bool make_value(struct call *call)
{
    struct replay_worker *worker = call->worker;
    size_t bytes = source_value_bytes(worker->replay->source, call->number);

    if (bytes > call->value_room) {
        unsigned char *grown = realloc(call->value, bytes);
        if (grown == NULL)
            return false;
        call->value = grown;
        call->value_room = bytes;
    }
    workload_value(call->number, worker->next_version++, call->value, bytes);
    call->request.body = call->value;
    call->request.body_bytes = bytes;
    return true;
}

static void begin_call(struct call *call, uint64_t number, char op)
{
    static const char *const queries[] = {
        [REPLAY_DEFAULT] = "?raw&level=default",
        [REPLAY_CONSISTENT] = "?raw&level=consistent",
        [REPLAY_STALE] = "?raw&level=stale",
    };
    struct replay_worker *worker = call->worker;
    char key[WORKLOAD_KEY_BYTES + 1];

    workload_key(number, key);
    snprintf(call->path, sizeof(call->path), "/key/%s%s", key,
             op == 'r' ? queries[worker->replay->options->level_kind] : "");
    call->number = number;
    call->op = op;
    call->redirects = 0;
    call->tries = 0;
    call->began_ns = replay_now_ns();
    call->request = (struct h2_request){.method = op == 'r'   ? "GET"
                                                  : op == 'd' ? "DELETE"
                                                              : "PUT",
                                        .path = call->path,
                                        .answer = call->head,
                                        .answer_max = op == 'r' ? sizeof(call->head) : 0,
                                        .done = on_done,
                                        .owner = call};
    worker->n_under_way++;
    call->target = choose_target(worker, call);
    if (op == 'w' && !make_value(call)) {
        replay_fail(worker->replay, "value", tiers_strerror(TIERS_NO_MEMORY));
        worker->n_under_way--;
        call_free(call);
        return;
    }
    send_call(call);
}

static bool next_request(struct replay_worker *worker, struct source_request *ret_request)
{
    struct replay *replay = worker->replay;

    if (!worker->loads)
        return source_next(replay->source, &worker->cursor, ret_request);
    ret_request->key = atomic_fetch_add_explicit(&replay->load, 1, memory_order_relaxed);
    ret_request->op = 'w';
    return ret_request->key < replay->source->keys;
}

/* Begins calls until as many as allowed are under way. */
static void fill(struct replay_worker *worker)
{
    struct source_request request;

    if (worker->loads && replay_now_ns() < worker->rests_until_ns)
        return;
    for (struct call *call = worker->again; call != NULL; call = worker->again) {
        worker->again = call->next_free;
        worker->n_under_way++;
        call->target = choose_target(worker, call);
        call->redirects = 0;
        send_call(call);
        if (replay_now_ns() < worker->rests_until_ns)
            return;
    }
    while (worker->free != NULL && !worker->exhausted) {
        if (!next_request(worker, &request)) {
            worker->exhausted = true;
            return;
        }
        struct call *call = worker->free;
        worker->free = call->next_free;
        begin_call(call, request.key, request.op);
        if (worker->n_under_way == 0)
            return; /* It failed at once: no node can be reached */
    }
}

/* Cuts a connection on which calls wait for too long. */
static void check_silence(struct replay_worker *worker, struct target *target)
{
    double timeout_ns = worker->replay->options->timeout * NS_PER_SECOND;

    if (target->client != NULL && h2_client_under_way(target->client) > 0 &&
        (double)(replay_now_ns() - target->answered_ns) > timeout_ns)
        disconnect(target);
}

/* Lets every connection do what it can, then waits for one that can do more. */
static void work_once(struct replay_worker *worker)
{
    struct pollfd fds[REPLAY_TARGETS_MAX];
    nfds_t n = 0;

    for (size_t i = 0; i < worker->n_targets; i++) {
        struct target *target = &worker->targets[i];
        if (target->client != NULL && !h2_client_work(target->client))
            disconnect(target);
        check_silence(worker, target);
    }
    fill(worker);
    for (size_t i = 0; i < worker->n_targets; i++) {
        struct target *target = &worker->targets[i];
        if (target->client == NULL)
            continue;
        if (!h2_client_work(target->client)) {
            disconnect(target);
            continue;
        }
        fds[n++] = (struct pollfd){.fd = h2_client_fd(target->client),
                                   .events = h2_client_events(target->client)};
    }
    /* What came back at once is to be followed by the next calls at once. */
    bool idle = worker->free == NULL || worker->exhausted || worker->n_under_way == 0;
    if (poll(fds, n, idle ? POLL_TIMEOUT_MS : 0) < 0 && errno != EINTR)
        replay_fail(worker->replay, "poll", strerror(errno));
}

static void *work(void *argument)
{
    struct replay_worker *worker = argument;

    while (atomic_load_explicit(&worker->replay->phase, memory_order_relaxed) != REPLAY_STOP &&
           !(worker->exhausted && worker->n_under_way == 0 && worker->again == NULL))
        work_once(worker);
    return NULL;
}

static void worker_free(struct replay_worker *worker)
{
    /* What is still under way is done by it, and belongs to no count. */
    for (size_t i = 0; i < worker->n_targets; i++)
        disconnect(&worker->targets[i]);
    for (uint64_t i = 0; worker->calls != NULL && i < worker->replay->options->in_flight; i++)
        free(worker->calls[i].value);
    free(worker->calls);
    free(worker);
}

struct replay_worker *replay_worker_start(struct replay *replay, uint64_t number)
{
    const struct replay_options *options = replay->options;
    struct replay_worker *worker = calloc(1, sizeof(*worker));
    int error;

    if (worker == NULL)
        goto no_memory;
    worker->replay = replay;
    worker->loads = atomic_load(&replay->phase) == REPLAY_LOAD;
    worker->leader = REPLAY_TARGETS_MAX;
    worker->next_target = number;
    source_cursor_init(&worker->cursor, options->source.seed + number * 7919);
    for (size_t i = 0; i < options->n_addresses; i++)
        (void)target_of(worker, options->addresses[i]);
    worker->calls = calloc(options->in_flight, sizeof(*worker->calls));
    if (worker->calls == NULL)
        goto no_memory;
    for (uint64_t i = 0; i < options->in_flight; i++) {
        worker->calls[i].worker = worker;
        call_free(&worker->calls[i]);
    }
    error = pthread_create(&worker->thread, NULL, work, worker);
    if (error == 0)
        return worker;
    replay_fail(replay, "thread", strerror(error));
    worker_free(worker);
    return NULL;

no_memory:
    replay_fail(replay, "worker", tiers_strerror(TIERS_NO_MEMORY));
    free(worker);
    return NULL;
}

void replay_worker_join(struct replay_worker *worker, struct replay_counts *counts)
{
    if (worker == NULL)
        return;
    pthread_join(worker->thread, NULL);
    for (size_t i = 0; i < REPLAY_CALLS; i++)
        latency_merge(&counts->latencies[i], &worker->counts.latencies[i]);
    for (size_t i = 0; i < REPLAY_STATUS_MAX; i++)
        counts->statuses[i] += worker->counts.statuses[i];
    counts->redirects += worker->counts.redirects;
    counts->absent += worker->counts.absent;
    counts->wrong += worker->counts.wrong;
    worker_free(worker);
}
