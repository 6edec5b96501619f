/* See transport.h.
 *
 * Accepting: the preamble is read byte-exactly (what follows belongs to the backend), within a time
 * limit and for a bounded number of connections at once; then the stream is handed to the backend.
 * Connecting: resolve, connect, write the preamble, hand over; all within a time limit, since a
 * backend whose attempt hangs queues messages without bound.
 *
 * Streams are allocated with raft_malloc, because the backend frees them.
 */
#include "raft/transport.h"

#include "address.h"
#include "raft/peer_watch.h"

#include <assert.h>
#include <endian.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INCOMING_MAX    64
#define INCOMING_MS_MAX 5000
#define OUTGOING_MS_MAX 2000
#define LISTEN_BACKLOG  128
/* A peer that confirms nothing for so long is gone: without this a connection into a network that
 * fell apart would be kept, and what is sent into it lost, for many minutes after it healed. */
#define UNANSWERED_MS_MAX 10000u
/* Quiet connections of a peer that vanished without a word are found and closed. */
#define KEEPALIVE_SECONDS 30u

struct transport {
    struct raft_uv_transport base;
    uv_loop_t *loop;
    const struct transport_callbacks *callbacks;
    void *context;
    raft_id id;
    const char *address; /* The core's copy */
    uv_tcp_t listener;
    bool listener_open;
    raft_uv_accept_cb accept;
    struct incoming *incoming; /* Preamble not yet read */
    struct outgoing *outgoing;
    struct peer_watches watches;
    unsigned n_incoming; /* Allocated, those that are closing included */
    unsigned n_outgoing;
    bool closing;
    raft_uv_transport_close_cb closed;
};

/* ---- Closing ---- */

static void maybe_closed(struct transport *transport)
{
    raft_uv_transport_close_cb closed = transport->closed;

    if (!transport->closing || transport->listener_open || transport->n_incoming > 0 ||
        transport->n_outgoing > 0 || !peer_watches_closed(&transport->watches) || closed == NULL)
        return;
    transport->closed = NULL;
    closed(&transport->base);
}

static void stream_configure(uv_tcp_t *stream)
{
    unsigned unanswered_ms = UNANSWERED_MS_MAX;
    uv_os_fd_t fd;

    /* Without these it works too, only slower. */
    uv_tcp_nodelay(stream, 1);
    uv_tcp_keepalive(stream, 1, KEEPALIVE_SECONDS);
    if (uv_fileno((uv_handle_t *)stream, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered_ms, sizeof unanswered_ms);
}

static void stream_free(uv_handle_t *handle)
{
    raft_free(handle);
}

/* ---- Accepting ---- */

struct incoming {
    struct transport *transport;
    struct incoming *next;
    uv_tcp_t *stream; /* NULL once handed over or closing */
    uv_timer_t timer;
    size_t n;
    unsigned char bytes[PREAMBLE_BYTES];
};

static void incoming_closed(uv_handle_t *handle)
{
    struct incoming *incoming = handle->data;
    struct transport *transport = incoming->transport;

    transport->n_incoming--;
    free(incoming);
    maybe_closed(transport);
}

/* Takes it off the list; the stream is closed unless it was handed over. */
static void incoming_finish(struct incoming *incoming)
{
    struct incoming **link = &incoming->transport->incoming;

    while (*link != incoming)
        link = &(*link)->next;
    *link = incoming->next;
    if (incoming->stream != NULL)
        uv_close((uv_handle_t *)incoming->stream, stream_free);
    incoming->stream = NULL;
    uv_close((uv_handle_t *)&incoming->timer, incoming_closed);
}

static void incoming_timeout(uv_timer_t *timer)
{
    incoming_finish(timer->data);
}

static void incoming_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct incoming *incoming = handle->data;

    (void)suggested;
    *buffer = uv_buf_init((char *)incoming->bytes + incoming->n,
                          (unsigned)(sizeof incoming->bytes - incoming->n));
}

/* The descriptor goes on without libuv, which keeps its own until it closes the stream. */
static void serve_state(struct incoming *incoming, const struct preamble *preamble)
{
    struct transport *transport = incoming->transport;
    uv_os_fd_t fd;
    int copy =
        uv_fileno((uv_handle_t *)incoming->stream, &fd) == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;

    incoming_finish(incoming);
    if (copy >= 0)
        transport->callbacks->serve_state(transport->context, preamble, copy);
}

