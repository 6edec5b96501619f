/* See framing.h. */
#include "http/framing.h"

#include <string.h>
#include <strings.h>

static bool names(const char *line, const char *end, const char *header)
{
    size_t n = strlen(header);

    return (size_t)(end - line) > n && line[n] == ':' && strncasecmp(line, header, n) == 0;
}

bool framing_is_plain(const char *head, size_t n)
{
    const char *end = head + n, *line = memchr(head, '\n', n);
    unsigned lengths = 0, codings = 0;

    while (line != NULL && ++line < end && *line != '\r' && *line != '\n') {
        lengths += names(line, end, "content-length");
        codings += names(line, end, "transfer-encoding");
        line = memchr(line, '\n', (size_t)(end - line));
    }
    return lengths + codings <= 1;
}
