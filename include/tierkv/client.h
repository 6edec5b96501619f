/* libtierkv: a C client of TierKV over HTTP/2, large values over HTTP/1.1 (libcurl).
 *
 * A client object belongs to one thread at a time. It keeps connections open, follows redirects to
 * the leader, remembers it, and goes round its endpoints when one does not answer.
 */
#ifndef TIERKV_CLIENT_H
#define TIERKV_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#define TIERKV_CLIENT_ERRORS(X)                                                                    \
    X(TIERKV_NOT_FOUND, -1, "no such key")                                                         \
    X(TIERKV_UNREACHABLE, -2, "no endpoint answered")                                              \
    X(TIERKV_TIMEOUT, -3, "no answer in time")                                                     \
    X(TIERKV_REFUSED, -4, "the server refused the request")                                        \
    X(TIERKV_UNAVAILABLE, -5, "the cluster has no leader or is overloaded")                        \
    X(TIERKV_OUTCOME_UNKNOWN, -6, "the write may or may not have happened")                        \
    X(TIERKV_INVALID, -7, "an argument is out of its range")                                       \
    X(TIERKV_NO_MEMORY, -8, "out of memory")                                                       \
    X(TIERKV_PROTOCOL, -9, "the answer was not understood")                                        \
    X(TIERKV_CANCELLED, -10, "the call was cancelled")

enum tierkv_client_error {
#define X(name, code, message) name = code,
    TIERKV_CLIENT_ERRORS(X)
#undef X
};
/* The message of a TIERKV_ code, or of 0. Never NULL; a constant string. */
const char *tierkv_strerror(int error);

/* default: the leader's state. consistent: never stale, even while leadership changes. stale: the
 * state of whichever node is asked. */
enum tierkv_level { TIERKV_LEVEL_DEFAULT, TIERKV_LEVEL_CONSISTENT, TIERKV_LEVEL_STALE };

struct tierkv_client;

struct tierkv_client_options {
    const char *endpoints; /* "host:port[,host:port…]"; a missing port is 8091 */
    uint32_t timeout_ms;   /* Of one call with all its redirects and retries; 0: 5000 */
};

/* Connects nowhere yet. TIERKV_INVALID: an endpoint is not an address. Any thread may open. */
int tierkv_client_open(const struct tierkv_client_options *options,
                       struct tierkv_client **ret_client);
void tierkv_client_close(struct tierkv_client *client);
/* From any thread, until the client is closed: the call under way and all later ones end at once as
 * TIERKV_CANCELLED, or, if it is a write that may have been carried out, as TIERKV_OUTCOME_UNKNOWN.
 */
void tierkv_client_cancel(struct tierkv_client *client);

/* One sentence on the last failure, the server's own message included. Valid until the next call.
 */
const char *tierkv_client_error_text(const struct tierkv_client *client);
/* HTTP status of the last answer; 0: none came. */
long tierkv_client_status(const struct tierkv_client *client);

/* All calls block for timeout_ms at most. Results are untouched on failure; a revision that is not
 * wanted may be NULL.
 *
 * A write is repeated while it certainly was not carried out, or when its connection broke (every
 * write here may safely happen twice in a row). If it then does not succeed in time although an
 * earlier try may have, it ends as TIERKV_OUTCOME_UNKNOWN: read before writing on. When every
 * endpoint refuses connections, a call ends at once as TIERKV_UNREACHABLE.
 */

/* *ret_value is malloc'ed (never NULL on success) and the caller's; free() it. */
int tierkv_get(struct tierkv_client *client, const void *key, size_t key_len,
               enum tierkv_level level, void **ret_value, size_t *ret_value_len,
               uint64_t *ret_mod_revision);
/* Sets the key; *ret_revision is that of the write. */
int tierkv_put(struct tierkv_client *client, const void *key, size_t key_len, const void *value,
               size_t value_len, uint64_t *ret_revision);
/* Succeeds also when there is no such key. */
int tierkv_delete(struct tierkv_client *client, const void *key, size_t key_len,
                  uint64_t *ret_revision);
/* The JSON bodies of GET /status and GET /members: malloc'ed, NUL-terminated, the caller's. */
int tierkv_status(struct tierkv_client *client, char **ret_json);
int tierkv_members(struct tierkv_client *client, char **ret_json);
/* A node as the membership calls below name it. Address texts as the endpoints take them. */
struct tierkv_node {
    const char *name;
    const char *http_address;
    const char *raft_address;
    const char *version;  /* NULL: not told */
    uint64_t incarnation; /* 0: not told */
};

/* POST /join: returns when the node is a voter with these addresses. */
int tierkv_join(struct tierkv_client *client, const struct tierkv_node *node);
/* DELETE /members/NAME: returns when it is out. `force` (0 or 1): even if the voters that are left
 * would be no quorum. TIERKV_NOT_FOUND: there is no such member. */
int tierkv_member_remove(struct tierkv_client *client, const char *name, int force);
/* POST /members/NAME/replace: returns when the node is a voter and the member is out. */
int tierkv_member_replace(struct tierkv_client *client, const char *name,
                          const struct tierkv_node *node, int force);
/* POST /transfer: makes another voter the leader, any if `name` is NULL. */
int tierkv_transfer(struct tierkv_client *client, const char *name);

#endif
