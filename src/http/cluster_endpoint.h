/* /join, /members, /members/ID, /members/ID/replace and /transfer. */
#ifndef TIERKV_HTTP_CLUSTER_ENDPOINT_H
#define TIERKV_HTTP_CLUSTER_ENDPOINT_H

#include "http/loop.h"

void join_endpoint(h2o_req_t *req, struct loop *loop);
void members_endpoint(h2o_req_t *req, struct loop *loop);
/* `path` is what stands behind /members/. */
void member_endpoint(h2o_req_t *req, struct loop *loop, const char *path, size_t path_len);
void transfer_endpoint(h2o_req_t *req, struct loop *loop);

#endif
