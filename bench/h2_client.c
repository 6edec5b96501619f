/* See h2_client.h. libnghttp2 turns requests into bytes and bytes into callbacks; this file moves
 * the bytes and keeps the list of what is under way. A request leaves the list when its stream
 * closes, or when the connection does. */
#include "h2_client.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define WINDOW_BYTES  (16 << 20)
#define RECEIVE_BYTES 65536

struct h2_client {
    int fd;
    bool broken;
    nghttp2_session *session;
    char address[H2_ADDRESS_BYTES];
    struct h2_request *first; /* Under way */
    size_t n_under_way;
    const uint8_t *unsent; /* Of libnghttp2; valid until it is asked for more */
    size_t unsent_bytes;
};

int h2_address_parse(const char *url, char ret_address[H2_ADDRESS_BYTES])
{
    static const char scheme[] = "http://";

    if (strncmp(url, scheme, sizeof(scheme) - 1) == 0)
        url += sizeof(scheme) - 1;
    size_t length = strcspn(url, "/?#");
    size_t host = length;
    while (host > 0 && url[host - 1] >= '0' && url[host - 1] <= '9')
        host--;
    /* A host, a colon, at least one digit; what looks like another scheme has none. */
    if (host < 2 || host == length || url[host - 1] != ':' || length >= H2_ADDRESS_BYTES)
        return -1;
    memcpy(ret_address, url, length);
    ret_address[length] = '\0';
    return 0;
}

