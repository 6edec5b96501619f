/* See buffers.h. Needs libh2o's own view of HTTP/2 streams; the header is that of the library's
 * package. */
#include "http/buffers.h"

#include "log.h"
#include "metrics.h"

#include <h2o/http2_internal.h>

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

/* Between two looks; the second with many connections, for which a look takes longer. */
#define CHECK_MS         20
#define CHECK_MANY_MS    100
#define LOOK_AGAIN_MS    2 /* For an answer that finds no room */
#define MANY_CONNECTIONS 1000
#define MOVED_PER_S_MIN  1024 /* Bytes; a PING now and then is no progress */
#define PRESSED_WAIT_MS  1000 /* An answer that takes longer makes room when others are refused */
#define REQUEST_BYTES    6144 /* What a request takes besides, about: libh2o's struct and pool */
#define CUT_WARN_MS      60000

struct held {
    size_t bytes;
    bool receiving, answering;
};

static struct held held_http2(h2o_req_t *req)
{
    const h2o_http2_stream_t *stream = H2O_STRUCT_FROM_MEMBER(h2o_http2_stream_t, req, req);
    struct held held = {.bytes = REQUEST_BYTES,
                        .receiving = stream->state == H2O_HTTP2_STREAM_STATE_RECV_HEADERS ||
                                     stream->state == H2O_HTTP2_STREAM_STATE_RECV_BODY,
                        .answering = stream->_data.size > 0};

    if (stream->_req_body != NULL)
        held.bytes += stream->_req_body->size;
    for (size_t i = 0; i < stream->_data.size; i++)
        held.bytes += stream->_data.entries[i].len;
    return held;
}

/* A connection has one request at a time, whose body lies where it was received. */
static struct held held_http1(const h2o_req_t *req, const h2o_socket_t *socket)
{
    bool handled = req->processed_at.at.tv_sec != 0;
    struct held held = {.bytes = REQUEST_BYTES + socket->input->size,
                        .receiving = !handled && socket->input->size > 0,
                        .answering = handled && req->res.status != 0};

    if (held.answering && req->res.content_length != SIZE_MAX)
        held.bytes += req->res.content_length;
    return held;
}

static int request_look(h2o_req_t *req, void *unused)
{
    h2o_socket_t *socket = req->conn->callbacks->get_socket(req->conn);
    bool is_http2 = req->version >= 0x200;
    struct connection *connection;
    struct held held;

    (void)unused;
    if (socket == NULL) /* It is being upgraded, and still the HTTP/1 connection's */
        return 0;
    connection = socket->on_close.data;
    held = is_http2 ? held_http2(req) : held_http1(req, socket);
    connection->held_bytes += held.bytes;
    connection->receiving |= held.receiving;
    connection->answering |= held.answering;
    return 0;
}

static void cut(struct connection *connection, const char *reason, uint64_t now)
{
    struct loop *loop = connection->loop;

    connection->cut = true;
    metrics_add(METRIC_CONNECTIONS_CUT, 1);
    shutdown(h2o_socket_get_fd(connection->socket), SHUT_RDWR);
    if (loop->buffers.warned_ms != 0 && now - loop->buffers.warned_ms < CUT_WARN_MS)
        return;
    loop->buffers.warned_ms = now;
    log_warning("a connection was cut", LOG_TEXT("reason", reason),
                LOG_U64("held_bytes", connection->held_bytes));
}

/* What the connection has received and what its peer has acknowledged, in bytes. False: the kernel
 * does not tell. libh2o knows only what it has given to the kernel, an answer at once. */
static bool moved(const struct connection *connection, uint64_t *ret_received, uint64_t *ret_taken)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;

    if (getsockopt(h2o_socket_get_fd(connection->socket), IPPROTO_TCP, TCP_INFO, &info, &size) !=
            0 ||
        size < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received)
        return false;
    *ret_received = info.tcpi_bytes_received;
    *ret_taken = info.tcpi_bytes_acked;
    return true;
}

static void mark(struct connection *connection, uint64_t now)
{
    connection->marked_ms = now;
    connection->can_mark = moved(connection, &connection->received_mark, &connection->taken_mark);
}

