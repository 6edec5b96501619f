/* /status, /metrics, /livez and /readyz. */
#ifndef TIERKV_HTTP_STATUS_ENDPOINT_H
#define TIERKV_HTTP_STATUS_ENDPOINT_H

#include "http/loop.h"

void status_endpoint(h2o_req_t *req, struct loop *loop);
void metrics_endpoint(h2o_req_t *req, struct loop *loop);
void livez_endpoint(h2o_req_t *req, struct loop *loop);
void readyz_endpoint(h2o_req_t *req, struct loop *loop);

#endif
