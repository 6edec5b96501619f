/* See library_errors.h. libh2o refuses some requests before a handler sees them, in plain text: a
 * body that is far too large or broken, an unknown expectation, a header with forbidden bytes. A
 * filter gives these answers a JSON body. What cannot be parsed at all stays a plain 400. */
#include "http/library_errors.h"

#include "metrics.h"

struct replaced_body {
    h2o_ostream_t super;
    h2o_iovec_t text;
};

static h2o_iovec_t text_of(int status)
{
    switch (status) {
    case 413:
        return h2o_iovec_init(H2O_STRLIT("{\"error\":{\"code\":\"body_too_large\",\"message\":"
                                         "\"the body is larger than the limit\","
                                         "\"outcome\":\"not applied\"}}\n"));
    case 417:
        return h2o_iovec_init(H2O_STRLIT("{\"error\":{\"code\":\"unknown_expectation\",\"message\":"
                                         "\"only 100-continue can be expected\","
                                         "\"outcome\":\"not applied\"}}\n"));
    default:
        return h2o_iovec_init(H2O_STRLIT("{\"error\":{\"code\":\"bad_request\",\"message\":"
                                         "\"the request is malformed\","
                                         "\"outcome\":\"not applied\"}}\n"));
    }
}

/* libh2o sends such a body in one piece. */
static void send_replaced(h2o_ostream_t *stream, h2o_req_t *req, h2o_iovec_t *pieces,
                          size_t n_pieces, h2o_send_state_t state)
{
    struct replaced_body *body = (struct replaced_body *)stream;

    (void)pieces;
    h2o_ostream_send_next(stream, req, &body->text, n_pieces > 0 ? 1 : 0, state);
}

static void on_setup(h2o_filter_t *filter, h2o_req_t *req, h2o_ostream_t **slot)
{
    if (req->res.status >= 400) {
        struct replaced_body *body = (void *)h2o_add_ostream(req, sizeof *body, slot);
        body->super.do_send = send_replaced;
        body->text = text_of(req->res.status);
        req->res.content_length = body->text.len;
        h2o_set_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE,
                       H2O_STRLIT("application/json"), 1);
        metrics_add(METRIC_RESPONSES_4XX, 1);
        slot = &body->super.next;
    }
    (void)filter;
    h2o_setup_next_ostream(req, slot);
}

void library_errors_as_json(h2o_pathconf_t *path)
{
    h2o_filter_t *filter = h2o_create_filter(path, sizeof *filter);

    filter->on_setup_ostream = on_setup;
}
