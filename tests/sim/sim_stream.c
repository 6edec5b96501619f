/* See sim_stream.h. */
#include "sim/sim_stream.h"

#include "raft/transfer.h"
#include "sim/sim_fiber.h"
#include "sim/sim_node.h"
#include "sim/sim_world.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAMS_MAX    32
#define CHUNK_BYTES    8192u  /* Sent at once, before time passes */
#define WINDOW_BYTES   65536u /* Sent and not received: less than a socket holds */
#define CHUNK_MS_MAX   4
#define CONNECT_MS_MAX 20
#define POLL_MS        2
#define SILENCE_MS_MAX 5000
#define UNREACHABLE_MS 1000

/* End 0 is the one that connected, end 1 the one that was called. */
struct stream {
    int fds[2];
    size_t places[2];
    uint64_t sent[2], received[2]; /* Bytes, by end */
    bool arrived;                  /* Its preamble has */
    bool taken;                    /* Or refused */
    struct preamble preamble;
};

static struct stream streams[STREAMS_MAX];
static size_t next_stream;

static struct stream *stream_of(int fd, size_t *ret_end)
{
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        for (size_t end = 0; end < 2; end++) {
            if (streams[i].fds[end] == fd && fd > 0) {
                *ret_end = end;
                return &streams[i];
            }
        }
    }
    sim_fail("descriptor %d is no connection", fd);
}

/* ---- The calls of transfer_fetch.c ---- */

/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): the system's own are reserved
 */

/* An address is a place. */
int getaddrinfo(const char *restrict host, const char *restrict port,
                const struct addrinfo *restrict hints, struct addrinfo **restrict ret_found)
{
    const struct sim_world *world = sim_node_current->world;
    char address[SIM_ADDRESS_BYTES];

    snprintf(address, sizeof address, "%s:%s", host, port);
    for (size_t i = 0; i < world->n; i++) {
        if (strcmp(world->nodes[i]->endpoint.address, address) != 0)
            continue;
        struct addrinfo *found = calloc(1, sizeof *found);
        struct sockaddr_in *to = calloc(1, sizeof *to);
        assert(found != NULL && to != NULL);
        to->sin_family = AF_INET;
        to->sin_port = (in_port_t)i;
        *found = (struct addrinfo){.ai_family = AF_INET,
                                   .ai_socktype = hints->ai_socktype,
                                   .ai_addr = (struct sockaddr *)to,
                                   .ai_addrlen = sizeof *to};
        *ret_found = found;
        return 0;
    }
    return EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *found)
{
    free(found->ai_addr);
    free(found);
}

int socket(int domain, int type, int protocol)
{
    struct stream *stream = &streams[next_stream++ % STREAMS_MAX];
    int fds[2];

    (void)domain;
    (void)type;
    (void)protocol;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        return -1;
    for (size_t i = 0; i < STREAMS_MAX; i++) /* Closed ones, whose descriptors come again */
        for (size_t end = 0; end < 2; end++)
            if (streams[i].fds[end] == fds[0] || streams[i].fds[end] == fds[1])
                streams[i].fds[end] = -1;
    *stream = (struct stream){.fds = {fds[0], fds[1]}, .taken = true};
    stream->places[0] = stream->places[1] = sim_node_current->place;
    return fds[0];
}

static int broken(int error)
{
    errno = error;
    return -1;
}

/* Nobody is there yet: the called end belongs to the stream until it is taken. */
static int connect_fail(struct stream *stream, int error)
{
    close(stream->fds[1]);
    stream->fds[1] = -1;
    return broken(error);
}

