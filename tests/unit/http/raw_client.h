/* Bytes over TCP, and just enough HTTP/2 to send requests and reset them. Reads end after 20 s. */
#ifndef TIERKV_TESTS_RAW_CLIENT_H
#define TIERKV_TESTS_RAW_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int raw_socket(void);
/* "127.0.0.1:PORT". */
bool raw_try_connect(int fd, const char *address);
void raw_connect_socket(int fd, const char *address);
int raw_connect(const char *address);
void raw_send(int fd, const void *bytes, size_t n);
/* All that comes until it has the text (bytes of value 0 are left out), or to the end of the
 * connection: with NULL, or then the test fails. Free it. */
char *raw_read_until(int fd, const char *text);

void raw_http2_begin(int fd);
/* A request without a body. */
void raw_http2_request(int fd, uint32_t stream, const char *method, const char *path);
void raw_http2_reset(int fd, uint32_t stream);

#endif
