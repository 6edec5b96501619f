/* GET /tiers (where the data lies and why), /tiers/curve (hit rate against memory, for each policy)
 * and /tiers/cost (the cheapest split that meets a latency). */
#ifndef TIERKV_HTTP_TIERS_ENDPOINT_H
#define TIERKV_HTTP_TIERS_ENDPOINT_H

#include "http/loop.h"

void tiers_endpoint(h2o_req_t *req, struct loop *loop);
void tiers_curve_endpoint(h2o_req_t *req, struct loop *loop);
void tiers_cost_endpoint(h2o_req_t *req, struct loop *loop);

#endif
