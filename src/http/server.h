/* The front end: N libh2o loops that speak HTTP/1.1 and HTTP/2 to clients. The only header of
 * src/http that others include. */
#ifndef TIERKV_HTTP_SERVER_H
#define TIERKV_HTTP_SERVER_H

#include "tiers/cost.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct replica;
struct tiers;
struct http_server;

struct http_server_options {
    const char *listen; /* host:port, host may be an IPv6 address in brackets; port 0 is allowed */
    unsigned loops;     /* Threads; at least 1 */
    uint32_t connections_max;        /* Over all loops; further ones are closed at once */
    uint32_t requests_in_flight_max; /* Per loop, waiting for Raft or a disk; beyond: 503 */
    uint64_t max_value_bytes;        /* Of one value; beyond: 413 */
    uint64_t max_body_bytes;         /* Of a POST body; beyond: 413 */
    uint32_t
        request_timeout_ms; /* A write or consistent read that waits longer: 503, outcome unknown */
    uint32_t idle_timeout_ms; /* A connection without a request, or with one that does not move, is
                                 closed */
    uint64_t buffers_bytes_max; /* Of bodies and answers under way, over all loops; beyond it the
                                   connections with the most are cut */
    const char *name;           /* This node's, for answers */
    struct replica *replica;    /* Borrowed */
    struct tiers *tiers;        /* Borrowed */
    struct tiers_cost_tiers tier_prices;    /* Defaults of /tiers/cost: per GB and month, */
    struct tiers_cost_tiers tier_latencies; /* and of a read in microseconds */
};

/* Binds, starts the threads. On failure error_text says what and why. */
int http_server_start(const struct http_server_options *options, struct http_server **ret_server,
                      char *error_text, size_t error_text_size);
/* The port bound. */
uint16_t http_server_port(const struct http_server *server);
/* Stops accepting, lets requests under way finish for at most `drain_ms`, answers 503 to those that
 * did not, closes all connections and joins the threads; a peer that does not take its answer can
 * hold it up for a second more. The replica must run, but need not answer: operations may still be
 * with it afterwards. The tiers are no longer read. */
void http_server_stop(struct http_server *server, uint32_t drain_ms);
/* When the server and then the replica have been stopped, which has returned all operations: frees
 * them and the server. NULL is allowed. */
void http_server_free(struct http_server *server);

#endif
