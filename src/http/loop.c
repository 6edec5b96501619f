/* See loop.h. The loop alternates between one round of libh2o's event loop and what follows from
 * it: consistent reads that gathered are sent off as one, requests that waited too long are
 * answered, and at the end connections are drained. */
#include "http/loop.h"

#include "http/buffers.h"
#include "http/request.h"
#include "log.h"
#include "metrics.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Connections taken per wake-up, so that open ones get their turn. */
#define ACCEPTS_MAX 16
/* How long a round may sleep: timeouts are late by at most this. */
#define ROUND_MS_MAX 50
/* After draining, connections get this long to send what is written and to close, before they are
 * cut. */
#define CLOSE_MS_MAX 1000
/* How long idle connections are kept at a shutdown, so that clients see its announcement before
 * they send more. */
#define GOAWAY_MS 100
/* How long no connection is taken when there is no descriptor or memory for one. */
#define ACCEPT_PAUSE_MS 100
#define ACCEPT_WARN_MS  60000
/* How old the known last contact to the leader may be. */
#define CONTACT_MS_MAX 5

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

bool loop_last_contact(struct loop *loop, uint64_t *ret_ms)
{
    uint64_t now = loop_now_ms();
    struct replica_view view;

    if (now - loop->contact.renewed_ms >= CONTACT_MS_MAX) {
        replica_view(loop->server->options.replica, &view);
        loop->contact.renewed_ms = now;
        loop->contact.at_ms = now - view.last_contact_ms;
        loop->contact.known =
            view.role == REPLICA_LEADER || view.last_contact_ms > 0 || view.leader_id != 0;
    }
    loop_view_renew(loop);
    if (loop->contact.known)
        *ret_ms = loop->view.role == REPLICA_LEADER ? 0 : now - loop->contact.at_ms;
    return loop->contact.known;
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
    unsigned int stalled_ms_max = loop->server->options.idle_timeout_ms;
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
    /* Of a peer that is gone the kernel learns by this. Where the option is unknown it goes
     * without. */
    (void)setsockopt(h2o_socket_get_fd(socket), IPPROTO_TCP, TCP_USER_TIMEOUT, &stalled_ms_max,
                     sizeof stalled_ms_max);
    h2o_accept(&loop->accept, socket);
}

/* Without descriptors the listener stays readable: waiting for it would only burn the processor. */
static void accept_pause(struct loop *loop, int error)
{
    uint64_t now = loop_now_ms();

    h2o_socket_read_stop(loop->listener);
    loop->accept_again_ms = now + ACCEPT_PAUSE_MS;
    if (loop->accept_warned_ms != 0 && now - loop->accept_warned_ms < ACCEPT_WARN_MS)
        return;
    loop->accept_warned_ms = now;
    log_warning("connections cannot be taken at the moment", LOG_TEXT("cause", strerror(error)));
}

static void on_accept(h2o_socket_t *listener, const char *error)
{
    struct loop *loop = listener->data;

    if (error != NULL)
        return;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        h2o_socket_t *socket = h2o_evloop_socket_accept(listener);
        if (socket == NULL) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                accept_pause(loop, errno);
            return;
        }
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

    (void)error;
    tiers_reader_complete(loop->reader);
}

/* A descriptor that someone else owns, watched by the loop. */
static h2o_socket_t *watch(struct loop *loop, int fd, h2o_socket_cb callback)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
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
    buffers_check(loop);
    if (loop->accept_again_ms != 0 && loop_now_ms() >= loop->accept_again_ms) {
        loop->accept_again_ms = 0;
        if (loop->listener != NULL)
            h2o_socket_read_start(loop->listener, on_accept);
    }
}

static void stop_listening(struct loop *loop)
{
    h2o_socket_read_stop(loop->listener);
    h2o_socket_close(loop->listener);
    loop->listener = NULL;
}

static int is_under_way(h2o_req_t *req, void *unused)
{
    (void)unused;
    return req->input.method.base != NULL; /* Set when a request begins, to be cleared at its end */
}

/* Whether any request waits, or its answer has not left. */
static bool any_under_way(struct loop *loop)
{
    const h2o_globalconf_t *config = loop->context.globalconf;

    return config->http1.callbacks.foreach_request(&loop->context, is_under_way, NULL) != 0 ||
           config->http2.callbacks.foreach_request(&loop->context, is_under_way, NULL) != 0;
}

static void shut_down_all(struct loop *loop, int how)
{
    for (struct connection *connection = loop->connections; connection != NULL;
         connection = connection->next)
        shutdown(h2o_socket_get_fd(connection->socket), how);
}

/* Afterwards no connection is left. */
static void drain(struct loop *loop)
{
    uint64_t began = loop_now_ms(), until = atomic_load(&loop->drain_until);

    stop_listening(loop);
    h2o_context_request_shutdown(&loop->context);
    while (loop->connections != NULL && loop_now_ms() < until &&
           (loop_now_ms() < began + GOAWAY_MS || any_under_way(loop)))
        round_of(loop);
    request_end_all(loop);
    h2o_evloop_run(loop->context.loop, 0); /* HTTP/2 answers are written at the end of a turn */
    /* Connections close at the end of what their peers send, after the answer that is under way. */
    shut_down_all(loop, SHUT_RD);
    until = loop_now_ms() + CLOSE_MS_MAX;
    while (loop->connections != NULL && loop_now_ms() < until) {
        round_of(loop);
        request_end_all(loop);
    }
    while (loop->connections != NULL) {
        shut_down_all(loop, SHUT_RDWR);
        round_of(loop);
        request_end_all(loop);
    }
}

static void *run(void *argument)
{
    struct loop *loop = argument;

    pthread_setname_np(pthread_self(), "http");
    while (!atomic_load_explicit(&loop->stopping, memory_order_acquire))
        round_of(loop);
    drain(loop);
    /* What the last turn brought is with the replica as well: loop_free takes it back. */
    request_consistent_flush(loop);
    request_outgoing_flush(loop);
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
    loop_free(loop);
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
    free(loop->spare);
    /* A shutdown that was asked for leaves a timer of the whole context behind. */
    if (h2o_timeout_is_linked(&loop->context.http2._graceful_shutdown_timeout))
        h2o_timeout_unlink(&loop->context.http2._graceful_shutdown_timeout);
    h2o_context_dispose(&loop->context);
    h2o_evloop_destroy(loop->context.loop); /* With the sockets that were closed */
}

void loop_free(struct loop *loop)
{
    if (loop->inbox != NULL)
        request_replies(loop);
    inbox_free(loop->inbox);
}