static void incoming_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct incoming *incoming = stream->data;
    struct transport *transport = incoming->transport;
    struct preamble preamble;

    (void)buffer;
    if (n == 0)
        return;
    if (n < 0) {
        incoming_finish(incoming);
        return;
    }
    incoming->n += (size_t)n;
    if (incoming->n < sizeof incoming->bytes)
        return;
    if (!preamble_decode(incoming->bytes, &preamble) ||
        !transport->callbacks->admit(transport->context, &preamble)) {
        incoming_finish(incoming);
        return;
    }
    uv_read_stop(stream);
    if (preamble.kind == PREAMBLE_STATE) {
        serve_state(incoming, &preamble);
        return;
    }
    incoming->stream = NULL;
    incoming_finish(incoming);
    transport->accept(&transport->base, preamble.source, preamble.address, stream);
}

static void connection_waits(uv_stream_t *server, int status)
{
    struct transport *transport = server->data;
    struct incoming *incoming;
    uv_tcp_t *stream;

    if (status != 0 || transport->closing)
        return;
    stream = raft_malloc(sizeof *stream);
    if (stream == NULL)
        return; /* libuv offers it again with the next connection */
    if (uv_tcp_init(transport->loop, stream) != 0) {
        raft_free(stream);
        return;
    }
    incoming = transport->n_incoming < INCOMING_MAX ? calloc(1, sizeof *incoming) : NULL;
    if (uv_accept(server, (uv_stream_t *)stream) != 0 || incoming == NULL) {
        free(incoming);
        uv_close((uv_handle_t *)stream, stream_free);
        return;
    }
    stream_configure(stream);
    incoming->transport = transport;
    incoming->stream = stream;
    incoming->next = transport->incoming;
    transport->incoming = incoming;
    transport->n_incoming++;
    uv_timer_init(transport->loop, &incoming->timer);
    incoming->timer.data = stream->data = incoming;
    uv_timer_start(&incoming->timer, incoming_timeout, INCOMING_MS_MAX, 0);
    if (uv_read_start((uv_stream_t *)stream, incoming_alloc, incoming_read) != 0)
        incoming_finish(incoming);
}

static int transport_listen(struct raft_uv_transport *base, raft_uv_accept_cb accept)
{
    struct transport *transport = base->impl;

    transport->accept = accept;
    if (uv_listen((uv_stream_t *)&transport->listener, LISTEN_BACKLOG, connection_waits) != 0) {
        snprintf(base->errmsg, sizeof base->errmsg, "cannot listen for peers");
        return RAFT_IOERR;
    }
    return 0;
}

/* ---- Connecting ---- */

struct outgoing {
    struct transport *transport;
    raft_id peer;
    struct outgoing *next;
    struct raft_uv_connect *request; /* NULL once answered */
    uv_tcp_t *stream;                /* NULL once handed over or closing */
    uv_timer_t timer;
    uv_getaddrinfo_t resolve;
    uv_connect_t connect;
    uv_write_t write;
    unsigned uses; /* Callbacks still to come; the last one frees */
    bool resolving;
    unsigned char preamble[PREAMBLE_BYTES];
};

static void outgoing_release(struct outgoing *outgoing)
{
    struct transport *transport = outgoing->transport;
    struct outgoing **link = &transport->outgoing;

    if (--outgoing->uses > 0)
        return;
    while (*link != outgoing)
        link = &(*link)->next;
    *link = outgoing->next;
    transport->n_outgoing--;
    free(outgoing);
    maybe_closed(transport);
}

static void outgoing_timer_closed(uv_handle_t *handle)
{
    outgoing_release(handle->data);
}