/* Whether it moved next to nothing for as long as a connection may be idle. */
static bool is_stalled(struct connection *connection, uint64_t now)
{
    uint64_t received, taken, least, elapsed_ms;
    bool stalled;

    if (!connection->receiving && !connection->answering) {
        connection->busy_ms = 0;
        return false;
    }
    if (connection->busy_ms == 0) {
        connection->busy_ms = now;
        mark(connection, now);
    }
    elapsed_ms = now - connection->marked_ms;
    if (elapsed_ms < connection->loop->server->options.idle_timeout_ms)
        return false;
    least = MOVED_PER_S_MIN * elapsed_ms / 1000;
    stalled = connection->can_mark && moved(connection, &received, &taken) &&
              ((connection->receiving && received - connection->received_mark < least) ||
               (connection->answering && taken - connection->taken_mark < least));
    mark(connection, now);
    return stalled;
}

/* A body of the largest size, and as much again, always has room. */
static uint64_t budget_of(const struct loop *loop)
{
    uint64_t share = loop->server->options.buffers_bytes_max / loop->server->n_loops;
    uint64_t least = 2 * (uint64_t)loop->server->config.max_request_entity_size;

    return share > least ? share : least;
}

/* Of those that are not cut yet the one that holds the most; `slow`: and that has had answers to
 * take for some time. */
static struct connection *largest(const struct loop *loop, bool slow, uint64_t now)
{
    struct connection *found = NULL;

    for (struct connection *connection = loop->connections; connection != NULL;
         connection = connection->next) {
        if (connection->cut ||
            (slow && (!connection->answering || now - connection->busy_ms < PRESSED_WAIT_MS)))
            continue;
        if (found == NULL || connection->held_bytes > found->held_bytes)
            found = connection;
    }
    return found;
}

static void make_room(struct loop *loop, uint64_t now)
{
    struct connection *connection;

    while (loop->buffers.held_bytes > budget_of(loop) &&
           (connection = largest(loop, false, now)) != NULL) {
        cut(connection, "connections hold more than buffers_bytes_max, this one the most", now);
        loop->buffers.held_bytes -= connection->held_bytes;
    }
    if (loop->buffers.refused && (connection = largest(loop, true, now)) != NULL)
        cut(connection, "no room for answers, and it takes its own too slowly", now);
    loop->buffers.refused = false;
}

/* What all connections hold now. */
static void look(struct loop *loop, uint64_t now)
{
    const h2o_globalconf_t *config = loop->context.globalconf;
    struct connection *connection;

    for (connection = loop->connections; connection != NULL; connection = connection->next) {
        connection->held_bytes = 0;
        connection->receiving = connection->answering = false;
    }
    config->http1.callbacks.foreach_request(&loop->context, request_look, NULL);
    config->http2.callbacks.foreach_request(&loop->context, request_look, NULL);
    loop->buffers.held_bytes = 0;
    for (connection = loop->connections; connection != NULL; connection = connection->next)
        loop->buffers.held_bytes += connection->cut ? 0 : connection->held_bytes;
    loop->buffers.made_bytes = 0;
    loop->buffers.looked_ms = now;
}

void buffers_check(struct loop *loop)
{
    uint64_t now = loop_now_ms();
    size_t n = 0;

    if (now < loop->buffers.check_ms)
        return;
    look(loop, now);
    for (struct connection *connection = loop->connections; connection != NULL;
         connection = connection->next) {
        n++;
        if (!connection->cut && is_stalled(connection, now)) {
            cut(connection, "it moved next to nothing of a request or an answer", now);
            loop->buffers.held_bytes -= connection->held_bytes;
        }
    }
    make_room(loop, now);
    loop->buffers.check_ms = now + (n < MANY_CONNECTIONS ? CHECK_MS : CHECK_MANY_MS);
}

static bool has_room(const struct loop *loop, size_t bytes)
{
    uint64_t held = loop->buffers.held_bytes + loop->buffers.made_bytes;

    return held == 0 || held + bytes <= budget_of(loop);
}

bool buffers_admit(struct loop *loop, size_t bytes)
{
    uint64_t now;

    /* Most of what was made may have left since the last look. */
    if (!has_room(loop, bytes) && (now = loop_now_ms()) - loop->buffers.looked_ms >= LOOK_AGAIN_MS)
        look(loop, now);
    if (!has_room(loop, bytes)) {
        loop->buffers.refused = true;
        return false;
    }
    loop->buffers.made_bytes += bytes;
    return true;
}
