/* /join and /members. */
#ifndef TIERKV_HTTP_CLUSTER_ENDPOINT_H
#define TIERKV_HTTP_CLUSTER_ENDPOINT_H

#include "http/loop.h"

void join_endpoint(h2o_req_t *req, struct loop *loop);
void members_endpoint(h2o_req_t *req, struct loop *loop);

#endif
