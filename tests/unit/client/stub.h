/* Servers for the client's tests: one that speaks HTTP by a script, one that only accepts. */
#ifndef TIERKV_TESTS_CLIENT_STUB_H
#define TIERKV_TESTS_CLIENT_STUB_H

#include <stddef.h>
#include <stdint.h>

/* What the stub saw and what it shall answer, one request at a time. */
struct stub_request {
    unsigned number; /* 1, 2, … in order of arrival at this stub */
    int version;     /* 0x101: HTTP/1.1; 0x200: HTTP/2 */
    char method[16];
    char path[2048]; /* As sent, query included */
    char content_type[64];
    const char *body; /* NUL-terminated; until the script returns */
    size_t body_len;
};

struct stub_answer {
    int status;
    const char *body; /* Copied; NULL: empty */
    size_t body_len;  /* 0: its length as a text */
    char header[32];  /* One header more, e.g. "etag"; empty: none */
    char header_value[256];
};

/* Runs on the stub's thread. */
typedef void (*stub_script)(void *context, const struct stub_request *request,
                            struct stub_answer *answer);

struct stub;

/* Listens on a free loopback port; exits the program if it cannot. */
struct stub *stub_start(stub_script script, void *context);
/* "127.0.0.1:PORT" */
const char *stub_endpoint(const struct stub *stub);
unsigned stub_requests(const struct stub *stub);
/* Accepted so far. */
size_t stub_connections(struct stub *stub);
/* Breaks all connections that are open now. */
void stub_cut(struct stub *stub);
void stub_stop(struct stub *stub);

/* A listener that accepts, reads what comes for a moment, and then either closes at once or keeps
 * silent. */
enum mute_manner { MUTE_CLOSES, MUTE_KEEPS };
struct mute;
struct mute *mute_start(enum mute_manner manner);
const char *mute_endpoint(const struct mute *mute);
unsigned mute_connections(const struct mute *mute);
void mute_stop(struct mute *mute);

/* An address on which nothing listens. */
void stub_dead_endpoint(char ret_endpoint[32]);

#endif
