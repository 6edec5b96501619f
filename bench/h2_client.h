/* One HTTP/2 connection without TLS (prior knowledge), on libnghttp2: many requests at a time, no
 * thread of its own. It belongs to one thread, which polls its descriptor and calls h2_client_work.
 */
#ifndef TIERKV_BENCH_H2_CLIENT_H
#define TIERKV_BENCH_H2_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define H2_ADDRESS_BYTES 280 /* Of "host:port" with its NUL */

struct h2_client;

/* The memory is the caller's and stays in place until `done` ran. */
struct h2_request {
    const char *method; /* Borrowed until `done` ran, as path and body */
    const char *path;
    const void *body;
    size_t body_bytes;
    unsigned char *answer; /* The first answer_max bytes of the answer's body go here */
    size_t answer_max;
    void (*done)(struct h2_request *request);
    void *owner;

    /* Once done */
    int status;          /* Of HTTP; 0: the connection broke before the answer was complete */
    size_t answer_bytes; /* Of the whole body, kept or not */
    char location[H2_ADDRESS_BYTES]; /* "host:port" of the redirect; empty: none */

    /* Kept by the client */
    size_t body_sent;
    struct h2_request *previous, *next;
};

/* Takes "http://host:port" with or without a path, or "host:port". 0, or -1: it is neither. */
int h2_address_parse(const char *url, char ret_address[H2_ADDRESS_BYTES]);

/* Connects; blocks for at most timeout_ms. 0 or a negative errno. */
int h2_client_open(const char *address, unsigned timeout_ms, struct h2_client **ret_client);

/* What is still under way is done with status 0. NULL is allowed. Not inside `done`. */
void h2_client_close(struct h2_client *client);

/* Starts a request; it goes out with the next h2_client_work. False: the connection is broken, or
 * there is no memory; `done` will not run. May be called inside `done`. */
bool h2_client_submit(struct h2_client *client, struct h2_request *request);

/* What to poll for. */
int h2_client_fd(const struct h2_client *client);
short h2_client_events(const struct h2_client *client);

/* Receives and sends as much as goes without waiting, and runs `done` of what is complete. False:
 * the connection is broken and is to be closed. */
bool h2_client_work(struct h2_client *client);

size_t h2_client_under_way(const struct h2_client *client);

#endif
