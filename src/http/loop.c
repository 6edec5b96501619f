/* See loop.h. The loop alternates between one round of libh2o's event loop and what follows from
 * it: consistent reads that gathered are sent off as one, requests that waited too long are
 * answered, and at the end connections are drained. */
#include "http/loop.h"

#include "http/request.h"
#include "metrics.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Connections taken per wake-up, so that open ones get their turn. */
#define ACCEPTS_MAX 16
/* How long a round may sleep: timeouts are late by at most this. */
#define ROUND_MS_MAX 50
/* After draining, what is left is closed; this bounds the wait for it. */
#define CLOSE_MS_MAX 1000

struct connection {
    struct loop *loop;
    h2o_socket_t *socket;
    struct connection *next, **link;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t loop_now_ms(void)
{
    return now_ns() / 1000000;
}

uint64_t loop_now_us(void)
{
    return now_ns() / 1000;
}

void loop_view_renew(struct loop *loop)
{
    const struct replica *replica = loop->server->options.replica;
    uint64_t version = replica_view_version(replica);
    struct replica_view view;

    if (loop->view.known && version == loop->view.version)
        return;
    replica_view(replica, &view);
    loop->view.known = true;
    loop->view.version = version;
    loop->view.role = view.role;
    loop->view.leader_len = (size_t)snprintf(loop->view.leader, sizeof loop->view.leader, "%s",
                                             view.leader_http_address);
    loop->view.term_len =
        (size_t)snprintf(loop->view.term, sizeof loop->view.term, "%" PRIu64, view.term);
}

/* ---- Connections ---- */

static void connection_closed(void *pointer)
{
    struct connection *connection = pointer;

    *connection->link = connection->next;
    if (connection->next != NULL)
        connection->next->link = connection->link;
    atomic_fetch_sub_explicit(&connection->loop->server->connections, 1, memory_order_relaxed);
    free(connection);
}

static void connection_opened(struct loop *loop, h2o_socket_t *socket)
{
    struct connection *connection = NULL;
    uint32_t open = atomic_fetch_add_explicit(&loop->server->connections, 1, memory_order_relaxed);

    if (open < loop->server->options.connections_max)
        connection = calloc(1, sizeof *connection);
    if (connection == NULL) {
        atomic_fetch_sub_explicit(&loop->server->connections, 1, memory_order_relaxed);
        metrics_add(METRIC_REFUSED_CONNECTIONS, 1);
        h2o_socket_close(socket);
        return;
    }
    metrics_add(METRIC_CONNECTIONS_ACCEPTED, 1);
    *connection = (struct connection){
        .loop = loop, .socket = socket, .next = loop->connections, .link = &loop->connections};
    if (loop->connections != NULL)
        loop->connections->link = &connection->next;
    loop->connections = connection;
    socket->on_close.cb = connection_closed;
    socket->on_close.data = connection;
    h2o_accept(&loop->accept, socket);
}

static void on_accept(h2o_socket_t *listener, const char *error)
{
    struct loop *loop = listener->data;

    if (error != NULL)
        return;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        h2o_socket_t *socket = h2o_evloop_socket_accept(listener);
        if (socket == NULL)
            return;
        connection_opened(loop, socket);
    }
}

/* ---- Wake-ups ---- */

static void on_inbox(h2o_socket_t *socket, const char *error)
{
    (void)error;
    request_replies(socket->data);
}

static void on_reader(h2o_socket_t *socket, const char *error)
{
    struct loop *loop = socket->data;
    eventfd_t count;

    (void)error;
    if (eventfd_read(tiers_reader_fd(loop->reader), &count) != 0)
        assert(errno == EAGAIN || errno == EINTR);
    tiers_reader_complete(loop->reader);
}

/* A descriptor that someone else owns, watched by the loop. */
static h2o_socket_t *watch(struct loop *loop, int fd, h2o_socket_cb callback)
{
    int copy = dup(fd);
    h2o_socket_t *socket;

    if (copy < 0)
        return NULL;
    socket = h2o_evloop_socket_create(loop->context.loop, copy, H2O_SOCKET_FLAG_DONT_READ);
    socket->data = loop;
    h2o_socket_read_start(socket, callback);
    return socket;
}

