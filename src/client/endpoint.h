/* Addresses of servers as texts, and keys as parts of a path. Pure. */
#ifndef TIERKV_CLIENT_ENDPOINT_H
#define TIERKV_CLIENT_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>

#define ENDPOINT_BYTES_MAX 288 /* "host:port" with its NUL */
#define ENDPOINTS_MAX      64
#define ENDPOINT_PORT      "8091" /* Where an endpoint names none */

struct endpoints {
    size_t n;
    char (*texts)[ENDPOINT_BYTES_MAX];
};

/* Reads "host:port[,host:port…]"; blanks around an item, a leading http:// and a trailing slash are
 * accepted, a missing port is ENDPOINT_PORT, IPv6 addresses stand in brackets. 0,
 * TIERKV_INVALID or TIERKV_NO_MEMORY. endpoints_free the result. */
int endpoints_parse(const char *list, struct endpoints *ret_endpoints);
void endpoints_free(struct endpoints *endpoints);

/* The "host:port" of an http URL, whatever its path. False: it is not one. */
bool endpoint_of_url(const char *url, char ret_endpoint[ENDPOINT_BYTES_MAX]);

/* "/key/" and the key with every byte percent-encoded that is not unreserved or a slash, then
 * `query` (may be empty). malloc'ed, the caller's; NULL: out of memory. */
char *endpoint_key_target(const void *key, size_t key_len, const char *query);

#endif