static void outgoing_finish(struct outgoing *outgoing, int status)
{
    struct raft_uv_connect *request = outgoing->request;
    uv_tcp_t *stream = outgoing->stream;

    if (request == NULL)
        return;
    outgoing->request = NULL;
    outgoing->stream = NULL;
    if (outgoing->resolving)
        uv_cancel((uv_req_t *)&outgoing->resolve);
    uv_close((uv_handle_t *)&outgoing->timer, outgoing_timer_closed);
    if (status != 0) {
        uv_close((uv_handle_t *)stream, stream_free);
        stream = NULL;
    }
    if (status == 0 && !outgoing->transport->closing)
        peer_watches_add(&outgoing->transport->watches, outgoing->peer, (uv_stream_t *)stream);
    request->cb(request, (uv_stream_t *)stream, status);
}

static void outgoing_timeout(uv_timer_t *timer)
{
    outgoing_finish(timer->data, RAFT_NOCONNECTION);
}

static void preamble_written(uv_write_t *write, int status)
{
    struct outgoing *outgoing = write->data;

    outgoing_finish(outgoing, status == 0 ? 0 : RAFT_NOCONNECTION);
    outgoing_release(outgoing);
}

static void connected(uv_connect_t *connect, int status)
{
    struct outgoing *outgoing = connect->data;

    if (outgoing->request != NULL && status == 0) {
        uv_buf_t buffer =
            uv_buf_init((char *)outgoing->preamble, (unsigned)sizeof outgoing->preamble);
        stream_configure(outgoing->stream);
        outgoing->write.data = outgoing;
        outgoing->uses++;
        status = uv_write(&outgoing->write, (uv_stream_t *)outgoing->stream, &buffer, 1,
                          preamble_written);
        if (status != 0)
            outgoing->uses--;
    }
    if (status != 0)
        outgoing_finish(outgoing, RAFT_NOCONNECTION);
    outgoing_release(outgoing);
}

static void resolved(uv_getaddrinfo_t *resolve, int status, struct addrinfo *addresses)
{
    struct outgoing *outgoing = resolve->data;

    outgoing->resolving = false;
    if (outgoing->request != NULL && status == 0) {
        outgoing->connect.data = outgoing;
        outgoing->uses++;
        status =
            uv_tcp_connect(&outgoing->connect, outgoing->stream, addresses->ai_addr, connected);
        if (status != 0)
            outgoing->uses--;
    }
    uv_freeaddrinfo(addresses);
    if (status != 0)
        outgoing_finish(outgoing, RAFT_NOCONNECTION);
    outgoing_release(outgoing);
}

static int transport_connect(struct raft_uv_transport *base, struct raft_uv_connect *request,
                             raft_id id, const char *address, raft_uv_connect_cb done)
{
    struct transport *transport = base->impl;
    struct preamble preamble = {.kind = PREAMBLE_RAFT, .source = transport->id, .destination = id};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
    struct address parsed;
    char port[8];
    struct outgoing *outgoing;

    if (transport->closing || !address_parse(address, &parsed))
        return RAFT_NOCONNECTION;
    outgoing = calloc(1, sizeof *outgoing);
    if (outgoing == NULL)
        return RAFT_NOMEM;
    outgoing->stream = raft_malloc(sizeof *outgoing->stream);
    if (outgoing->stream == NULL || uv_tcp_init(transport->loop, outgoing->stream) != 0) {
        raft_free(outgoing->stream);
        free(outgoing);
        return RAFT_NOMEM;
    }
    request->cb = done;
    outgoing->transport = transport;
    outgoing->peer = id;
    outgoing->request = request;
    outgoing->next = transport->outgoing;
    transport->outgoing = outgoing;
    transport->n_outgoing++;
    snprintf(preamble.address, sizeof preamble.address, "%s", transport->address);
    transport->callbacks->introduce(transport->context, id, &preamble);
    preamble_encode(&preamble, outgoing->preamble);
    uv_timer_init(transport->loop, &outgoing->timer);
    outgoing->timer.data = outgoing->resolve.data = outgoing;
    outgoing->uses = 2; /* Timer and resolver */
    outgoing->resolving = true;
    snprintf(port, sizeof port, "%u", parsed.port);
    if (uv_getaddrinfo(transport->loop, &outgoing->resolve, resolved, parsed.host, port, &hints) !=
        0) {
        outgoing->resolving = false;
        outgoing->uses--;
        outgoing->request = NULL;
        uv_close((uv_handle_t *)outgoing->stream, stream_free);
        uv_close((uv_handle_t *)&outgoing->timer, outgoing_timer_closed);
        return RAFT_NOCONNECTION;
    }
    uv_timer_start(&outgoing->timer, outgoing_timeout, OUTGOING_MS_MAX, 0);
    return 0;
}

