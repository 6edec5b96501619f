/* One HTTP request and its answer over libcurl. The only file that calls libcurl. */
#ifndef TIERKV_CLIENT_EXCHANGE_H
#define TIERKV_CLIENT_EXCHANGE_H

#include "client/endpoint.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An answer whose body is longer is not taken: no server of ours sends one. */
#define EXCHANGE_BODY_BYTES_MAX ((size_t)64 << 20)

struct exchange_request {
    const char *method;
    const char *endpoint;     /* host:port */
    const char *target;       /* Path and query, encoded */
    const void *body;         /* NULL: none is sent */
    size_t body_len;          /* May be 0 with a body */
    const char *content_type; /* Of the body */
    uint64_t timeout_ms;      /* Of the whole exchange; at least 1 */
    uint64_t connect_timeout_ms;
};

enum exchange_failure {
    EXCHANGE_ANSWERED,    /* There is a status */
    EXCHANGE_UNREACHABLE, /* No connection, or it broke */
    EXCHANGE_TIMEOUT,
    EXCHANGE_NO_MEMORY,
    EXCHANGE_CANCELLED,
    EXCHANGE_PROTOCOL, /* What came is not HTTP, or far too long */
};

struct exchange_answer {
    enum exchange_failure failure;
    bool sent;         /* The request may have reached a server */
    const char *cause; /* What libcurl says of a failure; a constant string */
    long status;       /* 0 unless answered */
    char *body;        /* NUL-terminated beyond body_len; NULL if nothing came */
    size_t body_len;
    uint64_t etag; /* 0: none that is a revision */
    uint64_t retry_after_ms;
    char redirect[ENDPOINT_BYTES_MAX]; /* host:port of Location; empty: none or not http */
};

struct exchange; /* Keeps connections open from one request to the next */

/* 0 or TIERKV_NO_MEMORY. */
int exchange_open(struct exchange **ret_exchange);
void exchange_close(struct exchange *exchange);
/* Fills *ret_answer in any case. exchange_answer_free it. */
void exchange_run(struct exchange *exchange, const struct exchange_request *request,
                  struct exchange_answer *ret_answer);
/* Any thread: the exchange under way and all later ones end at once. */
void exchange_cancel(struct exchange *exchange);
bool exchange_cancelled(const struct exchange *exchange);
void exchange_answer_free(struct exchange_answer *answer);

#endif
