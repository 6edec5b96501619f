/* Answers: headers that all have, errors as JSON, redirects to the leader. After any of these the
 * h2o_req_t may be gone. */
#ifndef TIERKV_HTTP_RESPOND_H
#define TIERKV_HTTP_RESPOND_H

#include "http/request.h"

/* What an answer 503 to a write says of it. */
enum outcome { OUTCOME_NONE, OUTCOME_NOT_APPLIED, OUTCOME_UNKNOWN };

/* Status, the leader and the term. */
void respond_begin(h2o_req_t *req, struct loop *loop, int status);
/* JSON text; copied. */
void respond_json(h2o_req_t *req, struct loop *loop, int status, const char *text, size_t n);
void respond_error(h2o_req_t *req, struct loop *loop, int status, const char *code,
                   const char *message, enum outcome outcome);
void respond_unavailable(h2o_req_t *req, struct loop *loop, const char *code, const char *message,
                         enum outcome outcome);
void respond_not_allowed(h2o_req_t *req, struct loop *loop, const char *allow);
/* 307 to the same path and query on the leader, or 503 if none is known. */
void respond_redirect(h2o_req_t *req, struct loop *loop);
/* Likewise, for what may have been begun here: the 503 says that its outcome is unknown. */
void respond_redirect_begun(h2o_req_t *req, struct loop *loop);
void respond_replica_error(struct request *request, int error, bool write);
/* Sends a body that lives until the pool is gone; NULL for none (HEAD). */
void respond_body(h2o_req_t *req, const char *body, size_t n, bool head);

#endif
