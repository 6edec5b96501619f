/* A thread that makes this node a member of a running cluster, or tells the cluster the new
 * addresses of one: it asks the given nodes, again and again, until it is done. */
#ifndef TIERKV_NODE_JOINER_H
#define TIERKV_NODE_JOINER_H

#include "tierkv/client.h"

#include <stdbool.h>

struct joiner;

/* All texts are borrowed until joiner_stop. */
struct joiner_options {
    const char *endpoints; /* Client addresses of running nodes, separated by commas */
    struct tierkv_node node;
    /* Of a node that has been a member: if the cluster no longer has it, it was removed or
     * replaced, and stays out. */
    bool only_if_known;
    /* From the joiner's thread: is this node a voter already, with these addresses? */
    bool (*is_member)(void *context);
    void *context;
};

/* 0, or a TIERKV_ code of tierkv/client.h. */
int joiner_start(const struct joiner_options *options, struct joiner **ret_joiner);
/* Ends the thread, in mid-course if need be. NULL is allowed. */
void joiner_stop(struct joiner *joiner);

#endif
