/* Where a request over HTTP/1 ends must not be a matter of opinion: a proxy that reads it otherwise
 * would take the rest for the next one (RFC 9112, sections 6.1 and 6.3). libh2o goes by the first
 * length that it meets. Pure. */
#ifndef TIERKV_HTTP_FRAMING_H
#define TIERKV_HTTP_FRAMING_H

#include <stdbool.h>
#include <stddef.h>

/* `head` begins with the request line; what follows the empty line is not looked at. False: it has
 * more than one length, or a length and chunks. */
bool framing_is_plain(const char *head, size_t n);

#endif
