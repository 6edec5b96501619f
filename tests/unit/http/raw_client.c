#include "raw_client.h"

#include "lib/wire.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define READ_SECONDS_MAX 20

int raw_socket(void)
{
    const struct timeval limit = {.tv_sec = READ_SECONDS_MAX};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert(fd >= 0);
    assert(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0);
    return fd;
}

bool raw_try_connect(int fd, const char *address)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    name.sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1));
    return connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0;
}

void raw_connect_socket(int fd, const char *address)
{
    bool connected = raw_try_connect(fd, address);
    assert(connected);
}

int raw_connect(const char *address)
{
    int fd = raw_socket();

    raw_connect_socket(fd, address);
    return fd;
}

void raw_send(int fd, const void *bytes, size_t n)
{
    ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
    /* A peer that has closed by now shows when it is read from. */
    assert(sent == (ssize_t)n || sent < 0);
}

char *raw_read_until(int fd, const char *text)
{
    size_t length = 0, capacity = 65536;
    char *all = malloc(capacity);

    assert(all != NULL);
    for (;;) {
        char piece[4096];
        ssize_t n = recv(fd, piece, sizeof(piece), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            all[length] = '\0';
            if (text != NULL) {
                fprintf(stderr, "\"%s\" did not come; this did: %s\n", text, all);
                abort();
            }
            return all;
        }
        if (length + (size_t)n + 1 > capacity) {
            capacity *= 2;
            all = realloc(all, capacity);
            assert(all != NULL);
        }
        for (ssize_t i = 0; i < n; i++)
            if (piece[i] != '\0')
                all[length++] = piece[i];
        all[length] = '\0';
        if (text != NULL && strstr(all, text) != NULL)
            return all;
    }
}

void raw_http2_begin(int fd)
{
    bool sent = wire_http2_begin(fd, 65535);
    assert(sent);
}

void raw_http2_request(int fd, uint32_t stream, const char *method, const char *path)
{
    unsigned char frame[WIRE_REQUEST_BYTES_MAX];

    raw_send(fd, frame, wire_request(frame, WIRE_END_STREAM, stream, method, path));
}

void raw_http2_reset(int fd, uint32_t stream)
{
    unsigned char frame[WIRE_FRAME_HEAD_BYTES + 4];

    raw_send(fd, frame, wire_frame(frame, WIRE_RST_STREAM, 0, stream, "\0\0\0\x08", 4));
}
