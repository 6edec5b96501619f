/* See peer_watch.h. */
#include "raft/peer_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* A connection that ends sooner was refused. */
#define USE_MS_LEAST 1000

struct peer_watch {
    struct peer_watches *watches;
    struct peer_watch *next;
    raft_id peer;
    int fd;
    uint64_t since_ms;
    uv_poll_t poll;
};

static void on_closed(uv_handle_t *handle)
{
    struct peer_watch *watch = handle->data;
    struct peer_watches *watches = watch->watches;

    /* Not before: libuv may look at the descriptor until here. */
    close(watch->fd);
    free(watch);
    watches->n--;
    watches->ended(watches->context);
}

static void end(struct peer_watch *watch)
{
    struct peer_watch **link = &watch->watches->first;

    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
    uv_close((uv_handle_t *)&watch->poll, on_closed);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct peer_watch *watch = poll->data;
    struct peer_watches *watches = watch->watches;
    raft_id peer = watch->peer;
    bool was_of_use = uv_now(poll->loop) - watch->since_ms >= USE_MS_LEAST;
    char byte;

    (void)events;
    if (status == 0 && recv(watch->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
        (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    /* Written to a connection of which only the other half is closed, a message is lost unseen. */
    shutdown(watch->fd, SHUT_RDWR);
    end(watch);
    if (was_of_use)
        watches->gone(watches->context, peer);
}

void peer_watches_add(struct peer_watches *watches, raft_id peer, uv_stream_t *stream)
{
    struct peer_watch *watch;
    uv_os_fd_t fd;

    for (watch = watches->first; watch != NULL; watch = watch->next)
        if (watch->peer == peer)
            break;
    if (watch != NULL)
        end(watch);
    watch = malloc(sizeof *watch);
    if (watch == NULL)
        return;
    watch->fd = uv_fileno((uv_handle_t *)stream, &fd) == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (watch->fd < 0 || uv_poll_init(watches->loop, &watch->poll, watch->fd) != 0) {
        if (watch->fd >= 0)
            close(watch->fd);
        free(watch);
        return;
    }
    watch->watches = watches;
    watch->peer = peer;
    watch->since_ms = uv_now(watches->loop);
    watch->poll.data = watch;
    watch->next = watches->first;
    watches->first = watch;
    watches->n++;
    if (uv_poll_start(&watch->poll, UV_READABLE | UV_DISCONNECT, on_readable) != 0)
        end(watch);
}

void peer_watches_close(struct peer_watches *watches)
{
    while (watches->first != NULL)
        end(watches->first);
}

bool peer_watches_closed(const struct peer_watches *watches)
{
    return watches->n == 0;
}
