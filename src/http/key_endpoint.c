/* See key_endpoint.h.
 *
 * A hot GET is answered on the spot, without an allocation beyond the request's pool. A raw value
 * is sent from the record's own memory, which a dispose hook on the pool keeps alive until then. */
#include "http/key_endpoint.h"

#include "http/body.h"
#include "http/buffers.h"
#include "http/respond.h"
#include "metrics.h"

#include <string.h>

static bool method_is(const h2o_req_t *req, const char *name)
{
    return h2o_memis(req->method.base, req->method.len, name, strlen(name));
}

/* ---- GET ---- */

static void record_release(void *pointer)
{
    tiers_record_release(*(const struct tiers_record **)pointer);
}

/* Keeps the record until the request's memory is gone. */
static void keep(h2o_req_t *req, const struct tiers_record *record)
{
    const struct tiers_record **hook =
        h2o_mem_alloc_shared(&req->pool, sizeof *hook, record_release);

    *hook = record;
}

static void add_etag(h2o_req_t *req, uint64_t revision)
{
    char *text = h2o_mem_alloc_pool(&req->pool, BODY_NUMBER_BYTES + 2), *end = text;

    *end++ = '"';
    end = body_number_write(end, revision);
    *end++ = '"';
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_ETAG, NULL, text, (size_t)(end - text));
}

/* {"K":"value"}, and gives the record back: the text is a copy. What is no UTF-8 cannot stand in
 * JSON: a key is then written percent-encoded, a value in base64, and a header says so. */
static void send_json(h2o_req_t *req, const char *key, size_t key_len,
                      const struct tiers_record *record, bool head)
{
    const char *value = tiers_record_value(record);
    size_t value_len = record->value_len, size;
    char *text, *end;

    if (!body_is_utf8(value, value_len)) {
        h2o_iovec_t encoded;
        encoded.base = h2o_mem_alloc_pool(&req->pool, (value_len + 2) / 3 * 4 + 1);
        encoded.len = h2o_base64_encode(encoded.base, value, value_len, 0);
        value = encoded.base;
        value_len = encoded.len;
        h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("tierkv-encoding"), 0, NULL,
                              H2O_STRLIT("base64"));
    }
    if (!body_is_utf8(key, key_len)) {
        h2o_iovec_t escaped = h2o_uri_escape(&req->pool, key, key_len, "/");
        key = escaped.base;
        key_len = escaped.len;
        h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("tierkv-key-encoding"), 0,
                              NULL, H2O_STRLIT("percent"));
    }
    size = body_string_size(key, key_len) + body_string_size(value, value_len) + 4;
    text = end = h2o_mem_alloc_pool(&req->pool, size);
    *end++ = '{';
    end = body_string_write(end, key, key_len);
    *end++ = ':';
    end = body_string_write(end, value, value_len);
    *end++ = '}';
    *end = '\n';
    tiers_record_release(record);
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("application/json"));
    respond_body(req, text, size, head);
}

/* Of a large value, about. */
static size_t answer_bytes(const struct tiers_record *record, bool raw)
{
    return raw ? record->value_len
               : body_string_size(tiers_record_value(record), record->value_len);
}

static void add_number(h2o_req_t *req, const char *name, size_t name_len, uint64_t number)
{
    char *text = h2o_mem_alloc_pool(&req->pool, BODY_NUMBER_BYTES);

    h2o_add_header_by_str(&req->pool, &req->res.headers, name, name_len, 0, NULL, text,
                          (size_t)(body_number_write(text, number) - text));
}

static void add_stale_headers(h2o_req_t *req, struct loop *loop)
{
    struct tiers_position position;
    uint64_t contact_ms;

    tiers_position_applied(loop->server->options.tiers, &position);
    add_number(req, H2O_STRLIT("tierkv-applied-index"), position.index);
    /* Else it cannot say how old its state is. */
    if (loop_last_contact(loop, &contact_ms))
        add_number(req, H2O_STRLIT("tierkv-last-contact-ms"), contact_ms);
}

static void not_found(h2o_req_t *req, struct loop *loop, int status)
{
    switch (status) {
    case TIERS_NOT_FOUND:
        respond_error(req, loop, 404, "not_found", "no such key", OUTCOME_NONE);
        break;
    case TIERS_BUSY:
        metrics_add(METRIC_REFUSED_BUSY, 1);
        respond_unavailable(req, loop, "busy", "too many reads are waiting for a disk",
                            OUTCOME_NONE);
        break;
    case TIERS_CORRUPT:
        respond_error(req, loop, 500, "corrupt", "the stored value is damaged on this node",
                      OUTCOME_NONE);
        break;
    default:
        respond_unavailable(req, loop, "storage", tiers_strerror(status), OUTCOME_NONE);
    }
}

