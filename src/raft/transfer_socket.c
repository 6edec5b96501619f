/* Blocking sockets with a time limit: what both sides of a state transfer use. Any thread. */
#include "raft/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

/* Without progress for so long the other side is gone; it may have to sync gigabytes at the end. */
#define SILENCE_SECONDS_MAX 30

void transfer_socket_configure(int fd)
{
    struct timeval limit = {.tv_sec = SILENCE_SECONDS_MAX};
    unsigned unanswered_ms = SILENCE_SECONDS_MAX * 1000;
    int flags = fcntl(fd, F_GETFL);

    fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered_ms, sizeof unanswered_ms);
}

int transfer_send(int fd, const void *bytes, size_t n)
{
    const unsigned char *from = bytes;

    while (n > 0) {
        ssize_t sent = send(fd, from, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return -1;
        from += sent;
        n -= (size_t)sent;
    }
    return 0;
}

int transfer_receive(int fd, void *bytes, size_t n)
{
    unsigned char *to = bytes;

    while (n > 0) {
        ssize_t received = recv(fd, to, n, 0);
        if (received < 0 && errno == EINTR)
            continue;
        if (received == 0)
            errno = ECONNRESET;
        if (received <= 0)
            return -1;
        to += received;
        n -= (size_t)received;
    }
    return 0;
}
