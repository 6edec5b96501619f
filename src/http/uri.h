/* What a request target says: the key and the query. Pure; works on the bytes as they were sent. */
#ifndef TIERKV_HTTP_URI_H
#define TIERKV_HTTP_URI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum uri_level { URI_LEVEL_DEFAULT, URI_LEVEL_CONSISTENT, URI_LEVEL_STALE };

struct uri_query {
    enum uri_level level;
    bool raw;
    bool force;
    bool stale_bounded;
    uint64_t stale_ms_max; /* If stale_bounded: how old a `stale` answer may be */
};

/* Decodes %XX; nothing else is special (+ is a plus). `out` has room for `n` bytes. The length of
 * the result, or -1: a malformed escape. */
long uri_decode(const char *text, size_t n, char *out);

/* Reads the text behind the question mark. Unknown parameters are ignored. False: a value that is
 * not allowed; *ret_error names it. */
bool uri_query_parse(const char *text, size_t n, struct uri_query *ret_query,
                     const char **ret_error);

#endif