void key_endpoint_found(h2o_req_t *req, struct loop *loop, const struct uri_query *query, bool head,
                        const char *key, size_t key_len, int status,
                        const struct tiers_record *record)
{
    if (status != 0) {
        if (query->level == URI_LEVEL_STALE)
            add_stale_headers(req, loop);
        not_found(req, loop, status);
        return;
    }
    if (!head && record->value_len >= BUFFERS_LARGE_BYTES &&
        !buffers_admit(loop, answer_bytes(record, query->raw))) {
        tiers_record_release(record);
        metrics_add(METRIC_REFUSED_BUSY, 1);
        respond_unavailable(req, loop, "busy", "too many large answers are under way",
                            OUTCOME_NONE);
        return;
    }
    respond_begin(req, loop, 200);
    add_etag(req, tiers_record_meta(record)->mod_revision);
    if (query->level == URI_LEVEL_STALE)
        add_stale_headers(req, loop);
    if (!query->raw) {
        send_json(req, key, key_len, record, head);
        return;
    }
    keep(req, record);
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("application/octet-stream"));
    respond_body(req, tiers_record_value(record), record->value_len, head);
}

static void consistent_replied(struct request *request, const struct replica_operation *operation)
{
    metrics_observe(METRIC_CONSISTENT_READ_LATENCY, request->loop->replies_us - request->began_us);
    if (operation->status != 0)
        respond_replica_error(request, operation->status, false);
    else
        request_read(request);
}

/* As Consul has it: what is older than the client allows is asked of the leader. */
static bool young_enough(struct loop *loop, const struct uri_query *query)
{
    uint64_t contact_ms;

    return !query->stale_bounded ||
           (loop_last_contact(loop, &contact_ms) && contact_ms <= query->stale_ms_max);
}

static void get(h2o_req_t *req, struct loop *loop, const struct uri_query *query, const char *key,
                size_t key_len)
{
    bool head = method_is(req, "HEAD");
    struct request *request;

    bool here = replica_is_leader(loop->server->options.replica) ||
                (query->level == URI_LEVEL_STALE && young_enough(loop, query));

    if (!here) {
        respond_redirect(req, loop);
        return;
    }
    if (query->level != URI_LEVEL_CONSISTENT) {
        request_get(req, loop, query, head, key, key_len);
        return;
    }
    request = request_new(req, loop);
    if (request == NULL)
        return;
    request->query = *query;
    request->head = head;
    request->key = key;
    request->key_len = key_len;
    request_submit_consistent(request, consistent_replied);
}

/* ---- Writes ---- */

static void write_replied(struct request *request, const struct replica_operation *operation)
{
    static const char before[] = "{\"revision\":", after[] = "}\n";
    struct loop *loop = request->loop;
    char text[sizeof before + BODY_NUMBER_BYTES + sizeof after], *end;

    metrics_observe(METRIC_WRITE_LATENCY, loop->replies_us - request->began_us);
    if (operation->status != 0) {
        respond_replica_error(request, operation->status, true);
        return;
    }
    memcpy(text, before, sizeof before - 1);
    end = body_number_write(text + sizeof before - 1, operation->revision);
    memcpy(end, after, sizeof after - 1);
    end += sizeof after - 1;
    respond_json(request_take(request), loop, 200, text, (size_t)(end - text));
}

static void submit_write(h2o_req_t *req, struct loop *loop, struct replica_operation *operation)
{
    struct request *request = request_new(req, loop);

    if (request == NULL) {
        replica_operation_free(operation);
        return;
    }
    request_submit(request, operation, write_replied);
}

/* A condition that is not looked at must not be passed over: somebody relies on it. */
static bool conditional(h2o_req_t *req, struct loop *loop)
{
    if (h2o_find_header(&req->headers, H2O_TOKEN_IF_MATCH, -1) == -1 &&
        h2o_find_header(&req->headers, H2O_TOKEN_IF_NONE_MATCH, -1) == -1 &&
        h2o_find_header(&req->headers, H2O_TOKEN_IF_UNMODIFIED_SINCE, -1) == -1)
        return false;
    respond_error(req, loop, 501, "not_implemented", "conditional writes are not supported yet",
                  OUTCOME_NOT_APPLIED);
    return true;
}

/* A write that cannot be taken here need not be parsed. */
static bool redirected(h2o_req_t *req, struct loop *loop)
{
    loop_view_renew(loop);
    if (loop->view.role == REPLICA_LEADER)
        return false;
    respond_redirect(req, loop);
    return true;
}