int connect(int fd, const struct sockaddr *address, socklen_t address_bytes)
{
    const struct sim_node *node = sim_node_current;
    struct sim_network *network = &node->world->network;
    struct sockaddr_in to;
    size_t end;
    struct stream *stream = stream_of(fd, &end);

    assert(address_bytes == sizeof to && end == 0);
    memcpy(&to, address, sizeof to);
    stream->places[1] = to.sin_port;
    if (!sim_fiber_wait(1 + random_below(network->random, CONNECT_MS_MAX)))
        return connect_fail(stream, ECONNABORTED);
    if (network->cut[node->place][to.sin_port] || network->cut[to.sin_port][node->place]) {
        sim_fiber_wait(UNREACHABLE_MS);
        return connect_fail(stream, EHOSTUNREACH);
    }
    if (!network->endpoints[to.sin_port]->up)
        return connect_fail(stream, ECONNREFUSED);
    stream->taken = false;
    return 0;
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */

/* ---- Of the called node ---- */

bool sim_streams_wait(const struct sim_node *node)
{
    for (size_t i = 0; i < STREAMS_MAX; i++)
        if (streams[i].arrived && !streams[i].taken && streams[i].places[1] == node->place)
            return true;
    return false;
}

void sim_streams_accept(struct sim_node *node)
{
    struct sim_endpoint *endpoint = &node->endpoint;

    for (size_t i = 0; i < STREAMS_MAX; i++) {
        struct stream *stream = &streams[i];
        if (!stream->arrived || stream->taken || stream->places[1] != node->place)
            continue;
        stream->taken = true;
        if (endpoint->admit(endpoint->context, &stream->preamble)) {
            sim_event("state asked for", stream->places[0], stream->places[1], 0);
            endpoint->serve_state(endpoint->context, &stream->preamble, stream->fds[1]);
        } else {
            connect_fail(stream, ECONNREFUSED);
        }
    }
}

void sim_streams_refuse(struct sim_node *node)
{
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        if (streams[i].taken || streams[i].places[1] != node->place || streams[i].fds[1] <= 0)
            continue;
        streams[i].taken = true;
        connect_fail(&streams[i], ECONNRESET);
    }
}

/* ---- raft/transfer.h: what both sides use ---- */

void transfer_socket_configure(int fd)
{
    (void)fd;
}

/* The threads here take turns, and have no priorities. */
void transfer_thread_begin(void)
{
}

/* Lets time pass until the end may go on, or has waited too long. */
static bool may_wait(const struct sim_node *node, uint64_t until_ms)
{
    return node->world->now_ms < until_ms && sim_fiber_wait(POLL_MS) && !node->crashing;
}

static bool is_cut(const struct stream *stream, size_t end)
{
    const struct sim_network *network = &sim_world->network;

    return network->cut[stream->places[end]][stream->places[1 - end]];
}

int transfer_send(int fd, const void *bytes, size_t n)
{
    const struct sim_node *node = sim_node_current;
    size_t end;
    struct stream *stream = stream_of(fd, &end);
    const unsigned char *from = bytes;

    if (end == 0 && stream->sent[0] == 0) { /* The acceptor reads the preamble */
        assert(n == PREAMBLE_BYTES);
        stream->sent[0] = n;
        stream->arrived = preamble_decode(bytes, &stream->preamble);
        return 0;
    }
    for (uint64_t until_ms = node->world->now_ms + SILENCE_MS_MAX; n > 0;) {
        size_t chunk = n < CHUNK_BYTES ? n : CHUNK_BYTES;
        ssize_t sent;
        if (node->crashing)
            return broken(ECONNRESET);
        if (is_cut(stream, end) || stream->sent[end] - stream->received[1 - end] > WINDOW_BYTES) {
            if (!may_wait(node, until_ms))
                return broken(ETIMEDOUT);
            continue;
        }
        sent = send(fd, from, chunk, MSG_NOSIGNAL);
        if (sent < 0)
            return -1;
        stream->sent[end] += (size_t)sent;
        from += sent;
        n -= (size_t)sent;
        until_ms = node->world->now_ms + SILENCE_MS_MAX;
        if (chunk == CHUNK_BYTES)
            sim_fiber_wait(1 + random_below(&sim_world->random, CHUNK_MS_MAX));
    }
    return 0;
}

int transfer_receive(int fd, void *bytes, size_t n)
{
    const struct sim_node *node = sim_node_current;
    size_t end;
    struct stream *stream = stream_of(fd, &end);
    unsigned char *to = bytes;

    for (uint64_t until_ms = node->world->now_ms + SILENCE_MS_MAX; n > 0;) {
        ssize_t received = node->crashing ? 0 : recv(fd, to, n, 0);
        if (received == 0)
            return broken(ECONNRESET);
        if (received < 0 && (errno != EAGAIN || !may_wait(node, until_ms)))
            return broken(ETIMEDOUT);
        if (received < 0)
            continue;
        stream->received[end] += (size_t)received;
        to += received;
        n -= (size_t)received;
        until_ms = node->world->now_ms + SILENCE_MS_MAX;
    }
    return 0;
}
