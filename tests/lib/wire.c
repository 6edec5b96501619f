#include "lib/wire.h"

#include "lib/http.h"

#include <setjmp.h>
#include <stdarg.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int wire_connect(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_port = htons((uint16_t)strtoul(strchr(address, ':') + 1, NULL, 10));
    assert_true(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    return fd;
}

bool wire_send(int fd, const void *bytes, size_t length)
{
    const char *next = bytes;

    while (length > 0) {
        ssize_t n = send(fd, next, length, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        next += n;
        length -= (size_t)n;
    }
    return true;
}

bool wire_wait_closed(int fd, uint64_t timeout_ms)
{
    uint64_t end = test_now_ms() + timeout_ms;

    for (uint64_t now = test_now_ms(); now < end; now = test_now_ms()) {
        struct pollfd polled = {.fd = fd, .events = POLLIN};
        char dropped[65536];
        if (poll(&polled, 1, (int)(end - now)) <= 0)
            continue;
        ssize_t n = recv(fd, dropped, sizeof(dropped), 0);
        if (n == 0 || (n < 0 && errno != EINTR))
            return true;
    }
    return false;
}

bool wire_http2_begin(int fd, uint32_t window)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const unsigned char setting[6] = {0,
                                      4, /* SETTINGS_INITIAL_WINDOW_SIZE */
                                      (unsigned char)(window >> 24),
                                      (unsigned char)(window >> 16),
                                      (unsigned char)(window >> 8),
                                      (unsigned char)window};
    unsigned char frame[WIRE_FRAME_HEAD_BYTES + sizeof(setting)];

    return wire_send(fd, preface, sizeof(preface) - 1) &&
           wire_send(fd, frame, wire_frame(frame, WIRE_SETTINGS, 0, 0, setting, sizeof(setting)));
}

size_t wire_frame(unsigned char *out, unsigned type, unsigned flags, uint32_t stream,
                  const void *payload, size_t length)
{
    const unsigned char head[WIRE_FRAME_HEAD_BYTES] = {
        (unsigned char)(length >> 16), (unsigned char)(length >> 8), (unsigned char)length,
        (unsigned char)type,           (unsigned char)flags,         (unsigned char)(stream >> 24),
        (unsigned char)(stream >> 16), (unsigned char)(stream >> 8), (unsigned char)stream};

    memcpy(out, head, sizeof(head));
    if (length > 0)
        memcpy(out + sizeof(head), payload, length);
    return sizeof(head) + length;
}

/* A header as a literal whose name stands in HPACK's static table. */
static size_t literal(unsigned char *out, unsigned name, const char *value)
{
    size_t length = strlen(value);

    assert_true(length < 127); /* Longer ones are written otherwise */
    out[0] = (unsigned char)name;
    out[1] = (unsigned char)length;
    memcpy(out + 2, value, length);
    return 2 + length;
}

size_t wire_request(unsigned char *out, unsigned flags, uint32_t stream, const char *method,
                    const char *path)
{
    unsigned char block[WIRE_REQUEST_BYTES_MAX - WIRE_FRAME_HEAD_BYTES];
    size_t n = literal(block, 2, method);

    block[n++] = 0x86; /* :scheme http */
    n += literal(block + n, 4, path);
    n += literal(block + n, 1, "x");
    return wire_frame(out, WIRE_HEADERS, WIRE_END_HEADERS | flags, stream, block, n);
}
