/* Bytes of HTTP as a client that follows no rules would send them: raw connections, and as much of
 * HTTP/2 as is needed. */
#ifndef TIERKV_TESTS_WIRE_H
#define TIERKV_TESTS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_DATA = 0,
    WIRE_HEADERS = 1,
    WIRE_RST_STREAM = 3,
    WIRE_SETTINGS = 4,
};
enum { WIRE_END_STREAM = 1, WIRE_END_HEADERS = 4 };

#define WIRE_FRAME_HEAD_BYTES  9
#define WIRE_REQUEST_BYTES_MAX (WIRE_FRAME_HEAD_BYTES + 400)

/* A connection to "127.0.0.1:port"; the caller's to close. Fails the test if there is none. */
int wire_connect(const char *address);
/* Sends what the peer still takes. False: it has closed. */
bool wire_send(int fd, const void *bytes, size_t length);
/* Whether the peer closes within that time; what it sends meanwhile is dropped. */
bool wire_wait_closed(int fd, uint64_t timeout_ms);

/* The preface and SETTINGS; `window` is what the peer may send on each stream at first. */
bool wire_http2_begin(int fd, uint32_t window);
/* Writes a frame to `out`, which has room; its length. */
size_t wire_frame(unsigned char *out, unsigned type, unsigned flags, uint32_t stream,
                  const void *payload, size_t length);
/* Likewise the HEADERS of a request, of less than 127 bytes each: WIRE_REQUEST_BYTES_MAX. */
size_t wire_request(unsigned char *out, unsigned flags, uint32_t stream, const char *method,
                    const char *path);

#endif