/* ---- Opening and closing ---- */

static int transport_init(struct raft_uv_transport *base, raft_id id, const char *address)
{
    struct transport *transport = base->impl;

    transport->id = id;
    transport->address = address;
    return 0;
}

static void listener_closed(uv_handle_t *handle)
{
    struct transport *transport = handle->data;

    transport->listener_open = false;
    maybe_closed(transport);
}

static void transport_close(struct raft_uv_transport *base, raft_uv_transport_close_cb closed)
{
    struct transport *transport = base->impl;

    assert(!transport->closing);
    transport->closing = true;
    transport->closed = closed;
    while (transport->incoming != NULL)
        incoming_finish(transport->incoming);
    for (struct outgoing *outgoing = transport->outgoing; outgoing != NULL;
         outgoing = outgoing->next)
        outgoing_finish(outgoing, RAFT_CANCELED);
    peer_watches_close(&transport->watches);
    uv_close((uv_handle_t *)&transport->listener, listener_closed);
}

static void peer_gone(void *context, raft_id peer)
{
    const struct transport *transport = context;

    if (!transport->closing)
        transport->callbacks->peer_gone(transport->context, peer);
}

static void watch_ended(void *context)
{
    maybe_closed(context);
}

static int bind_listener(struct transport *transport, const char *listen)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct address parsed;
    uv_getaddrinfo_t resolve;
    char port[8];
    int rv;

    if (!address_parse(listen, &parsed))
        return UV_EINVAL;
    snprintf(port, sizeof port, "%u", parsed.port);
    rv = uv_getaddrinfo(transport->loop, &resolve, NULL, parsed.host, port, &hints);
    if (rv != 0)
        return rv;
    rv = uv_tcp_bind(&transport->listener, resolve.addrinfo->ai_addr, 0);
    uv_freeaddrinfo(resolve.addrinfo);
    if (rv == 0) {
        /* libuv keeps EADDRINUSE of bind for later: ask the kernel now. */
        struct sockaddr_storage name;
        int length = sizeof name;
        rv = uv_tcp_getsockname(&transport->listener, (struct sockaddr *)&name, &length);
    }
    return rv;
}

int transport_open(uv_loop_t *loop, const char *listen, const struct transport_callbacks *callbacks,
                   void *context, struct transport **ret_transport, char *error_text,
                   size_t error_text_size)
{
    struct transport *transport = calloc(1, sizeof *transport);
    int rv = UV_ENOMEM;

    if (transport == NULL || uv_tcp_init(loop, &transport->listener) != 0)
        goto fail;
    transport->loop = loop;
    transport->callbacks = callbacks;
    transport->context = context;
    transport->watches = (struct peer_watches){
        .loop = loop, .gone = peer_gone, .ended = watch_ended, .context = transport};
    transport->listener.data = transport;
    transport->listener_open = true;
    transport->base = (struct raft_uv_transport){.version = 1,
                                                 .impl = transport,
                                                 .init = transport_init,
                                                 .listen = transport_listen,
                                                 .connect = transport_connect,
                                                 .close = transport_close};
    rv = bind_listener(transport, listen);
    if (rv == 0) {
        *ret_transport = transport;
        return 0;
    }
    uv_close((uv_handle_t *)&transport->listener, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
fail:
    snprintf(error_text, error_text_size, "raft_listen %s: %s", listen, uv_strerror(rv));
    free(transport);
    return -1;
}

struct raft_uv_transport *transport_base(struct transport *transport)
{
    return &transport->base;
}

int transport_port(const struct transport *transport)
{
    struct sockaddr_storage name;
    int length = sizeof name;

    if (uv_tcp_getsockname(&transport->listener, (struct sockaddr *)&name, &length) != 0)
        return 0;
    return name.ss_family == AF_INET6 ? be16toh(((struct sockaddr_in6 *)&name)->sin6_port)
                                      : be16toh(((struct sockaddr_in *)&name)->sin_port);
}

void transport_free(struct transport *transport)
{
    free(transport);
}
