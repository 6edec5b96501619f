/* One call of the client: as many exchanges as it takes within one deadline. */
#ifndef TIERKV_CLIENT_CALL_H
#define TIERKV_CLIENT_CALL_H

#include "client/exchange.h"
#include "tierkv/client.h"

struct tierkv_client {
    struct exchange *exchange;
    struct endpoints endpoints;
    size_t cursor;                   /* Endpoint that is tried next */
    char leader[ENDPOINT_BYTES_MAX]; /* Where the last redirect led; empty: not known */
    uint32_t timeout_ms;
    long status; /* Of the last answer */
    char error_text[1024];
};

struct call {
    const char *method;
    const char *target;
    const void *body; /* NULL: none */
    size_t body_len;
    const char *content_type;
    bool write;    /* It changes something: a lost answer leaves the outcome unknown */
    bool anywhere; /* Any node may answer: ask the endpoints and not the leader */
};

/* 0: *ret_answer has a 2xx status; exchange_answer_free it. Else a TIERKV_ code, with the client's
 * error_text set. */
int call_run(struct tierkv_client *client, const struct call *call,
             struct exchange_answer *ret_answer);

#endif
