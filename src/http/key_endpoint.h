/* /key: POST sets keys, PUT, GET, HEAD and DELETE act on /key/K. */
#ifndef TIERKV_HTTP_KEY_ENDPOINT_H
#define TIERKV_HTTP_KEY_ENDPOINT_H

#include "http/request.h"

/* `path` is what follows "/key", as sent, without the query. */
void key_endpoint(h2o_req_t *req, struct loop *loop, const char *path, size_t path_len);

/* Answers a GET from what the tiers found. Takes the record's reference. */
void key_endpoint_found(h2o_req_t *req, struct loop *loop, const struct uri_query *query, bool head,
                        const char *key, size_t key_len, int status,
                        const struct tiers_record *record);

#endif