static void put(h2o_req_t *req, struct loop *loop, const char *key, size_t key_len)
{
    struct replica_put one = {key, key_len, req->entity.base, req->entity.len};

    if (req->entity.len > loop->server->options.max_value_bytes) {
        respond_error(req, loop, 413, "value_too_large", "the value is larger than the limit",
                      OUTCOME_NOT_APPLIED);
        return;
    }
    if (!redirected(req, loop))
        submit_write(req, loop, replica_put_new(&one, 1));
}

static bool content_type_fits(const h2o_req_t *req)
{
    ssize_t i = h2o_find_header(&req->headers, H2O_TOKEN_CONTENT_TYPE, -1);
    const h2o_iovec_t *type;
    size_t n;

    if (i == -1)
        return true;
    type = &req->headers.entries[i].value;
    for (n = 0; n < type->len && type->base[n] != ';' && type->base[n] != ' '; n++)
        continue;
    /* curl -d says that it sends a form. */
    return h2o_lcstris(type->base, n, H2O_STRLIT("application/json")) ||
           h2o_lcstris(type->base, n, H2O_STRLIT("application/x-www-form-urlencoded")) ||
           h2o_lcstris(type->base, n, H2O_STRLIT("text/json"));
}

static void post(h2o_req_t *req, struct loop *loop)
{
    const struct http_server_options *options = &loop->server->options;
    struct replica_operation *operation;
    struct body_puts puts;
    struct body_error error;

    if (conditional(req, loop))
        return;
    if (!content_type_fits(req)) {
        respond_error(req, loop, 415, "unsupported_media_type",
                      "the body must be a JSON object (application/json)", OUTCOME_NOT_APPLIED);
        return;
    }
    if (req->entity.len > options->max_body_bytes) {
        respond_error(req, loop, 413, "body_too_large", "the body is larger than the limit",
                      OUTCOME_NOT_APPLIED);
        return;
    }
    if (redirected(req, loop))
        return;
    if (!body_puts_parse(req->entity.base, req->entity.len, options->max_value_bytes, &puts,
                         &error)) {
        respond_error(req, loop, error.status, error.code, error.message, OUTCOME_NOT_APPLIED);
        return;
    }
    operation = replica_put_new(puts.puts, puts.n);
    body_puts_free(&puts);
    submit_write(req, loop, operation);
}

static void on_key(h2o_req_t *req, struct loop *loop, const char *path, size_t path_len)
{
    struct uri_query query = {.level = URI_LEVEL_DEFAULT};
    const char *error = NULL;
    char *key;
    long key_len;
    ssize_t accept;

    if (req->query_at != SIZE_MAX &&
        !uri_query_parse(req->path.base + req->query_at + 1, req->path.len - req->query_at - 1,
                         &query, &error)) {
        respond_error(req, loop, 400, "invalid_query", error, OUTCOME_NONE);
        return;
    }
    key = h2o_mem_alloc_pool(&req->pool, path_len + 1);
    key_len = uri_decode(path, path_len, key);
    if (key_len < 1 || key_len > TIERS_KEY_BYTES_MAX) {
        respond_error(req, loop, 400, "invalid_key",
                      key_len < 0    ? "the key has a malformed percent escape"
                      : key_len == 0 ? "the key is empty"
                                     : "the key is longer than 511 bytes",
                      OUTCOME_NONE);
        return;
    }
    if (method_is(req, "GET") || method_is(req, "HEAD")) {
        accept = h2o_find_header(&req->headers, H2O_TOKEN_ACCEPT, -1);
        if (accept != -1 && h2o_strstr(req->headers.entries[accept].value.base,
                                       req->headers.entries[accept].value.len,
                                       H2O_STRLIT("application/octet-stream")) != SIZE_MAX)
            query.raw = true;
        get(req, loop, &query, key, (size_t)key_len);
    } else if (method_is(req, "PUT")) {
        if (!conditional(req, loop))
            put(req, loop, key, (size_t)key_len);
    } else if (method_is(req, "DELETE")) {
        if (!conditional(req, loop) && !redirected(req, loop))
            submit_write(req, loop, replica_delete_new(key, (size_t)key_len));
    } else {
        respond_not_allowed(req, loop, "GET, HEAD, PUT, DELETE");
    }
}

void key_endpoint(h2o_req_t *req, struct loop *loop, const char *path, size_t path_len)
{
    if (path_len > 1) {
        on_key(req, loop, path + 1, path_len - 1);
        return;
    }
    if (method_is(req, "POST"))
        post(req, loop);
    else if (path_len == 1)
        respond_error(req, loop, 400, "invalid_key", "the key is empty", OUTCOME_NONE);
    else
        respond_not_allowed(req, loop, "POST");
}