static void remove_request(struct h2_client *client, struct h2_request *request)
{
    if (request->previous != NULL)
        request->previous->next = request->next;
    else
        client->first = request->next;
    if (request->next != NULL)
        request->next->previous = request->previous;
    client->n_under_way--;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_bytes, const uint8_t *value, size_t value_bytes, uint8_t flags,
                     void *context)
{
    struct h2_request *request = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    char url[H2_ADDRESS_BYTES * 2];

    (void)flags;
    (void)context;
    if (request == NULL)
        return 0;
    /* libnghttp2 ends both with a NUL. */
    if (name_bytes == 7 && memcmp(name, ":status", 7) == 0) {
        request->status = (int)strtol((const char *)value, NULL, 10);
    } else if (name_bytes == 8 && memcmp(name, "location", 8) == 0 && value_bytes < sizeof(url)) {
        memcpy(url, value, value_bytes);
        url[value_bytes] = '\0';
        if (h2_address_parse(url, request->location) != 0)
            request->location[0] = '\0';
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
                   size_t n_bytes, void *context)
{
    struct h2_request *request = nghttp2_session_get_stream_user_data(session, stream);

    (void)flags;
    (void)context;
    if (request == NULL)
        return 0;
    if (request->answer_bytes < request->answer_max) {
        size_t room = request->answer_max - request->answer_bytes;
        memcpy(request->answer + request->answer_bytes, data, n_bytes < room ? n_bytes : room);
    }
    request->answer_bytes += n_bytes;
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t error, void *context)
{
    struct h2_client *client = context;
    struct h2_request *request = nghttp2_session_get_stream_user_data(session, stream);

    if (request == NULL)
        return 0;
    remove_request(client, request);
    if (error != NGHTTP2_NO_ERROR)
        request->status = 0;
    request->done(request);
    return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *buffer, size_t room,
                         uint32_t *data_flags, nghttp2_data_source *source, void *context)
{
    struct h2_request *request = source->ptr;
    size_t left = request->body_bytes - request->body_sent;
    size_t n = left < room ? left : room;

    (void)session;
    (void)stream;
    (void)context;
    memcpy(buffer, (const unsigned char *)request->body + request->body_sent, n);
    request->body_sent += n;
    if (n == left)
        *data_flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

/* A connected socket, or a negative errno. */
static int connect_to(const char *address, unsigned timeout_ms)
{
    char host[H2_ADDRESS_BYTES];
    const char *colon = strrchr(address, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    struct timeval timeout = {.tv_sec = timeout_ms / 1000,
                              .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    bool bracketed = address[0] == '[';
    int one = 1, result = -EADDRNOTAVAIL;

    assert(colon != NULL);
    snprintf(host, sizeof(host), "%.*s", (int)(colon - address) - 2 * bracketed,
             address + bracketed);
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        return -EADDRNOTAVAIL;
    for (const struct addrinfo *at = found; at != NULL && result < 0; at = at->ai_next) {
        int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        result = fd < 0 ? -errno : fd;
        if (fd < 0)
            continue;
        /* It bounds the time to connect too. */
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (connect(fd, at->ai_addr, at->ai_addrlen) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
            result = -errno;
            close(fd);
        }
    }
    freeaddrinfo(found);
    return result;
}

static int open_session(struct h2_client *client)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES},
    };
    nghttp2_session_callbacks *callbacks = NULL;

    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        return -ENOMEM;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    int error = nghttp2_session_client_new(&client->session, callbacks, client);
    nghttp2_session_callbacks_del(callbacks);
    if (error != 0 ||
        nghttp2_submit_settings(client->session, NGHTTP2_FLAG_NONE, settings,
                                sizeof(settings) / sizeof(settings[0])) != 0 ||
        nghttp2_session_set_local_window_size(client->session, NGHTTP2_FLAG_NONE, 0,
                                              WINDOW_BYTES) != 0)
        return -ENOMEM;
    return 0;
}

int h2_client_open(const char *address, unsigned timeout_ms, struct h2_client **ret_client)
{
    struct h2_client *client = calloc(1, sizeof(*client));

    if (client == NULL)
        return -ENOMEM;
    snprintf(client->address, sizeof(client->address), "%s", address);
    client->fd = connect_to(address, timeout_ms);
    int error = client->fd < 0 ? client->fd : open_session(client);
    if (error != 0) {
        h2_client_close(client);
        return error;
    }
    *ret_client = client;
    return 0;
}

void h2_client_close(struct h2_client *client)
{
    if (client == NULL)
        return;
    client->broken = true; /* What `done` submits now is refused */
    while (client->first != NULL) {
        struct h2_request *request = client->first;
        remove_request(client, request);
        request->status = 0;
        request->done(request);
    }
    nghttp2_session_del(client->session);
    if (client->fd >= 0)
        close(client->fd);
    free(client);
}

/* A copy is made by libnghttp2; it takes what it does not change as not const. */
static nghttp2_nv field(const char *name, const char *value)
{
    union {
        const char *text;
        uint8_t *bytes;
    } n = {.text = name}, v = {.text = value};

    return (nghttp2_nv){n.bytes, v.bytes, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

bool h2_client_submit(struct h2_client *client, struct h2_request *request)
{
    const nghttp2_nv fields[] = {
        field(":method", request->method),
        field(":scheme", "http"),
        field(":authority", client->address),
        field(":path", request->path),
    };
    nghttp2_data_provider body = {.source.ptr = request, .read_callback = read_body};

    request->status = 0;
    request->answer_bytes = 0;
    request->location[0] = '\0';
    request->body_sent = 0;
    if (client->broken ||
        nghttp2_submit_request(client->session, NULL, fields, sizeof(fields) / sizeof(fields[0]),
                               request->body_bytes > 0 ? &body : NULL, request) < 0)
        return false;
    request->previous = NULL;
    request->next = client->first;
    if (request->next != NULL)
        request->next->previous = request;
    client->first = request;
    client->n_under_way++;
    return true;
}

int h2_client_fd(const struct h2_client *client)
{
    return client->fd;
}

short h2_client_events(const struct h2_client *client)
{
    return client->unsent_bytes > 0 ? POLLIN | POLLOUT : POLLIN;
}

static bool receive(struct h2_client *client)
{
    static _Thread_local uint8_t buffer[RECEIVE_BYTES];

    for (;;) {
        ssize_t n = recv(client->fd, buffer, sizeof(buffer), 0);
        if (n == 0)
            return false;
        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
        if (nghttp2_session_mem_recv(client->session, buffer, (size_t)n) != n)
            return false;
        if ((size_t)n < sizeof(buffer))
            return true;
    }
}

static bool transmit(struct h2_client *client)
{
    for (;;) {
        if (client->unsent_bytes == 0) {
            ssize_t n = nghttp2_session_mem_send(client->session, &client->unsent);
            if (n <= 0)
                return n == 0;
            client->unsent_bytes = (size_t)n;
        }
        ssize_t sent = send(client->fd, client->unsent, client->unsent_bytes, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
        client->unsent += sent;
        client->unsent_bytes -= (size_t)sent;
    }
}

bool h2_client_work(struct h2_client *client)
{
    if (!client->broken && !(receive(client) && transmit(client)))
        client->broken = true;
    /* After a GOAWAY and the last answer there is nothing to come. */
    if (nghttp2_session_want_read(client->session) == 0 &&
        nghttp2_session_want_write(client->session) == 0)
        client->broken = true;
    return !client->broken;
}

size_t h2_client_under_way(const struct h2_client *client)
{
    return client->n_under_way;
}