/* ---- The thread ---- */

static void round_of(struct loop *loop)
{
    h2o_evloop_run(loop->context.loop, ROUND_MS_MAX);
    request_consistent_flush(loop);
    request_outgoing_flush(loop);
    request_expire(loop);
}

static void stop_listening(struct loop *loop)
{
    h2o_socket_read_stop(loop->listener);
    h2o_socket_close(loop->listener);
    loop->listener = NULL;
}

static void drain(struct loop *loop)
{
    uint64_t until = atomic_load(&loop->drain_until);

    stop_listening(loop);
    h2o_context_request_shutdown(&loop->context);
    while ((loop->n_waiting > 0 || loop->waiting_oldest != NULL) && loop_now_ms() < until)
        round_of(loop);
    /* The last answers still have to leave; the peers then see the end of their connections. */
    h2o_evloop_run(loop->context.loop, 0);
    for (struct connection *connection = loop->connections; connection != NULL;
         connection = connection->next)
        shutdown(h2o_socket_get_fd(connection->socket), SHUT_RD);
    until = loop_now_ms() + CLOSE_MS_MAX;
    while (loop->connections != NULL && loop_now_ms() < until)
        round_of(loop);
}

static void *run(void *argument)
{
    struct loop *loop = argument;

    pthread_setname_np(pthread_self(), "http");
    while (!atomic_load_explicit(&loop->stopping, memory_order_acquire))
        round_of(loop);
    drain(loop);
    /* Operations come back in any case: the replica still runs. */
    while (loop->n_waiting > 0)
        round_of(loop);
    return NULL;
}

/* ---- Opening and closing ---- */

int loop_open(struct loop *loop, struct http_server *server, int listen_fd, char *error_text,
              size_t error_text_size)
{
    int rv;

    memset(loop, 0, sizeof *loop);
    loop->server = server;
    h2o_context_init(&loop->context, h2o_evloop_create(), &server->config);
    loop->accept = (h2o_accept_ctx_t){.ctx = &loop->context, .hosts = server->config.hosts};
    loop->listener =
        h2o_evloop_socket_create(loop->context.loop, listen_fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->listener->data = loop;
    h2o_socket_read_start(loop->listener, on_accept);
    rv = tiers_reader_open(server->options.tiers, &loop->reader);
    if (rv != 0) {
        snprintf(error_text, error_text_size, "reader of the tiers: %s", tiers_strerror(rv));
        goto fail;
    }
    loop->inbox = inbox_new(server->options.requests_in_flight_max);
    if (loop->inbox == NULL ||
        (loop->inbox_socket = watch(loop, inbox_fd(loop->inbox), on_inbox)) == NULL ||
        (loop->reader_socket = watch(loop, tiers_reader_fd(loop->reader), on_reader)) == NULL) {
        snprintf(error_text, error_text_size, "descriptors: %s", strerror(errno));
        goto fail;
    }
    return 0;
fail:
    loop_close(loop);
    return -1;
}

int loop_start(struct loop *loop)
{
    int error = pthread_create(&loop->thread, NULL, run, loop);

    errno = error;
    loop->thread_started = error == 0;
    return error == 0 ? 0 : -1;
}

void loop_close(struct loop *loop)
{
    if (loop->listener != NULL)
        stop_listening(loop);
    if (loop->inbox_socket != NULL)
        h2o_socket_close(loop->inbox_socket);
    if (loop->reader_socket != NULL)
        h2o_socket_close(loop->reader_socket);
    if (loop->reader != NULL)
        tiers_reader_close(loop->reader);
    inbox_free(loop->inbox);
    free(loop->spare);
    /* A shutdown that was asked for leaves a timer of the whole context behind. */
    if (h2o_timeout_is_linked(&loop->context.http2._graceful_shutdown_timeout))
        h2o_timeout_unlink(&loop->context.http2._graceful_shutdown_timeout);
    h2o_context_dispose(&loop->context);
    h2o_evloop_destroy(loop->context.loop); /* With the sockets that were closed */
}
