/* See respond.h. */
#include "http/respond.h"

#include "http/body.h"
#include "metrics.h"

#include <stdio.h>
#include <string.h>

/* Of an error; what is beyond is cut off. */
#define MESSAGE_BYTES_MAX 255

static const char *reason_of(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 307:
        return "Temporary Redirect";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 413:
        return "Payload Too Large";
    case 415:
        return "Unsupported Media Type";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 507:
        return "Insufficient Storage";
    default:
        return "Unknown";
    }
}

void respond_begin(h2o_req_t *req, struct loop *loop, int status)
{
    static const enum metrics_counter classes[] = {[2] = METRIC_RESPONSES_2XX,
                                                   [3] = METRIC_RESPONSES_3XX,
                                                   [4] = METRIC_RESPONSES_4XX,
                                                   [5] = METRIC_RESPONSES_5XX};

    loop_view_renew(loop);
    metrics_add(classes[status / 100], 1);
    req->res.status = status;
    req->res.reason = reason_of(status);
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("tierkv-term"), 0, NULL,
                          loop->view.term, loop->view.term_len);
    if (loop->view.leader_len > 0)
        h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("tierkv-leader"), 0, NULL,
                              loop->view.leader, loop->view.leader_len);
}

void respond_body(h2o_req_t *req, const char *body, size_t n, bool head)
{
    static h2o_generator_t generator;
    h2o_iovec_t piece = {.base = (char *)(uintptr_t)body, .len = n};

    req->res.content_length = n;
    h2o_start_response(req, &generator);
    h2o_send(req, &piece, head || n == 0 ? 0 : 1, H2O_SEND_STATE_FINAL);
}

static bool is_head(const h2o_req_t *req)
{
    return h2o_memis(req->method.base, req->method.len, H2O_STRLIT("HEAD"));
}

/* A read has no outcome that could be unknown. */
static bool is_read(const h2o_req_t *req)
{
    return is_head(req) || h2o_memis(req->method.base, req->method.len, H2O_STRLIT("GET"));
}

static void send_json(h2o_req_t *req, const char *text, size_t n)
{
    char *copy = h2o_mem_alloc_pool(&req->pool, n);

    memcpy(copy, text, n);
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("application/json"));
    respond_body(req, copy, n, is_head(req));
}

void respond_json(h2o_req_t *req, struct loop *loop, int status, const char *text, size_t n)
{
    respond_begin(req, loop, status);
    send_json(req, text, n);
}

static void send_error(h2o_req_t *req, const char *code, const char *message, enum outcome outcome)
{
    static const char *const outcomes[] = {[OUTCOME_NONE] = "",
                                           [OUTCOME_NOT_APPLIED] = ",\"outcome\":\"not applied\"",
                                           [OUTCOME_UNKNOWN] = ",\"outcome\":\"unknown\""};
    char text[2048], quoted[6 * MESSAGE_BYTES_MAX + 3];
    int n;

    if (is_read(req))
        outcome = OUTCOME_NONE;
    /* A message may quote what the client sent. */
    *body_string_write(quoted, message,
                       body_utf8_prefix(message, strnlen(message, MESSAGE_BYTES_MAX))) = '\0';
    n = snprintf(text, sizeof text, "{\"error\":{\"code\":\"%s\",\"message\":%s%s}}\n", code,
                 quoted, outcomes[outcome]);
    send_json(req, text, (size_t)n);
}

void respond_error(h2o_req_t *req, struct loop *loop, int status, const char *code,
                   const char *message, enum outcome outcome)
{
    respond_begin(req, loop, status);
    if (status == 503)
        h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("retry-after"), 0, NULL,
                              H2O_STRLIT("1"));
    send_error(req, code, message, outcome);
}

void respond_unavailable(h2o_req_t *req, struct loop *loop, const char *code, const char *message,
                         enum outcome outcome)
{
    respond_error(req, loop, 503, code, message, outcome);
}

void respond_not_allowed(h2o_req_t *req, struct loop *loop, const char *allow)
{
    respond_begin(req, loop, 405);
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("allow"), 0, NULL, allow,
                          strlen(allow));
    send_error(req, "method_not_allowed", "the method is not allowed for this path", OUTCOME_NONE);
}

/* libh2o refuses control characters by itself, but over HTTP/2 it lets blanks through. */
static bool can_stand_in_header(h2o_iovec_t path)
{
    for (size_t i = 0; i < path.len; i++)
        if ((unsigned char)path.base[i] <= ' ' || path.base[i] == 0x7f)
            return false;
    return true;
}

static void redirect(h2o_req_t *req, struct loop *loop, enum outcome outcome)
{
    h2o_iovec_t location;

    if (!can_stand_in_header(req->input.path)) {
        respond_error(req, loop, 400, "invalid_path",
                      "the path has bytes that must be percent-encoded", OUTCOME_NOT_APPLIED);
        return;
    }
    loop_view_renew(loop);
    if (loop->view.leader_len == 0 || loop->view.role == REPLICA_LEADER) {
        respond_unavailable(req, loop, "no_leader", "no leader is known at the moment", outcome);
        return;
    }
    respond_begin(req, loop, 307);
    location =
        h2o_concat(&req->pool, h2o_iovec_init(H2O_STRLIT("http://")),
                   h2o_iovec_init(loop->view.leader, loop->view.leader_len), req->input.path);
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_LOCATION, NULL, location.base,
                   location.len);
    send_error(req, "not_leader", "this node is not the leader", outcome);
}

void respond_redirect(h2o_req_t *req, struct loop *loop)
{
    redirect(req, loop, OUTCOME_NOT_APPLIED);
}

void respond_redirect_begun(h2o_req_t *req, struct loop *loop)
{
    redirect(req, loop, OUTCOME_UNKNOWN);
}

void respond_replica_error(struct request *request, int error, bool write)
{
    struct loop *loop = request->loop;
    h2o_req_t *req = request_take(request);
    enum outcome not_applied = write ? OUTCOME_NOT_APPLIED : OUTCOME_NONE;

    switch (error) {
    case REPLICA_NOT_LEADER:
        respond_redirect(req, loop);
        break;
    case REPLICA_UNKNOWN:
        respond_unavailable(req, loop, "leadership_lost", replica_strerror(error),
                            write ? OUTCOME_UNKNOWN : OUTCOME_NONE);
        break;
    case REPLICA_TOO_LARGE:
        respond_error(req, loop, 413, "too_large", replica_strerror(error), not_applied);
        break;
    case REPLICA_INVALID:
        respond_error(req, loop, 400, "invalid", replica_strerror(error), not_applied);
        break;
    case REPLICA_CONFLICT:
        respond_error(req, loop, 409, "conflict", replica_strerror(error), OUTCOME_NONE);
        break;
    case REPLICA_NO_SPACE:
        respond_error(req, loop, 507, "no_space", replica_strerror(error), not_applied);
        break;
    case REPLICA_NO_LEADER:
        respond_unavailable(req, loop, "no_leader", replica_strerror(error), not_applied);
        break;
    case REPLICA_BUSY:
        respond_unavailable(req, loop, "busy", replica_strerror(error), not_applied);
        break;
    case REPLICA_SHUTDOWN:
        respond_unavailable(req, loop, "shutting_down", replica_strerror(error), not_applied);
        break;
    case REPLICA_STOPPED:
        respond_unavailable(req, loop, "stopped", replica_strerror(error),
                            write ? OUTCOME_UNKNOWN : OUTCOME_NONE);
        break;
    default:
        respond_unavailable(req, loop, "unavailable", replica_strerror(error), not_applied);
    }
}
