/* A thread that makes this node a member of a running cluster: it asks the given nodes, again and
 * again, until the node is a voter. */
#ifndef TIERKV_NODE_JOINER_H
#define TIERKV_NODE_JOINER_H

#include <stdbool.h>
#include <stdint.h>

struct joiner;

/* All texts are borrowed until joiner_stop. */
struct joiner_options {
    const char *endpoints; /* Client addresses of running nodes, separated by commas */
    const char *name;
    const char *http_address;
    const char *raft_address;
    uint64_t incarnation;
    /* From the joiner's thread: is this node a voter already? */
    bool (*is_member)(void *context);
    void *context;
};

/* 0, or a TIERKV_ code of tierkv/client.h. */
int joiner_start(const struct joiner_options *options, struct joiner **ret_joiner);
/* Ends the thread, in mid-course if need be; waits for at most one request (5 s). NULL is allowed.
 */
void joiner_stop(struct joiner *joiner);

#endif
